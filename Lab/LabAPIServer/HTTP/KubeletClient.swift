internal import KubeAPI
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// The API server's side of a conversation with a kubelet.
enum KubeletClient {
    static let connectTimeout = TimeAmount.seconds(5)
    /// An error text; logs are streamed and have no bound.
    static let errorBytesMax = 64 << 10

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
                // In one go: the head is the whole request, so its answer, and the end of the connection with it, may
                // come before a second write.
                try await outbound.write(contentsOf: [.head(head), .end(nil)])
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
}
