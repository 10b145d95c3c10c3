import KubeAPI
import LabControllers
import Testing

@Suite("A ReplicaSet")
struct ReplicaSetPlanTests {
    private let set = Make.replicaSet(of: Make.deployment(), image: "v1", replicas: 2, revision: 1)
    private var labels: [String: String] { self.set.spec.at("template", "metadata", "labels")?.stringMap ?? [:] }
    private func pod(
        _ name: String, isReady: Bool = true, node: String = "n1", phase: String = "Running",
        isBeingDeleted: Bool = false
    ) -> KubeObject {
        Make.pod(
            name, labels: self.labels, owner: self.set, node: node, isReady: isReady, phase: phase,
            isBeingDeleted: isBeingDeleted)
    }

    @Test("makes what is missing; finished and terminating pods do not count")
    func creates() {
        let pods = [self.pod("done", phase: "Succeeded"), self.pod("going", isBeingDeleted: true), self.pod("a")]
        let plan = ReplicaSetPlan(self.set, pods: pods, failure: nil, now: Make.now)
        let created = plan.writes.created(.pods)
        #expect(created.count == 1)
        #expect(created.first?.metadata["generateName"]?.string == "\(self.set.name)-")
        #expect(created.first?.labels == self.labels)
        #expect(plan.writes.status(.replicaSets)?["replicas"] == 1)
    }

    @Test("deletes pods without a node, then unready ones, then any")
    func deletes() {
        let pods = [
            self.pod("good1"), self.pod("good2"), self.pod("unready", isReady: false),
            self.pod("new", isReady: false, node: "", phase: "Pending"),
        ]
        let plan = ReplicaSetPlan(self.set, pods: pods, failure: nil, now: Make.now)
        #expect(plan.writes.deleted(.pods) == ["new", "unready"])
    }

    @Test("releases a pod whose labels were changed, and adopts one that matches")
    func claims() {
        var stranger = self.pod("stranger")
        stranger.set("metadata", "labels", to: ["app": "other"])
        let orphan = Make.pod("orphan", labels: self.labels, node: "n1")
        let writes = ReplicaSetPlan(self.set, pods: [stranger, orphan], failure: nil, now: Make.now).writes
        let replaced = writes.replaced(.pods)
        #expect(replaced.map { [$0.name: $0.isControlled(by: self.set)] } == [["stranger": false], ["orphan": true]])
        #expect(writes.created(.pods).isEmpty)
    }

    @Test("tells why pods are refused")
    func failure() {
        let writes = ReplicaSetPlan(self.set, pods: [], failure: "quota", now: Make.now).writes
        let condition = Conditions(writes.status(.replicaSets)?["conditions"])["ReplicaFailure"]
        #expect(condition?["message"] == "quota")
    }
}

@Suite("A DaemonSet")
struct DaemonSetPlanTests {
    private func set(surge: JSONValue = 0, unavailable: JSONValue = 1, image: String = "v1", host: Bool = false)
        -> KubeObject
    {
        var template = Make.template(image)
        if host { template.set(["spec", "hostNetwork"], to: true) }
        var object = KubeObject(
            .daemonSets, namespace: "ns", name: "agent",
            [
                "spec": [
                    "selector": ["matchLabels": ["app": "web"]], "template": template,
                    "updateStrategy": [
                        "type": "RollingUpdate", "rollingUpdate": ["maxSurge": surge, "maxUnavailable": unavailable],
                    ],
                ]
            ])
        object.set("metadata", "uid", to: "ds-uid")
        object.set("metadata", "generation", to: 1)
        return object
    }
    private let nodes = ["n1", "n2", "n3"].map { Make.node($0) }

