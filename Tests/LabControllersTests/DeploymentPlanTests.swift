import KubeAPI
import LabControllers
import Testing

@Suite("A Deployment")
struct DeploymentPlanTests {
    private func plan(
        _ deployment: KubeObject, _ sets: [KubeObject], hasOldPods: Bool = false, at now: KubeTime = Make.now
    ) -> DeploymentPlan {
        DeploymentPlan(
            deployment, replicaSets: sets, taken: Set(sets.map(\.name)), hasOldPods: hasOldPods, now: now)
    }

    @Test("without ReplicaSet makes one of full size, as revision 1")
    func first() throws {
        let writes = self.plan(Make.deployment(), []).writes
        let set = try #require(writes.created(.replicaSets).first)
        #expect(set.spec["replicas"] == 3)
        #expect(set.annotations[DeploymentPlan.revisionAnnotation] == "1")
        #expect(set.annotations["deployment.kubernetes.io/desired-replicas"] == "3")
        #expect(set.annotations["deployment.kubernetes.io/max-replicas"] == "4")
        let hash = try #require(set.labels[PodTemplate.hashLabel])
        #expect(set.name == "web-\(hash)")
        #expect(set.spec.at("selector", "matchLabels", PodTemplate.hashLabel)?.string == hash)
        #expect(set.spec.at("template", "metadata", "labels", PodTemplate.hashLabel)?.string == hash)
        #expect(set.controllerReference?["uid"] == "d-uid")
        #expect(writes.events == ["Scaled up replica set \(set.name) from 0 to 3"])
        #expect(writes.replaced(.deployments).first?.annotations[DeploymentPlan.revisionAnnotation] == "1")
    }

    @Test("takes another name when its hash is taken by a stranger")
    func collision() throws {
        let deployment = Make.deployment()
        let name = "web-\(PodTemplate.hash(Make.template("v1")))"
        let plan = DeploymentPlan(deployment, replicaSets: [], taken: [name], hasOldPods: false, now: Make.now)
        let set = try #require(plan.writes.created(.replicaSets).first)
        #expect(set.name != name)
    }

    @Test("rolls within 25 %: first one more, then old ones as new ones become available")
    func rolling() throws {
        let deployment = Make.deployment(image: "v2", annotations: [DeploymentPlan.revisionAnnotation: "2"])
        let old = Make.replicaSet(of: deployment, image: "v1", replicas: 3, revision: 1)
        let created = try #require(self.plan(deployment, [old]).writes.created(.replicaSets).first)
        #expect(created.spec["replicas"] == 1)
        #expect(created.annotations[DeploymentPlan.revisionAnnotation] == "2")

        // Not available yet: nothing moves, 0 unavailable of 3 are allowed.
        let starting = Make.replicaSet(of: deployment, image: "v2", replicas: 1, available: 0, revision: 2)
        #expect(self.plan(deployment, [old, starting]).writes.replaced(.replicaSets).isEmpty)

        let up = Make.replicaSet(of: deployment, image: "v2", replicas: 1, revision: 2)
        let shrunk = self.plan(deployment, [old, up]).writes.replaced(.replicaSets)
        #expect(shrunk.map { [$0.name: $0.spec["replicas"]?.int] } == [[old.name: 2]])

        let smaller = Make.replicaSet(of: deployment, image: "v1", replicas: 2, revision: 1)
        let grown = self.plan(deployment, [smaller, up]).writes.replaced(.replicaSets)
        #expect(grown.map { [$0.name: $0.spec["replicas"]?.int] } == [[up.name: 2]])
    }

    @Test("replaces broken old pods without waiting for new ones")
    func broken() {
        let deployment = Make.deployment(image: "v2", annotations: [DeploymentPlan.revisionAnnotation: "2"])
        let old = Make.replicaSet(of: deployment, image: "v1", replicas: 3, available: 2, revision: 1)
        let new = Make.replicaSet(of: deployment, image: "v2", replicas: 1, available: 1, revision: 2)
        let writes = self.plan(deployment, [old, new]).writes
        #expect(writes.replaced(.replicaSets).map { $0.spec["replicas"]?.int } == [2])
    }

    @Test("with strategy Recreate ends all old pods before it starts new ones")
    func recreate() {
        let deployment = Make.deployment(
            image: "v2", strategy: ["type": "Recreate"], annotations: [DeploymentPlan.revisionAnnotation: "1"])
        let old = Make.replicaSet(of: deployment, image: "v1", replicas: 3, revision: 1)
        #expect(self.plan(deployment, [old]).writes.replaced(.replicaSets).map { $0.spec["replicas"]?.int } == [0])
        let empty = Make.replicaSet(of: deployment, image: "v1", replicas: 0, revision: 1)
        #expect(self.plan(deployment, [empty], hasOldPods: true).writes.created(.replicaSets).isEmpty)
        #expect(self.plan(deployment, [empty]).writes.created(.replicaSets).first?.spec["replicas"] == 3)
    }

