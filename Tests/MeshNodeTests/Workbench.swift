import Glibc
import KubeAPI
import Logging
import MeshCNI
import MeshLinux
import MeshModel
import MeshNode
import MeshZDS
import Synchronization
import Testing

/// A node with everything around an agent: a cluster, a pod and a client, a CNI directory, a `/proc`.
final class Workbench: Sendable {
    let cluster = FakeCluster()
    let topology: Topology
    let directory: String
    let log: Logger

    static let podUID = "1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11"
    static let clientUID = "2d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a22"
    static let annotation = "ambient.istio.io/redirection"

    init() async throws {
        self.topology = try await Topology()
        self.directory = "/tmp/agent-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        self.log = Logger(label: "agent") { _ in SwiftLogNoOpLogHandler() }
        for name in ["proc/77/ns", "net.d", "bin", "run", "zds"] {
            try Files.makeDirectory("\(self.directory)/\(name)")
        }
        symlink("/proc/sys", "\(self.directory)/proc/sys")
        // One process of the pod, as a procfs shows it.
        let pod = self.topology.pod.namespace.withDescriptor { "/proc/\(getpid())/fd/\($0)" }
        symlink(pod, "\(self.directory)/proc/77/ns/net")
        try self.write("0::/kubepods/burstable/pod\(Self.podUID)/c1\n", "proc/77/cgroup")
        try self.write("77 (app) S 1 77 77 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 1000 1 1", "proc/77/stat")
        try self.write("the plugin", "martlet-cni")
        try self.write(
            #"{"cniVersion":"1.0.0","name":"main","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#,
            "net.d/10-main.conflist")
        self.cluster.put(
            .namespaces, nil, "shop",
            KubeObject(.namespaces, name: "shop", labels: ["istio.io/dataplane-mode": "ambient"]))
        self.cluster.put(.namespaces, nil, "plain", KubeObject(.namespaces, name: "plain"))
        self.cluster.put(
            .daemonSets, "istio-system", "istio-cni-node",
            KubeObject(.daemonSets, namespace: "istio-system", name: "istio-cni-node"))
        self.putPod("web", Self.podUID, [Topology.podV4, Topology.podV6])
    }

    deinit { _ = try? Program.run(["rm", "-rf", self.directory]) }

    func write(_ text: String, _ name: String) throws {
        try Files.writeAtomically(Array(text.utf8), to: "\(self.directory)/\(name)", mode: 0o644)
    }

    func putPod(_ name: String, _ uid: String, namespace: String = "shop", _ addresses: [IPAddress]) {
        var pod = KubeObject(
            .pods, namespace: namespace, name: name,
            [
                "spec": ["nodeName": "n1", "serviceAccountName": "web"],
                "status": [
                    "phase": "Running", "podIPs": .array(addresses.map { ["ip": .string("\($0)")] }),
                ],
            ])
        pod.json.set(["metadata", "uid"], to: .string(uid))
        self.cluster.put(.pods, namespace, name, pod)
    }

    var environment: [String: String] {
        [
            "NODE_NAME": "n1", "HOST_PROC": "\(self.directory)/proc", "HOST_ROOT": "",
            "HOST_NETWORK_NAMESPACE": self.topology.node.namespace.withDescriptor { "/proc/\(getpid())/fd/\($0)" },
            "CNI_AGENT_RUN_DIR": "\(self.directory)/run", "ZTUNNEL_UDS_ADDRESS": self.zdsPath,
            "MOUNTED_CNI_NET_DIR": "\(self.directory)/net.d", "MOUNTED_CNI_BIN_DIR": "\(self.directory)/bin",
            "CNI_PLUGIN_BINARY": "\(self.directory)/martlet-cni", "AMBIENT_DRIFT_CHECK_SECONDS": "1",
            "AMBIENT_DRAIN_MIN_SECONDS": "1",
            "HEALTH_PORT": "\(Int.random(in: 20_000...29_999))", "TERMINATION_GRACE_PERIOD_SECONDS": "40",
            "MONITORING_PORT": "\(Int.random(in: 30_000...32_000))",
        ]
    }
    var zdsPath: String { "\(self.directory)/zds/z.sock" }

    func file(_ name: String) -> String? { try? Files.readText("\(self.directory)/\(name)") }

    func annotation(_ pod: String = "web") -> String? {
        self.cluster.object(.pods, "shop", pod)?.annotations[Self.annotation]
    }

    /// The agent, while the body runs; then it is stopped as by SIGTERM and waited for.
    func withAgent(
        _ changes: [String: String] = [:], _ body: @Sendable (NodeAgent) async throws -> Void
    ) async throws {
        let configuration = try NodeAgentConfiguration(
            environment: self.environment.merging(changes) { $1 }, executable: "/usr/bin/martlet")
        let agent = try NodeAgent(configuration, self.cluster, self.log, metrics: NodeMetrics(version: "0"))
        let (stopped, stop) = AsyncStream.makeStream(of: Void.self)
        let running = Task { try await agent.run { for await _ in stopped {} } }
        do {
            try await body(agent)
        } catch {
            running.cancel()
            _ = await running.result
            throw error
        }
        stop.finish()
        try await running.value
    }

    /// A proxy, while the body runs.
    func withProxy(_ body: @Sendable (FakeProxy) async throws -> Void) async throws {
        let proxy = FakeProxy()
        let running = Task { await ZDSClient(path: self.zdsPath, log: self.log).run(handler: proxy) }
        do {
            try await body(proxy)
        } catch {
            running.cancel()
            await running.value
            throw error
        }
        running.cancel()
        await running.value
    }
}

/// Binds the three ports in every pod that it is given.
final class FakeProxy: ZDSHandler {
    struct Listeners: Sendable {
        let namespace: NetworkNamespace.Identity
        let outbound, inbound, tunnel: TCP
    }
    private let pods = Mutex<[String: Listeners]>([:])
    private let snapshots = Mutex(0)
    /// Held while it is asked to add a pod.
    let gate = Mutex<(@Sendable () async -> Void)?>(nil)

    subscript(uid: String) -> Listeners? { self.pods.withLock { $0[uid] } }
    var snapshotCount: Int { self.snapshots.withLock { $0 } }

    func connected() async {}
    func add(_ pod: ZDSPod, namespace: consuming NetworkNamespace) async -> String? {
        await self.gate.withLock { $0 }?()
        do {
            let shared = try SharedNetworkNamespace(namespace)
            if self[pod.uid]?.namespace == shared.identity { return nil }
            let listeners = try Listeners(
                namespace: shared.identity,
                outbound: TCP.listen(in: shared, port: 15001, mark: 0x539),
                inbound: TCP.listen(in: shared, port: 15006, mark: 0x539),
                tunnel: TCP.listen(in: shared, port: 15008, mark: 0x539))
            self.pods.withLock { $0[pod.uid] = listeners }
            return nil
        } catch {
            return "\(error)"
        }
    }
    func keep(uid: String) async {}
    func delete(uid: String) async { self.pods.withLock { $0[uid] = nil } }
    func snapshotSent() async { self.snapshots.withLock { $0 += 1 } }
    func disconnected() async {}
    func wantsConnection() async -> Bool { true }
}

/// Waits for something that happens on its own; the limit is generous, because the machine may be busy.
func eventually(
    _ what: String, _ condition: () async throws -> Bool, _ location: SourceLocation = #_sourceLocation
) async throws {
    let end = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < end {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("never: \(what)", sourceLocation: location)
    throw CancellationError()
}
