internal import KubeAPI
public import KubeClient
public import Logging
internal import MeshDNS
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// The cluster's name server, over UDP and TCP.
///
/// Answers names of the cluster from Services and EndpointSlices, and asks the host's resolvers for all others. Without
/// resolvers those are answered with SERVFAIL.
public struct ClusterDNS: Sendable {
    public struct Configuration: Sendable {
        /// An IPv4 address of this machine.
        public var host: String
        /// 0 takes a free port; TCP takes the same number.
        public var port: Int
        /// `cluster.local`
        public var domain: String
        /// Text of a resolv.conf: whom to ask for other names.
        public var resolvConf: String

        public init(host: String, port: Int = 53, domain: String = "cluster.local", resolvConf: String) {
            self.host = host
            self.port = port
            self.domain = domain
            self.resolvConf = resolvConf
        }
    }

    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// Questions that may wait for other resolvers at a time; more are answered with SERVFAIL.
    private static let forwardsMax = 256
    private static let connectionsMax = 256
    /// A TCP client that is silent for so long is closed.
    private static let idleMax = Duration.seconds(10)

    private let configuration: Configuration
    private let view: ClusterView
    private let zone: ClusterZone
    private let forwarder: DNSForwarder
    private let log: Logger
    private let load = Load()

    private final class Load: Sendable {
        let forwards = Mutex(0)
        let connections = Mutex(0)
    }

    /// - Throws: ``Failure`` when the domain is no domain name.
    public init(cluster: any KubeCluster, configuration: Configuration, logger: Logger) throws {
        // Room for the longest name below it: two labels of a service, an endpoint's, "svc".
        guard let domain = DNSName(configuration.domain), domain != .root, configuration.domain.utf8.count <= 60
        else {
            throw Failure(
                description: "\"\(configuration.domain)\" is no cluster domain; wanted one like cluster.local")
        }
        self.configuration = configuration
        self.view = ClusterView(cluster, log: logger)
        self.zone = ClusterZone(domain: domain, objects: .init(self.view))
        self.forwarder = DNSForwarder(
            DNSForwarder.resolvers(resolvConf: configuration.resolvConf).filter { $0.host != configuration.host })
        self.log = logger
    }

    /// Serves until cancelled.
    ///
    /// - Parameter onReady: called with the port once both sockets are open and the cluster's services are known.
    public func run(onReady: @escaping @Sendable (Int) -> Void = { _ in }) async throws {
        for type in [ResourceType.namespaces, .services, .endpointSlices] { _ = self.view.cache(type) }
        let (datagrams, connections) = try await self.bind()
        try await withThrowingDiscardingTaskGroup { group in
            group.addTask { await self.view.run() }
            group.addTask { try await self.serve(datagrams) }
            group.addTask { try await self.serve(connections) }
            for type in [ResourceType.namespaces, .services, .endpointSlices] { await self.view.cache(type).synced() }
            onReady(datagrams.channel.localAddress?.port ?? self.configuration.port)
        }
    }

    private typealias Datagrams = NIOAsyncChannel<AddressedEnvelope<ByteBuffer>, AddressedEnvelope<ByteBuffer>>
    private typealias Connection = NIOAsyncChannel<ByteBuffer, ByteBuffer>

    private func bind() async throws -> (Datagrams, NIOAsyncChannel<Connection, Never>) {
        let host = self.configuration.host
        do {
            let datagrams = try await DatagramBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .channelOption(.socketOption(.so_reuseaddr), value: 1)
                .bind(host: host, port: self.configuration.port) { channel in
                    channel.eventLoop.makeCompletedFuture { try Datagrams(wrappingChannelSynchronously: channel) }
                }
            let port = datagrams.channel.localAddress?.port ?? self.configuration.port
            do {
                let connections = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                    .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                    .bind(host: host, port: port) { channel in
                        channel.eventLoop.makeCompletedFuture { try Connection(wrappingChannelSynchronously: channel) }
                    }
                return (datagrams, connections)
            } catch {
                try? await datagrams.channel.close()
                throw error
            }
        } catch {
            throw Failure(
                description: "cluster DNS cannot listen on \(host):\(self.configuration.port): \(error); "
                    + "is another name server bound to all addresses of this machine?")
        }
    }

