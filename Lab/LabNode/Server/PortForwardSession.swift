import CLabNode
import Foundation
import NIOCore
import NIOWebSocket

/// `kubectl port-forward`: connections to ports of a pod, opened inside its network namespace.
///
/// Connections of one session share a reader, so a pod that does not read holds up the others of the same session.
struct PortForwardSession: Sendable {
    typealias Channel = NIOAsyncChannel<WebSocketFrame, WebSocketFrame>

    static let connectTimeoutMilliseconds: Int32 = 5000
    static let streamsMax = 1024

    /// Nil: the pod is on the node's own network.
    let namespace: String?

    struct Failed: Error, Hashable, CustomStringConvertible {
        let description: String
    }

    /// A TCP connection that blocks, used from threads.
    final class Connection: Sendable {
        private let descriptor: Int32
        init(_ descriptor: Int32) { self.descriptor = descriptor }
        // The reader and the writer keep it alive: the number is not reused under them.
        deinit { close(self.descriptor) }

        func read() async -> [UInt8]? { await CommandRunner.blocking { readSome(self.descriptor) } }
        func write(_ bytes: [UInt8]) async { await CommandRunner.blocking { _ = writeAll(self.descriptor, bytes) } }
        func endWriting() { shutdown(self.descriptor, Int32(SHUT_WR)) }
        func end() { shutdown(self.descriptor, Int32(SHUT_RDWR)) }
    }

    func connect(_ port: Int) async throws -> Connection {
        guard let number = UInt16(exactly: port), number > 0 else {
            throw Failed(description: "\(port) is no port")
        }
        let path = self.namespace
        let result = await CommandRunner.blocking { () -> Int32 in
            let namespace = path.map { Glibc.open($0, O_RDONLY | O_CLOEXEC) } ?? -1
            if path != nil, namespace < 0 { return -errno }
            defer { if namespace >= 0 { close(namespace) } }
            let v4 = clabnode_connect(namespace, "127.0.0.1", number, Self.connectTimeoutMilliseconds)
            return v4 >= 0 ? v4 : max(v4, clabnode_connect(namespace, "::1", number, Self.connectTimeoutMilliseconds))
        }
        if result < 0 {
            throw Failed(
                description: "failed to connect to localhost:\(port) inside the pod: "
                    + String(cString: strerror(-result)))
        }
        return Connection(result)
    }

    // MARK: SPDY in a WebSocket

    private struct Pair {
        var error: UInt32?
        var data: UInt32?
        var port: Int = 0
        var connection: Connection?
    }

    /// Sends bytes of the tunnel; whole frames only, so that those of several streams do not mix.
    private struct Tunnel: Sendable {
        let outbound: NIOAsyncChannelOutboundWriter<WebSocketFrame>
        func send(_ bytes: [UInt8]) async throws {
            try await self.outbound.write(WebSocketFrame(fin: true, opcode: .binary, data: ByteBuffer(bytes: bytes)))
        }
    }

