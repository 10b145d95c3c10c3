import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Logging
import MeshAgent
import MeshCA
import MeshCertificates
import MeshChannel
import MeshEnvoy
import MeshIdentity
import MeshModel
import MeshProcess
import MeshRoutes
import MeshTelemetry
import MeshTestSupport
import MeshXDS
import Synchronization
import Testing

/// A waypoint that is Envoy under our agent, fed by our xDS server, between a client and two servers behind HBONE of their
/// own: all on loopback, all over real TLS.
final class EnvoyWorld: Sendable {
    static let gateway = NamespacedName(namespace: "shop", name: "waypoint")
    static let key = NamespacedName(namespace: "shop", name: "echo.shop.svc.cluster.local")
    static let port: UInt16 = 80
    static let opaquePort: UInt16 = 9000
    static func identity(_ account: String, _ namespace: String = "shop") -> WorkloadIdentity {
        WorkloadIdentity(trustDomain: "cluster.local", namespace: namespace, serviceAccount: account)
    }

    let ca: TestCA
    let server: Envoy
    let applications: [EchoApplication]
    let xds: XDSServer
    let waypointPort: ReservedPort
    let settings: EnvoySettings
    private let published = Mutex<[EnvoyResourceSet.Name: EnvoyResource]>([:])

    init() async throws {
        self.ca = try TestCA()
        self.applications = [try EchoApplication("one"), try EchoApplication("two")]
        self.server = try await Envoy.server(self.ca.issue(Self.identity("server")))
        self.waypointPort = try ReservedPort()
        var settings = EnvoySettings(trustDomains: ["cluster.local"])
        settings.listenPort = self.waypointPort.port
        settings.tunnelPort = self.server.port
        self.settings = settings
        var logger = Logger(label: "xds")
        logger.logLevel = .warning
        self.xds = XDSServer(
            .init(), authenticator: AnyToken(), admission: { _, _, _ in .envoy(Self.gateway.description) },
            logger: logger)
        self.xds.becomeReady()
    }

    // MARK: What Envoy is told

    /// The service, behind it both applications; `v1` and `v2` with one each.
    private static func service(_ name: String) -> Service {
        var service = Service(name: name, namespace: "shop", hostname: "\(name).shop.svc.cluster.local")
        if name == "echo" {
            service.addresses = [NetworkAddress(network: "", address: IPAddress("10.96.0.1")!)]
        }
        service.ports = [
            ServicePort(port: Self.port, targetPort: 0, appProtocol: .http11),
            ServicePort(port: Self.opaquePort, targetPort: 0, appProtocol: .tcp),
        ]
        return service
    }

    static func destination(_ name: String, port: UInt16 = EnvoyWorld.port) -> RouteDestination {
        .service(NamespacedName(namespace: "shop", name: "\(name).shop.svc.cluster.local"), port: port)
    }

    private func workloads(_ name: String, account: String) -> [Workload] {
        self.applications.enumerated().compactMap { index, application in
            guard name == "echo" || name == "v\(index + 1)" else { return nil }
            var workload = Workload(uid: "Kubernetes//Pod/shop/\(application.name)")
            workload.name = application.name
            workload.namespace = "shop"
            workload.serviceAccount = account
            workload.addresses = [IPAddress("127.0.0.1")!]
            workload.tunnelProtocol = .hbone
            workload.services = [
                NamespacedName(namespace: "shop", name: "\(name).shop.svc.cluster.local"): [
                    ServicePort(port: Self.port, targetPort: application.port),
                    ServicePort(port: Self.opaquePort, targetPort: application.port),
                ]
            ]
            return workload
        }
    }

    /// The last response with routes that Envoy has put into force.
    var acknowledgedRoutes: String? {
        self.xds.clients.first?.types.first { $0.type == XDSType.routes }?.ackedNonce
    }

    /// - Parameter account: that the servers are expected to prove.
    func publish(
        _ rules: ServiceRules = ServiceRules(key: EnvoyWorld.key), waypoint: TrafficGate = TrafficGate(),
        account: String = "server"
    ) {
        var own = WaypointRules(key: Self.gateway)
        own.gate = waypoint
        let service = Self.service("echo")
        let routes = ServedRoutes(EnvoyDestination(Self.key, port: Self.port), rules) { _ in .leastRequest }
        let chains = ServiceChains(service, rules, own, [Self.port: routes], self.settings)
        var resources = [
            TunnelListeners.terminate(self.settings), TunnelClusters.main,
            MainListener.listener([(Self.key.description, chains)]), routes.resource,
        ]
        var identities: Set<ExpectedIdentities> = []
        for name in ["echo", "v1", "v2"] {
            let service = Self.service(name)
            for port in service.ports {
                let destination = EnvoyDestination(service.key, port: port.port)
                let (endpoints, expected) = DestinationCluster.endpoints(
                    destination, service, port, self.workloads(name, account: account), self.settings)
                resources += [DestinationCluster.cluster(destination, port, BackendBalancing()), endpoints]
                identities.formUnion(expected)
            }
        }
        resources += identities.flatMap { TunnelListeners.originate($0, self.settings) }
        self.tell(resources)
    }

