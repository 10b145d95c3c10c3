internal import Foundation
internal import KubeAPI
public import KubeClient
internal import Logging
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOSSL
internal import Synchronization

/// The lab's Kubernetes API server.
///
/// Made inert: the objects are loaded and usable in process at once, sockets open in ``run(onReady:)``.
public final class APIServer: Sendable {
    private static let backlog: CInt = 256
    /// Events older than this are deleted.
    private static let eventSecondsMax: Int64 = 3600

    private let configuration: APIServerConfiguration
    private let api: ClusterAPI
    public let pki: ClusterPKI.Material
    private let tls: NIOSSLContext

    /// - Throws: When the directories cannot be used or the database cannot be read.
    public init(configuration: APIServerConfiguration) throws {
        self.configuration = configuration
        let network = configuration.serviceCIDR.split(separator: "/").first.map(String.init) ?? ""
        let serviceAddress = IPv4.parse(network).map { IPv4.text($0 + 1) } ?? "10.43.0.1"
        self.pki = try ClusterPKI.load(
            directory: configuration.pkiDirectory,
            names: configuration.endpoints.map(\.host) + configuration.certificateNames
                + (configuration.advertised.map { [$0.host] } ?? []),
            serviceAddress: serviceAddress)
        var path: String?
        if let directory = configuration.dataDirectory {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            path = directory + "/objects.sqlite"
        }
        self.api = try ClusterAPI(
            store: try ObjectStore(path: path), serviceRange: configuration.serviceCIDR,
            tokens: TokenAuthority(key: self.pki.serviceAccountKey), nodes: configuration.nodeConnector,
            log: configuration.log)
        self.tls = try Self.tls(self.pki)
    }

    private static func tls(_ pki: ClusterPKI.Material) throws -> NIOSSLContext {
        var tls = TLSConfiguration.makeServerConfiguration(
            certificateChain: [
                .certificate(try NIOSSLCertificate(bytes: Array(pki.serverCertificate.utf8), format: .pem))
            ],
            privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(pki.serverKey.utf8), format: .pem)))
        tls.trustRoots = .certificates([try NIOSSLCertificate(bytes: Array(pki.caCertificate.utf8), format: .pem)])
        tls.certificateVerification = .optionalVerification
        tls.applicationProtocols = ["http/1.1"]
        tls.minimumTLSVersion = .tlsv12
        return try NIOSSLContext(configuration: tls)
    }

    /// The cluster, in process, with the administrator's rights.
    public var cluster: any KubeCluster { self.client(named: "martlet-lab") }

    /// The same, with a name for `managedFields`.
    public func client(named fieldManager: String) -> LabClusterClient {
        LabClusterClient(api: self.api, fieldManager: fieldManager)
    }

    /// Makes the objects every cluster has. Called by ``run(onReady:)``; in-process users may call it before.
    public func bootstrap() async throws {
        let endpoint = self.configuration.advertised ?? self.configuration.endpoints.first
        try await Bootstrap(api: self.api, pki: self.pki).run(
            endpoint: endpoint.map { ($0.host, $0.port) })
    }

    /// Serves until the task is cancelled.
    ///
    /// - Parameter onReady: Called once with the bound endpoints, in the configured order.
    /// - Throws: When an endpoint cannot be bound.
    public func run(onReady: @Sendable ([APIServerConfiguration.Endpoint]) -> Void = { _ in }) async throws {
        try await self.bootstrap()
        let first = self.configuration.endpoints.first
        let handler = RequestHandler(
            api: self.api,
            authenticator: Authenticator(tokens: StaticTokens(self.pki), api: self.api),
            kubelets: self.configuration.nodeConnector,
            address: first.map { "\($0.host):\($0.port)" } ?? "kubernetes.default.svc")
        var listeners: [any Channel] = []
        var bound: [APIServerConfiguration.Endpoint] = []
        do {
            for endpoint in self.configuration.endpoints {
                let listener = try await self.listen(on: endpoint, handler)
                listeners.append(listener)
                bound.append(.init(host: endpoint.host, port: listener.localAddress?.port ?? endpoint.port))
            }
        } catch {
            for listener in listeners { try? await listener.close() }
            throw error
        }
        onReady(bound)
        await self.expireEvents()
        for listener in listeners { try? await listener.close() }
        await self.closeConnections()
    }

    private let connections = Mutex<[ObjectIdentifier: any Channel]>([:])

    private func closeConnections() async {
        let open = self.connections.withLock { Array($0.values) }
        for channel in open { channel.close(promise: nil) }
    }

    private func listen(
        on endpoint: APIServerConfiguration.Endpoint, _ handler: RequestHandler
    ) async throws -> any Channel {
        let tls = self.tls
        do {
            return try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .serverChannelOption(.backlog, value: Self.backlog)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let sync = channel.pipeline.syncOperations
                        try sync.addHandler(NIOSSLServerHandler(context: tls))
                        try sync.addHandler(HTTPResponseEncoder(), name: "encoder")
                        try sync.addHandler(
                            ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes)),
                            name: "decoder")
                        try sync.addHandler(HTTPConnection(handler), name: "connection")
                        let id = ObjectIdentifier(channel)
                        self.connections.withLock { $0[id] = channel }
                        channel.closeFuture.whenComplete { _ in
                            self.connections.withLock { _ = $0.removeValue(forKey: id) }
                        }
                    }
                }
                .bind(host: endpoint.host, port: endpoint.port).get()
        } catch {
            throw ClusterPKI.Failure(
                description:
                    "cannot listen on \(endpoint.host):\(endpoint.port): \(error); is another lab running, or the address missing?"
            )
        }
    }

    /// Deletes old events once a minute; returns when the task is cancelled.
    private func expireEvents() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(60)) } catch { return }
            guard let kind = try? self.api.kind(.events) else { return }
            let limit = Int64(Date().timeIntervalSince1970) - Self.eventSecondsMax
            for event in self.api.store.snapshot(kind.storage).objects {
                let last =
                    event.json["lastTimestamp"]?.string ?? event.json["eventTime"]?.string
                    ?? event.json.at("metadata", "creationTimestamp")?.string
                if let seconds = last.flatMap(Timestamp.seconds), seconds < limit {
                    _ = try? await self.api.delete(kind, event.key)
                }
            }
        }
    }
}
