import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import KubeAPI
import Logging
import MeshAgent
import MeshChannel
import MeshEnvoy
import MeshIdentity
import MeshModel
import MeshProcess
import MeshRoutes
import MeshTelemetry
import MeshTestSupport
import MeshXDS
import Testing

@Suite("The agent beside a sidecar", .timeLimit(.minutes(5)))
struct SidecarAgentTests {
    private static let least = [
        "POD_NAME": "sleep-1", "POD_NAMESPACE": "foo", "SERVICE_ACCOUNT": "sleep", "INSTANCE_IP": "10.42.0.5",
    ]

    private static func configuration(
        _ more: [String: String] = [:], labels: String = "app=\"sleep\"\npod-template-hash=\"1\"\n"
    ) throws -> AgentConfiguration {
        try AgentConfiguration(
            environment: Self.least.merging(more) { $1 },
            arguments: ["sidecar", "--domain", "foo.svc.cluster.local", "--concurrency", "1"],
            fileExists: { _ in true }, contents: { $0 == "/etc/istio/pod/labels" ? Array(labels.utf8) : nil })
    }

    @Test("says who it is, to the control plane and to servers")
    func identity() throws {
        let configuration = try Self.configuration(["ISTIO_META_WORKLOAD_NAME": "sleep"])
        let node = try #require(EnvoyBootstrap(configuration).json["node"])
        #expect(node["id"]?.string == "sidecar~10.42.0.5~sleep-1.foo~foo.svc.cluster.local")
        #expect(node["cluster"]?.string == "sleep.foo")
        #expect(node.at("metadata", "LABELS", "app")?.string == "sleep")
        #expect(node.at("metadata", "GATEWAY_NAME") == nil)
        #expect(configuration.envoyEnvironment["MESH_PEER_METADATA_ID"] == node["id"]?.string)
        let metadata = try #require(Data(base64Encoded: configuration.envoyEnvironment["MESH_PEER_METADATA"] ?? ""))
        let text = String(decoding: metadata, as: UTF8.self)
        #expect(text.contains("sleep-1") && !text.contains("pod-template-hash"))
    }

