import MeshDNS
import MeshModel
import NIOCore
import NIOPosix
import Synchronization
import Testing

/// What stands in a DNS message, for comparisons.
struct Message: Sendable {
    struct Record: Hashable, CustomStringConvertible {
        var owner: String
        var type: DNSRecordType
        var ttl: UInt32
        /// An address or a name as text; everything else as bytes.
        var data: String

        var description: String { "\(self.owner) \(self.ttl) \(self.type.label) \(self.data)" }
    }

    let bytes: [UInt8]
    let header: DNSHeader
    var answers: [Record] = []
    var authorities: [Record] = []
    var additionals: [Record] = []

    init(_ bytes: [UInt8]) throws {
        self.bytes = bytes
        self.header = try #require(DNSHeader(bytes))
        var reader = DNSReader(bytes)
        for _ in 0..<self.header.questions {
            try reader.skipName()
            try reader.skip(4)
        }
        func records(_ count: UInt16) throws -> [Record] {
            try (0..<count).map { _ in
                var owner = DNSReader(bytes, at: reader.position)
                let name = try owner.name()
                let record = try reader.record()
                let data: String
                switch record.type {
                case .a, .aaaa: data = try #require(IPAddress(bytes: bytes[record.data])).description
                case .cname:
                    var target = DNSReader(bytes, at: record.data.lowerBound)
                    data = try target.name().description
                default: data = "\(Array(bytes[record.data]))"
                }
                return Record(owner: name.description, type: record.type, ttl: record.ttl, data: data)
            }
        }
        self.answers = try records(self.header.answers)
        self.authorities = try records(self.header.authorities)
        self.additionals = try records(self.header.additionals)
    }

    var isAuthoritative: Bool { self.header.flags & DNSHeader.authoritative != 0 }
    /// `owner type data`, sorted.
    var lines: [String] { self.answers.map { "\($0.owner) \($0.type.label) \($0.data)" }.sorted() }
    var isEmptyAnswer: Bool {
        self.header.code == .noError && self.answers.isEmpty && self.isAuthoritative
            && self.authorities.map(\.type) == [.soa]
    }
}

func name(_ text: String) -> DNSName { DNSName(text)! }

/// A question as a stub resolver writes it.
func question(_ text: String, _ type: DNSRecordType = .a, id: UInt16 = 0xbeef, edns: UInt16? = nil) -> [UInt8] {
    var header = DNSHeader(id: id, flags: DNSHeader.recursionDesired)
    header.questions = 1
    header.additionals = edns == nil ? 0 : 1
    var bytes = header.bytes + name(text).wire + [0, UInt8(type.rawValue >> 8), UInt8(type.rawValue & 255), 0, 1]
    if let edns { bytes += [0, 0, 41, UInt8(edns >> 8), UInt8(edns & 255), 0, 0, 0, 0, 0, 0] }
    return bytes
}

/// A resolver's answer to a question: not authoritative, with some addresses.
func resolved(_ query: [UInt8], _ addresses: [IPAddress], additionals: [[UInt8]] = []) -> [UInt8] {
    let asked = try! DNSQuery(query)
    var header = asked.header.reply(.noError)
    (header.questions, header.answers) = (asked.header.questions, UInt16(addresses.count))
    header.additionals = UInt16(additionals.count)
    var bytes = header.bytes + query[12..<asked.questionEnd]
    for address in addresses {
        bytes += [0xc0, 12, 0, address.isV6 ? 28 : 1, 0, 1, 0, 0, 0, 77, 0, UInt8(address.bytes.count)] + address.bytes
    }
    return bytes + additionals.flatMap { $0 }
}

/// The longest that any step of a test may take; the machine may be busy.
let patience = Duration.seconds(60)

struct TooLate: Error {}

/// The first value of a stream; fails when none comes.
func first<Value: Sendable>(_ stream: AsyncStream<Value>, within limit: Duration = patience) async throws -> Value {
    try await withThrowingTaskGroup(of: Value.self) { group in
        group.addTask {
            for await value in stream { return value }
            throw TooLate()
        }
        group.addTask {
            try await Task.sleep(for: limit)
            throw TooLate()
        }
        defer { group.cancelAll() }
        return try await group.next()!
    }
}

/// Hands every datagram to a closure. `@unchecked`: on the channel's loop.
private final class Datagrams: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    private let received: (any Channel, [UInt8], SocketAddress) -> Void

    init(_ received: @escaping (any Channel, [UInt8], SocketAddress) -> Void) { self.received = received }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = self.unwrapInboundIn(data)
        self.received(context.channel, Array(envelope.data.readableBytesView), envelope.remoteAddress)
    }
}

/// Hands every message of a connection to a closure. `@unchecked`: on the channel's loop.
private final class Frames: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    private let received: (any Channel, [UInt8]) -> Void
    private let ended: () -> Void
    private var pending: [UInt8] = []

    init(_ received: @escaping (any Channel, [UInt8]) -> Void, ended: @escaping () -> Void = {}) {
        self.received = received
        self.ended = ended
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.pending += self.unwrapInboundIn(data).readableBytesView
        while self.pending.count >= 2 {
            let count = Int(self.pending[0]) << 8 | Int(self.pending[1])
            guard self.pending.count >= 2 + count else { return }
            let message = Array(self.pending[2..<2 + count])
            self.pending.removeFirst(2 + count)
            self.received(context.channel, message)
        }
    }

    func channelInactive(context: ChannelHandlerContext) { self.ended() }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

