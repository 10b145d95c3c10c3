internal import KubeAPI

/// Runs Jobs to completion; ``JobPlan`` decides.
package struct JobController: Controller {
    private let context: ControllerContext
    private let creation: PodCreation

    package init(_ context: ControllerContext) {
        self.context = context
        self.creation = PodCreation(context, component: JobPlan.component)
    }

    package var name: String { JobPlan.component }
    package var concerns: [Concern] { [.each(.jobs), .owned(.pods, by: .jobs)] }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let view = self.context.view
        guard let job = view.cache(.jobs).get(key) else { return nil }
        let plan = JobPlan(
            job, pods: view.cache(.pods).list(ClusterView.By.controller, job.uid), now: self.context.now())
        try await self.creation.perform(plan.writes, for: job)
        return plan.lookAgain
    }
}