    @Test(
        "refuses what it cannot use",
        arguments: [
            ("INSTANCE_IP", ""), ("ISTIO_KUBE_APP_PROBERS", "x"), ("ISTIO_KUBE_APP_PROBERS", #"{"/x":{}}"#),
            ("ISTIO_KUBE_APP_PROBERS", #"{"/app-health/a/readyz":{"httpGet":{"port":"http"}}}"#),
            ("ISTIO_PROMETHEUS_ANNOTATIONS", #"{"port":"x"}"#),
        ])
    func refusals(name: String, value: String) {
        #expect(throws: InvalidSetting.self) { try Self.configuration([name: value]) }
    }

    @Test("reads probes of every kind, and labels with quotes in them")
    func probes() throws {
        let configuration = try Self.configuration(
            [
                "ISTIO_KUBE_APP_PROBERS": #"""
                {"/app-health/a/readyz":{"httpGet":{"path":"ready","port":8080,"scheme":"HTTPS","host":"h"},"timeoutSeconds":3},
                "/app-health/a/livez":{"tcpSocket":{"port":1}},"/app-health/a/startupz":{"grpc":{"port":2,"service":"s"}}}
                """#,
                "ISTIO_PROMETHEUS_ANNOTATIONS": #"{"scrape":"true","path":"","port":"9090"}"#,
            ], labels: #"a="b\"c\\d""# + "\n")
        #expect(configuration.probes.count == 3)
        let http = try #require(configuration.probes["/app-health/a/readyz"])
        #expect(http.timeout == .seconds(3))
        guard case .http("https", 8080, "/ready", let headers) = http.kind else { throw Unexpected() }
        #expect(headers.map(\.name) == ["Host"])
        #expect(configuration.probes["/app-health/a/startupz"]?.kind == .grpc(port: 2, service: "s"))
        #expect(configuration.scrape?.port == 9090 && configuration.scrape?.path == "/metrics")
        #expect(configuration.labels == ["a": #"b"c\d"#])
    }

    private struct Unexpected: Error {}

    @Test("connections that somebody looks with, and those of single workers, are not counted")
    func connections() {
        let text = """
            listener.0.0.0.0_15006.downstream_cx_active: 2
            listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2
            listener.0.0.0.0_15090.downstream_cx_active: 1
            listener.admin.downstream_cx_active: 1
            """
        #expect(EnvoyAdmin.sum(text) == 2)
    }

    // MARK: With Envoy

    private static func service(_ name: String, _ port: ServicePort.AppProtocol, address: String?) -> Service {
        var service = Service(name: name, namespace: "shop", hostname: "\(name).shop.svc.cluster.local")
        service.addresses = address.flatMap { IPAddress($0) }.map { [NetworkAddress(network: "", address: $0)] } ?? []
        service.ports = [ServicePort(port: 80, targetPort: 8080, appProtocol: port)]
        return service
    }

    /// One of everything that a sidecar can be told.
    private static func everything(_ settings: SidecarSettings) -> [EnvoyResource] {
        var resources = SidecarClusters.common + [OutboundListeners.capture(settings)]
        var identities: Set<ExpectedIdentities> = []
        func add(_ service: Service, _ backends: [SidecarDestination.Backend], waypoint: [SidecarDestination.Hop]?) {
            let destination = SidecarDestination(
                service, backends, waypoint: waypoint, BackendBalancing(), settings.mesh)
            resources += destination.resources
            identities.formUnion(destination.identities)
        }
        func workload(_ name: String, hbone: Bool = false) -> Workload {
            var workload = Workload(uid: name)
            workload.namespace = "shop"
            workload.addresses = [IPAddress("10.1.0.1")!]
            workload.tunnelProtocol = hbone ? .hbone : .none
            return workload
        }
        let hop = SidecarDestination.Hop(
            IPEndpoint(address: IPAddress("10.1.0.9")!, port: 15008), workload("w").identity)
        var other = hop
        other.address = IPEndpoint(address: IPAddress("10.1.0.10")!, port: 15008)
        let requests = Self.service("requests", .http11, address: "10.96.0.1")
        add(requests, [.init(workload("a")), .init(workload("b"), hasSidecar: true)], waypoint: nil)
        let either = Self.service("either", .unknown, address: "10.96.0.2")
        add(either, [.init(workload("c", hbone: true))], waypoint: nil)
        let streams = Self.service("streams", .tcp, address: "10.96.0.3")
        add(streams, [], waypoint: [hop, other])
        let headless = Self.service("headless", .grpc, address: nil)
        add(headless, [.init(workload("d"), hasSidecar: true)], waypoint: nil)
        var named = workload("e")
        (named.addresses, named.hostname) = ([], "localhost")
        var entry = Service(name: "entry", namespace: "shop", hostname: "localhost.example")
        entry.ports = [ServicePort(port: 80, targetPort: 8080, appProtocol: .tls)]
        add(entry, [.init(named)], waypoint: nil)
        var direct = Self.service("direct", .http2, address: "10.96.0.4")
        direct.loadBalancing.mode = .passthrough
        add(direct, [], waypoint: nil)
        resources += identities.flatMap { TunnelListeners.originate($0, settings.mesh) }
        let target = RequestTarget(requests, port: 80, routes: [], settings.mesh)
        let own = RequestTarget(either, port: 80, routes: [], settings.mesh)
        resources += [
            OutboundListeners.port(
                80, hasRequests: true,
                names: [.init(serverName: "localhost.example", destination: EnvoyDestination(entry.key, port: 80))],
                settings),
            OutboundRoutes.port(80, from: "foo", [target, own], settings) { _ in .leastRequest }.resource,
            OutboundRoutes.service(own, from: "") { _ in .leastRequest }.resource,
            OutboundListeners.pod(IPAddress("10.1.0.1")!, of: headless, headless.ports[0], settings),
        ]
        resources += OutboundListeners.service(either, either.ports[0], .either, settings)
        resources += OutboundListeners.service(streams, streams.ports[0], .streams, settings)
        return resources
    }

    private static func inbound(_ settings: SidecarSettings) -> [EnvoyResource] {
        var rule = RequestPolicy.Rule()
        rule.from = [.init()]
        rule.from[0].principals = [.exact("cluster.local/ns/a/sa/b")]
        var gate = TrafficGate()
        gate.policies = [
            RequestPolicy(key: NamespacedName(namespace: "foo", name: "p"), action: .allow, rules: [rule])
        ]
        return InboundListener(
            "foo/sleep-1",
            ports: [
                .init(8080, .http11), .init(8081, .unknown), .init(8082, .tcp), .init(8083, .grpc), .init(8084, .tls),
            ],
            tls: InboundTLS(.permissive, ports: [8081: .strict, 8082: .disable, 9000: .disable]),
            tunnelled: [IPAddress("10.42.0.5")!], gate, settings
        ).resources
    }

    @Test(
        "runs Envoy, which accepts all that a sidecar can be told; answers the kubelet for the application; ends when asked",
        .enabled(
            if: Envoy.path != nil, "SKIPPED: NO ENVOY. Run scripts/prepare.sh, or set ENVOY_BIN to an Envoy program."))
    func runs() async throws {
        let ports = try (0..<3).map { _ in try ReservedPort() }
        var mesh = EnvoySettings(trustDomains: ["cluster.local"])
        mesh.listenPort = ports[0].port
        var settings = SidecarSettings(mesh)
        (settings.outboundPort, settings.inboundPort) = (ports[1].port, ports[2].port)
        settings.accessLog = AccessLogStyle(.json, format: #"{"path":"%REQ(:PATH)%"}"#)
        let xds = XDSServer(
            .init(), authenticator: AnyToken(), admission: { _, _, _ in .sidecar("foo/sleep-1") },
            logger: Logger(label: "xds"))
        for (layer, resources) in [
            (SidecarLayer.mesh, Self.everything(settings)), (SidecarLayer.pod("foo/sleep-1"), Self.inbound(settings)),
        ] {
            var changes: [EnvoyResourceSet.Name: EncodedResource?] = [:]
            for resource in resources {
                changes.updateValue(
                    EncodedResource(type: resource.type, name: resource.name, bytes: resource.bytes),
                    forKey: .init(type: resource.type, name: resource.name))
            }
            xds.apply(envoys: layer, changes)
        }
        xds.becomeReady()
        let application = try EchoApplication("app")
        let folder = FileManager.default.temporaryDirectory.appending(path: "agent-\(UUID())")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let token = folder.appending(path: "token").path
        try "a token".write(toFile: token, atomically: true, encoding: .utf8)
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext)
        let server = GRPCServer(transport: transport, services: [XDSService(xds)])
        let serving = Task { try await server.serve() }
        let pacing = Task { await xds.run() }
        defer { pacing.cancel() }
        var configuration = try Self.configuration([
            "ENVOY_PATH": Envoy.path ?? "", "PROXY_DIRECTORY": folder.path, "CONNECTION_TERMINATION_DEADLINE": "2s",
            "ISTIO_KUBE_APP_PROBERS":
                #"{"/app-health/app/readyz":{"httpGet":{"path":"/fine","port":\#(application.port)}},"#
                + #""/app-health/app/livez":{"httpGet":{"path":"/status/503","port":\#(application.port)}},"#
                + #""/app-health/app/startupz":{"tcpSocket":{"port":\#(application.port)}}}"#,
            "ISTIO_PROMETHEUS_ANNOTATIONS": #"{"port":"\#(application.port)","path":"/app-metrics"}"#,
        ])
        configuration.xds = ControlPlaneEndpoint(
            host: "127.0.0.1", port: try await transport.listeningAddress.ipv4?.port ?? 0, roots: .plaintext,
            token: .file(token), clusterID: "")
        (configuration.adminPort, configuration.readinessPort, configuration.statsPort) = (0, 0, 0)
        let (bound, told) = AsyncStream.makeStream(of: (Int, Int).self)
        let process = AgentProcess(
            configuration: configuration, log: MeshLog(directives: LogDirectives(), format: .plain),
            signer: TestSigner(ca: try TestCA()), shutdown: ShutdownSignal(), version: "test",
            bound: { told.yield(($0, $1)) })
        let agent = Task { try await process.run() }
        var iterator = bound.makeAsyncIterator()
        let (readiness, stats) = try #require(await iterator.next())
        func get(_ port: Int, _ path: String, method: String = "GET") async throws -> HTTPText {
            try await HTTPText.get("127.0.0.1", UInt16(port), path, method: method)
        }
        while try await get(readiness, "/healthz/ready").status != 200 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(try await get(stats, "/healthz/ready").status == 200)
        for status in xds.clients {
            #expect(
                Set(status.types.map(\.type)) == [
                    XDSType.cluster, XDSType.endpoints, XDSType.extensionConfig, XDSType.listener, XDSType.routes,
                ])
            for type in status.types { #expect(type.refusals == 0, "\(type.type): \(type.lastRefusal)") }
        }
        #expect(xds.clients.count == 1)
        #expect(try await get(stats, "/app-health/app/readyz").status == 200)
        #expect(try await get(stats, "/app-health/app/livez").status == 500)
        #expect(try await get(stats, "/app-health/app/startupz").status == 200)
        #expect(try await get(stats, "/app-health/app/other").status == 404)
        let metrics = try await get(stats, "/stats/prometheus").body
        #expect(
            metrics.contains("GET /app-metrics") && metrics.contains("envoy_server_live")
                && metrics.contains("envoy-agent"))
        #expect(try await get(stats, "/quitquitquit").status == 405)
        #expect(try await get(stats, "/quitquitquit", method: "POST").status == 200)
        try await agent.value
        await server.end(serving)
    }
}