    private func revision(_ set: KubeObject) throws -> KubeObject {
        var revision = try #require(
            DaemonSetPlan(set, pods: [], nodes: [], revisions: [], now: Make.now).writes.created(.controllerRevisions)
                .first)
        revision.set("metadata", "uid", to: .string("rev-\(revision.name)"))
        return revision
    }
    private func pod(
        _ set: KubeObject, _ revision: KubeObject, _ node: String, isReady: Bool = true, suffix: String = ""
    ) -> KubeObject {
        let hash = revision.labels[ControllerRevisions.hashLabel] ?? ""
        return Make.pod(
            "agent-\(node)\(suffix)", labels: ["app": "web", ControllerRevisions.hashLabel: hash], owner: set,
            node: node,
            isReady: isReady)
    }

    @Test("makes one pod for each node that takes it, pinned to the node")
    func places() throws {
        let nodes = [
            Make.node("n1"), Make.node("cordoned", isUnschedulable: true),
            Make.node("tainted", taints: [["key": "dedicated", "value": "db", "effect": "NoSchedule"]]),
            Make.node("silent", taints: [["key": "node.kubernetes.io/unreachable", "effect": "NoExecute"]]),
        ]
        let plan = DaemonSetPlan(self.set(), pods: [], nodes: nodes, revisions: [], now: Make.now)
        let pinned = plan.writes.created(.pods).compactMap {
            $0.spec.at(
                "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")?[0]?[
                    "matchFields"]?[0]?["values"]?[0]?.string
        }
        #expect(pinned == ["n1", "cordoned", "silent"])
        #expect(plan.writes.status(.daemonSets)?["desiredNumberScheduled"] == 3)
        #expect(plan.writes.created(.controllerRevisions).first?.json["revision"] == 1)
    }

    @Test("replaces one pod at a time when its template changes")
    func rolls() throws {
        let old = self.set()
        let new = self.set(image: "v2")
        let revisions = [try self.revision(old), try self.revision(new)]
        var pods = ["n1", "n2", "n3"].map { self.pod(old, revisions[0], $0) }
        let first = DaemonSetPlan(new, pods: pods, nodes: self.nodes, revisions: revisions, now: Make.now)
        #expect(first.writes.deleted(.pods) == ["agent-n1"])
        #expect(first.writes.created(.pods).isEmpty)
        pods[0] = self.pod(new, revisions[1], "n1", isReady: false)
        let waiting = DaemonSetPlan(new, pods: pods, nodes: self.nodes, revisions: revisions, now: Make.now)
        #expect(waiting.writes.deleted(.pods).isEmpty)
        pods[0] = self.pod(new, revisions[1], "n1")
        let next = DaemonSetPlan(new, pods: pods, nodes: self.nodes, revisions: revisions, now: Make.now)
        #expect(next.writes.deleted(.pods) == ["agent-n2"])
        #expect(next.writes.status(.daemonSets)?["updatedNumberScheduled"] == 1)
    }

    @Test("with maxSurge starts the new pod beside the old one, and ends the old one when the new one is available")
    func surges() throws {
        let old = self.set(surge: 1, unavailable: 0)
        let new = self.set(surge: 1, unavailable: 0, image: "v2")
        let revisions = [try self.revision(old), try self.revision(new)]
        let pods = ["n1", "n2", "n3"].map { self.pod(old, revisions[0], $0) }
        let first = DaemonSetPlan(new, pods: pods, nodes: self.nodes, revisions: revisions, now: Make.now)
        #expect(first.writes.created(.pods).count == 1)
        #expect(first.writes.deleted(.pods).isEmpty)
        let starting = pods + [self.pod(new, revisions[1], "n1", isReady: false, suffix: "-new")]
        let waiting = DaemonSetPlan(new, pods: starting, nodes: self.nodes, revisions: revisions, now: Make.now)
        #expect(waiting.writes.created(.pods).isEmpty && waiting.writes.deleted(.pods).isEmpty)
        let ready = pods + [self.pod(new, revisions[1], "n1", suffix: "-new")]
        let last = DaemonSetPlan(new, pods: ready, nodes: self.nodes, revisions: revisions, now: Make.now)
        #expect(last.writes.deleted(.pods) == ["agent-n1"])
    }

    @Test("leaves a node that no longer matches")
    func leaves() throws {
        var set = self.set()
        set.set("spec", "template", "spec", "nodeSelector", to: ["disk": "ssd"])
        let revision = try self.revision(set)
        let plan = DaemonSetPlan(
            set, pods: [self.pod(set, revision, "n1")], nodes: [Make.node("n1")], revisions: [revision], now: Make.now)
        #expect(plan.writes.deleted(.pods) == ["agent-n1"])
        #expect(plan.writes.status(.daemonSets)?["numberMisscheduled"] == 1)
    }
}

@Suite("A StatefulSet")
struct StatefulSetPlanTests {
    private func set(replicas: Int64 = 2, image: String = "v1", policy: String = "OrderedReady") -> KubeObject {
        var object = KubeObject(
            .statefulSets, namespace: "ns", name: "db",
            [
                "spec": [
                    "replicas": .int(replicas), "serviceName": "db", "selector": ["matchLabels": ["app": "web"]],
                    "template": Make.template(image), "podManagementPolicy": .string(policy),
                    "updateStrategy": ["type": "RollingUpdate", "rollingUpdate": ["partition": 0]],
                    "volumeClaimTemplates": [
                        ["metadata": ["name": "data"], "spec": ["accessModes": ["ReadWriteOnce"]]]
                    ],
                ]
            ])
        object.set("metadata", "uid", to: "sts-uid")
        object.set("metadata", "generation", to: 1)
        return object
    }
    private func plan(_ set: KubeObject, _ pods: [KubeObject], _ revisions: [KubeObject] = []) -> StatefulSetPlan {
        StatefulSetPlan(set, pods: pods, revisions: revisions, claims: [], now: Make.now)
    }
    private func revision(_ set: KubeObject) throws -> KubeObject {
        try #require(self.plan(set, []).writes.created(.controllerRevisions).first)
    }
    private func pod(_ set: KubeObject, _ ordinal: Int, _ revision: KubeObject, isReady: Bool = true) -> KubeObject {
        Make.pod(
            "db-\(ordinal)",
            labels: [
                "app": "web", ControllerRevisions.hashLabel: revision.labels[ControllerRevisions.hashLabel] ?? "",
            ],
            owner: set, node: "n1", isReady: isReady)
    }

