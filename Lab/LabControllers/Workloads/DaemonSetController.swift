internal import KubeAPI

/// Keeps one pod of each DaemonSet on each eligible node; ``DaemonSetPlan`` decides.
package struct DaemonSetController: Controller {
    private let context: ControllerContext
    private let creation: PodCreation

    package init(_ context: ControllerContext) {
        self.context = context
        self.creation = PodCreation(context, component: DaemonSetPlan.component)
    }

    package var name: String { DaemonSetPlan.component }

    package var concerns: [Concern] {
        let sets = self.context.view.cache(.daemonSets)
        return [
            .each(.daemonSets), .owned(.pods, by: .daemonSets), .owned(.controllerRevisions, by: .daemonSets),
            Concern(.nodes) { _ in sets.list().map { ObjectKey($0) } },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let view = self.context.view
        guard let set = view.cache(.daemonSets).get(key) else { return nil }
        let pods = view.cache(.pods)
        let plan = DaemonSetPlan(
            set,
            pods: pods.list(ClusterView.By.controller, set.uid) + pods.list(ClusterView.By.orphan, key.namespace),
            nodes: view.cache(.nodes).list(),
            revisions: view.cache(.controllerRevisions).list(ClusterView.By.controller, set.uid),
            now: self.context.now())
        try await self.creation.perform(plan.writes, for: set)
        return plan.lookAgain
    }
}
