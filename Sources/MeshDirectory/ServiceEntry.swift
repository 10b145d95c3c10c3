internal import Collections
package import MeshModel
internal import Synchronization

/// One workload of a service, with its own ports there.
package struct Endpoint: Sendable {
    package let workload: WorkloadEntry
    /// Where this endpoint serves what the service calls by another number.
    package let ports: [ServicePort]

    package func targetPort(of port: UInt16) -> UInt16? {
        self.ports.first { $0.port == port }.flatMap { $0.targetPort == 0 ? nil : $0.targetPort }
    }
}

/// Endpoints that suit a client equally well, ready for draws by capacity.
package struct EndpointGroup: Sendable {
    /// Indexes of ``ServiceEntry/endpoints``; those of capacity zero are left out.
    let members: [Int32]
    /// Running totals of the members' capacities: a draw is one random number and one binary search.
    let totals: [UInt64]

    init(_ members: [Int32], of endpoints: [Endpoint]) {
        self.members = members.filter { endpoints[Int($0)].workload.workload.capacity > 0 }
        var total: UInt64 = 0
        self.totals = self.members.map { index in
            total += UInt64(endpoints[Int(index)].workload.workload.capacity)
            return total
        }
    }

    /// The member that holds the ticket, 0 up to the last total: the first whose running total is above it.
    func member(holding ticket: UInt64) -> Int {
        var low = 0
        var high = self.totals.count - 1
        while low < high {
            let middle = (low + high) / 2
            if self.totals[middle] > ticket { high = middle } else { low = middle + 1 }
        }
        return Int(self.members[low])
    }
}

/// A service as the directory keeps it, with the endpoints that may be chosen. Made anew when one of them changes,
/// once per update, and laid out only when the first client asks: most services are of no concern to this node.
package final class ServiceEntry: Sendable {
    package let service: Service
    private let known: TreeDictionary<String, Endpoint>
    private let laidOut = Mutex<EndpointLayout?>(nil)

    /// - Parameter endpoints: by the workload's uid.
    init(_ service: Service, endpoints: TreeDictionary<String, Endpoint>) {
        self.service = service
        self.known = endpoints
    }

    package var key: NamespacedName { self.service.key }

    package func isVisible(from namespace: String?) -> Bool {
        guard self.service.visibility == .namespace, let namespace else { return true }
        return self.service.namespace == namespace
    }

    /// Takes a lock; to be asked once for a decision.
    var layout: EndpointLayout {
        self.laidOut.withLock { laidOut in
            if let laidOut { return laidOut }
            let layout = EndpointLayout(self.known.values, self.service.loadBalancing)
            laidOut = layout
            return layout
        }
    }

    package var endpoints: [Endpoint] { self.layout.endpoints }
}

/// The endpoints of a service in the order of draws.
final class EndpointLayout: Sendable {
    /// Places of clients whose ranking is kept. The clients of one node differ in their node's place only when
    /// workloads of other nodes count as local.
    static let placesMax = 8

    /// Healthy ones, or all when the service says so.
    let endpoints: [Endpoint]
    /// Everybody, for services that do not rank.
    private let everybody: [EndpointGroup]
    private let balancing: LoadBalancing
    private let ranked = Mutex<[ClientPlace: [EndpointGroup]]>([:])

    init(_ endpoints: some Sequence<Endpoint>, _ balancing: LoadBalancing) {
        let endpoints = endpoints.filter {
            $0.workload.workload.isHealthy || balancing.healthPolicy == .allowAll
        }
        self.endpoints = endpoints
        self.balancing = balancing
        self.everybody = [EndpointGroup(endpoints.indices.map(Int32.init), of: endpoints)]
    }

    /// The endpoints as they suit a client, the best first. Worked out once for each place that clients are at.
    func groups(for client: WorkloadEntry) -> [EndpointGroup] {
        switch self.balancing.mode {
        case .standard, .passthrough: return self.everybody
        case .strict, .failover:
            if self.balancing.routingPreference.isEmpty { return self.everybody }
        }
        let place = client.place
        return self.ranked.withLock { ranked in
            if let found = ranked[place] { return found }
            if ranked.count >= Self.placesMax { ranked.removeAll() }
            let groups = self.rank(for: place)
            ranked[place] = groups
            return groups
        }
    }

    private func rank(for place: ClientPlace) -> [EndpointGroup] {
        var byRank: [Int: [Int32]] = [:]
        for (index, endpoint) in self.endpoints.enumerated() {
            let rank = place.rank(
                self.balancing.routingPreference, endpoint.workload.place, isStrict: self.balancing.mode == .strict)
            if let rank { byRank[rank, default: []].append(Int32(index)) }
        }
        return byRank.keys.sorted(by: >).map { EndpointGroup(byRank[$0]!, of: self.endpoints) }
    }
}

/// Where a workload is, as far as services may prefer one place to another.
package struct ClientPlace: Hashable, Sendable {
    package var network, region, zone, subzone, node, cluster: String

    package init(_ workload: Workload) {
        self.network = workload.network
        self.region = workload.locality.region
        self.zone = workload.locality.zone
        self.subzone = workload.locality.subzone
        self.node = workload.node
        self.cluster = workload.clusterID
    }

    /// How well an endpoint suits a client here: the number of leading preferences they agree on. Nil: not at all,
    /// when all are demanded.
    ///
    /// The network counts apart when it comes first: a mismatch does not stop the count, and a match outweighs all the
    /// others, so that another network is chosen only when there is nobody on the own one.
    package func rank(_ preferences: [LoadBalancing.Scope], _ other: ClientPlace, isStrict: Bool) -> Int? {
        var rank = 0
        for (index, scope) in preferences.enumerated() {
            let isNetworkFirst = index == 0 && scope == .network
            if self.agrees(with: other, on: scope) {
                rank += isNetworkFirst ? preferences.count : 1
            } else if isStrict {
                return nil
            } else if !isNetworkFirst {
                break
            }
        }
        return rank
    }

    private func agrees(with other: ClientPlace, on scope: LoadBalancing.Scope) -> Bool {
        switch scope {
        case .region: self.region == other.region
        case .zone: self.zone == other.zone
        case .subzone: self.subzone == other.subzone
        case .node: self.node == other.node
        case .cluster: self.cluster == other.cluster
        case .network: self.network == other.network
        }
    }
}
