internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// Carries TCP connections from a port of this machine to the nodes, taking turns; a node that does not answer is
/// skipped.
struct PortForwarder: Sendable {
    /// More connections are closed at once.
    static let connectionsMax = 4_096
    private static let connectTimeout = TimeAmount.seconds(2)

    let host: String
    let port: Int
    let targets: [(host: String, port: Int)]
    let log: Logger
    private let turn = Turn()

    init(host: String, port: Int, targets: [(String, Int)], log: Logger) {
        self.host = host
        self.port = port
        self.targets = targets.map { (host: $0.0, port: $0.1) }
        self.log = log
    }

    private final class Turn: Sendable {
        private let state = Mutex((next: 0, open: 0))
        func begin() -> Int? {
            self.state.withLock { state in
                guard state.open < PortForwarder.connectionsMax else { return nil }
                state.open += 1
                state.next = (state.next + 1) % 1_000_000
                return state.next
            }
        }
        func end() { self.state.withLock { $0.open -= 1 } }
    }

    private typealias Connection = NIOAsyncChannel<ByteBuffer, ByteBuffer>

    /// Serves until cancelled. `onReady` is called with the bound port's socket open.
    func run(onReady: @Sendable () -> Void) async throws {
        let listener: NIOAsyncChannel<Connection, Never>
        do {
            listener = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .serverChannelOption(.backlog, value: 256)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelOption(.allowRemoteHalfClosure, value: true)
                .bind(host: self.host, port: self.port) { channel in
                    channel.eventLoop.makeCompletedFuture { try Self.wrap(channel) }
                }
        } catch {
            throw LabError("cannot listen on \(self.host):\(self.port): \(error)")
        }
        onReady()
        try await listener.executeThenClose { inbound in
            try await withThrowingDiscardingTaskGroup { group in
                for try await connection in inbound {
                    guard let turn = self.turn.begin() else {
                        try? await connection.channel.close()
                        continue
                    }
                    group.addTask {
                        defer { self.turn.end() }
                        // What one connection suffers is no reason to end the others.
                        try? await self.carry(connection, turn)
                    }
                }
            }
        }
    }

    private static func wrap(_ channel: any Channel) throws -> Connection {
        try Connection(wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
    }

    private func carry(_ client: Connection, _ turn: Int) async throws {
        guard let server = await self.connect(turn) else {
            try await client.channel.close()
            return
        }
        try await client.executeThenClose { fromClient, toClient in
            try await server.executeThenClose { fromServer, toServer in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        for try await bytes in fromClient { try await toServer.write(bytes) }
                        toServer.finish()
                    }
                    group.addTask {
                        for try await bytes in fromServer { try await toClient.write(bytes) }
                        toClient.finish()
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    private func connect(_ turn: Int) async -> Connection? {
        for offset in self.targets.indices {
            let target = self.targets[(turn + offset) % self.targets.count]
            let connection = try? await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connectTimeout(Self.connectTimeout)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelOption(.allowRemoteHalfClosure, value: true)
                .connect(host: target.host, port: target.port) { channel in
                    channel.eventLoop.makeCompletedFuture { try Self.wrap(channel) }
                }
            if let connection { return connection }
        }
        self.log.info("no node takes connections on port \(self.targets.first?.port ?? 0)")
        return nil
    }
}
