package import KubeAPI

/// What moving namespaces from sidecars to the node proxy means: labels, restarts, and each policy with what becomes of it.
package struct MigrationPlan: Hashable, Sendable {
    package var namespaces: [NamespaceMigration]

    /// Whether labels and restarts are all there is to do.
    package var isReady: Bool { self.namespaces.allSatisfy(\.isReady) }
}

package struct NamespaceMigration: Hashable, Sendable {
    package enum State: String, Hashable, Sendable {
        /// Its pods get sidecars, or have them.
        case sidecar
        /// The node proxy takes its traffic already.
        case ambient
        case outside
    }

    package var name: String
    package var state: State
    package var labelsRemoved: [String: String] = [:]
    package var labelsSet: [String: String] = [:]
    package var waypoint: WaypointNeed?
    package var findings: [MigrationFinding] = []
    package var restarts: [Restart] = []

    package init(name: String, state: State) {
        self.name = name
        self.state = state
    }

    /// Whether labels and restarts are all there is to do.
    package var isReady: Bool { self.findings.allSatisfy { $0.verdict == .kept || $0.verdict == .note } }
}

/// A waypoint that the namespace's services need to keep what their sidecars do.
package struct WaypointNeed: Hashable, Sendable {
    package var namespace: String
    package var name: String
    package var exists: Bool
    /// Whether the namespace's label leads to it.
    package var isUsed: Bool
    /// `Kind/namespace/name` of what needs it.
    package var reasons: [String]
}

/// Pods whose sidecar goes with a restart only.
package struct Restart: Hashable, Sendable {
    /// `Deployment/cart`; `Pod/cart` for one that nobody would make again.
    package var workload: String
    package var pods: Int

    package init(workload: String, pods: Int) {
        self.workload = workload
        self.pods = pods
    }
}

/// What becomes of one object.
package struct MigrationFinding: Hashable, Sendable {
    package enum Verdict: String, Hashable, Sendable {
        /// Does what it did.
        case kept
        /// Has to be changed, or it does less, or refuses more, than it did.
        case edit
        /// Nothing follows it.
        case lost
        /// Worth knowing; nothing to do.
        case note
    }

    /// What a policy for a waypoint names.
    package struct Target: Hashable, Sendable {
        package var group: String
        package var kind: String
        package var name: String

        package init(group: String, kind: String, name: String) {
            self.group = group
            self.kind = kind
            self.name = name
        }

        package static func service(_ name: String) -> Target { Target(group: "", kind: "Service", name: name) }
    }

    package var kind: String
    /// `namespace/name`
    package var key: String
    package var verdict: Verdict
    /// One sentence without a full stop.
    package var text: String
    /// The `targetRefs` to write.
    package var targets: [Target] = []

    package init(_ object: KubeObject, _ verdict: Verdict, _ text: String, targets: [Target] = []) {
        self.init(kind: object.kind, key: object.key, verdict, text, targets: targets)
    }

    package init(kind: String, key: String, _ verdict: Verdict, _ text: String, targets: [Target] = []) {
        self.kind = kind
        self.key = key
        self.verdict = verdict
        self.text = text
        self.targets = targets
    }
}

extension NamespaceMigration {
    /// In their order: what must be enforced is there before the sidecars go. Edits of policies come first, by hand.
    package var commands: [String] {
        var commands: [String] = []
        if let waypoint, !waypoint.exists || !waypoint.isUsed {
            let name = waypoint.name == "waypoint" ? "" : " --name \(waypoint.name)"
            commands.append("martlet waypoint apply -n \(waypoint.namespace)\(name) --enroll-namespace --wait")
        }
        let labels =
            self.labelsRemoved.keys.sorted().map { "\($0)-" }
            + self.labelsSet.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        if !labels.isEmpty {
            commands.append("kubectl label namespace \(self.name) --overwrite \(labels.joined(separator: " "))")
        }
        let (alone, owned) = (
            self.restarts.filter { $0.workload.hasPrefix("Pod/") || $0.workload.hasPrefix("ReplicaSet/") },
            self.restarts.filter { !$0.workload.hasPrefix("Pod/") && !$0.workload.hasPrefix("ReplicaSet/") }
        )
        if !owned.isEmpty {
            let names = owned.map { $0.workload.lowercased() }.joined(separator: " ")
            commands.append("kubectl rollout restart -n \(self.name) \(names)")
        }
        for restart in alone {
            commands.append("# \(restart.workload) cannot be rolled out: delete its pods, and see that they come back")
        }
        return commands
    }
}
