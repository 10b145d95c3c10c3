package import KubeAPI

/// One way into the mesh: a pod is enrolled when both selectors match. An empty one matches everything.
package struct EnablementSelector: Hashable, Sendable {
    package var pod, namespace: LabelSelector

    package init(pod: LabelSelector, namespace: LabelSelector) {
        self.pod = pod
        self.namespace = namespace
    }

    /// A pod that asks for it itself; or any pod that does not refuse, in a namespace that asks for it.
    package static let defaults = [
        EnablementSelector(
            pod: LabelSelector(matchLabels: [MeshKeys.dataplaneMode: "ambient"]), namespace: .everything),
        EnablementSelector(
            pod: LabelSelector(requirements: [.init(key: MeshKeys.dataplaneMode, op: .notIn, values: ["none"])]),
            namespace: LabelSelector(matchLabels: [MeshKeys.dataplaneMode: "ambient"])),
    ]

    package struct NotAList: Error, CustomStringConvertible {
        package let description = "wanted a list of podSelector and namespaceSelector pairs"
    }

    /// A list of objects `{podSelector, namespaceSelector}`; a missing selector is an empty one.
    package static func list(_ json: JSONValue) throws -> [EnablementSelector] {
        guard let entries = json.array else { throw NotAList() }
        return try entries.map { entry in
            EnablementSelector(
                pod: try LabelSelector(entry["podSelector"] ?? [:]),
                namespace: try LabelSelector(entry["namespaceSelector"] ?? [:]))
        }
    }
}

/// Which pods of the node are captured. Decides from labels and the pod's spec alone; what was done about it is the
/// enrolment's business.
package struct EnrolmentDecision: Hashable, Sendable {
    package enum Verdict: Hashable, Sendable, CustomStringConvertible {
        case enrolled
        case hostNetwork, hasSidecar, excludedNamespace, notSelected

        package var description: String {
            switch self {
            case .enrolled: "enrolled"
            case .hostNetwork: "uses the node's network"
            case .hasSidecar: "has a sidecar"
            case .excludedNamespace: "its namespace is excluded"
            case .notSelected: "no enablement selector matches its labels and its namespace's"
            }
        }
    }

    package var selectors: [EnablementSelector]
    package var excludedNamespaces: Set<String>

    package init(selectors: [EnablementSelector], excludedNamespaces: Set<String>) {
        self.selectors = selectors
        self.excludedNamespaces = excludedNamespaces
    }

    package func verdict(_ pod: KubeObject, namespaceLabels: [String: String]) -> Verdict {
        if pod.spec["hostNetwork"]?.bool == true { return .hostNetwork }
        if pod.annotations[MeshKeys.sidecarStatus] != nil { return .hasSidecar }
        if self.excludedNamespaces.contains(pod.namespace) { return .excludedNamespace }
        let labels = pod.labels
        let isSelected = self.selectors.contains {
            $0.namespace.matches(namespaceLabels) && $0.pod.matches(labels)
        }
        return isSelected ? .enrolled : .notSelected
    }

    /// Asked when the agent is down: may every pod of the namespace start without it?
    /// - Parameter hasOptedInPods: some pod in it, anywhere in the cluster, is selected by its own labels.
    package func isFree(_ namespace: String, labels: [String: String], hasOptedInPods: Bool) -> Bool {
        if self.excludedNamespaces.contains(namespace) { return true }
        return self.selectors.allSatisfy { selector in
            if !selector.namespace.matches(labels) { return true }
            // A selector for all namespaces is about pods that ask for it themselves.
            return selector.namespace.requirements.isEmpty && !selector.pod.matches([:]) && !hasOptedInPods
        }
    }

    /// Is the pod one that makes its namespace not free?
    package func isOptedIn(_ podLabels: [String: String]) -> Bool {
        self.selectors.contains { $0.namespace.requirements.isEmpty && $0.pod.matches(podLabels) }
    }
}