    @Test("that goes back to an old template makes that ReplicaSet the newest revision")
    func rollback() {
        let deployment = Make.deployment(image: "v1", annotations: [DeploymentPlan.revisionAnnotation: "2"])
        let old = Make.replicaSet(of: deployment, image: "v1", replicas: 0, revision: 1)
        let new = Make.replicaSet(of: deployment, image: "v2", replicas: 3, revision: 2)
        let writes = self.plan(deployment, [old, new]).writes
        #expect(writes.created(.replicaSets).isEmpty)
        #expect(writes.replaced(.replicaSets).map { $0.annotations[DeploymentPlan.revisionAnnotation] } == ["3"])
        #expect(writes.replaced(.deployments).first?.annotations[DeploymentPlan.revisionAnnotation] == "3")
    }

    @Test("that is scaled sizes its only ReplicaSet at once")
    func scale() {
        let deployment = Make.deployment(replicas: 7, annotations: [DeploymentPlan.revisionAnnotation: "1"])
        let set = Make.replicaSet(of: deployment, image: "v1", replicas: 3, revision: 1, desired: 3)
        let writes = self.plan(deployment, [set]).writes
        #expect(writes.replaced(.replicaSets).map { $0.spec["replicas"]?.int } == [7])
        #expect(writes.events == ["Scaled up replica set \(set.name) from 3 to 7"])
    }

    @Test("that is paused starts no roll-out")
    func paused() {
        var deployment = Make.deployment(image: "v2", annotations: [DeploymentPlan.revisionAnnotation: "1"])
        deployment.set("spec", "paused", to: true)
        let old = Make.replicaSet(of: deployment, image: "v1", replicas: 3, revision: 1)
        let writes = self.plan(deployment, [old]).writes
        #expect(writes.created(.replicaSets).isEmpty)
        let progressing = Conditions(writes.status(.deployments)?["conditions"])["Progressing"]
        #expect(progressing?["reason"] == "DeploymentPaused")
    }

    @Test("that is complete says so, keeps its history limit, and then has nothing left to do")
    func complete() throws {
        let deployment = Make.deployment(image: "v5", annotations: [DeploymentPlan.revisionAnnotation: "5"])
        let sets = (1...4).map { Make.replicaSet(of: deployment, image: "v\($0)", replicas: 0, revision: $0) }
        let new = Make.replicaSet(of: deployment, image: "v5", replicas: 3, revision: 5)
        let writes = self.plan(deployment, sets + [new]).writes
        #expect(writes.deleted(.replicaSets) == [sets[0].name, sets[1].name])
        let status = try #require(writes.status(.deployments))
        #expect(status["replicas"] == 3 && status["updatedReplicas"] == 3 && status["availableReplicas"] == 3)
        #expect(status["unavailableReplicas"] == nil)
        #expect(Conditions(status["conditions"]).reason("Available") == "MinimumReplicasAvailable")
        #expect(Conditions(status["conditions"]).reason("Progressing") == "NewReplicaSetAvailable")

        var settled = deployment
        settled.json["status"] = status
        #expect(self.plan(settled, Array(sets[2...]) + [new], at: Make.now + 60).writes == [])
    }

    @Test("that does not move for progressDeadlineSeconds says so, and asks to be looked at then")
    func deadline() throws {
        var deployment = Make.deployment(annotations: [DeploymentPlan.revisionAnnotation: "1"])
        let set = Make.replicaSet(of: deployment, image: "v1", replicas: 3, available: 0, revision: 1)
        let first = self.plan(deployment, [set])
        deployment.json["status"] = first.writes.status(.deployments)
        let wait = try #require(first.lookAgain)
        #expect(wait > .seconds(599) && wait < .seconds(603))
        #expect(self.plan(deployment, [set], at: Make.now + 599).writes == [])
        let late = self.plan(deployment, [set], at: Make.now + 601)
        let progressing = Conditions(late.writes.status(.deployments)?["conditions"])["Progressing"]
        #expect(progressing?["status"] == "False" && progressing?["reason"] == "ProgressDeadlineExceeded")
    }

    @Test("adopts a ReplicaSet that its selector matches")
    func adopt() {
        let deployment = Make.deployment()
        var orphan = Make.replicaSet(of: deployment, image: "v1", replicas: 3, revision: 1)
        orphan.set("metadata", "ownerReferences", to: nil)
        let writes = self.plan(deployment, [orphan]).writes
        #expect(writes.replaced(.replicaSets).first?.controllerReference?["uid"] == "d-uid")
        #expect(writes.created(.replicaSets).isEmpty)
    }
}
