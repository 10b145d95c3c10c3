internal import KubeAPI

/// Keeps as many pods as each ReplicaSet asks for; ``ReplicaSetPlan`` decides.
package struct ReplicaSetController: Controller {
    private let context: ControllerContext
    private let creation: PodCreation

    package init(_ context: ControllerContext) {
        self.context = context
        self.creation = PodCreation(context, component: ReplicaSetPlan.component)
    }

    package var name: String { ReplicaSetPlan.component }

    package var concerns: [Concern] {
        let sets = self.context.view.cache(.replicaSets)
        return [
            .each(.replicaSets), .owned(.pods, by: .replicaSets),
            Concern(.pods) { pod in
                guard pod.controllerReference == nil, pod.isPodActive else { return [] }
                return sets.list(namespace: pod.namespace).map { ObjectKey($0) }
            },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        guard let set = self.context.view.cache(.replicaSets).get(key) else { return nil }
        let pods = self.context.view.cache(.pods)
        let plan = ReplicaSetPlan(
            set,
            pods: pods.list(ClusterView.By.controller, set.uid) + pods.list(ClusterView.By.orphan, key.namespace),
            failure: self.creation.failure(set), now: self.context.now())
        try await self.creation.perform(plan.writes, for: set)
        return plan.lookAgain
    }
}
