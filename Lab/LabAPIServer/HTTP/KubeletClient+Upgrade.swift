internal import KubeAPI
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

extension KubeletClient {
    /// What came of asking for an upgrade.
    enum Upgrade: Sendable {
        /// The kubelet switched protocols. Its channel carries plain bytes once the handlers ``requestHandler`` and
        /// ``replyHandler`` are removed; `first` are those that came right behind the head.
        case switched(HTTPResponseHead, any Channel, first: ByteBuffer)
        case refused(StatusError)
    }

    static let requestHandler = "encoder"
    static let replyHandler = "reply"

    /// Sends an upgrade request. The kubelet's channel runs on `eventLoop`, beside the client's.
    ///
    /// The result is delivered inside the read that brought it: who takes the channel over in the future's callback
    /// misses nothing, not even the end of a kubelet that says all it has to say at once.
    static func upgrade(_ target: KubeletTarget, on eventLoop: any EventLoop) -> EventLoopFuture<Upgrade> {
        let promise = eventLoop.makePromise(of: Upgrade.self)
        ClientBootstrap(group: eventLoop)
            .connectTimeout(self.connectTimeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let sync = channel.pipeline.syncOperations
                    try sync.addHandler(HTTPRequestEncoder(), name: self.requestHandler)
                    try sync.addHandler(ReplyHandler(promise), name: self.replyHandler)
                }
            }
            .connect(unixDomainSocketPath: target.socket)
            .whenComplete { result in
                switch result {
                case .success(let channel):
                    var head = HTTPRequestHead(version: .http1_1, method: target.method, uri: target.uri)
                    head.headers = target.headers
                    channel.write(HTTPClientRequestPart.head(head), promise: nil)
                    channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
                case .failure(let error):
                    promise.succeed(.refused(self.unreachable(target, error)))
                }
            }
        return promise.futureResult
    }

    /// Reads the answer to an upgrade.
    ///
    /// Not NIO's decoder: one that is in the middle of a read gives up its unread bytes in a later turn of the loop
    /// only, and drops them when the channel ends before that turn.
    private final class ReplyHandler: ChannelInboundHandler, RemovableChannelHandler {
        typealias InboundIn = ByteBuffer

        private enum State {
            case reading(ByteBuffer)
            case refusing(UpgradeReply, ByteBuffer)
            case done
        }
        private var state = State.reading(ByteBuffer())
        private let promise: EventLoopPromise<Upgrade>

        init(_ promise: EventLoopPromise<Upgrade>) { self.promise = promise }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = self.unwrapInboundIn(data)
            switch self.state {
            case .reading(var buffer):
                buffer.writeBuffer(&bytes)
                do {
                    guard let reply = try UpgradeReply(&buffer) else {
                        self.state = .reading(buffer)
                        return
                    }
                    if reply.head.status == .switchingProtocols {
                        self.state = .done
                        self.promise.succeed(.switched(reply.head, context.channel, first: buffer))
                    } else {
                        self.refuse(reply, buffer, context)
                    }
                } catch {
                    self.fail(.internalError("the kubelet's answer cannot be read: \(error)"), context)
                }
            case .refusing(let reply, var body):
                body.writeBuffer(&bytes)
                self.refuse(reply, body, context)
            case .done: break
            }
        }

        private func refuse(_ reply: UpgradeReply, _ body: ByteBuffer, _ context: ChannelHandlerContext?) {
            if context != nil, body.readableBytes < min(reply.bodyBytes ?? .max, KubeletClient.errorBytesMax) {
                self.state = .refusing(reply, body)
                return
            }
            let text = body.readableBytesView.prefix(min(reply.bodyBytes ?? .max, KubeletClient.errorBytesMax))
            self.fail(KubeletClient.refusal(Int(reply.head.status.code), Array(text)), context)
        }

        private func fail(_ error: StatusError, _ context: ChannelHandlerContext?) {
            self.state = .done
            self.promise.succeed(.refused(error))
            context?.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            switch self.state {
            case .reading: self.fail(.internalError("the kubelet closed the connection before it answered"), nil)
            case .refusing(let reply, let body): self.refuse(reply, body, nil)
            case .done: break
            }
            context.fireChannelInactive()
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            if case .done = self.state { return context.fireErrorCaught(error) }
            self.fail(.internalError("the connection to the kubelet broke: \(error)"), context)
        }
    }
}
