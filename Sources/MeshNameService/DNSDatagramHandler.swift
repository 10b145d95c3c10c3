internal import MeshDNS
internal import NIOCore

/// Questions over UDP. `@unchecked`: on the server's loop.
final class DNSDatagramHandler: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private let server: DNSServer

    init(_ server: DNSServer) { self.server = server }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = self.unwrapInboundIn(data)
        let (channel, client) = (context.channel, envelope.remoteAddress)
        self.server.received(
            Array(envelope.data.readableBytesView), over: .udp,
            reply: { message in
                let answer = AddressedEnvelope(
                    remoteAddress: client, data: channel.allocator.buffer(bytes: message))
                return channel.writeAndFlush(answer)
            }, done: {})
    }

    /// A client that is gone by the time it is answered: nothing to be done, and no reason to stop serving others.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}
