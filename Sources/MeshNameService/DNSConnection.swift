internal import MeshDNS
internal import NIOCore

/// One TCP connection with questions, several at a time (RFC 7766, 6.2.1.1); answers go out as they come.
///
/// `@unchecked`: on the server's loop.
final class DNSConnection: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer

    private let server: DNSServer
    private var limits: DNSLimits { self.server.listening.limits }
    private var context: ChannelHandlerContext?
    private var frames = DNSFrames()
    /// Questions that are worked on.
    private var pending = 0
    private var isReading = true
    /// The client has nothing more to ask, or we take nothing more.
    private var isEnding = false
    private var idle: Scheduled<Void>?

    init(_ server: DNSServer) { self.server = server }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        guard self.server.arrived(self) else { return context.close(promise: nil) }
        self.progressed()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.frames.append(self.unwrapInboundIn(data))
        self.work()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed {
            self.isEnding = true
            self.closeIfDone()
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelInactive(context: ChannelHandlerContext) {
        self.idle?.cancel()
        self.context = nil
        self.server.left(self)
    }

    // MARK: The server's orders

    /// What is asked already is answered; then it ends.
    func drain() {
        self.isEnding = true
        self.closeIfDone()
    }

    func close() { self.context?.close(promise: nil) }

    // MARK: Questions

    private func work() {
        guard let context = self.context else { return }
        let channel = context.channel
        while self.pending < self.limits.pipelinedQueriesMax, let message = self.frames.next() {
            // Nothing is shorter than a header: the length bytes are lost, and so is the place of the next ones.
            guard message.count >= DNSReader.headerBytes else { return context.close(promise: nil) }
            self.pending += 1
            self.progressed()
            self.server.received(
                message, over: .tcp,
                reply: { answer in
                    channel.writeAndFlush(DNSFrames.framed(answer, channel.allocator))
                },
                done: {
                    self.pending -= 1
                    self.progressed()
                    // In a later turn: many answers from the mesh would nest.
                    self.server.loop.execute {
                        self.work()
                        self.closeIfDone()
                    }
                })
        }
        self.read(self.pending < self.limits.pipelinedQueriesMax)
    }

    private func read(_ isReading: Bool) {
        guard self.isReading != isReading, let context = self.context else { return }
        self.isReading = isReading
        context.channel.setOption(.autoRead, value: isReading).whenFailure { _ in }
        if isReading { context.channel.read() }
    }

    private func closeIfDone() {
        guard self.isEnding, self.pending == 0, let context = self.context else { return }
        context.close(promise: nil)
    }

    /// Something moved: the time for which nothing may move begins again. A client that does not take its answers is cut
    /// off after the resolvers' time.
    private func progressed() {
        guard let context = self.context else { return }
        self.idle?.cancel()
        let limit =
            self.limits.connectionIdleTimeout + (self.pending > 0 ? self.limits.upstreamTimeout : .zero)
        let channel = context.channel
        self.idle = self.server.loop.scheduleTask(in: TimeAmount(limit)) { channel.close(promise: nil) }
    }
}
