internal import KubeAPI
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// The API server's side of a conversation with a kubelet.
enum KubeletClient {
    static let connectTimeout = TimeAmount.seconds(5)
    /// An error text; logs are streamed and have no bound.
    private static let errorBytesMax = 64 << 10

    private typealias Client = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    static func unreachable(_ target: KubeletTarget, _ error: any Error) -> StatusError {
        .internalError("the kubelet at \(target.socket) does not answer: \(error); is the node running?")
    }

    /// A GET whose answer is passed on as it arrives.
    static func get(_ target: KubeletTarget) async throws -> APIResponse {
        let client: Client
        do {
            client = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connectTimeout(self.connectTimeout)
                .connect(unixDomainSocketPath: target.socket) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        return try Client(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            throw self.unreachable(target, error)
        }
        // The head decides the form of our answer, the body follows later: a bridge carries it from one to the other.
        let (parts, continuation) = AsyncThrowingStream.makeStream(
            of: HTTPClientResponsePart.self, bufferingPolicy: .unbounded)
        let pump = Task {
            do {
                try await client.executeThenClose { inbound, outbound in
                    var head = HTTPRequestHead(version: .http1_1, method: target.method, uri: target.uri)
                    head.headers = target.headers
                    head.headers.replaceOrAdd(name: "Connection", value: "close")
                    try await outbound.write(.head(head))
                    try await outbound.write(.end(nil))
                    for try await part in inbound { continuation.yield(part) }
                }
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
        }
        continuation.onTermination = { _ in pump.cancel() }
        var iterator = parts.makeAsyncIterator()
        guard case .head(let head)? = try await iterator.next() else {
            throw self.unreachable(target, ChannelError.eof)
        }
        let status = Int(head.status.code)
        if status >= 400 {
            var bytes: [UInt8] = []
            while let part = try await iterator.next(), bytes.count < self.errorBytesMax {
                if case .body(let buffer) = part { bytes += buffer.readableBytesView }
            }
            throw self.refusal(status, bytes)
        }
        let rest = Rest(parts)
        return APIResponse(stream: head.headers.first(name: "content-type") ?? "text/plain") { sink in
            while let part = try await rest.next() {
                if case .body(let buffer) = part { try await sink.write(Array(buffer.readableBytesView)) }
            }
        }
    }

    private actor Rest {
        private let parts: AsyncThrowingStream<HTTPClientResponsePart, any Error>
        init(_ parts: AsyncThrowingStream<HTTPClientResponsePart, any Error>) { self.parts = parts }
        func next() async throws -> HTTPClientResponsePart? {
            var iterator = self.parts.makeAsyncIterator()
            return try await iterator.next(isolation: self)
        }
    }

    /// A kubelet's error: a Status passes as it is, text becomes one.
    static func refusal(_ status: Int, _ bytes: [UInt8]) -> StatusError {
        if let json = try? JSONValue(parsing: bytes), json["kind"]?.string == "Status" {
            return StatusError(code: status, body: json)
        }
        let text = String(decoding: bytes, as: UTF8.self)
        switch status {
        case 400: return .badRequest(text)
        case 404: return StatusError(code: 404, reason: "NotFound", message: text)
        default: return .internalError(text)
        }
    }

    /// What came of asking for an upgrade.
    enum Upgrade: Sendable {
        /// The kubelet switched protocols; its channel carries no HTTP any more once ``detach(_:)`` is done.
        case switched(HTTPResponseHead, any Channel)
        case refused(StatusError)
    }

    /// Sends an upgrade request. The kubelet's channel runs on `eventLoop`, beside the client's.
    static func upgrade(_ target: KubeletTarget, on eventLoop: any EventLoop) -> EventLoopFuture<Upgrade> {
        let promise = eventLoop.makePromise(of: Upgrade.self)
        ClientBootstrap(group: eventLoop)
            .connectTimeout(self.connectTimeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let sync = channel.pipeline.syncOperations
                    try sync.addHandler(HTTPRequestEncoder(), name: "encoder")
                    try sync.addHandler(
                        ByteToMessageHandler(HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes)), name: "decoder")
                    try sync.addHandler(UpgradeHandler(promise), name: "upgrade")
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

    private final class UpgradeHandler: ChannelInboundHandler, RemovableChannelHandler {
        typealias InboundIn = HTTPClientResponsePart
        private let promise: EventLoopPromise<Upgrade>
        private var head: HTTPResponseHead?
        private var body: [UInt8] = []

        init(_ promise: EventLoopPromise<Upgrade>) { self.promise = promise }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch self.unwrapInboundIn(data) {
            case .head(let head):
                self.head = head
                if head.status == .switchingProtocols { self.promise.succeed(.switched(head, context.channel)) }
            case .body(let buffer):
                if self.body.count < KubeletClient.errorBytesMax { self.body += buffer.readableBytesView }
            case .end:
                guard let head, head.status != .switchingProtocols else { return }
                self.promise.succeed(.refused(KubeletClient.refusal(Int(head.status.code), self.body)))
                context.close(promise: nil)
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.promise.succeed(.refused(.internalError("the kubelet closed the connection before it answered")))
            context.fireChannelInactive()
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            self.promise.succeed(.refused(.internalError("the kubelet's answer cannot be read: \(error)")))
            context.close(promise: nil)
        }
    }
}
