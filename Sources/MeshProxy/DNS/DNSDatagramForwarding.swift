internal import MeshDNS
internal import MeshModel
internal import NIOCore
internal import NIOPosix

internal import enum MeshLoop.Sockets
internal import struct MeshLoop.SystemError

/// A message passed on over UDP.
final class DNSDatagramForwarding: DNSForwarding, @unchecked Sendable {
    /// Some resolvers send more than was asked for; what does not fit here arrives cut, and is passed on as cut.
    private static let bufferBytesMin = 4096

    private let bufferBytes: Int

    init(
        _ exchange: DNSExchange, _ resolvers: [IPEndpoint], _ limits: DNSLimits, _ vantage: DNSForwarder.Vantage,
        _ loop: any EventLoop, _ events: Events, datagramBytesMax: Int
    ) {
        self.bufferBytes = max(Self.bufferBytesMin, datagramBytesMax)
        super.init(exchange, resolvers, limits, vantage, loop, events)
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
        DatagramBootstrap(group: self.loop)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: self.bufferBytes))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(self, index))
                }
            }
            .withBoundSocket(descriptor)
            // Connected: the kernel drops what others send, and tells us that nobody listens.
            .flatMap { channel in channel.connect(to: SocketAddress(resolver)).map { channel } }
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    guard self.opened(channel) else { return }
                    channel.writeAndFlush(channel.allocator.buffer(bytes: bytes)).whenFailure {
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

        init(_ forwarding: DNSDatagramForwarding, _ index: Int) {
            self.forwarding = forwarding
            self.index = index
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            // Not ours: forged, or an answer to somebody who had the port before. The true one may still come.
            _ = self.forwarding.received(Array(self.unwrapInboundIn(data).data.readableBytesView))
        }

        /// ICMP says that nobody listens there.
        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            self.forwarding.failed(self.index, wasSent: false, "\(error)")
        }
    }
}