    func runTunnel(_ channel: Channel) async throws {
        try await channel.executeThenClose { inbound, outbound in
            let tunnel = Tunnel(outbound: outbound)
            try await withThrowingTaskGroup(of: Void.self) { group in
                var spdy = SPDYConnection()
                var pairs: [String: Pair] = [:]
                var requests: [UInt32: String] = [:]
                var isFirst = true
                defer { for pair in pairs.values { pair.connection?.end() } }
                for try await frame in inbound {
                    if frame.opcode == .connectionClose { break }
                    if frame.opcode == .ping {
                        try await outbound.write(WebSocketFrame(fin: true, opcode: .pong, data: frame.unmaskedData))
                    }
                    guard frame.opcode == .binary || frame.opcode == .text else { continue }
                    for event in try spdy.receive(Array(frame.unmaskedData.readableBytesView)) {
                        switch event {
                        case .open(let stream, let headers, _):
                            guard requests.count < Self.streamsMax else { continue }
                            try await tunnel.send(SPDYConnection.reply(stream: stream, isFirst: isFirst))
                            isFirst = false
                            let request = headers["requestid"] ?? ""
                            requests[stream] = request
                            var pair = pairs[request] ?? Pair()
                            pair.port = Int(headers["port"] ?? "") ?? pair.port
                            if headers["streamtype"] == "error" { pair.error = stream } else { pair.data = stream }
                            if let error = pair.error, let data = pair.data, pair.connection == nil {
                                pair.connection = try await self.open(pair.port, error, data, tunnel, &group)
                            }
                            pairs[request] = pair
                        case .data(let stream, let bytes, let isEnd):
                            guard let pair = requests[stream].flatMap({ pairs[$0] }), pair.data == stream else { continue }
                            if !bytes.isEmpty { await pair.connection?.write(bytes) }
                            if isEnd { pair.connection?.endWriting() }
                        case .reset(let stream):
                            guard let request = requests.removeValue(forKey: stream) else { continue }
                            if pairs[request]?.data == stream {
                                pairs.removeValue(forKey: request)?.connection?.end()
                            }
                        case .ping(let id): try await tunnel.send(SPDYConnection.ping(id))
                        case .goAway: return
                        }
                    }
                }
                for pair in pairs.values { pair.connection?.end() }
                try await group.waitForAll()
            }
        }
    }

    private func open(
        _ port: Int, _ error: UInt32, _ data: UInt32, _ tunnel: Tunnel, _ group: inout ThrowingTaskGroup<Void, any Error>
    ) async throws -> Connection? {
        let connection: Connection
        do { connection = try await self.connect(port) } catch let reason {
            try await tunnel.send(SPDYConnection.data(stream: error, Array("\(reason)".utf8), isEnd: true))
            try await tunnel.send(SPDYConnection.data(stream: data, [], isEnd: true))
            return nil
        }
        group.addTask {
            while let bytes = await connection.read() {
                try await tunnel.send(SPDYConnection.data(stream: data, bytes, isEnd: false))
            }
            try await tunnel.send(SPDYConnection.data(stream: data, [], isEnd: true))
            try await tunnel.send(SPDYConnection.data(stream: error, [], isEnd: true))
        }
        return connection
    }

    // MARK: Channels (v4), one pair for each port

    /// Channels 2i carry the data of the i-th port, 2i + 1 its error text; the first message on each is the port.
    func runChannels(_ channel: Channel, ports: [Int]) async throws {
        try await channel.executeThenClose { inbound, outbound in
            let ports = Array(ports.prefix(100))
            @Sendable func send(_ channel: Int, _ bytes: [UInt8]) async throws {
                try await outbound.write(
                    WebSocketFrame(
                        fin: true, opcode: .binary, data: ByteBuffer(bytes: [UInt8(truncatingIfNeeded: channel)] + bytes)))
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                var connections: [Int: Connection] = [:]
                defer { for connection in connections.values { connection.end() } }
                for (index, port) in ports.enumerated() {
                    let number = [UInt8(truncatingIfNeeded: port), UInt8(truncatingIfNeeded: port >> 8)]
                    try await send(2 * index, number)
                    try await send(2 * index + 1, number)
                    do {
                        let connection = try await self.connect(port)
                        connections[index] = connection
                        group.addTask {
                            while let bytes = await connection.read() { try await send(2 * index, bytes) }
                        }
                    } catch {
                        try await send(2 * index + 1, Array("\(error)".utf8))
                    }
                }
                for try await frame in inbound {
                    if frame.opcode == .connectionClose { break }
                    var data = frame.unmaskedData
                    guard frame.opcode == .binary || frame.opcode == .text,
                        let number = data.readInteger(as: UInt8.self), number % 2 == 0
                    else { continue }
                    await connections[Int(number) / 2]?.write(Array(data.readableBytesView))
                }
                for connection in connections.values { connection.end() }
                try await group.waitForAll()
            }
        }
    }
}
