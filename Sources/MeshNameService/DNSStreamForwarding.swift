internal import MeshDNS
internal import MeshModel
internal import NIOCore
internal import NIOPosix

internal import enum MeshLoop.Sockets
internal import struct MeshLoop.SystemError

/// A message passed on over TCP, on a connection of its own.
final class DNSStreamForwarding: DNSForwarding, @unchecked Sendable {
    override var isStream: Bool { true }

    override func send(to resolver: IPEndpoint, _ index: Int, from vantage: DNSForwarder.Vantage) {
        var options = Sockets.DialOptions(namespace: vantage.namespace, target: resolver)
        options.mark = vantage.mark
        let descriptor: CInt
        do throws(SystemError) {
            descriptor = try Sockets.dial(options)
        } catch {
            return self.failed(index, wasSent: false, "\(error)")
        }
        let handler = Handler(self, index)
        // The socket still connects when the channel takes it over: the kernel refuses our write until it has, and the
        // channel writes as soon as it may.
        ClientBootstrap(group: self.loop)
            // A transfer is read as fast as its client takes it.
            .channelOption(.autoRead, value: !self.exchange.isTransfer)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(handler) }
            }
            .withConnectedSocket(descriptor)
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    guard self.opened(channel) else { return }
                    channel.writeAndFlush(DNSFrames.framed(self.exchange.bytes, channel.allocator)).whenSuccess {
                        handler.wasSent = true
                    }
                    if self.exchange.isTransfer { channel.read() }
                case .failure(let error): self.failed(index, wasSent: false, "\(error)")
                }
            }
    }

    /// `@unchecked`: on the forwarding's loop.
    private final class Handler: ChannelInboundHandler, @unchecked Sendable {
        typealias InboundIn = ByteBuffer

        private let forwarding: DNSStreamForwarding
        private let index: Int
        private var frames = DNSFrames()
        var wasSent = false
        private var trouble = "the resolver closed the connection"

        init(_ forwarding: DNSStreamForwarding, _ index: Int) {
            self.forwarding = forwarding
            self.index = index
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            self.frames.append(self.unwrapInboundIn(data))
            var last: EventLoopFuture<Void>?
            while let message = self.frames.next() {
                let (isOurs, then) = self.forwarding.received(message, from: self.index)
                guard isOurs else {
                    self.trouble = "the resolver answered something else"
                    context.close(promise: nil)
                    return
                }
                last = then ?? last
            }
            guard self.forwarding.exchange.isTransfer, !self.forwarding.isDone else { return }
            let channel = context.channel
            if let last { last.whenComplete { _ in channel.read() } } else { channel.read() }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            self.trouble = "\(error)"
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.forwarding.failed(self.index, wasSent: self.wasSent, self.trouble)
        }
    }
}
