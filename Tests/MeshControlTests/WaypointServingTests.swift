import Foundation
import FoundationNetworking
import KubeAPI
import KubeClient
import Logging
import MeshChannel
import MeshControl
import MeshModel
import MeshRoutes
import MeshTelemetry
import MeshXDS
import NIOPosix
import Synchronization
import Testing

/// What a waypoint keeps.
actor RulesSink: WaypointSink {
    private(set) var services: [String: ServiceRules] = [:]
    private(set) var waypoint: WaypointRules?
    private(set) var addresses: Set<String> = []
    private(set) var isSynced = false
    /// Of each update of services, how many it brought.
    private(set) var pushes: [Int] = []

    func apply(_ update: MeshUpdate) {
        guard case .addresses(let upserted, let removed) = update else { return }
        self.addresses.subtract(removed)
        self.addresses.formUnion(upserted.map(\.resourceName))
    }
    func apply(_ update: RulesUpdate) {
        switch update {
        case .waypoint(let rules): self.waypoint = rules
        case .services(let upserted, let removed):
            self.pushes.append(upserted.count)
            for key in removed { self.services[key.description] = nil }
            for rules in upserted { self.services[rules.key.description] = rules }
        }
    }
    func synced() { self.isSynced = true }
    func demandsChanged(answered: [String], forgotten: [String]) {}
}

@Suite("A waypoint at the control plane", .serialized, .timeLimit(.minutes(3)))
struct WaypointServingTests {
    static func cluster() -> FakeCluster {
        let cluster = ControlServerTests.cluster()
        cluster.store(
            .gatewayClasses,
            KubeObject(
                .gatewayClasses, name: "istio-waypoint",
                ["spec": ["controllerName": .string(GatewayClassView.waypointController)]]))
        for name in ["w", "x"] { cluster.store(.gateways, Make.gateway(name)) }
        cluster.store(.services, WaypointTests.labelled(Make.service("web"), WaypointTests.use))
        cluster.store(
            .services,
            WaypointTests.labelled(Make.service("other", ip: "10.0.0.2"), ["istio.io/use-waypoint": "x"]))
        cluster.vouch(for: "w-token", namespace: "ns1", account: "w", pod: "w-1", uid: "uid-w-1")
        return cluster
    }

    static func client(_ endpoint: ControlPlaneEndpoint, _ sink: RulesSink, gateway: String) -> MeshXDSClient {
        var silent = Logger(label: "test")
        silent.logLevel = .critical
        return MeshXDSClient(
            XDSClientConfiguration(
                endpoint: endpoint,
                nodeID: XDSClientConfiguration.waypointID(
                    instanceIP: "127.0.0.8", podName: "w-1", podNamespace: "ns1"),
                metadata: ["NAMESPACE": .string("ns1"), "GATEWAY_NAME": .string(gateway)]), waypoint: sink,
            logger: silent)
    }

    static let web = "ns1/web.ns1.svc.cluster.local"

    static func route(_ name: String = "r", backend: String = "web") -> KubeObject {
        Make.route(
            name, parents: [["group": "", "kind": "Service", "name": "web"]],
            [["backendRefs": [["name": .string(backend), "port": 80]]]])
    }

