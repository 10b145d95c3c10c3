internal import MeshExchange
package import MeshRoutes
internal import MeshTokens
internal import Synchronization

/// Makes rules ready to be asked, once for as long as they stay as they are, whatever becomes of endpoints and of other
/// services' rules.
package final class RuleCompiler: Sendable {
    /// The mesh's own and its aliases.
    private let trustDomains: [String]
    /// Their levels outlive a change of other rules.
    private let buckets = RateBuckets()
    private let reportProblem: @Sendable (RouteProblem) -> Void

    /// - Parameter reportProblem: told of matches that cannot be used, once for each compilation.
    package init(
        trustDomains: [String], reportProblem: @escaping @Sendable (RouteProblem) -> Void = { _ in }
    ) {
        self.trustDomains = trustDomains
        self.reportProblem = reportProblem
    }

    func compile(_ service: ServiceRules?, port: UInt16, _ waypoint: WaypointRules) -> CompiledRules {
        let compiled = CompiledRules(
            service, port: port, waypoint: waypoint.gate, telemetry: service?.telemetry ?? waypoint.telemetry,
            trustDomains: self.trustDomains, buckets: self.buckets, makeChecker: { TokenChecker($0) })
        for problem in compiled.problems { self.reportProblem(problem) }
        return compiled
    }
}

/// What holds for all traffic through us, with what is compiled of it alone: for workloads' own addresses.
package final class WaypointEntry: Sendable {
    package let rules: WaypointRules
    private let ports = Mutex<[UInt16: CompiledRules]>([:])
    /// Ports of workloads remembered; clients choose them.
    static let portsMax = 1000

    package init(_ rules: WaypointRules) { self.rules = rules }

    func compiled(port: UInt16, _ compiler: RuleCompiler) -> CompiledRules {
        if let known = self.ports.withLock({ $0[port] }) { return known }
        let new = compiler.compile(nil, port: port, self.rules)
        self.ports.withLock { ports in
            if ports.count >= Self.portsMax { ports.removeAll() }
            ports[port] = new
        }
        return new
    }
}

/// The rules of one service, compiled together with the waypoint's.
package final class RulesEntry: Sendable {
    package let rules: ServiceRules
    private struct Compiled: Sendable {
        let waypoint: WaypointEntry
        let rules: CompiledRules
    }
    /// Of the service's ports, so few.
    private let ports = Mutex<[UInt16: Compiled]>([:])

    package init(_ rules: ServiceRules) { self.rules = rules }

    func compiled(port: UInt16, _ waypoint: WaypointEntry, _ compiler: RuleCompiler) -> CompiledRules {
        if let known = self.ports.withLock({ $0[port] }), known.waypoint === waypoint { return known.rules }
        let new = compiler.compile(self.rules, port: port, waypoint.rules)
        self.ports.withLock { $0[port] = Compiled(waypoint: waypoint, rules: new) }
        return new
    }
}
