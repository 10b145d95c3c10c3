import ArgumentParser
import NIOCore
import NIOPosix

/// What the throw-away pods of `verify-install` run.
struct InternalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "internal", abstract: "Programs of the mesh's own test pods.", shouldDisplay: false,
        subcommands: [VerifyServer.self, VerifyClient.self])

    /// What the server says to everybody who connects.
    static let greeting = "martlet\n"

    struct VerifyServer: AsyncParsableCommand {
        @Argument var port: Int

        func run() async throws {
            let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .bind(host: "0.0.0.0", port: self.port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
            try await server.executeThenClose { connections in
                for try await connection in connections {
                    try? await connection.executeThenClose { _, outbound in
                        try await outbound.write(ByteBuffer(string: InternalCommand.greeting))
                    }
                }
            }
        }
    }

    struct VerifyClient: AsyncParsableCommand {
        @Argument(help: "ip:port") var target: String

        /// Tries within this time: the server's node proxy may learn of this pod a moment after it started.
        static let patience = Duration.seconds(20)

        func run() async throws {
            guard let colon = self.target.lastIndex(of: ":"),
                let port = Int(self.target[self.target.index(after: colon)...])
            else { throw ValidationError("\"\(self.target)\" is no ip:port") }
            let host = String(self.target[..<colon])
            let started = ContinuousClock.now
            while true {
                do {
                    let answer = try await self.call(host, port)
                    guard answer == InternalCommand.greeting else {
                        throw CommandError("\(self.target) answered \(answer.debugDescription)")
                    }
                    return
                } catch  where ContinuousClock.now - started < Self.patience {
                    try await Task.sleep(for: .milliseconds(200))
                }
            }
        }

        private func call(_ host: String, _ port: Int) async throws -> String {
            let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connectTimeout(.seconds(5))
                .connect(host: host, port: port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
            return try await channel.executeThenClose { inbound, _ in
                var answer = ""
                for try await part in inbound where answer.utf8.count < 1024 { answer += String(buffer: part) }
                return answer
            }
        }
    }
}
