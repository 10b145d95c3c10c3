internal import MeshDNS
internal import MeshModel
internal import NIOCore
internal import NIOPosix

internal import enum MeshLoop.Sockets
internal import struct MeshLoop.SystemError

/// A message passed on over UDP.
///
/// The socket is not connected, and the sender of an answer is checked here: on a connected one the kernel reports what
/// ICMP says, and NIO ends the process for all but "port unreachable" (its datagram channel takes the error off the
/// socket and then insists on reading one). The price: that nobody listens shows only by silence.
final class DNSDatagramForwarding: DNSForwarding, @unchecked Sendable {
    /// Some resolvers send more than was asked for; what does not fit here arrives cut, and is passed on as cut.
    private static let bufferBytesMin = 4096

    private let bufferBytes: Int

    init(
        _ exchange: DNSExchange, _ resolvers: [IPEndpoint], _ limits: DNSLimits, _ vantage: DNSForwarder.Vantage,
        _ loop: any EventLoop, _ favourite: Favourite, _ events: Events, datagramBytesMax: Int
    ) {
        self.bufferBytes = max(Self.bufferBytesMin, datagramBytesMax)
        super.init(exchange, resolvers, limits, vantage, loop, favourite, events)
    }

    override func send(to resolver: IPEndpoint, _ index: Int, from vantage: DNSForwarder.Vantage) {
        let everywhere = resolver.address.isV6 ? IPAddress(v6High: 0, low: 0) : IPAddress(v4: 0)
        var options = Sockets.DatagramOptions(
            namespace: vantage.namespace, local: IPEndpoint(address: everywhere, port: 0))
        options.mark = vantage.mark
        let descriptor: CInt
        do throws(SystemError) {
            descriptor = try Sockets.datagram(options).descriptor
        } catch {
            return self.failed(index, wasSent: false, "\(error)")
        }
        let bytes = self.exchange.bytes
        let address = SocketAddress(resolver)
        DatagramBootstrap(group: self.loop)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: self.bufferBytes))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(self, index, address))
                }
            }
            .withBoundSocket(descriptor)
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    guard self.opened(channel) else { return }
                    let envelope = AddressedEnvelope(
                        remoteAddress: address, data: channel.allocator.buffer(bytes: bytes))
                    channel.writeAndFlush(envelope).whenFailure {
                        self.failed(index, wasSent: false, "\($0)")
                    }
                case .failure(let error): self.failed(index, wasSent: false, "\(error)")
                }
            }
    }

    /// `@unchecked`: on the forwarding's loop.
    private final class Handler: ChannelInboundHandler, @unchecked Sendable {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>

        private let forwarding: DNSDatagramForwarding
        private let index: Int
        private let resolver: SocketAddress

        init(_ forwarding: DNSDatagramForwarding, _ index: Int, _ resolver: SocketAddress) {
            self.forwarding = forwarding
            self.index = index
            self.resolver = resolver
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let envelope = self.unwrapInboundIn(data)
            // Not ours: forged, or an answer to somebody who had the port before. The true one may still come.
            guard envelope.remoteAddress == self.resolver else { return }
            _ = self.forwarding.received(Array(envelope.data.readableBytesView), from: self.index)
        }

        /// The socket is broken; the write's failure says so too.
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}
