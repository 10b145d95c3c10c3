import Foundation
import FoundationNetworking
import KubeAPI
import KubeClient
import Logging
import MeshCA
import MeshChannel
import MeshControl
import MeshIdentity
import MeshLinux
import MeshModel
import MeshXDS
import Synchronization
import Testing

actor Sink: MeshStateSink {
    private(set) var names: Set<String> = []
    func apply(_ update: MeshUpdate) {
        switch update {
        case .addresses(let upserted, let removed):
            self.names.subtract(removed)
            self.names.formUnion(upserted.map(\.resourceName))
        case .policies(let upserted, let removed):
            self.names.subtract(removed.map(\.description))
            self.names.formUnion(upserted.map(\.key.description))
        }
    }
    func synced() {}
    func demandsChanged(answered: [String], forgotten: [String]) {}
}

/// Waits for something that other tasks bring about.
func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    for _ in 0..<3000 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("never happened: \(what)")
}

@Suite("A whole control plane over a cluster in memory", .serialized, .timeLimit(.minutes(3)))
struct ControlServerTests {
    static func options(_ name: String = "istiod-1") throws -> ControlOptions {
        try ControlOptions(
            environment: [
                "POD_NAME": name, "CA_TRUSTED_NODE_ACCOUNTS": "istio-system/ztunnel",
                // Waypoints of these tests have the addresses that the tests give them.
                "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
            ],
            arguments: [
                "--bind", "127.0.0.1", "--secure-grpc-port=0", "--http-port=0", "--monitoring-port=0",
                "--https-port=0",
            ])
    }

