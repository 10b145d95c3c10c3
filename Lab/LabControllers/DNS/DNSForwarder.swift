package import MeshDNS
package import NIOCore
internal import NIOPosix

/// Asks other resolvers. Every question gets a socket and an id of its own, so answers cannot be forged by guessing one
/// port.
package struct DNSForwarder: Sendable {
    /// Wait for one resolver; the next one is asked after that.
    private static let timeout = Duration.seconds(2)
    private static let resolversMax = 3

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

    /// The first answer of a resolver, as it came; nil when there is none.
    package func ask(_ question: DNSQuery.Question) async -> [UInt8]? {
        for resolver in self.resolvers {
            if let answer = await self.ask(resolver, question, overTCP: false) {
                guard DNSHeader(answer)?.isTruncated == true else { return answer }
                if let whole = await self.ask(resolver, question, overTCP: true) { return whole }
            }
        }
        return nil
    }

    private func ask(_ resolver: Resolver, _ question: DNSQuery.Question, overTCP: Bool) async -> [UInt8]? {
        let id = UInt16.random(in: .min ... .max)
        let bytes = DNSWriter.query(id: id, question, payloadBytes: DNSResponseWriter.payloadBytes)
        guard let query = try? DNSQuery(bytes) else { return nil }
        let exchange = DNSExchange(bytes, query, id: id)
        return await withTaskGroup(of: [UInt8]?.self) { group in
            group.addTask {
                try? await (overTCP ? Self.overTCP(resolver, exchange) : Self.overUDP(resolver, exchange))
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

    private static func overUDP(_ resolver: Resolver, _ exchange: DNSExchange) async throws -> [UInt8]? {
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
                AddressedEnvelope(remoteAddress: remote, data: ByteBuffer(bytes: exchange.bytes)))
            for try await envelope in inbound {
                let answer = Array(envelope.data.readableBytesView)
                if exchange.isAnswered(by: answer) { return answer }
            }
            return nil
        }
    }

    private static func overTCP(_ resolver: Resolver, _ exchange: DNSExchange) async throws -> [UInt8]? {
        let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(host: resolver.host, port: resolver.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        return try await channel.executeThenClose { inbound, outbound in
            try await outbound.write(DNSFrame.framed(exchange.bytes))
            var frames = DNSFrame()
            for try await more in inbound {
                if let message = frames.received(more) { return exchange.isAnswered(by: message) ? message : nil }
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
