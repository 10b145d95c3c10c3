package import KubeAPI

/// Whether a pod may run on a node: selectors, affinity to nodes, taints, cordons.
package enum Placement {
    /// Why not, in the words of `FailedScheduling` messages.
    package enum Obstacle: Hashable, Sendable {
        case selector, unschedulable, taint(String), tooManyPods, hostPort, podAffinity, podAntiAffinity

        package var description: String {
            switch self {
            case .selector: "node(s) didn't match Pod's node affinity/selector"
            case .unschedulable: "node(s) were unschedulable"
            case .taint(let text): "node(s) had untolerated taint {\(text)}"
            case .tooManyPods: "Too many pods"
            case .hostPort: "node(s) didn't have free ports for the requested pod ports"
            case .podAffinity: "node(s) didn't match pod affinity rules"
            case .podAntiAffinity: "node(s) didn't match pod anti-affinity rules"
            }
        }
    }

    /// `nodeSelector` and the required part of `nodeAffinity`.
    package static func matchesSelector(_ pod: KubeObject, _ node: KubeObject) -> Bool {
        let labels = node.labels
        for (key, value) in pod.spec["nodeSelector"]?.stringMap ?? [:] where labels[key] != value { return false }
        guard
            let required = pod.spec.at(
                "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
        else { return true }
        // Terms are alternatives; a term without any requirement matches nothing.
        return (required["nodeSelectorTerms"]?.array ?? []).contains { term in
            let expressions = term["matchExpressions"]?.array ?? []
            let fields = term["matchFields"]?.array ?? []
            if expressions.isEmpty, fields.isEmpty { return false }
            return expressions.allSatisfy { Self.requirement($0, labels) }
                && fields.allSatisfy { Self.requirement($0, ["metadata.name": node.name]) }
        }
    }

    /// Something unreadable matches nothing.
    private static func requirement(_ json: JSONValue, _ labels: [String: String]) -> Bool {
        let operators: [String: LabelSelector.Operator] = [
            "In": .isIn, "NotIn": .notIn, "Exists": .exists, "DoesNotExist": .doesNotExist, "Gt": .greater, "Lt": .less,
        ]
        guard let key = json["key"]?.string, let op = operators[json["operator"]?.string ?? ""] else { return false }
        return LabelSelector.Requirement(
            key: key, op: op, values: json["values"]?.array?.compactMap(\.string) ?? []
        ).matches(labels)
    }

    /// The first taint with one of the effects that the pod does not tolerate.
    package static func untolerated(_ pod: KubeObject, _ node: KubeObject, effects: Set<String>) -> JSONValue? {
        let tolerations = pod.spec["tolerations"]?.array ?? []
        return (node.spec["taints"]?.array ?? []).first { taint in
            effects.contains(taint["effect"]?.string ?? "")
                && !tolerations.contains { Self.tolerates($0, taint) }
        }
    }

    package static func tolerates(_ toleration: JSONValue, _ taint: JSONValue) -> Bool {
        let effect = toleration["effect"]?.string ?? ""
        if !effect.isEmpty, effect != taint["effect"]?.string { return false }
        let key = toleration["key"]?.string ?? ""
        let isExists = toleration["operator"]?.string == "Exists"
        if key.isEmpty { return isExists }
        if key != taint["key"]?.string { return false }
        return isExists || (toleration["value"]?.string ?? "") == (taint["value"]?.string ?? "")
    }

    private static let unschedulableTaint: JSONValue = [
        "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule",
    ]

    /// The node's own rules against a pod; nil when it may run there.
    package static func obstacle(_ pod: KubeObject, on node: KubeObject) -> Obstacle? {
        if node.spec["unschedulable"]?.bool == true,
            !(pod.spec["tolerations"]?.array ?? []).contains(where: { Self.tolerates($0, Self.unschedulableTaint) })
        {
            return .unschedulable
        }
        if !self.matchesSelector(pod, node) { return .selector }
        if let taint = self.untolerated(pod, node, effects: ["NoSchedule", "NoExecute"]) {
            let value = taint["value"]?.string ?? ""
            return .taint("\(taint["key"]?.string ?? ""): \(value)")
        }
        return nil
    }

    /// What a DaemonSet does about a node.
    package struct DaemonVerdict: Hashable, Sendable {
        package var shouldRun: Bool
        /// A pod that is there may stay.
        package var shouldContinue: Bool
    }

    package static func daemonVerdict(_ pod: KubeObject, on node: KubeObject) -> DaemonVerdict {
        if let name = pod.spec["nodeName"]?.string, !name.isEmpty, name != node.name {
            return DaemonVerdict(shouldRun: false, shouldContinue: false)
        }
        if node.isBeingDeleted || !self.matchesSelector(pod, node) {
            return DaemonVerdict(shouldRun: false, shouldContinue: false)
        }
        if self.untolerated(pod, node, effects: ["NoExecute"]) != nil {
            return DaemonVerdict(shouldRun: false, shouldContinue: false)
        }
        let mayStart = self.untolerated(pod, node, effects: ["NoSchedule"]) == nil
        return DaemonVerdict(shouldRun: mayStart, shouldContinue: true)
    }
}
