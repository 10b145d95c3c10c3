internal import KubeAPI
internal import KubeClient
internal import Synchronization

/// Binds pods to nodes; ``SchedulePlan`` decides.
package struct Scheduler: Controller {
    static let component = "default-scheduler"
    private let context: ControllerContext
    private let assumed = Assumptions()

    /// Bindings that the watch has not shown yet, by pod uid.
    private final class Assumptions: Sendable {
        let pods = Mutex<[String: KubeObject]>([:])
    }

    package init(_ context: ControllerContext) { self.context = context }

    package var name: String { Self.component }
    /// One: the next pod has to see where the last one went.
    package var workers: Int { 1 }

    package var concerns: [Concern] {
        let pods = self.context.view.cache(.pods)
        let assumed = self.assumed
        let waiting: @Sendable () -> [ObjectKey] = {
            pods.list(ClusterView.By.node, "").filter(\.isPodActive).map { ObjectKey($0) }
        }
        return [
            Concern(.pods) { pod in
                if pod.nodeName.isEmpty { return [ObjectKey(pod)] }
                assumed.pods.withLock { _ = $0.removeValue(forKey: pod.uid) }
                // Its end may make room.
                return pod.isPodActive ? [] : waiting()
            },
            Concern(.nodes) { _ in waiting() },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let pods = self.context.view.cache(.pods)
        guard let pod = pods.get(key), pod.nodeName.isEmpty, pod.isPodActive,
            (pod.spec["schedulerName"]?.string ?? Self.component) == Self.component,
            (pod.spec["schedulingGates"]?.array ?? []).isEmpty,
            self.assumed.pods.withLock({ $0[pod.uid] }) == nil
        else { return nil }
        let assumed = self.assumed.pods.withLock { Dictionary(grouping: $0.values, by: \.nodeName) }
        let verdict = SchedulePlan.verdict(pod, nodes: self.context.view.cache(.nodes).list()) { node in
            let known = pods.list(ClusterView.By.node, node).filter { !$0.isPodFinished }
            let uids = Set(known.map(\.uid))
            return known + (assumed[node] ?? []).filter { !uids.contains($0.uid) }
        }
        switch verdict {
        case .bind(let node): try await self.bind(pod, to: node)
        case .unschedulable(let message): try await self.tell(pod, message)
        }
        return nil
    }

    private func bind(_ pod: KubeObject, to node: String) async throws {
        var bound = pod
        bound.set("spec", "nodeName", to: .string(node))
        self.assumed.pods.withLock { $0[pod.uid] = bound }
        do {
            _ = try await self.context.cluster.create(
                .pods, namespace: pod.namespace, name: pod.name, subresource: "binding",
                [
                    "apiVersion": "v1", "kind": "Binding",
                    "metadata": [
                        "name": .string(pod.name), "namespace": .string(pod.namespace), "uid": .string(pod.uid),
                    ],
                    "target": ["apiVersion": "v1", "kind": "Node", "name": .string(node)],
                ])
        } catch {
            self.assumed.pods.withLock { _ = $0.removeValue(forKey: pod.uid) }
            throw error
        }
        self.context.events.record(
            EventNote(
                pod, "Scheduled", "Successfully assigned \(pod.namespace)/\(pod.name) to \(node)", by: Self.component))
    }

    private func tell(_ pod: KubeObject, _ message: String) async throws {
        self.context.events.record(
            EventNote(pod, isWarning: true, "FailedScheduling", message, by: Self.component))
        var conditions = Conditions(pod.status["conditions"])
        if conditions["PodScheduled"]?["message"]?.string == message { return }
        conditions.set("PodScheduled", false, reason: "Unschedulable", message: message, now: self.context.now())
        var changed = pod
        changed.set("status", "conditions", to: conditions.json)
        try await self.context.perform([.replaceStatus(.pods, changed)])
    }
}
