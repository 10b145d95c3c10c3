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

    /// A GET whose answer is passed on as it arrives, no faster than the client reads.
    static func get(_ target: KubeletTarget) -> APIResponse {
        APIResponse(stream: "text/plain") { sink in
            let client: Client
            do {
                client = try await self.connect(target)
            } catch {
                throw self.unreachable(target, error)
            }
            try await client.executeThenClose { inbound, outbound in
                var head = HTTPRequestHead(version: .http1_1, method: target.method, uri: target.uri)
                head.headers = target.headers
                head.headers.replaceOrAdd(name: "Connection", value: "close")
                try await outbound.write(.head(head))
                try await outbound.write(.end(nil))
                var status = 0
                var refused: [UInt8] = []
                for try await part in inbound {
                    switch part {
                    case .head(let head):
                        status = Int(head.status.code)
                        if status < 400 { try await sink.begin() }
                    case .body(let buffer) where status < 400: try await sink.write(Array(buffer.readableBytesView))
                    case .body(let buffer):
                        if refused.count < self.errorBytesMax { refused += buffer.readableBytesView }
                    case .end: break
                    }
                }
                if status == 0 { throw self.unreachable(target, ChannelError.eof) }
                if status >= 400 { throw self.refusal(status, refused) }
            }
        }
    }

    private static func connect(_ target: KubeletTarget) async throws -> Client {
        try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connectTimeout(self.connectTimeout)
            .connect(unixDomainSocketPath: target.socket) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    return try Client(wrappingChannelSynchronously: channel)
                }
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
                        ByteToMessageHandler(HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes)), name: "decoder"
                    )
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
            case .body(let buffer):
                if self.body.count < KubeletClient.errorBytesMax { self.body += buffer.readableBytesView }
            case .end:
                guard let head else { return }
                // Only now: the end is the last that the decoder says in HTTP, and whoever takes the channel over
                // from here must see bytes and nothing else.
                if head.status == .switchingProtocols { return self.promise.succeed(.switched(head, context.channel)) }
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
