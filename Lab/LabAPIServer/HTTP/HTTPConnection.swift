internal import DequeModule
internal import KubeAPI
internal import Logging
internal import NIOCore
internal import NIOHTTP1
internal import NIOSSL
internal import NIOTLS

/// One client connection: collects requests, answers them one after the other, and hands the connection to a kubelet
/// when a request asks for that.
///
/// Not Sendable: lives on its channel's event loop. Answers are made by tasks, which end when the client goes away.
final class HTTPConnection: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// Requests a client may send ahead before it is cut off.
    private static let pipelinedMax = 32

    private let handler: RequestHandler
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    private var isTooLarge = false
    private var waiting: Deque<APIRequest> = []
    private var keepsAlive: Deque<Bool> = []
    private var task: Task<Void, Never>?
    private var isUpgraded = false
    private var certificate: [UInt8]?

    init(_ handler: RequestHandler) { self.handler = handler }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent {
            let tls = try? context.pipeline.syncOperations.handler(type: NIOSSLServerHandler.self)
            self.certificate = (tls?.peerCertificate).flatMap { try? $0.toDERBytes() }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            self.body = []
            self.isTooLarge = false
            if head.headers["expect"].contains(where: { $0.lowercased() == "100-continue" }) {
                let interim = HTTPResponseHead(version: .http1_1, status: .continue)
                context.writeAndFlush(self.wrapOutboundOut(.head(interim)), promise: nil)
            }
        case .body(let buffer):
            if self.body.count + buffer.readableBytes > APIRequest.bodyBytesMax {
                self.isTooLarge = true
                self.body = []
            } else if !self.isTooLarge {
                self.body += buffer.readableBytesView
            }
        case .end:
            guard let head else { return }
            self.head = nil
            if self.waiting.count >= Self.pipelinedMax {
                context.close(promise: nil)
                return
            }
            let request = APIRequest(
                head: head, body: self.isTooLarge ? Self.tooLargeMark : self.body, certificate: self.certificate)
            // Behind an upgrade's head the decoder reads no further request, whatever the answer is.
            self.keepsAlive.append(head.isKeepAlive && !self.isTooLarge && !request.isUpgrade)
            self.waiting.append(request)
            self.body = []
            self.startNext(context)
        }
    }

    /// Stands for a body that was thrown away; one byte longer than any that is kept.
    private static let tooLargeMark = [UInt8](repeating: 0, count: APIRequest.bodyBytesMax + 1)

    private func startNext(_ context: ChannelHandlerContext) {
        guard self.task == nil, !self.isUpgraded, let request = self.waiting.popFirst() else { return }
        let keepsAlive = self.keepsAlive.removeFirst()
        let handler = self.handler
        let channel = context.channel
        let bound = Bound(NIOLoopBound((self, context), eventLoop: context.eventLoop))
        self.task = Task {
            let response: APIResponse
            if request.body.count > APIRequest.bodyBytesMax {
                response = APIResponse(.tooLarge)
            } else {
                response = await handler.respond(request)
            }
            if case .upgrade(let target) = response.body {
                bound.upgrade(target, on: channel.eventLoop)
                return
            }
            let isIntact = await ResponseWriter(
                channel: channel, isHead: request.method == .HEAD, keepsAlive: keepsAlive
            )
            .send(response)
            bound.finished(mayContinue: isIntact && keepsAlive, on: channel.eventLoop)
        }
    }

    /// The way back from an answering task to this connection, on its event loop.
    private struct Bound: Sendable {
        private let value: NIOLoopBound<(HTTPConnection, ChannelHandlerContext)>
        init(_ value: NIOLoopBound<(HTTPConnection, ChannelHandlerContext)>) { self.value = value }

        func upgrade(_ target: KubeletTarget, on eventLoop: any EventLoop) {
            eventLoop.execute { self.value.value.0.upgrade(target, self.value.value.1) }
        }

        func finished(mayContinue: Bool, on eventLoop: any EventLoop) {
            eventLoop.execute {
                let (connection, context) = self.value.value
                connection.task = nil
                if mayContinue { connection.startNext(context) } else { context.close(promise: nil) }
            }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.task?.cancel()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.task?.cancel()
        context.close(promise: nil)
    }

    // MARK: Upgrades

    private func upgrade(_ target: KubeletTarget, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        KubeletClient.upgrade(target, on: context.eventLoop).whenComplete { result in
            let (connection, context) = bound.value
            switch result {
            case .success(.switched(let head, let kubelet, let first)):
                connection.splice(head, kubelet, first, context)
            case .success(.refused(let error)): connection.refuse(error, context)
            case .failure(let error): connection.refuse(.internalError("\(error)"), context)
            }
        }
    }

    /// The request was an upgrade, so nothing more is parsed on this connection: it ends with the refusal.
    private func refuse(_ error: StatusError, _ context: ChannelHandlerContext) {
        let channel = context.channel
        self.task = Task {
            _ = await ResponseWriter(channel: channel, isHead: false, keepsAlive: false).send(APIResponse(error))
            try? await channel.close()
        }
    }

    /// Runs inside the read that brought the kubelet's answer, so nothing of what follows it is lost.
    private func splice(
        _ head: HTTPResponseHead, _ kubelet: any Channel, _ first: ByteBuffer, _ context: ChannelHandlerContext
    ) {
        guard context.channel.isActive else {
            kubelet.close(promise: nil)
            return
        }
        self.isUpgraded = true
        context.writeAndFlush(self.wrapOutboundOut(.head(head)), promise: nil)
        let (client, server) = Splice.pair()
        let channel = context.channel
        let (ours, theirs) = (channel.pipeline.syncOperations, kubelet.pipeline.syncOperations)
        do {
            try ours.addHandler(client)
            try theirs.addHandler(server)
        } catch {
            kubelet.close(promise: nil)
            context.close(promise: nil)
            return
        }
        // These leave at once.
        for (pipeline, name) in [
            (theirs, KubeletClient.requestHandler), (theirs, KubeletClient.replyHandler), (ours, "encoder"),
            (ours, "connection"),
        ] {
            _ = pipeline.removeHandler(name: name)
        }
        if first.readableBytes > 0 { channel.writeAndFlush(first, promise: nil) }
        // The decoder leaves in a later turn of the loop and then passes on what the client sent right behind its head.
        // No read ends behind those bytes, which is what flushes a splice otherwise.
        ours.removeHandler(name: "decoder").whenComplete { _ in kubelet.flush() }
    }
}
