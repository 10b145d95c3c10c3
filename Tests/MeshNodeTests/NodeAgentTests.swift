import KubeAPI
import MeshCNI
import MeshLinux
import MeshModel
import MeshNode
import Synchronization
import Testing

/// The whole agent: a cluster in memory, everything else real. Numbers are the acceptance cases of the contract.
@Suite(
    "The node agent", .serialized, .timeLimit(.minutes(3)),
    .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"))
struct NodeAgentTests {
    static func tables(_ namespace: SharedNetworkNamespace) async throws -> String {
        try await namespace.perform { try Program.run(["nft", "list", "ruleset"]).standardOutput }
    }

    /// What the plugin says about a sandbox of the pod `new`.
    static func request(_ sandbox: SharedNetworkNamespace) -> PluginRequest {
        PluginRequest(
            networkNamespace: sandbox.namespace.withDescriptor { "/proc/self/fd/\($0)" }, podName: "new",
            podNamespace: "shop", podUID: Workbench.clientUID, addresses: [Topology.clientV4])
    }

    static func post(
        _ bench: Workbench, _ request: PluginRequest, _ purpose: PluginRequest.Purpose = .start
    ) async throws -> UnixHTTPResponse {
        let path = "\(bench.directory)/run/pluginevent.sock"
        return try await KernelThread.perform {
            try UnixHTTP.post(socket: path, target: purpose.rawValue, body: request.json.encoded, timeout: .seconds(30))
        }
    }

    @Test("enrols a running pod of a labelled namespace, and lets it go when the label goes (1, 2, 41)")
    func label() async throws {
        let bench = try await Workbench()
        let topology = bench.topology
        let app = try TCP.listen(in: topology.pod, port: 8080)
        try await bench.withProxy { proxy in
            try await bench.withAgent { agent in
                try await eventually("enabled") { bench.annotation() == "enabled" }
                let client = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
                var captured: TCP? = try proxy[Workbench.podUID]?.inbound.accept()
                #expect(captured?.originalDestination == endpoint(Topology.podV4, 8080))
                let probe = try TCP.connect(in: topology.node, to: endpoint(Topology.podV4, 8080))
                let served = try app.accept()
                #expect(served.peer?.address == IPAddress("169.254.7.127"))
                #expect(try talk(probe, served))

                bench.cluster.set(.namespaces, nil, "shop", ["metadata", "labels"], to: [:])
                try await eventually("no annotation") { bench.annotation() == nil }
                let direct = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
                #expect(try talk(direct, app.accept()), "new connections go direct")
                #expect(try talk(client, captured!), "the captured one lives on")
                #expect(proxy[Workbench.podUID] != nil)
                captured = nil
                try await eventually("proxy left") { proxy[Workbench.podUID] == nil }
                try await eventually("rules gone") { try await Self.tables(topology.pod) == "" }
                #expect(try await !Self.tables(topology.node).contains("10.77.0.2"))
                try await eventually("counted") {
                    let metrics = await agent.metricsText()
                    return metrics.contains("martlet_node_steps_total{step=\"remove_rules\",result=\"ok\"} 1\n")
                        && metrics.contains("ztunnel_connected 1\n")
                }
            }
        }
    }

    @Test("survives its own restart without a pod noticing, and keeps probes exempt all the while (12)")
    func restart() async throws {
        let bench = try await Workbench()
        let topology = bench.topology
        try await bench.withProxy { proxy in
            try await bench.withAgent { _ in
                try await eventually("enabled") { bench.annotation() == "enabled" }
            }
            let between = try await Self.tables(topology.node)
            #expect(between.contains("10.77.0.2"), "the probe set is not emptied")
            let rules = try await Self.tables(topology.pod)
            #expect(rules.contains("martlet_pod"))
            #expect(bench.file("bin/istio-cni") != nil, "the plugin stays")
            let first = proxy.snapshotCount
            try await bench.withAgent { _ in
                try await eventually("a snapshot of the new agent") { proxy.snapshotCount > first }
                #expect(proxy[Workbench.podUID] != nil)
                #expect(bench.annotation() == "enabled")
                // The pod is followed again: its rules are repaired.
                _ = try await topology.pod.perform { try Program.run(["nft", "flush", "ruleset"]) }
                try await eventually("repaired (44)") {
                    try await Self.tables(topology.pod).contains("redirect to :15006")
                }
            }
        }
    }

    @Test("leaves the rules of a predecessor alone when it is told to")
    func lenientRestart() async throws {
        let bench = try await Workbench()
        let pod = bench.topology.pod
        try await bench.withProxy { proxy in
            try await bench.withAgent { _ in
                try await eventually("enabled") { bench.annotation() == "enabled" }
            }
            // What no agent of ours would leave behind.
            _ = try await pod.perform { try Program.run(["nft", "flush", "ruleset"]) }
            let first = proxy.snapshotCount
            try await bench.withAgent(["AMBIENT_RECONCILE_POD_RULES_ON_STARTUP": "false"]) { agent in
                try await eventually("a snapshot of the new agent") { proxy.snapshotCount > first }
                try await eventually("the proxy is asked") {
                    await agent.metricsText().contains("{step=\"ask_proxy\",result=\"ok\"} 1\n")
                }
                await agent.checkDrift()
                #expect(await !agent.metricsText().contains("step=\"capture\""))
                #expect(try await Self.tables(pod) == "")
                #expect(bench.annotation() == "enabled")
            }
        }
    }

    @Test("says pending until a proxy is there (9, 37)")
    func pending() async throws {
        let bench = try await Workbench()
        try await bench.withAgent { _ in
            try await eventually("pending") { bench.annotation() == "pending" }
            try await bench.withProxy { _ in
                try await eventually("enabled") { bench.annotation() == "enabled" }
            }
            #expect(bench.annotation() == "enabled", "a proxy that goes away changes nothing")
        }
    }

    @Test("lets a starting pod start only when it is captured (7, 9, 10)")
    func plugin() async throws {
        let bench = try await Workbench()
        bench.putPod("new", Workbench.clientUID, [])
        bench.putPod("other", "3", namespace: "plain", [])
        let request = Self.request(bench.topology.client)
        try await bench.withAgent { _ in
            try await eventually("installed") { bench.file("bin/istio-cni") != nil }
            let refused = try await Self.post(bench, request)
            #expect(refused.status == 500)
            #expect(refused.text.contains("no node proxy is connected"))
            try await eventually("pending") { bench.annotation("new") == "pending" }
            var plain = request
            plain.podName = "other"
            plain.podNamespace = "plain"
            plain.podUID = "3"
            #expect(try await Self.post(bench, plain).status == 200)
            plain.podUID = "4"
            #expect(try await Self.post(bench, plain).status == 503, "another pod of that name")

            try await bench.withProxy { proxy in
                try await eventually("connected") { proxy.snapshotCount == 1 }
                #expect(try await Self.post(bench, request) == UnixHTTPResponse(status: 200))
                #expect(proxy[Workbench.clientUID] != nil)
                _ = try TCP.connect(in: bench.topology.client, to: endpoint(Topology.podV4, 8080))
                _ = try proxy[Workbench.clientUID]?.outbound.accept()
                try await eventually("enabled") { bench.annotation("new") == "enabled" }
                #expect(try await Self.post(bench, request).status == 200, "asked twice")
            }
            try await eventually("record") { bench.file("run/enrolment.json") != nil }
            let record = try EnrolmentRecord(JSONValue(parsing: bench.file("run/enrolment.json")!))
            #expect(record.freeNamespaces == ["plain"])

            // The API server is away: where nothing is captured pods start, elsewhere they wait.
            bench.cluster.isAway.withLock { $0 = true }
            var unknown = request
            unknown.podName = "later"
            #expect(try await Self.post(bench, unknown).status == 503)
            unknown.podNamespace = "plain"
            #expect(try await Self.post(bench, unknown).status == 200)
            bench.cluster.isAway.withLock { $0 = false }
        }
    }

    @Test("captures the new sandbox of a pod although the old one was just being enrolled")
    func overtaken() async throws {
        let bench = try await Workbench()
        bench.putPod("new", Workbench.clientUID, [])
        try await bench.withProxy { proxy in
            try await bench.withAgent { _ in
                try await eventually("enabled") { bench.annotation() == "enabled" }
                // The proxy takes its time over the first sandbox, which the runtime replaces meanwhile.
                let isAsked = Mutex(false)
                let (released, release) = AsyncStream.makeStream(of: Void.self)
                proxy.gate.withLock {
                    $0 = {
                        isAsked.withLock { $0 = true }
                        for await _ in released {}
                    }
                }
                let abandoned = try await NetworkNamespace.create()
                try await Topology.ip(abandoned, "link set lo up")
                let first = Task { try await Self.post(bench, Self.request(abandoned)) }
                try await eventually("the proxy is asked") { isAsked.withLock { $0 } }
                let second = Task { try await Self.post(bench, Self.request(bench.topology.client)) }
                try await eventually("the second request is there") {
                    try await Task.sleep(for: .milliseconds(200))
                    return true
                }
                proxy.gate.withLock { $0 = nil }
                release.finish()
                #expect(try await second.value.status == 200)
                #expect(try await Self.tables(bench.topology.client).contains("martlet_pod"))
                #expect(try await first.value.status == 500)
                _ = try TCP.connect(in: bench.topology.client, to: endpoint(Topology.podV4, 8080))
                _ = try proxy[Workbench.clientUID]?.outbound.accept()
            }
        }
    }

    @Test("lets the proxy leave before a sandbox goes, and enrols the pod's next one")
    func sandboxEnds() async throws {
        let bench = try await Workbench()
        bench.putPod("new", Workbench.clientUID, [])
        let old = try await NetworkNamespace.create()
        try await Topology.ip(old, "link set lo up")
        let next = bench.topology.client
        try await bench.withProxy { proxy in
            try await bench.withAgent { _ in
                try await eventually("connected") { proxy.snapshotCount == 1 }
                #expect(try await Self.post(bench, Self.request(old)).status == 200)
                #expect(proxy[Workbench.clientUID] != nil)
                #expect(try await Self.post(bench, Self.request(old), .end).status == 200)
                #expect(proxy[Workbench.clientUID] == nil, "it has left when the answer is there")

                #expect(try await Self.post(bench, Self.request(next)).status == 200)
                #expect(proxy[Workbench.clientUID]?.namespace == next.identity)
                #expect(try await Self.post(bench, Self.request(old), .end).status == 200, "cleaned up late")
                #expect(proxy[Workbench.clientUID] != nil, "the sandbox that counts is another one")
                var stranger = Self.request(next)
                stranger.podUID = "3"
                #expect(try await Self.post(bench, stranger, .end).status == 200)
                #expect(proxy[Workbench.clientUID] != nil)
            }
        }
    }

    @Test("ends the enrolment of completed, deleted and opted-out pods (3, 32, 33)")
    func ends() async throws {
        let bench = try await Workbench()
        try await bench.withProxy { proxy in
            try await bench.withAgent { _ in
                try await eventually("enabled") { bench.annotation() == "enabled" }
                bench.cluster.set(.pods, "shop", "web", ["status", "phase"], to: "Succeeded")
                try await eventually("annotation gone") { bench.annotation() == nil }
                try await eventually("proxy left") { proxy[Workbench.podUID] == nil }
                #expect(bench.cluster.object(.pods, "shop", "web") != nil)

                bench.cluster.set(.pods, "shop", "web", ["status", "phase"], to: "Running")
                try await eventually("enabled again") { bench.annotation() == "enabled" }
                bench.cluster.put(.pods, "shop", "web", nil)
                try await eventually("proxy left") { proxy[Workbench.podUID] == nil }
                try await eventually("probe entry gone") {
                    try await !Self.tables(bench.topology.node).contains("10.77.0.2")
                }

                bench.putPod("web", Workbench.podUID, [Topology.podV4])
                try await eventually("enabled once more") { bench.annotation() == "enabled" }
                bench.cluster.set(
                    .pods, "shop", "web", ["metadata", "labels"], to: ["istio.io/dataplane-mode": "none"])
                try await eventually("rules gone") { try await Self.tables(bench.topology.pod) == "" }
            }
        }
    }

    @Test("takes every pod out when the mesh is removed, without breaking what is open (14, 45)")
    func uninstall() async throws {
        let bench = try await Workbench()
        let topology = bench.topology
        let app = try TCP.listen(in: topology.pod, port: 8080)
        let before = bench.file("net.d/10-main.conflist")
        try await bench.withProxy { proxy in
            let using = Mutex<Task<[TCP], any Error>?>(nil)
            try await bench.withAgent { _ in
                try await eventually("enabled") { bench.annotation() == "enabled" }
                try await eventually("chained") {
                    bench.file("net.d/10-main.conflist")?.contains("istio-cni") == true
                }
                let client = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
                let captured = try #require(proxy[Workbench.podUID]).inbound.accept()
                bench.cluster.put(.daemonSets, "istio-system", "istio-cni-node", nil)
                // The connection is used while the agent stops, and then ends by itself.
                let task = Task {
                    try await eventually("drain rules") { bench.annotation() == nil }
                    for _ in 0..<5 {
                        #expect(try talk(client, captured))
                        try await Task.sleep(for: .milliseconds(100))
                    }
                    let direct = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
                    return [direct, try app.accept()]
                }
                using.withLock { $0 = task }
            }
            let pair = try await using.withLock { $0 }!.value
            #expect(try talk(pair[0], pair[1]))
        }
        #expect(bench.annotation() == nil)
        #expect(try await Self.tables(topology.pod) == "")
        #expect(try await Self.tables(topology.node) == "")
        #expect(bench.file("bin/istio-cni") == nil)
        #expect(bench.file("run/enrolment.json") == nil)
        #expect(
            try JSONValue(parsing: bench.file("net.d/10-main.conflist") ?? "")
                == JSONValue(parsing: before ?? ""))
        #expect(try talk(TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080)), app.accept()))
    }
}
