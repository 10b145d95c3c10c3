package import KubeAPI
package import KubeClient

/// `[<type>/]<name>[.<namespace>]`: a pod, or something that has pods.
package struct PodReference: Hashable, Sendable {
    /// Lower case, without kubectl's short forms; nil: a pod, or a Gateway when there is no such pod.
    package let type: String?
    package let name: String
    /// What the text says after its last dot.
    package let suffix: String?

    private static let types = [
        "pod": "pod", "pods": "pod", "po": "pod", "deployment": "deployment", "deployments": "deployment",
        "deploy": "deployment", "daemonset": "daemonset", "daemonsets": "daemonset", "ds": "daemonset",
        "statefulset": "statefulset", "statefulsets": "statefulset", "sts": "statefulset", "service": "service",
        "services": "service", "svc": "service", "gateway": "gateway", "gateways": "gateway", "gtw": "gateway",
    ]

    /// - Throws: ``CommandError`` for an unknown type or an empty name.
    package init(parsing text: String) throws {
        var rest = text[...]
        if let slash = text.firstIndex(of: "/") {
            let word = text[..<slash].lowercased()
            guard let known = Self.types[word] else {
                throw CommandError(
                    "\"\(word)\" has no pods that we know of; name a pod, deployment, daemonset, statefulset, service or "
                        + "gateway")
            }
            self.type = known
            rest = text[text.index(after: slash)...]
        } else {
            self.type = nil
        }
        guard !rest.isEmpty else { throw CommandError("\"\(text)\" names no pod") }
        if let dot = rest.lastIndex(of: "."), dot != rest.startIndex, rest.index(after: dot) != rest.endIndex {
            self.name = String(rest[..<dot])
            self.suffix = String(rest[rest.index(after: dot)...])
        } else {
            self.name = String(rest)
            self.suffix = nil
        }
    }

    /// The pod that `kubectl logs` would take: ready before not ready, then the oldest.
    /// - Throws: ``CommandError`` when there is none.
    package func pod(in cluster: any KubeCluster, defaultNamespace: String) async throws -> KubeObject {
        let namespace = self.suffix ?? defaultNamespace
        if let found = try await self.pod(cluster, self.name, namespace) { return found }
        // A name may have dots of its own.
        if let suffix, let found = try await self.pod(cluster, "\(self.name).\(suffix)", defaultNamespace) {
            return found
        }
        throw CommandError("no pods match \(self.type.map { "\($0)/" } ?? "")\(self.name) in namespace \(namespace)")
    }

    private func pod(_ cluster: any KubeCluster, _ name: String, _ namespace: String) async throws -> KubeObject? {
        if self.type == nil || self.type == "pod" {
            if let pod = try await cluster.find(.pods, namespace: namespace, name: name) { return pod }
            if self.type != nil { return nil }
        }
        let selector: String
        switch self.type {
        case "deployment", "daemonset", "statefulset":
            let type: ResourceType =
                self.type == "deployment" ? .deployments : self.type == "daemonset" ? .daemonSets : .statefulSets
            guard let object = try await cluster.find(type, namespace: namespace, name: name),
                let selected = try? LabelSelector(object.spec["selector"] ?? [:]).query
            else { return nil }
            selector = selected
        case "service":
            guard let object = try await cluster.find(.services, namespace: namespace, name: name) else { return nil }
            let labels = object.spec["selector"]?.stringMap ?? [:]
            guard !labels.isEmpty else { return nil }
            selector = LabelSelector(matchLabels: labels).query
        default: selector = "gateway.networking.k8s.io/gateway-name=\(name)"
        }
        let pods = try await cluster.list(.pods, namespace: namespace, ListOptions(labelSelector: selector)).items
        func rank(_ pod: KubeObject) -> (Int, String, String) {
            let isReady = pod.condition("Ready") == "True"
            return (isReady ? 0 : 1, pod.metadata["creationTimestamp"]?.string ?? "", pod.name)
        }
        return pods.filter { !$0.isBeingDeleted }.min { rank($0) < rank($1) }
    }
}
