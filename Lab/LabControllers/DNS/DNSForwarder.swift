package import NIOCore
internal import NIOPosix

/// Asks other resolvers. Every question gets a socket and an id of its own, so answers cannot be forged by guessing one
/// port.
package struct DNSForwarder: Sendable {
    /// Wait for one resolver; the next one is asked after that.
    private static let timeout = Duration.seconds(2)
    private static let resolversMax = 3
    private static let messageBytesMax = 65_535

    package struct Resolver: Hashable, Sendable {
        package var host: String
        package var port: Int
        package init(host: String, port: Int = 53) {
            self.host = host
            self.port = port
        }
    }
    package let resolvers: [Resolver]

    package init(_ resolvers: [Resolver]) { self.resolvers = Array(resolvers.prefix(Self.resolversMax)) }

    /// The `nameserver` lines of a resolv.conf text; IPv6 zones are left out.
    package static func resolvers(resolvConf text: String) -> [Resolver] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count >= 2, words[0] == "nameserver", !words[1].contains("%") else { return nil }
            return Resolver(host: String(words[1]))
        }
    }

    /// The first good answer; nil when there is none.
    package func ask(_ question: DNSQuestion, recursionDesired: Bool = true) async -> (
        bytes: [UInt8], reply: DNSReader.Reply
    )? {
        for resolver in self.resolvers {
            if let answer = await self.ask(resolver, question, recursionDesired, overTCP: false) {
                guard answer.reply.isTruncated else { return answer }
                if let whole = await self.ask(resolver, question, recursionDesired, overTCP: true) { return whole }
            }
        }
        return nil
    }

    private func ask(
        _ resolver: Resolver, _ question: DNSQuestion, _ recursionDesired: Bool, overTCP: Bool
    ) async -> (bytes: [UInt8], reply: DNSReader.Reply)? {
        let query = DNSQuery(
            id: .random(in: .min ... .max), recursionDesired: recursionDesired, question: question,
            payloadBytes: DNSWriter.payloadBytes)
        return await withTaskGroup(of: (bytes: [UInt8], reply: DNSReader.Reply)?.self) { group in
            group.addTask {
                try? await (overTCP ? Self.overTCP(resolver, query) : Self.overUDP(resolver, query))
            }
            group.addTask {
                try? await Task.sleep(for: Self.timeout)
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
    }

    private static func matching(_ bytes: [UInt8], _ query: DNSQuery) -> (bytes: [UInt8], reply: DNSReader.Reply)? {
        guard let reply = DNSReader.reply(bytes), reply.id == query.id,
            reply.question?.name.lowercased == query.question.name.lowercased,
            reply.question?.type == query.question.type
        else { return nil }
        return (bytes, reply)
    }

    private static func overUDP(
        _ resolver: Resolver, _ query: DNSQuery
    ) async throws -> (bytes: [UInt8], reply: DNSReader.Reply)? {
        let channel = try await DatagramBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(host: resolver.host, port: resolver.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<AddressedEnvelope<ByteBuffer>, AddressedEnvelope<ByteBuffer>>(
                        wrappingChannelSynchronously: channel)
                }
            }
        return try await channel.executeThenClose { inbound, outbound in
            guard let remote = channel.channel.remoteAddress else { return nil }
            try await outbound.write(
                AddressedEnvelope(remoteAddress: remote, data: ByteBuffer(bytes: DNSWriter.query(query))))
            for try await envelope in inbound {
                if let answer = Self.matching(Array(envelope.data.readableBytesView), query) { return answer }
            }
            return nil
        }
    }

    private static func overTCP(
        _ resolver: Resolver, _ query: DNSQuery
    ) async throws -> (bytes: [UInt8], reply: DNSReader.Reply)? {
        let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(host: resolver.host, port: resolver.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        return try await channel.executeThenClose { inbound, outbound in
            try await outbound.write(DNSFrame.framed(DNSWriter.query(query)))
            var frames = DNSFrame()
            for try await more in inbound {
                if let message = frames.received(more) { return Self.matching(message, query) }
            }
            return nil
        }
    }
}

/// DNS over TCP: two bytes of length before each message (RFC 1035 section 4.2.2).
package struct DNSFrame {
    private var pending: [UInt8] = []

    package init() {}

    package static func framed(_ message: [UInt8]) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(UInt16(clamping: message.count))
        buffer.writeBytes(message.prefix(Int(UInt16.max)))
        return buffer
    }

    /// Takes more bytes and answers with a message when one is complete; ask again with nothing for the next one.
    package mutating func received(_ more: ByteBuffer? = nil) -> [UInt8]? {
        if let more { self.pending += more.readableBytesView }
        guard self.pending.count >= 2 else { return nil }
        let length = Int(self.pending[0]) << 8 | Int(self.pending[1])
        guard self.pending.count >= 2 + length else { return nil }
        defer { self.pending.removeFirst(2 + length) }
        return Array(self.pending[2..<2 + length])
    }
}