    @Test("makes pods in order, each when the one before is ready, with its claims")
    func ordered() throws {
        let set = self.set()
        let first = self.plan(set, []).writes
        let pod = try #require(first.created(.pods).first)
        #expect(first.created(.pods).map(\.name) == ["db-0"])
        #expect(pod.spec["hostname"] == "db-0" && pod.spec["subdomain"] == "db")
        #expect(first.created(StatefulSetPlan.claimType).map(\.name) == ["data-db-0"])
        let revision = try self.revision(set)
        #expect(self.plan(set, [self.pod(set, 0, revision, isReady: false)], [revision]).writes.created(.pods).isEmpty)
        #expect(self.plan(set, [self.pod(set, 0, revision)], [revision]).writes.created(.pods).map(\.name) == ["db-1"])
    }

    @Test("makes all pods at once when they need not wait for each other")
    func parallel() {
        #expect(self.plan(self.set(replicas: 3, policy: "Parallel"), []).writes.created(.pods).count == 3)
    }

    @Test("scales down from the top")
    func down() throws {
        let set = self.set(replicas: 1)
        let revision = try self.revision(set)
        let pods = (0...2).map { self.pod(set, $0, revision) }
        #expect(self.plan(set, pods, [revision]).writes.deleted(.pods) == ["db-2"])
    }

    @Test("replaces pods from the top when its template changes")
    func rolls() throws {
        let new = self.set(image: "v2")
        let revisions = [try self.revision(self.set()), try self.revision(new)]
        let pods = (0...1).map { self.pod(new, $0, revisions[0]) }
        #expect(self.plan(new, pods, revisions).writes.deleted(.pods) == ["db-1"])
        let status = try #require(
            self.plan(new, [self.pod(new, 0, revisions[1]), self.pod(new, 1, revisions[1])], revisions).writes.status(
                .statefulSets))
        #expect(status["currentRevision"] == status["updateRevision"])
        #expect(status["updatedReplicas"] == 2)
    }
}

@Suite("A Job")
struct JobPlanTests {
    private func job(_ spec: [String: JSONValue] = [:], status: JSONValue = [:]) -> KubeObject {
        var object = KubeObject(
            .jobs, namespace: "ns", name: "once",
            [
                "spec": .object(
                    ["completions": 1, "parallelism": 1, "backoffLimit": 1, "template": Make.template("v1")].merging(
                        spec
                    ) { $1 }),
                "status": status,
            ])
        object.set("metadata", "uid", to: "job-uid")
        return object
    }

    @Test("runs a pod, and is complete when it has succeeded")
    func completes() throws {
        let first = JobPlan(self.job(), pods: [], now: Make.now).writes
        #expect(first.created(.pods).first?.labels["job-name"] == "once")
        let done = Make.pod("p", owner: self.job(), isReady: false, phase: "Succeeded")
        let status = try #require(JobPlan(self.job(), pods: [done], now: Make.now).writes.status(.jobs))
        #expect(status["succeeded"] == 1 && status["completionTime"] != nil)
        #expect(Conditions(status["conditions"])["Complete"]?["reason"] == "CompletionsReached")
        #expect(JobPlan(self.job(status: status), pods: [done], now: Make.now).writes == [])
    }

    @Test("tries again after a wait, and gives up beyond its back-off limit")
    func fails() throws {
        let failed = [Make.pod("p1", owner: self.job(), phase: "Failed")]
        let waiting = JobPlan(self.job(), pods: failed, now: Make.now + 1)
        #expect(waiting.writes.created(.pods).isEmpty && waiting.lookAgain != nil)
        #expect(JobPlan(self.job(), pods: failed, now: Make.now + 11).writes.created(.pods).count == 1)
        let status = JobPlan(
            self.job(), pods: failed + [Make.pod("p2", owner: self.job(), phase: "Failed")], now: Make.now + 60
        ).writes.status(.jobs)
        #expect(Conditions(status?["conditions"])["Failed"]?["reason"] == "BackoffLimitExceeded")
    }

    @Test("is deleted when its time after the end is over")
    func expires() throws {
        let status: JSONValue = [
            "conditions": [["type": "Complete", "status": "True", "lastTransitionTime": .string(Make.now.text)]]
        ]
        let job = self.job(["ttlSecondsAfterFinished": 10], status: status)
        #expect(JobPlan(job, pods: [], now: Make.now + 5).lookAgain != nil)
        #expect(JobPlan(job, pods: [], now: Make.now + 10).writes.deleted(.jobs) == ["once"])
    }
}
