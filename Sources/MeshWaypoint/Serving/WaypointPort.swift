internal import MeshExchange
internal import MeshHTTP
internal import MeshModel
internal import MeshRoutes

/// One port of a service, or of a workload, with the rules that hold for it.
final class WaypointPort: ServedPort {
    let appProtocol: ServicePort.AppProtocol
    let needsHTTP: Bool
    private let backend: Backend
    private let decisions: PortDecisions

    /// - Parameters:
    ///   - service: nil: a workload's own address.
    ///   - backend: where traffic goes that no route sends elsewhere.
    init(_ snapshot: WaypointSnapshot, service: ServiceRules?, port: UInt16, _ backend: Backend) {
        self.appProtocol = backend.appProtocol
        self.backend = backend
        self.decisions = PortDecisions(
            gates: [snapshot.picture.waypoint?.gate, service?.gate].compactMap { $0 }, service: service, port: port)
        self.needsHTTP = self.decisions.needsHTTP
    }

    func plan(_ request: RequestHead, _ origin: RequestOrigin) -> ExchangePlan {
        if let refusal = self.decisions.refusal { return .answer(refusal) }
        return .forward(ForwardPlan(request: request, backend: self.backend))
    }

    func plan(stream serverName: String?, _ origin: RequestOrigin) -> StreamPlan {
        if let refusal = self.decisions.refusal {
            return .refuse(flags: refusal.flags, details: refusal.details ?? "refused")
        }
        return .forward(self.backend, route: nil)
    }
}

/// What is decided about a port before any request comes.
struct PortDecisions {
    /// Everything is answered with it.
    let refusal: LocalAnswer?
    let needsHTTP: Bool

    init(gates: [TrafficGate], service: ServiceRules?, port: UInt16) {
        let hasRoutes =
            service.map { rules in
                rules.routes.contains { $0.port == nil || $0.port == port }
                    || rules.streams.contains { $0.port == nil || $0.port == port }
            } ?? false
        let hasPolicies = gates.contains { !$0.tokens.isEmpty || !$0.policies.isEmpty || !$0.rateLimits.isEmpty }
        self.needsHTTP = hasRoutes || hasPolicies
        if let reason = gates.lazy.compactMap(\.closedBecause).first {
            self.refusal = LocalAnswer(
                403, "RBAC: access denied", flags: .denied, details: "rbac_access_denied: \(reason)")
        } else if self.needsHTTP {
            // Never past a rule that nobody here applies.
            self.refusal = LocalAnswer(
                503, "the waypoint cannot apply the rules of this service", flags: .noRoute,
                details: "rules_not_applied")
        } else {
            self.refusal = nil
        }
    }
}
