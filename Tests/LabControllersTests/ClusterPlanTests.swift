import KubeAPI
import LabControllers
import Testing

@Suite("The scheduler")
struct SchedulePlanTests {
    private func verdict(_ pod: KubeObject, _ nodes: [KubeObject], on: [String: [KubeObject]] = [:])
        -> SchedulePlan.Verdict
    {
        SchedulePlan.verdict(pod, nodes: nodes) { on[$0] ?? [] }
    }

    @Test("takes the node with the fewest pods, and spreads the pods of one owner first")
    func fewest() {
        let nodes = ["a", "b"].map { Make.node($0) }
        #expect(self.verdict(Make.pod("p"), nodes, on: ["a": [Make.pod("x")]]) == .bind("b"))
        let owner = Make.replicaSet(of: Make.deployment(), image: "v1", replicas: 2, revision: 1)
        let sibling = Make.pod("s", owner: owner)
        let others = [Make.pod("x"), Make.pod("y")]
        #expect(self.verdict(Make.pod("p", owner: owner), nodes, on: ["a": [sibling], "b": others]) == .bind("b"))
    }

    @Test("honours nodeSelector and required affinity")
    func selectors() {
        let nodes = [Make.node("a", labels: ["zone": "1"]), Make.node("b", labels: ["zone": "2"])]
        #expect(self.verdict(Make.pod("p", spec: ["nodeSelector": ["zone": "2"]]), nodes) == .bind("b"))
        let affinity: JSONValue = [
            "nodeAffinity": [
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    "nodeSelectorTerms": [
                        ["matchExpressions": [["key": "zone", "operator": "NotIn", "values": ["1"]]]]
                    ]
                ]
            ]
        ]
        #expect(self.verdict(Make.pod("p", spec: ["affinity": affinity]), nodes) == .bind("b"))
    }

    @Test("says for each reason how many nodes it rules out")
    func unschedulable() {
        let nodes = [
            Make.node("a", taints: [["key": "dedicated", "value": "db", "effect": "NoSchedule"]]),
            Make.node("b", isUnschedulable: true), Make.node("c", isUnschedulable: true),
        ]
        #expect(
            self.verdict(Make.pod("p"), nodes)
                == .unschedulable(
                    "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, 2 node(s) were unschedulable."
                ))
        #expect(self.verdict(Make.pod("p"), []) == .unschedulable("no nodes available to schedule pods"))
    }

    @Test("tolerates taints as the tolerations say")
    func tolerations() {
        let node = Make.node("a", taints: [["key": "dedicated", "value": "db", "effect": "NoSchedule"]])
        func bound(_ toleration: JSONValue) -> Bool {
            self.verdict(Make.pod("p", spec: ["tolerations": [toleration]]), [node]) == .bind("a")
        }
        #expect(bound(["operator": "Exists"]))
        #expect(bound(["key": "dedicated", "operator": "Equal", "value": "db"]))
        #expect(!bound(["key": "dedicated", "operator": "Equal", "value": "web"]))
        #expect(!bound(["key": "dedicated", "operator": "Exists", "effect": "NoExecute"]))
    }

    @Test("keeps pods apart that do not want to be together, also for those already there")
    func antiAffinity() {
        let apart: JSONValue = [
            "podAntiAffinity": [
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    ["labelSelector": ["matchLabels": ["app": "web"]], "topologyKey": "kubernetes.io/hostname"]
                ]
            ]
        ]
        let node = Make.node("a", labels: ["kubernetes.io/hostname": "a"])
        let refusal = SchedulePlan.Verdict.unschedulable(
            "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.")
        #expect(self.verdict(Make.pod("p", spec: ["affinity": apart]), [node], on: ["a": [Make.pod("x")]]) == refusal)
        #expect(self.verdict(Make.pod("p"), [node], on: ["a": [Make.pod("x", spec: ["affinity": apart])]]) == refusal)
    }
}

