internal import KubeAPI

/// Keeps the numbered pods of StatefulSets; ``StatefulSetPlan`` decides.
package struct StatefulSetController: Controller {
    private let context: ControllerContext
    private let creation: PodCreation

    package init(_ context: ControllerContext) {
        self.context = context
        self.creation = PodCreation(context, component: StatefulSetPlan.component)
    }

    package var name: String { StatefulSetPlan.component }

    package var concerns: [Concern] {
        [
            .each(.statefulSets), .owned(.pods, by: .statefulSets), .owned(.controllerRevisions, by: .statefulSets),
            Concern(StatefulSetPlan.claimType) { _ in [] },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let view = self.context.view
        guard let set = view.cache(.statefulSets).get(key) else { return nil }
        let pods = view.cache(.pods)
        let plan = StatefulSetPlan(
            set,
            pods: pods.list(ClusterView.By.controller, set.uid) + pods.list(ClusterView.By.orphan, key.namespace),
            revisions: view.cache(.controllerRevisions).list(ClusterView.By.controller, set.uid),
            claims: Set(view.cache(StatefulSetPlan.claimType).list(namespace: key.namespace).map(\.name)),
            now: self.context.now())
        try await self.creation.perform(plan.writes, for: set)
        return plan.lookAgain
    }
}
