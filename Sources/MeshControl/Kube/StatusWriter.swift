package import KubeAPI
package import KubeClient
package import Logging

/// Writes our conditions into objects' statuses: what the mesh will really do with them. See ``StatusLedger``.
package final class StatusWriter: Sendable {
    /// A kind of object with conditions of ours.
    package enum Kind: String, CaseIterable, Sendable {
        case services, serviceEntries, workloadEntries, authorizationPolicies, peerAuthentications
        case requestAuthentications, rateLimits, destinationRules, virtualServices

        var type: ResourceType {
            switch self {
            case .services: .services
            case .serviceEntries: .serviceEntries
            case .workloadEntries: .workloadEntries
            case .authorizationPolicies: .authorizationPolicies
            case .peerAuthentications: .peerAuthentications
            case .requestAuthentications: .requestAuthentications
            case .rateLimits: .rateLimits
            case .destinationRules: .destinationRules
            case .virtualServices: .virtualServices
            }
        }
        /// Every condition that we may have written there; what is not wanted any more is taken away again.
        var conditionTypes: Set<String> {
            switch self {
            case .services, .workloadEntries: ["istio.io/WaypointBound"]
            case .serviceEntries:
                [
                    "istio.io/WaypointBound", "istio.io/WaypointMissing", "istio.io/VisibilityApplied",
                    "HostsAccepted",
                ]
            case .authorizationPolicies: ["ZtunnelAccepted", "WaypointAccepted"]
            case .peerAuthentications: ["ZtunnelAccepted"]
            case .requestAuthentications, .rateLimits, .destinationRules, .virtualServices: ["WaypointAccepted"]
            }
        }
        /// Of server-side apply: a manager owns the conditions it wrote, and only those.
        var fieldManager: String {
            switch self {
            case .services, .serviceEntries: "istio-ambient-service"
            case .workloadEntries: "istio-ambient-workloadentry"
            case .authorizationPolicies, .peerAuthentications: "istio-ambient-ztunnel-policy"
            case .requestAuthentications, .rateLimits, .destinationRules, .virtualServices:
                "istio-ambient-waypoint-policy"
            }
        }
    }

    private let cluster: any KubeCluster
    private let ledger: StatusLedger<Kind, ObjectStatus, [JSONValue]>

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.ledger = StatusLedger(isReady: false, logger: logger) { object, kind in
            let ours = (object.status["conditions"]?.array ?? []).filter { condition in
                condition["type"]?.string.map(kind.conditionTypes.contains) ?? false
            }
            return ours.isEmpty ? nil : ours
        }
    }

    /// What is wanted has been told for every object. Before, a condition that nobody wants is only not wanted *yet*.
    package func becomeReady() { self.ledger.becomeReady() }

    /// - Parameter owns: whether an object is of our revision; others are not ours to write.
    package func observed(_ kind: Kind, _ event: InformerEvent, owns: (KubeObject) -> Bool) {
        self.ledger.observed(kind, event, owns: owns)
    }

    package func want(_ kind: Kind, _ key: String, _ status: ObjectStatus?) { self.ledger.want(kind, key, status) }

    package func run() async {
        await self.ledger.run { [cluster] target, stored, wanted in
            let conditions = wanted?.json(over: stored ?? []) ?? []
            if Self.areSame(stored ?? [], conditions) { return nil }
            let (type, parts) = (target.kind.type, target.parts)
            guard let namespace = parts.namespace else { return nil }
            let patch: JSONValue = [
                "apiVersion": .string(type.apiVersion), "kind": .string(type.kind),
                "metadata": ["namespace": .string(namespace), "name": .string(parts.name)],
                "status": ["conditions": .array(conditions)],
            ]
            _ = try await cluster.patch(
                type, namespace: namespace, name: parts.name, subresource: "status",
                .apply(patch, fieldManager: target.kind.fieldManager, force: true))
            return .some(conditions.isEmpty ? nil : conditions)
        }
    }

    /// Times do not count.
    private static func areSame(_ one: [JSONValue], _ other: [JSONValue]) -> Bool {
        func comparable(_ conditions: [JSONValue]) -> Set<JSONValue> {
            Set(
                conditions.map { condition in
                    var condition = condition
                    condition["lastTransitionTime"] = nil
                    // The API may give a 64-bit number back as text.
                    if let text = condition["observedGeneration"]?.string, let number = Int64(text) {
                        condition["observedGeneration"] = .int(number)
                    }
                    return condition
                })
        }
        return comparable(one) == comparable(other)
    }
}
