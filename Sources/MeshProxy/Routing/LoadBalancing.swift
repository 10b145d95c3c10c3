package import MeshModel

/// Chooses one endpoint of a service for one connection.
package struct EndpointChoice {
    /// Where a service's port leads: the endpoint and the port there.
    struct Result {
        var endpoint: Endpoint
        var port: UInt16
    }
    enum Resolution: Sendable {
        /// The service has to list the port.
        case standard
        /// A waypoint's port may be known to the application tunnel only.
        case waypoint
    }

    let service: ServiceEntry
    let port: UInt16
    let client: Workload
    let resolution: Resolution
    /// Says that an endpoint has been tried already.
    let isExcluded: (Endpoint) -> Bool

    /// Draws that may miss before all endpoints are looked at.
    private static let drawsMax = 8

    func draw(using random: inout some RandomNumberGenerator) -> Result? {
        let balancing = self.service.service.loadBalancing
        let preferences = balancing.routingPreference
        guard let total = self.service.capacityTotals.last, total > 0 else { return nil }
        let isRanked: Bool
        switch balancing.mode {
        case .standard, .passthrough: isRanked = false
        case .strict, .failover: isRanked = !preferences.isEmpty
        }
        if !isRanked {
            // As a rule every endpoint fits, and the first draw decides without a look at the others.
            for _ in 0..<Self.drawsMax {
                if let result = self.candidate(self.drawn(UInt64.random(in: 0..<total, using: &random))) {
                    return result
                }
            }
        }
        return self.scan(balancing, isRanked: isRanked, using: &random)
    }

    private func scan(
        _ balancing: LoadBalancing, isRanked: Bool, using random: inout some RandomNumberGenerator
    ) -> Result? {
        var best: [Result] = []
        var bestRank = Int.min
        for endpoint in self.service.endpoints {
            guard let result = self.candidate(endpoint) else { continue }
            let rank =
                isRanked
                ? Self.rank(
                    balancing.routingPreference, self.client, endpoint.workload.workload,
                    isStrict: balancing.mode == .strict)
                : 0
            guard let rank, rank >= bestRank else { continue }
            if rank > bestRank {
                bestRank = rank
                best = []
            }
            best.append(result)
        }
        let total = best.reduce(0) { $0 + UInt64($1.endpoint.workload.workload.capacity) }
        guard total > 0 else { return nil }
        var ticket = UInt64.random(in: 0..<total, using: &random)
        for result in best {
            let capacity = UInt64(result.endpoint.workload.workload.capacity)
            if ticket < capacity { return result }
            ticket -= capacity
        }
        return nil
    }

    /// The endpoint that holds the ticket: the first whose running total is above it.
    private func drawn(_ ticket: UInt64) -> Endpoint {
        let totals = self.service.capacityTotals
        var low = 0
        var high = totals.count - 1
        while low < high {
            let middle = (low + high) / 2
            if totals[middle] > ticket { high = middle } else { low = middle + 1 }
        }
        return self.service.endpoints[low]
    }

    /// Nil when the endpoint cannot be reached or does not serve the port.
    private func candidate(_ endpoint: Endpoint) -> Result? {
        let workload = endpoint.workload.workload
        let isReachable =
            !workload.addresses.isEmpty || !workload.hostname.isEmpty
            || (workload.network != self.client.network && workload.networkGateway != nil)
        guard isReachable, let port = self.targetPort(endpoint), !self.isExcluded(endpoint) else { return nil }
        return Result(endpoint: endpoint, port: port)
    }

    private func targetPort(_ endpoint: Endpoint) -> UInt16? {
        let listed = self.service.service.ports.first { $0.port == self.port }
        let tunnel = endpoint.workload.workload.applicationTunnel
        if listed == nil {
            guard self.resolution == .waypoint, tunnel != nil else { return nil }
        }
        if let mapped = endpoint.targetPort(of: self.port) { return mapped }
        if let listed, listed.targetPort > 0 { return listed.targetPort }
        return self.resolution == .waypoint && tunnel?.port != nil ? self.port : nil
    }

    /// How well an endpoint suits a client: the number of leading preferences they agree on. Nil: not at all, when all
    /// are demanded.
    ///
    /// The network counts apart when it comes first: a mismatch does not stop the count, and a match outweighs all the
    /// others, so that another network is chosen only when there is nobody on the own one.
    package static func rank(
        _ preferences: [LoadBalancing.Scope], _ client: Workload, _ endpoint: Workload, isStrict: Bool
    ) -> Int? {
        var rank = 0
        for (index, scope) in preferences.enumerated() {
            let isNetworkFirst = index == 0 && scope == .network
            if Self.agree(scope, client, endpoint) {
                rank += isNetworkFirst ? preferences.count : 1
            } else if isStrict {
                return nil
            } else if !isNetworkFirst {
                break
            }
        }
        return rank
    }

    private static func agree(_ scope: LoadBalancing.Scope, _ one: Workload, _ other: Workload) -> Bool {
        switch scope {
        case .region: one.locality.region == other.locality.region
        case .zone: one.locality.zone == other.locality.zone
        case .subzone: one.locality.subzone == other.locality.subzone
        case .node: one.node == other.node
        case .cluster: one.clusterID == other.clusterID
        case .network: one.network == other.network
        }
    }
}

extension [WeightedWaypoint] {
    /// Proportional to the weights; nil when there is none above zero.
    func draw(using random: inout some RandomNumberGenerator) -> GatewayAddress? {
        let total = self.reduce(0) { $0 + UInt64($1.weight) }
        guard total > 0 else { return nil }
        var ticket = UInt64.random(in: 0..<total, using: &random)
        for candidate in self {
            if ticket < UInt64(candidate.weight) { return candidate.destination }
            ticket -= UInt64(candidate.weight)
        }
        return nil
    }
}
