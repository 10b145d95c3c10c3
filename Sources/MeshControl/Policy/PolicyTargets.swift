import MeshCollections
import MeshModel

/// The condition `WaypointAccepted` of a policy with targets: which of them lead to a waypoint.
struct PolicyTargets {
    let inputs: MeshInputs
    let gateways: GatewayCollections
    let services: ServiceCollections

    private struct Verdict {
        var isBound: Bool
        var reason: String
        var message: String
        init(_ isBound: Bool, _ reason: String, _ message: String) {
            (self.isBound, self.reason, self.message) = (isBound, reason, message)
        }
    }

    /// Nil for a policy without targets.
    /// - Parameter namespace: of the policy.
    func condition(
        _ targets: [PolicyView.Target], namespace: String, caveat: GateElement.Caveat? = nil, _ fetch: Fetch
    ) -> StatusCondition? {
        guard var condition = self.attachment(targets, namespace, fetch) else { return nil }
        guard let caveat else { return condition }
        if !caveat.isEnforced { (condition.isTrue, condition.reason) = (false, caveat.reason) }
        condition.message += ". \(caveat.message)"
        return condition
    }

    private func attachment(
        _ targets: [PolicyView.Target], _ namespace: String, _ fetch: Fetch
    ) -> StatusCondition? {
        if targets.isEmpty { return nil }
        let verdicts = targets.map { (target: $0, verdict: self.verdict($0, namespace, fetch)) }
        func say(_ isTrue: Bool, _ reason: String, _ message: String) -> StatusCondition {
            StatusCondition("WaypointAccepted", isTrue, reason: reason, message: message)
        }
        if verdicts.count == 1 {
            let only = verdicts[0].verdict
            return say(only.isBound, only.reason, only.message)
        }
        let failing = verdicts.filter { !$0.verdict.isBound }
        if failing.isEmpty { return say(true, "Accepted", verdicts.map(\.verdict.message).joined(separator: "; ")) }
        let list = failing.map { $0.target.text(namespace) }.joined(separator: ", ")
        return failing.count == verdicts.count
            ? say(false, "Invalid", "Invalid targetRefs: \(list)")
            : say(true, "PartiallyInvalid", "Invalid targetRefs: \(list)")
    }

    private func verdict(_ target: PolicyView.Target, _ namespace: String, _ fetch: Fetch) -> Verdict {
        if !target.namespace.isEmpty, target.namespace != namespace {
            return Verdict(false, "Invalid", "a target must be in the policy's own namespace \(namespace)")
        }
        let key = "\(namespace)/\(target.name)"
        switch (target.group, target.kind) {
        case ("", "Service"):
            guard fetch.get(self.inputs.services, key) != nil else { return Self.notFound("Service", key) }
            return Self.attached(fetch.get(self.services.serviceBindings, key), "Service", key)
        case ("networking.istio.io", "ServiceEntry"):
            guard fetch.get(self.inputs.serviceEntries, key) != nil else { return Self.notFound("ServiceEntry", key) }
            return Self.attached(fetch.get(self.services.entryBindings, key), "ServiceEntry", key)
        case ("gateway.networking.k8s.io", "Gateway"):
            guard fetch.get(self.gateways.waypoints, key) != nil else {
                return Verdict(false, "TargetNotFound", "Gateway \(key) does not exist or has no address")
            }
            return Verdict(true, "Accepted", "bound to \(key)")
        case ("gateway.networking.k8s.io", "GatewayClass"):
            return self.classVerdict(target.name, namespace, fetch)
        default:
            return Verdict(
                false, "Invalid",
                "\(target.text(namespace)): only Service, ServiceEntry, Gateway and GatewayClass can be targets")
        }
    }

    private func classVerdict(_ name: String, _ namespace: String, _ fetch: Fetch) -> Verdict {
        let root = self.inputs.settings(fetch).rootNamespace
        guard namespace == root else {
            return Verdict(false, "Invalid", "a GatewayClass can be the target of policies in \(root) only")
        }
        guard let gatewayClass = fetch.get(self.inputs.gatewayClasses, name) else {
            return Verdict(false, "TargetNotFound", "GatewayClass \(name) does not exist")
        }
        guard GatewayKind(controller: gatewayClass.controllerName)?.engine != nil else {
            return Verdict(
                false, "Invalid",
                "GatewayClass \(name) belongs to \(gatewayClass.controllerName), not to "
                    + GatewayClassView.waypointController)
        }
        return Verdict(true, "Accepted", "bound to GatewayClass \(name)")
    }

    private static func notFound(_ kind: String, _ key: String) -> Verdict {
        Verdict(false, "TargetNotFound", "\(kind) \(key) does not exist")
    }

    private static func attached(_ binding: WaypointBinding?, _ kind: String, _ key: String) -> Verdict {
        guard let waypoint = binding?.primary else {
            return Verdict(
                false, "AncestorNotBound",
                "\(kind) \(key) has no waypoint, so nothing enforces this policy"
                    + (binding?.problem.map {
                        ": \($0.message)"
                    } ?? ""))
        }
        return Verdict(true, "Accepted", "bound to \(waypoint.key)")
    }
}
