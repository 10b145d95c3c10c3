import KubeAPI
package import KubeClient
package import Logging

/// Writes the statuses of Gateways and their classes. See ``StatusLedger``.
package final class GatewayStatusWriter: Sendable {
    package enum Kind: Hashable, Sendable, CaseIterable {
        case gateway, gatewayClass

        var type: ResourceType { self == .gateway ? .gateways : .gatewayClasses }
    }
    /// Of server-side apply.
    static let fieldManager = GatewayClassView.waypointController

    private let cluster: any KubeCluster
    private let ledger: StatusLedger<Kind, GatewayReport, JSONValue>

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        // Nothing is taken away that nobody wants: there is nothing to wait for.
        self.ledger = StatusLedger(isReady: true, logger: logger) { object, _ in object.status }
    }

    package func observed(_ kind: Kind, _ event: InformerEvent) { self.ledger.observed(kind, event) }

    /// Nil: the object's status is none of our business any more, and stays.
    package func want(_ kind: Kind, _ key: String, _ report: GatewayReport?) { self.ledger.want(kind, key, report) }

    package func run() async {
        await self.ledger.run { [cluster] target, stored, wanted in
            guard let stored, let wanted else { return nil }
            let status = wanted.json(over: stored)
            if Self.says(stored, status) { return nil }
            let (type, parts) = (target.kind.type, target.parts)
            guard type.isNamespaced == (parts.namespace != nil) else { return nil }
            var metadata: JSONValue = ["name": .string(parts.name)]
            if let namespace = parts.namespace { metadata["namespace"] = .string(namespace) }
            let answer = try await cluster.patch(
                type, namespace: parts.namespace, name: parts.name, subresource: "status",
                .apply(
                    [
                        "apiVersion": .string(type.apiVersion), "kind": .string(type.kind), "metadata": metadata,
                        "status": status,
                    ], fieldManager: Self.fieldManager, force: true))
            return answer.status
        }
    }

    /// Whether a stored status says all of what is wanted: other controllers' conditions do not count, and times neither.
    private static func says(_ stored: JSONValue, _ wanted: JSONValue) -> Bool {
        func comparable(_ conditions: JSONValue?, _ types: Set<String>) -> Set<JSONValue> {
            Set(
                (conditions?.array ?? []).compactMap { condition in
                    guard let type = condition["type"]?.string, types.contains(type) else { return nil }
                    var condition = condition
                    condition["lastTransitionTime"] = nil
                    return condition
                })
        }
        func agrees(_ one: JSONValue?, _ other: JSONValue?) -> Bool {
            let types = Set((other?.array ?? []).compactMap { $0["type"]?.string })
            return comparable(one, types) == comparable(other, types)
        }
        guard agrees(stored["conditions"], wanted["conditions"]) else { return false }
        for list in ["addresses", "supportedFeatures"] where wanted[list] != nil {
            guard (stored[list]?.array ?? []) == wanted[list]?.array else { return false }
        }
        guard let listeners = wanted["listeners"]?.array else { return true }
        let before = stored["listeners"]?.array ?? []
        guard before.count == listeners.count else { return false }
        return listeners.allSatisfy { listener in
            guard let old = before.first(where: { $0["name"] == listener["name"] }) else { return false }
            return agrees(old["conditions"], listener["conditions"]) && old["attachedRoutes"] == 0
        }
    }
}
