import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel

/// Two engines in this process: an application of pod `client` reaches a server through both.
///
///     test ─▶ client engine (outbound) ═ HBONE ═▶ server engine (inbound) ─▶ test server
struct TwoPods {
    static let loopback = IPAddress(v4: 0x7f00_0001)
    static let clientIdentity = WorkloadIdentity(
        trustDomain: "cluster.local", namespace: "default", serviceAccount: "client")
    static let serverIdentity = WorkloadIdentity(
        trustDomain: "cluster.local", namespace: "default", serviceAccount: "server")
    static let clientPod = EnrolledPod(uid: "c", name: "client", namespace: "default", serviceAccount: "client")
    static let serverPod = EnrolledPod(uid: "s", name: "server", namespace: "default", serviceAccount: "server")

    let client, server: TunnelEngine
    let clientObserver = RecordingObserver()
    let serverObserver = RecordingObserver()
    /// Where the client engine goes unless `route` says otherwise.
    let tunnel: TunnelRoute
    let clientPorts, serverPorts: TunnelConfiguration.Ports

    /// - Parameters:
    ///   - target: the server's port on loopback.
    ///   - expected: what the client wants the peer to prove.
    init(
        target: UInt16, expected: [WorkloadIdentity] = [serverIdentity],
        clientCertificates: (any CertificateSource)? = nil, serverCertificates: (any CertificateSource)? = nil,
        clientIdentity: WorkloadIdentity = clientIdentity, ca: TestCA? = nil, resolver: (any HostResolver)? = nil,
        admit: @escaping @Sendable (InboundQuestion) -> InboundAnswer = FakeView.admitAll,
        route: (@Sendable (OutboundQuestion, TunnelRoute) -> OutboundAnswer)? = nil,
        configure: (inout TunnelConfiguration) -> Void = { _ in },
        configureServer: (inout TunnelConfiguration) -> Void = { _ in }, namespace: CInt = -1
    ) throws {
        let ca = try ca ?? TestCA()
        let destination = IPEndpoint(address: Self.loopback, port: target)
        var serverConfiguration = Self.configuration(destination)
        configureServer(&serverConfiguration)
        self.server = try TunnelEngine(
            configuration: serverConfiguration, view: FakeView(identity: Self.serverIdentity, admit: admit),
            certificates: serverCertificates ?? FakeCertificates(ca), observer: self.serverObserver)
        self.serverPorts = try self.server.addPod(Self.serverPod, namespace: namespace)

        var clientConfiguration = Self.configuration(destination)
        configure(&clientConfiguration)
        let tunnel = TunnelRoute(
            peer: IPEndpoint(address: Self.loopback, port: self.serverPorts.inboundTunnel),
            authority: destination.description, source: clientIdentity, expected: expected,
            headers: [("forwarded", "for=\"10.0.0.1:1234\"")], labels: Labels())
        self.client = try TunnelEngine(
            configuration: clientConfiguration,
            view: FakeView(identity: clientIdentity, route: { route?($0, tunnel) ?? .tunnel(tunnel) }),
            certificates: clientCertificates ?? FakeCertificates(ca), observer: self.clientObserver,
            resolver: resolver)
        self.tunnel = tunnel
        self.clientPorts = try self.client.addPod(Self.clientPod, namespace: namespace)
    }

    static func configuration(_ destination: IPEndpoint) -> TunnelConfiguration {
        var configuration = TunnelConfiguration()
        configuration.ports = TunnelConfiguration.Ports(outbound: 0, inboundPlaintext: 0, inboundTunnel: 0)
        configuration.outboundDestination = .fixed(destination)
        configuration.plaintextDestination = .fixed(destination)
        configuration.listenAddress = Self.loopback
        configuration.mark = 0
        configuration.sourceSpoofing = .off
        configuration.loops = 1
        return configuration
    }

    /// A connection of the application.
    func connect() throws -> BlockingSocket { try BlockingSocket.connect(port: self.clientPorts.outbound) }

    /// Ends both engines and returns what they made of it.
    func stop() async -> (client: RecordingObserver.Log, server: RecordingObserver.Log) {
        await self.client.drain(deadline: .zero)
        await self.server.drain(deadline: .zero)
        return (self.clientObserver.log, self.serverObserver.log)
    }
}
