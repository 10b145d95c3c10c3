import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import LabControllers
import Logging
import MeshDNS
import Testing

/// A cluster in this process: the API server's logic and the controllers, without nodes.
struct TestCluster: Sendable {
    let cluster: any KubeCluster

    /// Runs `body` beside the controllers, and ends them after it.
    static func run(_ body: @Sendable (TestCluster) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "controllers-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: directory) }
        let server = try APIServer(configuration: APIServerConfiguration(endpoints: [], pkiDirectory: directory.path))
        try await server.bootstrap()
        let manager = ControllerManager(
            cluster: server.client(named: "controllers"), configuration: .init(authority: "CA"),
            logger: Logger(label: "test") { StreamLogHandler.standardError(label: $0) })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await manager.run() }
            do {
                try await body(TestCluster(cluster: server.cluster))
            } catch {
                group.cancelAll()
                throw error
            }
            group.cancelAll()
        }
    }

    struct TimedOut: Error {}
    /// The machine may be loaded: generous.
    static let limit = Duration.seconds(30)

    /// Waits until the objects of a type satisfy the condition, and returns them.
    @discardableResult
    func until(
        _ type: ResourceType, namespace: String? = nil, _ condition: @escaping @Sendable ([KubeObject]) -> Bool
    ) async throws -> [KubeObject] {
        let cluster = self.cluster
        return try await withThrowingTaskGroup(of: [KubeObject].self) { group in
            group.addTask {
                var objects: [String: KubeObject] = [:]
                for await event in Informer(cluster, type, namespace: namespace).events() {
                    switch event {
                    case .snapshot(let all): objects = Dictionary(all.map { ($0.key, $0) }) { $1 }
                    case .updated(let object): objects[object.key] = object
                    case .deleted(let object): objects[object.key] = nil
                    }
                    let list = objects.values.sorted { $0.key < $1.key }
                    if condition(list) { return list }
                }
                throw TimedOut()
            }
            group.addTask {
                try await Task.sleep(for: Self.limit)
                throw TimedOut()
            }
            defer { group.cancelAll() }
            return try await group.next() ?? []
        }
    }

    func namespace(_ name: String) async throws {
        try await self.cluster.create(.namespaces, KubeObject(.namespaces, name: name))
        try await self.until(.serviceAccounts, namespace: name) { !$0.isEmpty }
    }

    func node(_ name: String) async throws {
        try await self.cluster.create(.nodes, KubeObject(.nodes, name: name, labels: ["kubernetes.io/hostname": name]))
        let now = KubeTime.now.microText
        try await self.cluster.create(
            .leases,
            KubeObject(
                .leases, namespace: "kube-node-lease", name: name,
                ["spec": ["renewTime": .string(now), "holderIdentity": .string(name)]]))
        _ = try await self.cluster.patch(
            .nodes, namespace: nil, name: name, subresource: "status",
            .merge([
                "status": [
                    "conditions": [["type": "Ready", "status": "True"]],
                    "addresses": [["type": "InternalIP", "address": "172.28.0.9"]],
                ]
            ]))
        try await self.until(.nodes) { nodes in
            nodes.contains {
                $0.name == name && $0.condition("Ready") == "True" && ($0.spec["taints"]?.array ?? []).isEmpty
            }
        }
    }

    /// What a kubelet would report.
    func makeReady(_ pod: KubeObject, ip: String) async throws {
        _ = try await self.cluster.patch(
            .pods, namespace: pod.namespace, name: pod.name, subresource: "status",
            .merge([
                "status": [
                    "phase": "Running", "podIP": .string(ip), "podIPs": [["ip": .string(ip)]],
                    "conditions": [
                        ["type": "Ready", "status": "True", "lastTransitionTime": .string(KubeTime.now.text)]
                    ],
                ]
            ]))
    }

    static func workload(_ type: ResourceType, _ name: String, _ spec: [String: JSONValue] = [:]) -> KubeObject {
        KubeObject(
            type, namespace: "shop", name: name,
            [
                "spec": .object(
                    [
                        "selector": ["matchLabels": ["app": .string(name)]],
                        "template": [
                            "metadata": ["labels": ["app": .string(name)]],
                            "spec": [
                                "containers": [["name": "c", "image": "app:1"]], "terminationGracePeriodSeconds": 0,
                            ],
                        ],
                    ].merging(spec) { $1 })
            ])
    }
}