private func framed(_ message: [UInt8]) -> ByteBuffer {
    ByteBuffer(bytes: [UInt8(message.count >> 8), UInt8(message.count & 255)] + message)
}

/// Tries again when the UDP port beside a free TCP port is somebody's.
func onFreePort<Value>(_ body: () async throws -> Value) async throws -> Value {
    for _ in 0..<50 {
        do {
            return try await body()
        } catch  where "\(error)".contains("already in use") {}
    }
    return try await body()
}

/// A resolver on loopback that answers as a test says, over UDP and TCP on one port.
final class ScriptedResolver: Sendable {
    /// - Returns: the messages to send; none is silence.
    typealias Script = @Sendable ([UInt8], DNSTransport) -> [[UInt8]]

    let endpoint: IPEndpoint
    private let channels: [any Channel]
    private let asked = Mutex<[[UInt8]]>([])

    /// Everything that arrived, in order.
    var questions: [[UInt8]] { self.asked.withLock { $0 } }

    static func with<Value: Sendable>(
        _ script: @escaping Script = { bytes, _ in [resolved(bytes, [IPAddress("9.9.9.9")!])] },
        _ body: (ScriptedResolver) async throws -> Value
    ) async throws -> Value {
        let resolver = try await onFreePort { try await ScriptedResolver(script) }
        do {
            let value = try await body(resolver)
            await resolver.close()
            return value
        } catch {
            await resolver.close()
            throw error
        }
    }

    private init(_ script: @escaping Script) async throws {
        let note = Noted()
        let group = MultiThreadedEventLoopGroup.singleton
        let stream = try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Frames { channel, message in
                            note.resolver?.asked.withLock { $0.append(message) }
                            for answer in script(message, .tcp) { channel.writeAndFlush(framed(answer), promise: nil) }
                        })
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = stream.localAddress!.port!
        let bootstrap = DatagramBootstrap(group: group)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Datagrams { channel, message, from in
                            note.resolver?.asked.withLock { $0.append(message) }
                            for answer in script(message, .udp) {
                                channel.writeAndFlush(
                                    AddressedEnvelope(remoteAddress: from, data: ByteBuffer(bytes: answer)),
                                    promise: nil)
                            }
                        })
                }
            }
        let datagram: any Channel
        do {
            datagram = try await bootstrap.bind(host: "127.0.0.1", port: port).get()
        } catch {
            try await stream.close().get()
            throw error
        }
        self.channels = [stream, datagram]
        self.endpoint = IPEndpoint(address: IPAddress("127.0.0.1")!, port: UInt16(port))
        note.resolver = self
    }

    /// `@unchecked`: set before the port is known to anybody.
    private final class Noted: @unchecked Sendable { weak var resolver: ScriptedResolver? }

    private func close() async { for channel in self.channels { try? await channel.close().get() } }
}

/// A client on loopback with one socket.
final class DNSPeer: Sendable {
    private let channel: any Channel
    private let server: SocketAddress
    private let transport: DNSTransport
    private let answers: AsyncStream<[UInt8]>
    /// Yields when the other side ended the connection.
    let ended: AsyncStream<Void>

    init(_ port: UInt16, _ transport: DNSTransport, from host: String = "127.0.0.1") async throws {
        let (answers, continuation) = AsyncStream.makeStream(of: [UInt8].self)
        let (ended, end) = AsyncStream.makeStream(of: Void.self)
        self.answers = answers
        self.ended = ended
        self.transport = transport
        self.server = try SocketAddress(ipAddress: host, port: Int(port))
        let group = MultiThreadedEventLoopGroup.singleton
        switch transport {
        case .udp:
            self.channel = try await DatagramBootstrap(group: group)
                .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 65_535))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            Datagrams { _, message, _ in continuation.yield(message) })
                    }
                }
                .bind(host: host, port: 0).get()
        case .tcp:
            self.channel = try await ClientBootstrap(group: group)
                .channelOption(.allowRemoteHalfClosure, value: false)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            Frames(
                                { _, message in continuation.yield(message) },
                                ended: {
                                    continuation.finish()
                                    end.yield()
                                }))
                    }
                }
                .connect(to: self.server).get()
        }
    }

    func send(_ message: [UInt8]) async throws {
        switch self.transport {
        case .udp:
            try await self.channel.writeAndFlush(
                AddressedEnvelope(remoteAddress: self.server, data: ByteBuffer(bytes: message))
            ).get()
        case .tcp: try await self.channel.writeAndFlush(framed(message)).get()
        }
    }

    /// Raw bytes on a connection.
    func send(raw bytes: [UInt8]) async throws {
        try await self.channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    }

    func receive() async throws -> [UInt8] { try await first(self.answers) }

    func ask(_ message: [UInt8]) async throws -> [UInt8] {
        try await self.send(message)
        return try await self.receive()
    }

    /// Nothing more will be asked.
    func finish() async throws { try await self.channel.close(mode: .output).get() }

    func close() async { try? await self.channel.close().get() }
}