    private func serve(_ datagrams: Datagrams) async throws {
        try await datagrams.executeThenClose { inbound, outbound in
            try await withThrowingDiscardingTaskGroup { group in
                for try await envelope in inbound {
                    let bytes = Array(envelope.data.readableBytesView)
                    let client = envelope.remoteAddress
                    switch self.local(bytes, isDatagram: true) {
                    case .answer(let answer):
                        try await outbound.write(
                            AddressedEnvelope(remoteAddress: client, data: ByteBuffer(bytes: answer)))
                    case .ask(let asked, let chased):
                        group.addTask {
                            let answer = await self.remote(asked, chased)
                            try await outbound.write(
                                AddressedEnvelope(remoteAddress: client, data: ByteBuffer(bytes: answer)))
                        }
                    case .nothing: break
                    }
                }
            }
        }
    }

    private func serve(_ connections: NIOAsyncChannel<Connection, Never>) async throws {
        try await connections.executeThenClose { inbound in
            try await withThrowingDiscardingTaskGroup { group in
                for try await connection in inbound {
                    let isWelcome = self.load.connections.withLock { count in
                        count += 1
                        return count <= Self.connectionsMax
                    }
                    group.addTask {
                        defer { self.load.connections.withLock { $0 -= 1 } }
                        if isWelcome {
                            // A client's misbehaviour ends its connection only.
                            try? await self.serve(connection)
                        } else {
                            try? await connection.channel.close()
                        }
                    }
                }
            }
        }
    }

    private func serve(_ connection: Connection) async throws {
        let watchdog = Watchdog()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                while watchdog.isAlive(within: Self.idleMax) { try await Task.sleep(for: .seconds(1)) }
                try? await connection.channel.close()
            }
            try await connection.executeThenClose { inbound, outbound in
                var frames = DNSFrame()
                for try await more in inbound {
                    watchdog.touch()
                    var message = frames.received(more)
                    while let bytes = message {
                        switch self.local(bytes, isDatagram: false) {
                        case .answer(let answer): try await outbound.write(DNSFrame.framed(answer))
                        case .ask(let asked, let chased):
                            try await outbound.write(DNSFrame.framed(await self.remote(asked, chased)))
                        case .nothing: return
                        }
                        watchdog.touch()
                        message = frames.received()
                    }
                }
            }
            group.cancelAll()
        }
    }

    private final class Watchdog: Sendable {
        private let last = Mutex(ContinuousClock.now)
        func touch() { self.last.withLock { $0 = .now } }
        func isAlive(within limit: Duration) -> Bool { self.last.withLock { ContinuousClock.now - $0 < limit } }
    }

    private enum Step {
        case answer([UInt8]), ask(AskedQuestion, chased: (DNSName, DNSResponse)?), nothing
    }

    private func local(_ bytes: [UInt8], isDatagram: Bool) -> Step {
        let asked: AskedQuestion
        do throws(AskedQuestion.Fault) {
            asked = try AskedQuestion(bytes, isDatagram: isDatagram)
        } catch {
            switch error {
            case .ignored: return .nothing
            case .answered(let message): return .answer(message)
            }
        }
        switch self.zone.answer(asked.question) {
        case .response(let response): return .answer(asked.answered(response))
        case .forward: return .ask(asked, chased: nil)
        case .chase(let name, let response): return .ask(asked, chased: (name, response))
        }
    }

    private func remote(_ asked: AskedQuestion, _ chased: (name: DNSName, response: DNSResponse)?) async -> [UInt8] {
        let isAllowed = self.load.forwards.withLock { count in
            count += 1
            return count <= Self.forwardsMax
        }
        defer { self.load.forwards.withLock { $0 -= 1 } }
        let question = chased.map { DNSQuery.Question($0.name, asked.question.type) } ?? asked.question
        guard isAllowed, let answer = await self.forwarder.ask(question) else {
            return asked.answered(chased?.response ?? DNSResponse(.serverFailure, isAuthoritative: false))
        }
        guard var response = chased?.response else { return asked.answered(as: answer) }
        response.answers += DNSRecord.answers(of: answer)
        return asked.answered(response)
    }
}
