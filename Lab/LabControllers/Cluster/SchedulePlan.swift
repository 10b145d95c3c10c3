package import KubeAPI

/// Which node a pod goes to: a pure function of the pod, the nodes, and the pods on them.
package enum SchedulePlan {
    package enum Verdict: Hashable, Sendable {
        case bind(String)
        /// The message of the condition and of the event.
        case unschedulable(String)
    }

    /// A node's pods when its capacity does not say.
    private static let podsDefault = 110

    /// - Parameter podsOn: the pods of a node that are not finished, also those just bound.
    package static func verdict(
        _ pod: KubeObject, nodes: [KubeObject], podsOn: (String) -> [KubeObject]
    ) -> Verdict {
        var obstacles: [String: Int] = [:]
        var best: (rank: (Int, Int, String), name: String)?
        // Fetched once; affinity between pods looks at other nodes, too.
        let onNode = Dictionary(uniqueKeysWithValues: nodes.map { ($0.name, podsOn($0.name)) })
        let owner = pod.controllerReference?["uid"]?.string
        for node in nodes {
            let pods = onNode[node.name] ?? []
            if let obstacle = self.obstacle(pod, node, pods, nodes, onNode) {
                obstacles[obstacle.description, default: 0] += 1
                continue
            }
            let siblings =
                owner.map { owner in
                    pods.count { $0.controllerReference?["uid"]?.string == owner }
                } ?? 0
            let rank = (siblings, pods.count, node.name)
            if best.map({ rank < $0.rank }) ?? true { best = (rank, node.name) }
        }
        if let best { return .bind(best.name) }
        if nodes.isEmpty { return .unschedulable("no nodes available to schedule pods") }
        let reasons = obstacles.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
        return .unschedulable("0/\(nodes.count) nodes are available: \(reasons.joined(separator: ", ")).")
    }

    private static func obstacle(
        _ pod: KubeObject, _ node: KubeObject, _ pods: [KubeObject], _ nodes: [KubeObject],
        _ onNode: [String: [KubeObject]]
    ) -> Placement.Obstacle? {
        if let obstacle = Placement.obstacle(pod, on: node) { return obstacle }
        let capacity =
            (node.status.at("allocatable", "pods")?.string).flatMap { Int($0) }
            ?? node.status.at("allocatable", "pods")?.int.map { Int(clamping: $0) } ?? Self.podsDefault
        if pods.count >= capacity { return .tooManyPods }
        let wanted = Self.hostPorts(pod)
        if !wanted.isEmpty, pods.contains(where: { !wanted.isDisjoint(with: Self.hostPorts($0)) }) { return .hostPort }
        let required = "requiredDuringSchedulingIgnoredDuringExecution"
        for term in pod.spec.at("affinity", "podAffinity", required)?.array ?? []
        where !self.hasMatch(term, pod, node, nodes, onNode) {
            // The first of a group that wants to be together has nobody to be with.
            let isFirst =
                Self.matches(term, pod, other: pod)
                && !nodes.contains { self.hasMatch(term, pod, $0, nodes, onNode) }
            if !isFirst { return .podAffinity }
        }
        for term in pod.spec.at("affinity", "podAntiAffinity", required)?.array ?? []
        where self.hasMatch(term, pod, node, nodes, onNode) {
            return .podAntiAffinity
        }
        // Those already there may refuse us.
        for other in pods {
            for term in other.spec.at("affinity", "podAntiAffinity", required)?.array ?? []
            where Self.matches(term, other, other: pod) {
                return .podAntiAffinity
            }
        }
        return nil
    }

    /// `protocol/port`, without addresses: two pods of different host addresses are not told apart.
    private static func hostPorts(_ pod: KubeObject) -> Set<String> {
        var ports: Set<String> = []
        for container in pod.spec["containers"]?.array ?? [] {
            for port in container["ports"]?.array ?? [] {
                let number = port["hostPort"]?.int ?? 0
                if number > 0 { ports.insert("\(port["protocol"]?.string ?? "TCP")/\(number)") }
            }
        }
        return ports
    }

    /// Whether a pod that the term selects runs in the node's topology domain.
    private static func hasMatch(
        _ term: JSONValue, _ pod: KubeObject, _ node: KubeObject, _ nodes: [KubeObject],
        _ onNode: [String: [KubeObject]]
    ) -> Bool {
        guard let key = term["topologyKey"]?.string, let domain = node.labels[key] else { return false }
        return nodes.contains { other in
            other.labels[key] == domain
                && (onNode[other.name] ?? []).contains { Self.matches(term, pod, other: $0) }
        }
    }

    private static func matches(_ term: JSONValue, _ pod: KubeObject, other: KubeObject) -> Bool {
        let named = term["namespaces"]?.array?.compactMap(\.string) ?? []
        // A namespaceSelector takes all namespaces: their labels are not at hand here.
        let isInNamespace =
            named.contains(other.namespace) || term["namespaceSelector"] != nil
            || (named.isEmpty && other.namespace == pod.namespace)
        guard isInNamespace, let json = term["labelSelector"], let selector = try? LabelSelector(json) else {
            return false
        }
        return selector.matches(other.labels)
    }
}
