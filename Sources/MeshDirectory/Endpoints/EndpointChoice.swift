package import MeshModel
package import MeshTunnel

/// Chooses one endpoint of a service for one connection: by capacity, the less busy of two, not one that keeps failing.
///
/// Costs the same for two endpoints and for ten thousand: draws from a table that the service keeps, see
/// ``EndpointLayout/groups(for:)``. Only when ``drawsMax`` draws miss (nearly everybody is excluded, ejected or does not
/// serve the port) all are looked at.
package struct EndpointChoice {
    /// Where a service's port leads: the endpoint and the port there.
    package struct Result {
        package var endpoint: Endpoint
        package var port: UInt16
    }
    package enum Resolution: Sendable {
        /// The service has to list the port.
        case standard
        /// A waypoint's port may be known to the application tunnel only.
        case waypoint
        /// As standard, for the gateway to another network.
        case gateway
    }

    let service: ServiceEntry
    let port: UInt16
    let client: WorkloadEntry
    let resolution: Resolution
    /// How this loop's endpoints are doing; nil: nobody knows.
    let book: EndpointBook?
    /// Says that an endpoint has been tried already, or leads nowhere.
    let isExcluded: (Endpoint) -> Bool
    /// What would be dialled; nil when that is not known before the choice.
    let address: (Endpoint) -> IPAddress?

    /// Draws that may miss before all endpoints are looked at.
    private static let drawsMax = 8

    package init(
        service: ServiceEntry, port: UInt16, client: WorkloadEntry, resolution: Resolution, book: EndpointBook?,
        isExcluded: @escaping (Endpoint) -> Bool, address: @escaping (Endpoint) -> IPAddress?
    ) {
        self.service = service
        self.port = port
        self.client = client
        self.resolution = resolution
        self.book = book
        self.isExcluded = isExcluded
        self.address = address
    }

    package func draw(using random: inout some RandomNumberGenerator) -> Result? {
        let layout = self.service.layout
        let groups = layout.groups(for: self.client)
        for sparesFailing in [true, false] {
            if !sparesFailing, self.book == nil { break }
            for group in groups {
                if let result = self.draw(from: group, of: layout.endpoints, sparesFailing, using: &random) {
                    return result
                }
            }
        }
        return nil
    }

    private func draw(
        from group: EndpointGroup, of endpoints: [Endpoint], _ sparesFailing: Bool,
        using random: inout some RandomNumberGenerator
    ) -> Result? {
        guard let total = group.totals.last else { return nil }
        var first: (index: Int, result: Result)?
        for _ in 0..<Self.drawsMax {
            let index = group.member(holding: UInt64.random(in: 0..<total, using: &random))
            if index == first?.index { continue }
            guard let result = self.candidate(endpoints[index], sparesFailing) else { continue }
            guard let first else {
                if self.book == nil || group.members.count == 1 { return result }
                first = (index, result)
                continue
            }
            return self.lessBusy(first.result, result)
        }
        return first?.result ?? self.scan(group, of: endpoints, sparesFailing, using: &random)
    }

    /// Connections per capacity decide; the first drawn keeps a tie, so that capacities stay proportions at rest.
    private func lessBusy(_ one: Result, _ other: Result) -> Result {
        guard let book, let first = self.address(one.endpoint), let second = self.address(other.endpoint) else {
            return one
        }
        let firstLoad = UInt64(book.active(first)) * UInt64(other.endpoint.workload.workload.capacity)
        let secondLoad = UInt64(book.active(second)) * UInt64(one.endpoint.workload.workload.capacity)
        return secondLoad < firstLoad ? other : one
    }

    /// One pass over a group, keeping each candidate with the chance that its capacity is of all so far.
    private func scan(
        _ group: EndpointGroup, of endpoints: [Endpoint], _ sparesFailing: Bool,
        using random: inout some RandomNumberGenerator
    ) -> Result? {
        var chosen: Result?
        var total: UInt64 = 0
        for index in group.members {
            let endpoint = endpoints[Int(index)]
            guard let result = self.candidate(endpoint, sparesFailing) else { continue }
            let capacity = UInt64(endpoint.workload.workload.capacity)
            total += capacity
            if UInt64.random(in: 0..<total, using: &random) < capacity { chosen = result }
        }
        return chosen
    }

    /// Nil when the endpoint cannot be reached, does not serve the port, or is passed over.
    private func candidate(_ endpoint: Endpoint, _ sparesFailing: Bool) -> Result? {
        let workload = endpoint.workload.workload
        let isReachable =
            !workload.addresses.isEmpty || !workload.hostname.isEmpty
            || (workload.network != self.client.workload.network && workload.networkGateway != nil)
        guard isReachable, let port = self.targetPort(endpoint), !self.isExcluded(endpoint) else { return nil }
        if sparesFailing, let book, let address = self.address(endpoint), book.isEjected(address) { return nil }
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
}

extension [WeightedWaypoint] {
    /// Proportional to the weights; nil when there is none above zero.
    package func draw(using random: inout some RandomNumberGenerator) -> GatewayAddress? {
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
