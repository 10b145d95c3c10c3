package import KubeAPI

/// What a node's silence means: a pure function of the node, its lease and the time.
package enum NodeHealth {
    package static let leaseNamespace = "kube-node-lease"
    /// Four missed renewals of the kubelet's ten seconds.
    package static let graceSeconds: Int64 = 40

    package static let unreachable = "node.kubernetes.io/unreachable"
    package static let notReady = "node.kubernetes.io/not-ready"

    /// - Returns: the node with other conditions or taints, or nil when they are right, and when to look again.
    package static func plan(_ node: KubeObject, lease: KubeObject?, now: KubeTime)
        -> (status: KubeObject?, taints: KubeObject?, lookAgain: Duration?)
    {
        let heard = max(KubeTime(lease?.spec["renewTime"]?.string) ?? node.createdAt, node.createdAt)
        let due = heard + Self.graceSeconds
        var seen = node
        if due <= now { seen = self.silent(node, now: now) }
        let taints = self.taints(seen, now: now)
        return (
            seen != node ? seen : nil,
            taints.map { list in
                var changed = node
                changed.set("spec", "taints", to: list.isEmpty ? nil : .array(list))
                return changed
            }, due > now ? due.since(now) + .milliseconds(100) : nil
        )
    }

    /// Every condition of a silent node is unknown.
    private static func silent(_ node: KubeObject, now: KubeTime) -> KubeObject {
        var list = node.status["conditions"]?.array ?? []
        for (index, condition) in list.enumerated() where condition["status"]?.string != "Unknown" {
            list[index]["status"] = "Unknown"
            list[index]["reason"] = "NodeStatusUnknown"
            list[index]["message"] = "Kubelet stopped posting node status."
            list[index]["lastTransitionTime"] = .string(now.text)
        }
        if !list.contains(where: { $0["type"]?.string == "Ready" }) {
            list.append([
                "type": "Ready", "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.", "lastTransitionTime": .string(now.text),
                "lastHeartbeatTime": .string(now.text),
            ])
        }
        var changed = node
        changed.set("status", "conditions", to: .array(list))
        return changed
    }

    /// The taints that go with the Ready condition; nil when they are there.
    private static func taints(_ node: KubeObject, now: KubeTime) -> [JSONValue]? {
        let wanted: String? =
            switch node.condition("Ready") {
            case "True": nil
            case "Unknown": Self.unreachable
            default: Self.notReady
            }
        let current = node.spec["taints"]?.array ?? []
        var list = current.filter { taint in
            let key = taint["key"]?.string ?? ""
            return key == wanted || (key != Self.unreachable && key != Self.notReady)
        }
        if let wanted {
            for effect in ["NoSchedule", "NoExecute"]
            where !list.contains(where: { $0["key"]?.string == wanted && $0["effect"]?.string == effect }) {
                list.append([
                    "key": .string(wanted), "effect": .string(effect), "timeAdded": .string(now.text),
                ])
            }
        }
        return list == current ? nil : list
    }

    /// When a node's NoExecute taints end a pod: nil for never.
    package static func evictionTime(_ pod: KubeObject, on node: KubeObject) -> KubeTime? {
        var earliest: KubeTime?
        let tolerations = pod.spec["tolerations"]?.array ?? []
        for taint in node.spec["taints"]?.array ?? [] where taint["effect"]?.string == "NoExecute" {
            let added = KubeTime(taint["timeAdded"]?.string) ?? KubeTime(secondsSince1970: 0)
            let matching = tolerations.filter { Placement.tolerates($0, taint) }
            if matching.isEmpty {
                earliest = min(earliest ?? added, added)
            } else if let seconds = matching.compactMap({ $0["tolerationSeconds"]?.int }).min() {
                let until = added + max(0, seconds)
                earliest = min(earliest ?? until, until)
            }
        }
        return earliest
    }
}

/// Watches over the nodes: silence makes a node unknown, taints it, takes its pods out of service and in the end
/// evicts them. Pods of a node that is gone go, too.
package struct NodeLifecycle: Controller {
    static let component = "node-controller"
    private let context: ControllerContext
    package init(_ context: ControllerContext) { self.context = context }

    package var name: String { Self.component }

    package var concerns: [Concern] {
        [
            .each(.nodes),
            Concern(.leases) { lease in
                lease.namespace == NodeHealth.leaseNamespace ? [ObjectKey("", lease.name)] : []
            },
            Concern(.pods) { pod in pod.nodeName.isEmpty ? [] : [ObjectKey("", pod.nodeName)] },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let view = self.context.view
        let pods = view.cache(.pods).list(ClusterView.By.node, key.name)
        guard let node = view.cache(.nodes).get(key) else {
            // Nobody is left who could end them gracefully. A young pod may be waiting for a node that is to come.
            let now = self.context.now()
            let old = pods.filter { $0.createdAt + NodeHealth.graceSeconds <= now }
            try await self.context.perform(
                old.map { .delete(.pods, $0, .background, gracePeriodSeconds: 0) })
            return old.count < pods.count ? .seconds(NodeHealth.graceSeconds) : nil
        }
        let now = self.context.now()
        let lease = view.cache(.leases).get(ObjectKey(NodeHealth.leaseNamespace, node.name))
        let plan = NodeHealth.plan(node, lease: lease, now: now)
        if let status = plan.status {
            self.context.events.record(
                EventNote(node, "NodeNotReady", "Node \(node.name) status is now: NodeNotReady", by: Self.component))
            try await self.context.perform([.replaceStatus(.nodes, status)])
            return .zero
        }
        if let tainted = plan.taints {
            try await self.context.perform([.replace(.nodes, tainted)])
            return .zero
        }
        var lookAgain = plan.lookAgain
        for pod in pods where pod.isPodActive {
            if node.condition("Ready") != "True", pod.isPodReady {
                try await self.context.perform([.replaceStatus(.pods, Self.unready(pod, now: now))])
            }
            guard let until = NodeHealth.evictionTime(pod, on: node) else { continue }
            if until <= now {
                self.context.events.record(
                    EventNote(
                        pod, "TaintManagerEviction", "Marking for deletion Pod \(pod.key)",
                        by: "taint-eviction-controller"))
                try await self.context.perform([.delete(.pods, pod, .background)])
            } else {
                let wait = until.since(now) + .milliseconds(100)
                lookAgain = min(lookAgain ?? wait, wait)
            }
        }
        return lookAgain
    }

    private static func unready(_ pod: KubeObject, now: KubeTime) -> KubeObject {
        var list = pod.status["conditions"]?.array ?? []
        for (index, condition) in list.enumerated() where condition["type"]?.string == "Ready" {
            list[index]["status"] = "False"
            list[index]["lastTransitionTime"] = .string(now.text)
        }
        var changed = pod
        changed.set("status", "conditions", to: .array(list))
        return changed
    }
}