@Suite("The controllers, on a real API server", .timeLimit(.minutes(2)))
struct ControllerTests {
    @Test("give every namespace its account and its certificate authority, and give them again")
    func namespaceDefaults() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            let maps = try await test.until(.configMaps, namespace: "shop") { !$0.isEmpty }
            #expect(maps.first?.json.at("data", "ca.crt") == "CA")
            try await test.cluster.delete(.configMaps, namespace: "shop", name: "kube-root-ca.crt")
            let uid = maps.first?.uid
            try await test.until(.configMaps, namespace: "shop") { $0.contains { $0.uid != uid } }
        }
    }

    @Test("bring a Deployment to ready endpoints, and a change of it to other pods")
    func deployment() async throws {
        try await TestCluster.run { test in
            try await test.node("n1")
            try await test.namespace("shop")
            try await test.cluster.create(
                .services,
                KubeObject(
                    .services, namespace: "shop", name: "web",
                    ["spec": ["selector": ["app": "web"], "ports": [["port": 80]]]]))
            let began = ContinuousClock.now
            try await test.cluster.create(.deployments, TestCluster.workload(.deployments, "web", ["replicas": 2]))
            let pods = try await test.until(.pods, namespace: "shop") {
                $0.count == 2 && $0.allSatisfy { $0.nodeName == "n1" }
            }
            let latency = ContinuousClock.now - began
            print("Deployment to 2 bound pods: \(latency)")
            for (index, pod) in pods.enumerated() { try await test.makeReady(pod, ip: "10.42.0.\(index + 2)") }
            try await test.until(.endpointSlices, namespace: "shop") { slices in
                slices.first?.json["endpoints"]?.array?.count { $0.at("conditions", "ready") == true } == 2
            }
            try await test.until(.deployments, namespace: "shop") { $0.first?.status["availableReplicas"] == 2 }
            let hosts = Set(pods.map(\.uid))

            _ = try await test.cluster.patch(
                .deployments, namespace: "shop", name: "web", subresource: nil,
                .strategic(["spec": ["template": ["spec": ["containers": [["name": "c", "image": "app:2"]]]]]]))
            // The old pods go as new ones become ready.
            var next: UInt8 = 10
            for _ in 0..<20 {
                let all = try await test.until(.pods, namespace: "shop") { pods in
                    pods.contains {
                        !hosts.contains($0.uid) && !$0.isPodReady && !$0.isBeingDeleted && !$0.nodeName.isEmpty
                    }
                        || (pods.count == 2 && pods.allSatisfy { !hosts.contains($0.uid) && $0.isPodReady })
                        || pods.contains { $0.isBeingDeleted }
                }
                if all.count == 2, all.allSatisfy({ !hosts.contains($0.uid) && $0.isPodReady }) { break }
                for pod in all where pod.isBeingDeleted {
                    _ = try? await test.cluster.delete(
                        .pods, namespace: "shop", name: pod.name, DeleteOptions(gracePeriodSeconds: 0))
                }
                for pod in all where !hosts.contains(pod.uid) && !pod.isPodReady && !pod.isBeingDeleted {
                    next += 1
                    try await test.makeReady(pod, ip: "10.42.0.\(next)")
                }
            }
            let done = try await test.until(.deployments, namespace: "shop") { deployments in
                deployments.first.map {
                    Conditions($0.status["conditions"]).reason("Progressing") == "NewReplicaSetAvailable"
                        && $0.status["updatedReplicas"] == 2
                } ?? false
            }
            #expect(done.first?.annotations[DeploymentPlan.revisionAnnotation] == "2")
            let events = try await test.cluster.list(.events, namespace: "shop").items.compactMap {
                $0.json["reason"]?.string
            }
            #expect(
                events.contains("ScalingReplicaSet") && events.contains("SuccessfulCreate")
                    && events.contains("Scheduled"))
        }
    }

    @Test("delete what a deleted Deployment owned")
    func garbage() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            try await test.cluster.create(.deployments, TestCluster.workload(.deployments, "web", ["replicas": 3]))
            try await test.until(.pods, namespace: "shop") { $0.count == 3 }
            try await test.cluster.delete(.deployments, namespace: "shop", name: "web")
            try await test.until(.pods, namespace: "shop") { $0.isEmpty }
            try await test.until(.replicaSets, namespace: "shop") { $0.isEmpty }
        }
    }

    @Test("delete dependents first when told to")
    func foreground() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            try await test.cluster.create(.deployments, TestCluster.workload(.deployments, "web", ["replicas": 2]))
            try await test.until(.pods, namespace: "shop") { $0.count == 2 }
            try await test.cluster.delete(
                .deployments, namespace: "shop", name: "web", DeleteOptions(propagation: .foreground))
            try await test.until(.deployments, namespace: "shop") { $0.isEmpty }
            #expect(try await test.cluster.list(.replicaSets, namespace: "shop").items.isEmpty)
            #expect(try await test.cluster.list(.pods, namespace: "shop").items.isEmpty)
        }
    }

    @Test("leave dependents alone when told to orphan them")
    func orphan() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            try await test.cluster.create(.deployments, TestCluster.workload(.deployments, "web", ["replicas": 2]))
            try await test.until(.pods, namespace: "shop") { $0.count == 2 }
            try await test.cluster.delete(
                .deployments, namespace: "shop", name: "web", DeleteOptions(propagation: .orphan))
            try await test.until(.deployments, namespace: "shop") { $0.isEmpty }
            let sets = try await test.until(.replicaSets, namespace: "shop") {
                $0.count == 1 && $0[0].ownerReferences.isEmpty
            }
            #expect(
                try await test.cluster.list(.pods, namespace: "shop").items.allSatisfy { $0.isControlled(by: sets[0]) })
        }
    }

    @Test("empty a namespace and let it go")
    func namespace() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            try await test.cluster.create(.deployments, TestCluster.workload(.deployments, "web", ["replicas": 2]))
            try await test.until(.pods, namespace: "shop") { $0.count == 2 }
            try await test.cluster.delete(.namespaces, name: "shop")
            try await test.until(.namespaces) { !$0.contains { $0.name == "shop" } }
            #expect(try await test.cluster.list(.pods, namespace: "shop").items.isEmpty)
        }
    }

    @Test("say why a pod cannot be scheduled, and schedule it when it can be")
    func scheduling() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            try await test.cluster.create(.deployments, TestCluster.workload(.deployments, "web"))
            let waiting = try await test.until(.pods, namespace: "shop") {
                $0.first?.condition("PodScheduled") == "False"
            }
            #expect(Conditions(waiting.first?.status["conditions"]).reason("PodScheduled") == "Unschedulable")
            try await test.node("n1")
            try await test.until(.pods, namespace: "shop") { $0.first?.nodeName == "n1" }
        }
    }

    @Test("keep one pod of a DaemonSet on every node, also on one that comes later")
    func daemonSet() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            try await test.node("n1")
            try await test.cluster.create(.daemonSets, TestCluster.workload(.daemonSets, "agent"))
            try await test.until(.pods, namespace: "shop") { $0.map(\.nodeName) == ["n1"] }
            try await test.node("n2")
            try await test.until(.pods, namespace: "shop") { Set($0.map(\.nodeName)) == ["n1", "n2"] }
            try await test.until(.daemonSets, namespace: "shop") { $0.first?.status["desiredNumberScheduled"] == 2 }
        }
    }
}