@Suite("A node's health")
struct NodeHealthTests {
    private func lease(_ renewed: KubeTime) -> KubeObject {
        KubeObject(
            .leases, namespace: NodeHealth.leaseNamespace, name: "n",
            ["spec": ["renewTime": .string(renewed.microText)]])
    }

    @Test("is left alone while its lease is fresh, and looked at when it runs out")
    func fresh() throws {
        let plan = NodeHealth.plan(Make.node("n"), lease: self.lease(Make.now), now: Make.now + 30)
        #expect(plan.status == nil && plan.taints == nil)
        #expect(try #require(plan.lookAgain) >= .seconds(10))
    }

    @Test("becomes unknown after 40 silent seconds, and is tainted")
    func silent() throws {
        let node = Make.node("n")
        let plan = NodeHealth.plan(node, lease: self.lease(Make.now), now: Make.now + 40)
        #expect(plan.status?.condition("Ready") == "Unknown")
        let taints = try #require(plan.taints?.spec["taints"]?.array)
        #expect(taints.map { $0["key"]?.string } == [NodeHealth.unreachable, NodeHealth.unreachable])
        #expect(taints.map { $0["effect"]?.string } == ["NoSchedule", "NoExecute"])
    }

    @Test("loses its taints when it is ready again, and keeps those of others")
    func recovered() throws {
        let node = Make.node(
            "n",
            taints: [
                ["key": "mine", "effect": "NoSchedule"],
                ["key": .string(NodeHealth.unreachable), "effect": "NoExecute"],
            ])
        let plan = NodeHealth.plan(node, lease: self.lease(Make.now), now: Make.now)
        #expect(plan.taints?.spec["taints"]?.array?.map { $0["key"]?.string } == ["mine"])
    }

    @Test("evicts a pod after the time it tolerates")
    func eviction() {
        let taint: JSONValue = [
            "key": .string(NodeHealth.unreachable), "effect": "NoExecute", "timeAdded": .string(Make.now.text),
        ]
        let node = Make.node("n", taints: [taint])
        let toleration: JSONValue = [
            "key": .string(NodeHealth.unreachable), "operator": "Exists", "effect": "NoExecute",
        ]
        var limited = toleration
        limited["tolerationSeconds"] = 300
        #expect(NodeHealth.evictionTime(Make.pod("p"), on: node) == Make.now)
        #expect(NodeHealth.evictionTime(Make.pod("p", spec: ["tolerations": [limited]]), on: node) == Make.now + 300)
        #expect(NodeHealth.evictionTime(Make.pod("p", spec: ["tolerations": [toleration]]), on: node) == nil)
    }
}

@Suite("Endpoints of a Service")
struct EndpointSlicesTests {
    private func service(_ spec: [String: JSONValue] = [:]) -> KubeObject {
        var object = KubeObject(
            .services, namespace: "ns", name: "web", labels: ["team": "a"],
            [
                "spec": .object(
                    [
                        "selector": ["app": "web"], "clusterIP": "10.43.0.7",
                        "ports": [["name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"]],
                    ].merging(spec) { $1 })
            ])
        object.set("metadata", "uid", to: "svc-uid")
        return object
    }
    private func plan(
        _ service: KubeObject, _ pods: [KubeObject], _ slices: [KubeObject] = [], _ endpoints: KubeObject? = nil
    ) -> [Write] {
        EndpointSlices.plan(service, pods: pods, slices: slices, endpoints: endpoints, zones: ["n1": "z"])
    }

