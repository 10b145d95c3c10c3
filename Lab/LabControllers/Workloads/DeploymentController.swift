internal import KubeAPI

/// Rolls Deployments out through ReplicaSets; ``DeploymentPlan`` decides.
package struct DeploymentController: Controller {
    private let context: ControllerContext
    package init(_ context: ControllerContext) { self.context = context }

    package var name: String { DeploymentPlan.component }

    package var concerns: [Concern] {
        let deployments = self.context.view.cache(.deployments)
        let sets = self.context.view.cache(.replicaSets)
        return [
            .each(.deployments), .owned(.replicaSets, by: .deployments),
            // An orphan may be ours to adopt.
            Concern(.replicaSets) { set in
                guard set.controllerReference == nil else { return [] }
                return deployments.list(namespace: set.namespace).map { ObjectKey($0) }
            },
            // Strategy Recreate waits for the last pod of the old ReplicaSets.
            Concern(.pods) { pod in
                guard pod.isBeingDeleted || pod.isPodFinished,
                    let owner = pod.controllerReference, owner["kind"]?.string == "ReplicaSet",
                    let set = sets.get(ObjectKey(pod.namespace, owner["name"]?.string ?? "")),
                    let deployment = set.controllerReference?["name"]?.string
                else { return [] }
                let key = ObjectKey(pod.namespace, deployment)
                let isRecreate = deployments.get(key)?.spec.at("strategy", "type")?.string == "Recreate"
                return isRecreate ? [key] : []
            },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let view = self.context.view
        guard let deployment = view.cache(.deployments).get(key) else { return nil }
        let sets = view.cache(.replicaSets)
        let owned = sets.list(ClusterView.By.controller, deployment.uid)
        let template = deployment.spec["template"] ?? [:]
        let hasOldPods = owned.contains { set in
            PodTemplate.withoutHash(set.spec["template"] ?? [:]) != template
                && view.cache(.pods).list(ClusterView.By.controller, set.uid).contains { !$0.isPodFinished }
        }
        let plan = DeploymentPlan(
            deployment, replicaSets: owned + sets.list(ClusterView.By.orphan, key.namespace),
            taken: Set(sets.list(namespace: key.namespace).map(\.name)), hasOldPods: hasOldPods,
            now: self.context.now())
        try await self.context.perform(plan.writes)
        // A revision was written and the status left for later.
        if plan.writes.contains(where: { if case .replace(.deployments, _) = $0 { true } else { false } }) {
            return .zero
        }
        return plan.lookAgain
    }
}