    private func tell(_ resources: [EnvoyResource]) {
        var changes: [EnvoyResourceSet.Name: EncodedResource?] = [:]
        let new = Dictionary(
            resources.map { (EnvoyResourceSet.Name(type: $0.type, name: $0.name), $0) }, uniquingKeysWith: { $1 })
        self.published.withLock { published in
            for name in published.keys where new[name] == nil { changes.updateValue(nil, forKey: name) }
            for (name, resource) in new where published[name] != resource {
                changes.updateValue(
                    EncodedResource(type: resource.type, name: resource.name, bytes: resource.bytes), forKey: name)
            }
            published = new
        }
        self.xds.apply(envoys: Self.gateway.description, changes)
    }

    // MARK: Running

    /// Runs the waypoint; the body begins once it is ready.
    func run(_ body: @escaping @Sendable () async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "agent-\(UUID())")
        let token = URL(fileURLWithPath: "\(folder.path)-token")
        try "a token".write(to: token, atomically: true, encoding: .utf8)
        defer { for left in [folder, token] { try? FileManager.default.removeItem(at: left) } }
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext)
        let grpc = GRPCServer(transport: transport, services: [XDSService(self.xds)])
        let serving = Task { try await grpc.serve() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.xds.run() }
            let port = try await transport.listeningAddress.ipv4?.port ?? 0
            let shutdown = ShutdownSignal()
            let (ports, told) = AsyncStream.makeStream(of: Int.self)
            let log = MeshLog(directives: LogDirectives(), format: .plain)
            let process = AgentProcess(
                configuration: try Self.configuration(port, folder.path), log: log, signer: TestSigner(ca: self.ca),
                shutdown: shutdown, version: "test", bound: { readiness, _ in told.yield(readiness) })
            let agent = Task { try await process.run() }
            defer { agent.cancel() }
            var iterator = ports.makeAsyncIterator()
            let readiness = await iterator.next() ?? 0
            group.addTask {
                // It ends by itself only when something is wrong.
                do { try await agent.value } catch { Issue.record("the agent ended: \(error)") }
            }
            // It refuses connections until it has begun, which the test's time limit ends.
            while (try? await HTTPText.get("127.0.0.1", UInt16(readiness), "/healthz/ready"))?.status != 200 {
                try await Task.sleep(for: .milliseconds(20))
            }
            let outcome = await Task { try await body() }.result
            shutdown.request("the test is over")
            _ = await agent.result
            self.xds.drain()
            await grpc.end(serving)
            group.cancelAll()
            try outcome.get()
        }
        await self.server.stop()
    }

    private static func configuration(_ port: Int, _ folder: String) throws -> AgentConfiguration {
        var configuration = try AgentConfiguration(
            environment: [
                "GATEWAY_NAME": "waypoint", "POD_NAMESPACE": "shop", "SERVICE_ACCOUNT": "waypoint",
                "POD_NAME": "waypoint-1", "ENVOY_PATH": Envoy.path ?? "", "PROXY_DIRECTORY": folder,
                "ENVOY_CONCURRENCY": "1", "CONNECTION_TERMINATION_DEADLINE": "1s",
            ], arguments: ["waypoint"])
        configuration.xds = ControlPlaneEndpoint(
            host: "127.0.0.1", port: port, roots: .plaintext, token: .file("\(folder)-token"), clusterID: "")
        (configuration.adminPort, configuration.readinessPort, configuration.statsPort) = (0, 0, 0)
        return configuration
    }

    /// A client in the mesh: plain TCP in, tunnels for the service's address out.
    func client(_ account: String = "client", _ namespace: String = "shop", port: UInt16 = EnvoyWorld.port)
        async throws -> Envoy
    {
        try await Envoy.client(
            self.ca.issue(Self.identity(account, namespace)), authority: "10.96.0.1:\(port)",
            peer: self.waypointPort.port)
    }
}

struct AnyToken: CallerAuthenticator {
    let wanted = "any token"
    func authenticate(bearer token: String, clusterID: String) async throws -> AuthenticatedCaller {
        AuthenticatedCaller(namespace: "shop", serviceAccount: "waypoint")
    }
}

struct TestSigner: CertificateSigner {
    let ca: TestCA
    func sign(_ identity: WorkloadIdentity) async throws -> SignedCertificate {
        let issued = try self.ca.issue(identity)
        let now = Int64(Date().timeIntervalSince1970)
        return SignedCertificate(
            chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots, notBefore: now - 60,
            notAfter: now + 86_000)
    }
}
