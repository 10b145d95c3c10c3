import GRPCNIOTransportHTTP2
import KubeAPI
import MeshTelemetry
import MeshXDS
import NIOCertificateReloading
import NIOPosix
import NIOSSL

/// What the control plane listens with.
extension ControlServer {
    /// A node proxy that connects again lists every version it holds: about 100 bytes for each of 200 000 resources.
    static let requestBytesMax = 64 << 20

    func transport(
        port: Int, _ security: HTTP2ServerTransport.Posix.TransportSecurity
    ) -> HTTP2ServerTransport.Posix {
        HTTP2ServerTransport.Posix(
            address: self.options.bind.contains(":")
                ? .ipv6(host: self.options.bind, port: port) : .ipv4(host: self.options.bind, port: port),
            transportSecurity: security,
            config: .defaults { config in
                config.rpc.maxRequestPayloadSize = Self.requestBytesMax
                // Streams move to other replicas now and then; a client comes back with what it has.
                config.connection.maxAge = .seconds(30 * 60)
                config.connection.maxGraceTime = .seconds(10)
                config.connection.keepalive = .init(
                    time: .seconds(30), timeout: .seconds(10),
                    clientBehavior: .init(minPingIntervalWithoutCalls: .seconds(10), allowWithoutCalls: true))
                config.http2.maxConcurrentStreams = 1000
            })
    }

    func endpoints(
        _ xds: XDSServer, _ plane: ControlPlane, _ metrics: ControlMetrics
    ) async throws -> [HTTPEndpoints] {
        let ready = EndpointRoute("/ready", methods: ["GET"]) { _ in
            if xds.isReady { return .text("ready\n") }
            let pending = await plane.pending
            return .text("not ready, not listed yet: \(pending.joined(separator: ", "))\n", status: 503)
        }
        let version = EndpointRoute("/version", methods: ["GET"]) { _ in .text("martlet control \(self.version)\n") }
        let clients = EndpointRoute("/debug/syncz", methods: ["GET"]) { _ in .json(Self.text(xds.clients)) }
        let group = MultiThreadedEventLoopGroup.singleton
        return [
            try await HTTPEndpoints.bind(
                [.init(host: self.options.bind, port: self.options.readinessPort)], routes: [ready], group: group),
            try await HTTPEndpoints.bind(
                [.init(host: self.options.bind, port: self.options.monitoringPort)],
                routes: EndpointRoute.metrics(metrics.registry) + [version, clients], group: group),
        ]
    }

    /// A review holds an object and its former state, of 3 MiB each at most.
    static let reviewBytesMax = 8 << 20

    /// What the API server asks, over TLS with our own certificate.
    func webhooks(
        _ certificate: ServerCertificate, _ injection: InjectionService
    ) async throws -> HTTPEndpoints {
        var tls = try TLSConfiguration.makeServerConfiguration(certificateReloader: certificate)
        tls.minimumTLSVersion = .tlsv12
        tls.applicationProtocols = ["http/1.1"]
        let context = try NIOSSLContext(configuration: tls)
        var limits = HTTPEndpoints.Limits()
        limits.headTimeout = .seconds(30)
        limits.bodyBytesMax = Self.reviewBytesMax
        return try await HTTPEndpoints.bind(
            [.init(host: self.options.bind, port: self.options.webhookPort)],
            routes: [injection.route, ValidationService(logger: self.logger).route],
            group: MultiThreadedEventLoopGroup.singleton, limits: limits,
            prepare: { try $0.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context)) })
    }

    /// Who is connected and whether it is up to date. Names and counts only: nothing of the mesh itself.
    private static func text(_ clients: [XDSClientStatus]) -> [UInt8] {
        JSONValue.array(
            clients.map { client in
                [
                    "node": .string(client.nodeID), "peer": .string(client.peer), "account": .string(client.account),
                    "types": .array(
                        client.types.map { type in
                            [
                                "type": .string(type.type), "inSync": .bool(type.isInSync),
                                "sentRevision": .int(Int64(type.sentRevision)),
                                "ackedRevision": .int(Int64(type.ackedRevision)),
                                "resourcesSent": .int(Int64(type.resourcesSent)),
                                "refusals": .int(Int64(type.refusals)), "lastRefusal": .string(type.lastRefusal),
                            ]
                        }),
                ]
            }
        ).encoded
    }
}