@Suite("Cluster DNS", .timeLimit(.minutes(1)))
struct ClusterDNSTests {
    @Test("answers over UDP and TCP, and fails for names outside when there is nobody to ask")
    func serves() async throws {
        try await TestCluster.run { test in
            try await test.namespace("shop")
            try await test.cluster.create(
                .services,
                KubeObject(
                    .services, namespace: "shop", name: "web",
                    ["spec": ["clusterIP": "10.43.7.7", "ports": [["port": 80]]]]))
            let dns = try ClusterDNS(
                cluster: test.cluster, configuration: .init(host: "127.0.0.1", port: 0, resolvConf: ""),
                logger: Logger(label: "dns") { StreamLogHandler.standardError(label: $0) })
            let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await dns.run { continuation.yield($0) } }
                var iterator = ports.makeAsyncIterator()
                let port = try #require(await iterator.next())
                let client = DNSForwarder([.init(host: "127.0.0.1", port: port)])
                let web = try #require(DNSName("web.shop.svc.cluster.local"))
                let answer = try #require(await client.ask(DNSQuery.Question(web, .a)))
                #expect(DNSRecord.answers(of: answer).map(\.value) == [.a(0x0a2b_0707)])
                let elsewhere = try #require(DNSName("example.org"))
                let outside = try #require(await client.ask(DNSQuery.Question(elsewhere, .a)))
                #expect(DNSHeader(outside)?.code == .serverFailure)
                group.cancelAll()
            }
        }
    }

    @Test("reads the resolvers of a resolv.conf")
    func resolvers() {
        let text =
            "# comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver\t192.0.2.2\nnameserver fe80::1%eth0\n"
        #expect(DNSForwarder.resolvers(resolvConf: text).map(\.host) == ["192.0.2.1", "192.0.2.2"])
    }
}
