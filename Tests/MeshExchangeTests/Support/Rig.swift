import MeshExchange
import MeshHTTP
import MeshIdentity
import MeshModel
import MeshRoutes
import MeshTestSupport
import MeshTunnel

/// A client's application, and servers, with a waypoint between them: real TLS and sockets on loopback.
///
///     test ─▶ client engine ═HBONE═▶ waypoint ─▶ test server                    (plain)
///     test ─▶ client engine ═HBONE═▶ waypoint ═HBONE═▶ far engine ─▶ test server (meshed)
struct Rig {
    static let loopback = IPAddress(v4: 0x7f00_0001)
    static let service = NamespacedName(namespace: "shop", name: "cart.shop.svc.cluster.local")
    static let servicePort = IPEndpoint(address: IPAddress(v4: 0x0a00_0001), port: 80)

    let client, waypoint: TunnelEngine
    let far: TunnelEngine?
    let exchanges = RecordedExchanges()
    /// The servers of the test, as one backend.
    let backend: Backend
    /// What the waypoint serves; a test may change it while the rig runs.
    let port: FakePort
    private let clientPorts: TunnelConfiguration.Ports
    /// Of all engines.
    let certificates: FakeCertificates
    /// Requests for streams that the far engine got.
    let asked = Log<Asked>()
    /// The far engine's HBONE port.
    let farPort: UInt16

    struct Asked: Sendable {
        var headers: [String]
        var identity: WorkloadIdentity?
    }

    /// - Parameters:
    ///   - servers: ports on loopback; each is an endpoint, named `server-0` and so on, all of the same priority.
    ///   - speaks: what the served port says of itself.
    ///   - backendSpeaks: and the backend; nil: the same.
    ///   - plan: of each request; nil: goes to the backend as it is.
    init(
        servers: [UInt16], isMeshed: Bool = false, speaks: ServicePort.AppProtocol = .http11,
        backendSpeaks: ServicePort.AppProtocol? = nil, needsHTTP: Bool = false,
        balancing: BackendBalancing = BackendBalancing(),
        configure: (inout ExchangeConfiguration) -> Void = { _ in },
        configureTunnel: (inout TunnelConfiguration) -> Void = { _ in },
        resolver: (any HostResolver)? = nil,
        plan: (@Sendable (RequestHead, RequestOrigin, Backend) -> ExchangePlan)? = nil,
        stream: (@Sendable (String?, RequestOrigin, Backend) -> StreamPlan)? = nil
    ) throws {
        let certificates = FakeCertificates(try TestCA())
        self.certificates = certificates
        var far: TunnelEngine?
        var farPort: UInt16 = 0
        if isMeshed {
            let engine = try TunnelEngine(
                configuration: Self.configuration(),
                view: FakeMesh(identity: Self.identity("server"), asked: self.asked),
                certificates: certificates, observer: SilentConnections())
            farPort = try engine.addPod(Self.pod("server"), namespace: -1).inboundTunnel
            far = engine
        }
        self.far = far
        self.farPort = farPort
        self.backend = Backend(
            service: Self.service, port: Self.servicePort.port, appProtocol: backendSpeaks ?? speaks,
            balancing: balancing,
            endpoints: servers.enumerated().map { index, port in
                Self.endpoint("server-\(index)", port, through: isMeshed ? farPort : nil)
            })

        let backend = self.backend
        let port = FakePort(
            speaks, needsHTTP: needsHTTP,
            plan: { plan?($0, $1, backend) ?? .forward(ForwardPlan(request: $0, backend: backend)) },
            stream: { stream?($0, $1, backend) ?? .forward(backend, route: nil) })
        self.port = port
        var configuration = ExchangeConfiguration()
        configure(&configuration)
        let observer = self.exchanges
        var tunnels = Self.configuration()
        configureTunnel(&tunnels)
        self.waypoint = try TunnelEngine(
            configuration: tunnels,
            view: FakeMesh(
                identity: Self.identity("waypoint"),
                serves: ServedTarget(.service(Self.service, port: 80), local: Self.servicePort)),
            certificates: certificates, observer: SilentConnections(), resolver: resolver,
            makeServer: { [configuration] loop in
                ExchangeServer(loop: loop, configuration: configuration, view: port, observer: observer, seed: 7)
            })
        let waypointPort = try self.waypoint.addOwnPod(Self.pod("waypoint")).inboundTunnel
        self.client = try TunnelEngine(
            configuration: Self.configuration(),
            view: FakeMesh(
                identity: Self.identity("client"),
                route: Self.route(
                    to: waypointPort, from: "client", expecting: "waypoint", authority: Self.servicePort.description)),
            certificates: certificates, observer: SilentConnections())
        self.clientPorts = try self.client.addPod(Self.pod("client"), namespace: -1)
    }

    /// Where the client's application connects, on loopback.
    var outboundPort: UInt16 { self.clientPorts.outbound }

    /// A connection of the client's application to the service.
    func connect() throws -> HTTPPeer { HTTPPeer(try BlockingSocket.connect(port: self.clientPorts.outbound)) }

    /// What the waypoint's loop holds. Not after ``stop()``.
    func occupancy() async -> ExchangeServer.Occupancy {
        await withCheckedContinuation { continuation in
            self.waypoint.withServers { server in
                guard let server = server as? ExchangeServer else { preconditionFailure("another server") }
                continuation.resume(returning: server.occupancy)
            }
        }
    }

    /// Waits until the waypoint holds what `condition` says; returns what it holds, also when the test's time is over.
    @discardableResult
    func settled(_ condition: (ExchangeServer.Occupancy) -> Bool) async -> ExchangeServer.Occupancy {
        while true {
            let occupancy = await self.occupancy()
            if condition(occupancy) || Task.isCancelled { return occupancy }
            try? await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Ends all engines. What was told of exchanges must be in order.
    func stop() async {
        await self.client.drain(deadline: .zero)
        await self.waypoint.drain(deadline: .zero)
        await self.far?.drain(deadline: .zero)
    }

    // MARK: Pieces

    static func identity(_ account: String) -> WorkloadIdentity {
        WorkloadIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: account)
    }

    static func pod(_ name: String) -> EnrolledPod {
        EnrolledPod(uid: name, name: name, namespace: "shop", serviceAccount: name)
    }

    /// An endpoint on loopback; `through` is the HBONE port of an engine that dials it.
    static func endpoint(
        _ workload: String, _ port: UInt16, through: UInt16? = nil, priority: Int = 0, weight: UInt32 = 1
    ) -> UpstreamEndpoint {
        let address = IPEndpoint(address: Self.loopback, port: port)
        return UpstreamEndpoint(
            workload: workload, address: address,
            route: through.map {
                Self.route(to: $0, from: "waypoint", expecting: "server", authority: address.description)
            }, priority: priority, weight: weight)
    }

    private static func route(
        to port: UInt16, from: String, expecting: String, authority: String
    ) -> TunnelRoute {
        TunnelRoute(
            peer: IPEndpoint(address: Self.loopback, port: port), authority: authority, source: Self.identity(from),
            expected: [Self.identity(expecting)], headers: [], labels: FakeLabels())
    }

    static func configuration() -> TunnelConfiguration {
        var configuration = TunnelConfiguration()
        configuration.ports = TunnelConfiguration.Ports(outbound: 0, inboundPlaintext: 0, inboundTunnel: 0)
        configuration.outboundDestination = .fixed(Self.servicePort)
        configuration.listenAddress = Self.loopback
        configuration.isIPv6Enabled = false
        configuration.mark = 0
        configuration.sourceSpoofing = .off
        configuration.loops = 1
        return configuration
    }
}