    @Test("are its pods with their addresses and their named ports resolved")
    func slice() throws {
        let pods = [
            Make.pod("a", node: "n1", ip: "10.42.0.5"), Make.pod("b", node: "n1", isReady: false, ip: "10.42.0.6"),
            Make.pod("c", node: "n1", ip: "10.42.0.7", isBeingDeleted: true), Make.pod("noip"),
            Make.pod("done", phase: "Failed", ip: "10.42.0.8"),
            Make.pod("other", labels: [:], ip: "10.42.0.9"),
        ]
        let writes = self.plan(self.service(), pods)
        let slice = try #require(writes.created(.endpointSlices).first)
        #expect(
            slice.labels == [
                "team": "a", EndpointSlices.serviceLabel: "web", EndpointSlices.managedByLabel: EndpointSlices.manager,
            ])
        #expect(slice.json["ports"] == [["name": "http", "port": 8080, "protocol": "TCP"]])
        let endpoints = slice.json["endpoints"]?.array ?? []
        #expect(endpoints.map { $0["addresses"]?[0]?.string } == ["10.42.0.5", "10.42.0.6", "10.42.0.7"])
        #expect(endpoints.map { $0.at("conditions", "ready")?.bool } == [true, false, false])
        #expect(endpoints.map { $0.at("conditions", "serving")?.bool } == [true, false, true])
        #expect(endpoints.map { $0.at("conditions", "terminating")?.bool } == [false, false, true])
        #expect(endpoints.allSatisfy { $0["nodeName"] == "n1" && $0["zone"] == "z" })
        let legacy = try #require(writes.created(.endpoints).first?.json["subsets"]?[0])
        #expect(legacy["addresses"]?[0]?["ip"] == "10.42.0.5")
        #expect(legacy["notReadyAddresses"]?[0]?["ip"] == "10.42.0.6")
    }

    @Test("are not written again when nothing changed, and changed in place when something did")
    func stable() throws {
        let pods = [Make.pod("a", node: "n1", ip: "10.42.0.5")]
        let first = self.plan(self.service(), pods)
        var slice = try #require(first.created(.endpointSlices).first)
        slice.set("metadata", "name", to: "web-abcde")
        let endpoints = try #require(first.created(.endpoints).first)
        #expect(self.plan(self.service(), pods, [slice], endpoints) == [])
        let changed = self.plan(self.service(), pods + [Make.pod("b", ip: "10.42.0.6")], [slice], endpoints)
        #expect(changed.replaced(.endpointSlices).map(\.name) == ["web-abcde"])
        #expect(changed.created(.endpointSlices).isEmpty)
    }

    @Test("without a selector are the user's")
    func selectorless() {
        #expect(self.plan(self.service(["selector": .null]), [Make.pod("a", ip: "10.42.0.5")]) == [])
    }

    @Test("split into slices of at most 100")
    func large() {
        let pods = (0..<250).map { Make.pod("p\($0)", ip: "10.42.\($0 / 250).\($0 % 250)") }
        let counts = self.plan(self.service(), pods).created(.endpointSlices).map { $0.json["endpoints"]?.array?.count }
        #expect(counts == [100, 100, 50])
    }

    @Test("a load balancer has the addresses of the ready nodes")
    func balancer() {
        let service = self.service(["type": "LoadBalancer"])
        let nodes = [Make.node("a", ip: "172.28.0.2"), Make.node("b", isReady: "Unknown", ip: "172.28.0.3")]
        let changed = LoadBalancerStatus.plan(service, nodes: nodes)
        #expect(changed?.status.at("loadBalancer", "ingress") == [["ip": "172.28.0.2", "ipMode": "VIP"]])
        #expect(changed.flatMap { LoadBalancerStatus.plan($0, nodes: nodes) } == nil)
    }
}

@Suite("Times")
struct KubeTimeTests {
    @Test(
        "are read and written as RFC 3339",
        arguments: ["1970-01-01T00:00:00Z", "2000-02-29T23:59:59Z", "2026-11-25T10:00:00Z", "2100-03-01T00:00:00Z"])
    func roundTrip(text: String) { #expect(KubeTime(text)?.text == text) }

    @Test("keep microseconds in leases")
    func micro() { #expect(KubeTime("2026-11-25T10:00:00.012345Z")?.microText == "2026-11-25T10:00:00.012345Z") }

    @Test(
        "refuse everything else",
        arguments: ["", "2026-11-25", "2026-13-25T10:00:00Z", "2026-11-25T10:00:00+01:00", "2026-11-25T10:00:00.Z"])
    func refused(text: String) { #expect(KubeTime(text) == nil) }
}