    static func running(
        _ cluster: any KubeCluster, _ name: String = "istiod-1",
        changing change: (inout ControlOptions) -> Void = { _ in },
        _ body: @escaping @Sendable (ControlServer.Ports) async throws -> Void
    ) async throws {
        var silent = Logger(label: "test")
        silent.logLevel = .critical
        var options = try Self.options(name)
        change(&options)
        let server = ControlServer(options, cluster: cluster, version: "1.2.3", logger: silent)
        let (ports, tell) = AsyncStream.makeStream(of: ControlServer.Ports.self)
        let (stop, stopNow) = AsyncStream.makeStream(of: Void.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { tell.finish() }
                try await server.run(stop: stop) { tell.yield($0) }
            }
            for await listening in ports {
                try await body(listening)
                break
            }
            stopNow.finish()
            try await group.next()
        }
    }

    static func cluster() -> FakeCluster {
        let cluster = FakeCluster()
        for name in ["istio-system", "ns1", "kube-public"] {
            cluster.store(.namespaces, KubeObject(.namespaces, name: name))
        }
        cluster.store(.pods, Make.pod("app", annotations: ["ambient.istio.io/redirection": "enabled"]))
        cluster.store(
            .pods,
            Make.pod("zt", namespace: "istio-system", ip: "127.0.0.9") {
                $0.set(["spec", "serviceAccountName"], to: "ztunnel")
            })
        cluster.store(.services, Make.service("web"))
        cluster.vouch(for: "node-token", namespace: "istio-system", account: "ztunnel", pod: "zt", uid: "uid-zt")
        return cluster
    }

    static func root(_ cluster: FakeCluster) async throws -> String {
        var pem = ""
        try await eventually("root certificate in ns1") {
            let map = try await cluster.find(.configMaps, namespace: "ns1", name: "istio-ca-root-cert")
            pem = map?.json.at("data", "root-cert.pem")?.string ?? ""
            return !pem.isEmpty
        }
        return pem
    }

    static func endpoint(
        _ port: Int, _ root: String, token: String, host: String = "127.0.0.1"
    ) throws -> ControlPlaneEndpoint {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("token-\(UUID())").path
        try Data(token.utf8).write(to: URL(fileURLWithPath: path))
        return ControlPlaneEndpoint(
            host: host, port: port, alternativeHost: "istiod.istio-system.svc", roots: .pem(root),
            token: .file(path))
    }

    @Test("a node proxy learns the mesh, gets certificates, and policies get their status")
    func serves() async throws {
        let cluster = Self.cluster()
        let firstRoot = Mutex("")
        try await Self.running(cluster) { ports in
            let root = try await Self.root(cluster)
            firstRoot.withLock { $0 = root }
            #expect(try await cluster.find(.configMaps, namespace: "kube-public", name: "istio-ca-root-cert") == nil)
            var silent = Logger(label: "test")
            silent.logLevel = .critical
            let endpoint = try Self.endpoint(ports.secureGRPC, root, token: "node-token")
            let sink = Sink()
            let client = MeshXDSClient(
                XDSClientConfiguration(
                    endpoint: endpoint,
                    nodeID: XDSClientConfiguration.nodeID(
                        instanceIP: "127.0.0.9", podName: "zt", podNamespace: "istio-system"),
                    metadata: ["NAMESPACE": .string("istio-system")]), sink: sink, logger: silent)
            let following = Task { await client.run() }
            try await eventually("the mesh") {
                await sink.names.isSuperset(of: ["Kubernetes//Pod/ns1/app", "ns1/web.ns1.svc.cluster.local"])
            }
            let certificates = CertificateClient(
                CertificateClientConfiguration(endpoint: endpoint), logger: silent)
            let identity = WorkloadIdentity(trustDomain: "cluster.local", namespace: "ns1", serviceAccount: "sa1")
            #expect(try await certificates.sign(identity).chain.count == 1)
            await #expect(throws: CertificateError.self) {
                try await certificates.sign(
                    WorkloadIdentity(trustDomain: "cluster.local", namespace: "ns1", serviceAccount: "nobody"))
            }
            // The stream and two calls, one review.
            #expect(cluster.reviews == 1)

            cluster.store(.authorizationPolicies, Make.policy("allow", ["rules": [[:]]]))
            try await eventually("the policy") { await sink.names.contains("ns1/allow") }
            try await eventually("its status") {
                let policy = try await cluster.get(.authorizationPolicies, namespace: "ns1", name: "allow")
                return policy.condition("ZtunnelAccepted") == "True"
            }
            // A host without an address gets one, a machine joins it, and a label that leads nowhere is said.
            cluster.store(
                .serviceEntries,
                Make.entry("legacy", selector: ["app": "legacy"], labels: ["istio.io/use-waypoint": "nowhere"]))
            cluster.store(
                .workloadEntries, Make.machine("m", ["address": "10.9.9.9", "labels": ["app": "legacy"]]))
            try await eventually("the machine") {
                await sink.names.isSuperset(of: [
                    "ns1/a.example", "Kubernetes/networking.istio.io/WorkloadEntry/ns1/m",
                ])
            }
            try await eventually("address and condition of the entry") {
                let entry = try await cluster.get(.serviceEntries, namespace: "ns1", name: "legacy")
                return entry.status["addresses"]?[0]?["value"]?.string == "240.240.0.1"
                    && entry.condition("istio.io/WaypointBound") == "False"
            }
            cluster.store(.serviceEntries, Make.entry("legacy", addresses: ["10.8.8.8"]))
            try await eventually("neither, once they are not wanted") {
                let entry = try await cluster.get(.serviceEntries, namespace: "ns1", name: "legacy")
                return entry.condition("istio.io/WaypointBound") == nil
                    && entry.status["addresses"]?.array?.isEmpty ?? true
            }
            try await cluster.delete(.authorizationPolicies, namespace: "ns1", name: "allow")
            try await eventually("the policy is gone") { await !sink.names.contains("ns1/allow") }
            // A root certificate that somebody changed is put right.
            var map = try await cluster.get(.configMaps, namespace: "ns1", name: "istio-ca-root-cert")
            map.json.set(["data", "root-cert.pem"], to: "broken")
            cluster.store(.configMaps, map)
            try await eventually("repair") {
                try await cluster.get(.configMaps, namespace: "ns1", name: "istio-ca-root-cert")
                    .json.at("data", "root-cert.pem")?.string == root
            }
            following.cancel()
            await following.value
        }
        // The next start signs with the same root, and another replica takes the leases over at once.
        try await Self.running(cluster, "istiod-2") { _ in
            #expect(try await Self.root(cluster) == firstRoot.withLock { $0 })
            try await eventually("leadership") {
                try await cluster.get(.leases, namespace: "istio-system", name: "istio-status-leader")
                    .spec["holderIdentity"]?.string == "istiod-2"
            }
        }
    }

    private static func client(
        _ endpoint: ControlPlaneEndpoint, _ sink: Sink, account: String = "ztunnel"
    ) -> MeshXDSClient {
        var silent = Logger(label: "test")
        silent.logLevel = .critical
        return MeshXDSClient(
            XDSClientConfiguration(
                endpoint: endpoint,
                nodeID: XDSClientConfiguration.nodeID(
                    instanceIP: "127.0.0.9", podName: "zt", podNamespace: "istio-system"),
                metadata: ["NAMESPACE": .string("istio-system"), "SERVICE_ACCOUNT": .string(account)]), sink: sink,
            logger: silent)
    }

    @Test("by default all ports take IPv4 and IPv6", .enabled(if: LocalAddresses.hasIPv6, "SKIPPED: no IPv6 here"))
    func bothFamilies() async throws {
        #expect(try ControlOptions(environment: [:], arguments: []).bind == "::")
        let cluster = Self.cluster()
        try await Self.running(cluster, changing: { $0.bind = LocalAddresses.everywhere() }) { ports in
            let root = try await Self.root(cluster)
            for host in ["127.0.0.1", "::1"] {
                let sink = Sink()
                let endpoint = try Self.endpoint(ports.secureGRPC, root, token: "node-token", host: host)
                let following = Task { await Self.client(endpoint, sink).run() }
                try await eventually("the mesh over \(host)") { await !sink.names.isEmpty }
                following.cancel()
                await following.value
            }
            // Over IPv4 only: URLSession on Linux takes no IPv6 address in a URL.
            let ready = URL(string: "http://127.0.0.1:\(ports.readiness)/ready")!
            let (text, _) = try await URLSession.shared.data(from: ready)
            #expect(String(decoding: text, as: UTF8.self) == "ready\n")
        }
    }

    @Test("an application's account gets nothing of the mesh, and is told why; the figures say so under istiod's names")
    func strangers() async throws {
        let cluster = Self.cluster()
        cluster.vouch(for: "app-token", namespace: "ns1", account: "sa1", pod: "app", uid: "uid-app")
        try await Self.running(cluster) { ports in
            let root = try await Self.root(cluster)
            func figures() async throws -> String {
                let url = URL(string: "http://127.0.0.1:\(ports.monitoring)/metrics")!
                return String(decoding: try await URLSession.shared.data(from: url).0, as: UTF8.self)
            }
            let sink = Sink()
            let stranger = try Self.endpoint(ports.secureGRPC, root, token: "app-token")
            let following = Task { await Self.client(stranger, sink, account: "sa1").run() }
            try await eventually("refusals") { try await figures().contains("martlet_xds_refused_callers_total ") }
            #expect(await sink.names.isEmpty)
            following.cancel()
            await following.value

            let proxy = try Self.endpoint(ports.secureGRPC, root, token: "node-token")
            let served = Task { await Self.client(proxy, sink).run() }
            try await eventually("the mesh") { await !sink.names.isEmpty }
            served.cancel()
            await served.value
            let text = try await figures()
            #expect(text.contains("pilot_xds_pushes{type=\"wds\"} "))
            #expect(text.contains("istio_build{component=\"istiod\",tag=\"1.2.3\"} 1"))
        }
    }

    @Test("arguments and variables that make no sense are named")
    func options() {
        let wrong: [([String: String], [String])] = [
            (["CA_TRUSTED_NODE_ACCOUNTS": "ztunnel"], []), (["PILOT_DEBOUNCE_AFTER": "soon"], []),
            ([:], ["--secure-grpc-port", "x"]), ([:], ["--nonsense", "1"]), ([:], ["--bind"]),
        ]
        for (environment, arguments) in wrong {
            #expect(throws: ControlOptions.Invalid.self) {
                try ControlOptions(environment: environment, arguments: arguments)
            }
        }
        let names = try? Self.options().serverNames
        #expect(names?.contains("istiod.istio-system.svc") == true)
    }
}