    @Test("it follows addresses, its own rules, and those of its services; a route's change comes alone")
    func follows() async throws {
        let cluster = Self.cluster()
        try await ControlServerTests.running(cluster) { ports in
            let root = try await ControlServerTests.root(cluster)
            let sink = RulesSink()
            let endpoint = try ControlServerTests.endpoint(ports.secureGRPC, root, token: "w-token")
            let following = Task { await Self.client(endpoint, sink, gateway: "w").run() }
            try await eventually("first rules") { await sink.isSynced }
            #expect(await sink.waypoint?.key == NamespacedName(namespace: "ns1", name: "w"))
            #expect(await sink.services.keys.sorted() == [Self.web], "the other waypoint's services are not its own")
            #expect(await sink.addresses.contains("Kubernetes//Pod/ns1/app"))
            cluster.store(.httpRoutes, Self.route())
            try await eventually("the route") { await sink.services[Self.web]?.routes.map(\.name.name) == ["r"] }
            #expect(await sink.pushes == [1, 1])
            cluster.store(.services, WaypointTests.labelled(Make.service("web"), ["istio.io/use-waypoint": "x"]))
            try await eventually("the service is another's") { await sink.services.isEmpty }
            cluster.store(
                .authorizationPolicies,
                Make.policy(
                    "deny",
                    [
                        "targetRefs": [
                            ["group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "w"]
                        ], "action": "DENY", "rules": [[:]],
                    ]))
            try await eventually("its own policy") {
                await sink.waypoint?.gate.policies.map(\.key.description) == ["ns1/deny"]
            }
            following.cancel()
            await following.value
        }
    }

    @Test("it is served as its own Gateway only", arguments: ["x", "none", ""])
    func pretenders(gateway: String) async throws {
        let cluster = Self.cluster()
        try await ControlServerTests.running(cluster) { ports in
            let root = try await ControlServerTests.root(cluster)
            let sink = RulesSink()
            let endpoint = try ControlServerTests.endpoint(ports.secureGRPC, root, token: "w-token")
            let pretending = Task { await Self.client(endpoint, sink, gateway: gateway).run() }
            let own = RulesSink()
            let honest = Task { await Self.client(endpoint, own, gateway: "w").run() }
            try await eventually("the honest one is served") { await own.isSynced }
            let figures = URL(string: "http://127.0.0.1:\(ports.monitoring)/metrics")!
            try await eventually("a refusal") {
                String(decoding: try await URLSession.shared.data(from: figures).0, as: UTF8.self)
                    .contains("martlet_xds_refused_callers_total ")
            }
            let isSynced = await sink.isSynced
            #expect(!isSynced)
            #expect(await sink.addresses.isEmpty)
            for task in [pretending, honest] {
                task.cancel()
                await task.value
            }
        }
    }

    @Test("statuses of routes stand beside other controllers', and go with the parent")
    func statuses() async throws {
        let cluster = Self.cluster()
        var route = Self.route(backend: "missing")
        let foreign: JSONValue = [
            "parentRef": ["name": "gw"], "controllerName": "example.com/c", "conditions": [],
        ]
        route.json.set(["status", "parents"], to: [foreign])
        cluster.store(.httpRoutes, route)
        try await ControlServerTests.running(cluster) { _ in
            func parents() async throws -> [JSONValue] {
                try await cluster.get(.httpRoutes, namespace: "ns1", name: "r").status["parents"]?.array ?? []
            }
            func condition(_ type: String) async throws -> JSONValue? {
                try await parents().last?["conditions"]?.array?.first { $0["type"]?.string == type }
            }
            try await eventually("our entry") { try await parents().count == 2 }
            #expect(try await parents().first == foreign)
            let ours = try await parents().last
            #expect(ours?["parentRef"] == ["group": "", "kind": "Service", "name": "web"])
            #expect(ours?["controllerName"]?.string == PlacedStatusWriter.controllerName)
            #expect(try await condition("Accepted")?["status"]?.string == "True")
            #expect(try await condition("Accepted")?["observedGeneration"]?.int == 4)
            #expect(try await condition("ResolvedRefs")?["reason"]?.string == "BackendNotFound")
            cluster.store(.services, Make.service("missing", ip: "10.0.0.7"))
            try await eventually("the reference") {
                try await condition("ResolvedRefs")?["status"]?.string == "True"
            }
            var moved = try await cluster.get(.httpRoutes, namespace: "ns1", name: "r")
            moved.json.set(["spec", "parentRefs"], to: [["name": "gw"]])
            cluster.store(.httpRoutes, moved)
            try await eventually("our entry is gone") { try await parents() == [foreign] }
        }
    }
}

@Suite("Issuers' keys", .timeLimit(.minutes(2)))
struct KeySetFetcherTests {
    static let keys = #"{"keys":[{"kty":"RSA","n":"x","e":"AQAB"}]}"#

    private final class Issuer: Sendable {
        let answer = Mutex(EndpointAnswer.text("", status: 500))
        let asked = Mutex(0)
    }

    private actor Delivered {
        private(set) var keys: [String: [String?]] = [:]
        func take(_ key: String, _ keys: String?) { self.keys[key, default: []].append(keys) }
    }

    private static func with(
        _ issuer: Issuer, _ body: (KeySetFetcher, Delivered, _ base: String) async throws -> Void
    ) async throws {
        let ports = Mutex(0)
        let routes = [
            EndpointRoute("/jwks") { _ in
                issuer.asked.withLock { $0 += 1 }
                return issuer.answer.withLock { $0 }
            },
            EndpointRoute("/.well-known/openid-configuration") { _ in
                .text("{\"jwks_uri\": \"http://127.0.0.1:\(ports.withLock { $0 })/jwks\"}")
            },
        ]
        let server = try await HTTPEndpoints.bind(
            [.init(host: "127.0.0.1", port: 0)], routes: routes, group: MultiThreadedEventLoopGroup.singleton)
        ports.withLock { $0 = server.ports[0] }
        var silent = Logger(label: "test")
        silent.logLevel = .critical
        let delivered = Delivered()
        let fetcher = KeySetFetcher(logger: silent) { await delivered.take($0, $1) }
        try await body(fetcher, delivered, "http://127.0.0.1:\(server.ports[0])")
        await fetcher.stop()
        await server.close()
    }

    @Test("come from an address or by discovery, after a failure too")
    func fetched() async throws {
        let issuer = Issuer()
        try await Self.with(issuer) { fetcher, delivered, base in
            await fetcher.want("a", WantedKeys(source: .address("\(base)/jwks"), timeout: .seconds(30)))
            try await eventually("a first failure") { issuer.asked.withLock { $0 } > 0 }
            #expect(await delivered.keys.isEmpty)
            issuer.answer.withLock { $0 = .text(Self.keys) }
            try await eventually("keys") { await delivered.keys["a"] == [Self.keys] }
            await fetcher.want("b", WantedKeys(source: .discovery(issuer: base), timeout: .seconds(30)))
            try await eventually("keys") { await delivered.keys["b"] == [Self.keys] }
            await fetcher.want("a", nil)
            #expect(await delivered.keys["a"] == [Self.keys, nil])
        }
    }

    @Test("that are none are not delivered", arguments: ["", "{}", "[]", "no"])
    func unreadable(answer: String) async throws {
        let issuer = Issuer()
        issuer.answer.withLock { $0 = .text(answer) }
        try await Self.with(issuer) { fetcher, delivered, base in
            await fetcher.want("a", WantedKeys(source: .address("\(base)/jwks"), timeout: .seconds(30)))
            // The second attempt comes after the first was judged.
            try await eventually("a second attempt") { issuer.asked.withLock { $0 } > 1 }
            #expect(await delivered.keys.isEmpty)
        }
    }
}
