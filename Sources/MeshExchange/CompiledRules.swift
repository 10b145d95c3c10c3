internal import MeshModel
package import MeshRoutes

/// The rules that hold for one port of a service, compiled: kept as long as the rules are the same, whatever becomes of
/// endpoints.
package final class CompiledRules: Sendable {
    /// For clients of all namespaces that have no routes of their own.
    private let table: RouteTable
    /// Consumer routes: what clients of a namespace see instead (GEP-1324).
    private let consumers: [String: RouteTable]
    let streams: StreamTable
    let gate: RequestGate
    let tokens: (any TokenChecking)?
    let needsHTTP: Bool
    let balancing: BackendBalancing.Choice
    let traces: WaypointTelemetry

    /// - Parameters:
    ///   - service: nil: a workload's own address, for which the waypoint's own gate counts.
    ///   - makeChecker: for the token policies of the gates; cryptography is somebody else's.
    package init(
        _ service: ServiceRules?, port: UInt16, waypoint: TrafficGate?, telemetry: WaypointTelemetry,
        trustDomains: [String], buckets: RateBuckets, makeChecker: ([TokenPolicy]) -> any TokenChecking
    ) {
        let routes = service?.routes ?? []
        self.table = RouteTable(routes.filter { $0.clientNamespace == nil }, port: port)
        var consumers: [String: RouteTable] = [:]
        for namespace in Set(routes.compactMap(\.clientNamespace)) {
            let own = RouteTable(routes.filter { $0.clientNamespace == namespace }, port: port)
            if !own.isEmpty { consumers[namespace] = own }
        }
        self.consumers = consumers
        self.streams = StreamTable(service?.streams ?? [], port: port)
        self.gate = RequestGate(
            [waypoint, service?.gate].compactMap { $0 }, trustDomains: trustDomains, buckets: buckets)
        self.tokens = self.gate.tokens.isEmpty ? nil : makeChecker(self.gate.tokens)
        self.needsHTTP = !self.table.isEmpty || !consumers.isEmpty
        self.balancing = service?.balancing.choice ?? .leastRequest
        self.traces = telemetry
    }

    func routes(for namespace: String?) -> RouteTable {
        if !self.consumers.isEmpty, let namespace, let own = self.consumers[namespace] { return own }
        return self.table
    }

    /// What cannot be used of the routes, for the log.
    package var problems: [RouteProblem] { self.table.problems + self.consumers.values.flatMap(\.problems) }
}

/// The TCPRoutes and TLSRoutes of a port.
struct StreamTable: Sendable {
    struct Entry: Sendable {
        let route: StreamRoute
        let backends: WeightedChoice
    }

    private let tcp: [Entry]
    private let tls: [Entry]

    init(_ routes: [StreamRoute], port: UInt16) {
        let attached = routes.filter { $0.port == nil || $0.port == port }
            .map { Entry(route: $0, backends: WeightedChoice($0.backends.map(\.weight))) }
        self.tcp = attached.filter { !$0.route.isTLS }
        self.tls = attached.filter(\.route.isTLS)
    }

    enum Answer {
        case route(Entry)
        /// Nothing is attached for such a stream.
        case none
        /// TLSRoutes are attached, and none is for this server name.
        case unknownName
    }

    /// An exact server name comes before a wildcard, a longer wildcard before a shorter one; the oldest route else.
    func find(_ serverName: String?, for namespace: String?) -> Answer {
        let mine = { (entry: Entry) in entry.route.clientNamespace == nil || entry.route.clientNamespace == namespace }
        if let serverName {
            var best: (length: Int, entry: Entry)?
            for entry in self.tls where mine(entry) {
                let length =
                    entry.route.serverNames.isEmpty
                    ? 0
                    : entry.route.serverNames.compactMap {
                        Self.match($0, serverName)
                    }.max()
                if let length, best == nil || length > best!.length { best = (length, entry) }
            }
            if let best { return .route(best.entry) }
        }
        if let entry = self.tcp.first(where: { mine($0) && $0.route.clientNamespace != nil })
            ?? self.tcp.first(where: mine)
        {
            return .route(entry)
        }
        return self.tls.isEmpty ? .none : .unknownName
    }

    /// How much of the name matched; nil: it does not.
    private static func match(_ pattern: String, _ name: String) -> Int? {
        if pattern == name { return Int.max }
        guard pattern.hasPrefix("*."), name.hasSuffix(pattern.dropFirst()), name.utf8.count > pattern.utf8.count - 1
        else {
            return nil
        }
        return pattern.utf8.count
    }
}
