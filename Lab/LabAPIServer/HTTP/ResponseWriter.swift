internal import KubeAPI
internal import NIOCore
internal import NIOHTTP1

/// Puts an answer on the wire.
struct ResponseWriter: Sendable {
    let channel: any Channel
    let isHead: Bool
    let keepsAlive: Bool

    /// - Returns: Whether the answer is complete, so that another can follow.
    func send(_ response: APIResponse) async -> Bool {
        var head = HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: response.status))
        for (name, value) in response.headers { head.headers.add(name: name, value: value) }
        head.headers.add(name: "Cache-Control", value: "no-cache, private")
        if !self.keepsAlive { head.headers.add(name: "Connection", value: "close") }
        do {
            switch response.body {
            case .bytes(let bytes):
                head.headers.add(name: "Content-Length", value: String(bytes.count))
                self.channel.write(HTTPServerResponsePart.head(head), promise: nil)
                if !self.isHead {
                    self.channel.write(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: bytes))), promise: nil)
                }
                try await self.channel.writeAndFlush(HTTPServerResponsePart.end(nil))
            case .stream(let run):
                head.headers.add(name: "Transfer-Encoding", value: "chunked")
                // Clients wait for the head of a watch even when nothing has happened yet.
                try await self.channel.writeAndFlush(HTTPServerResponsePart.head(head))
                try await run(Sink(channel: self.channel))
                try Task.checkCancellation()
                try await self.channel.writeAndFlush(HTTPServerResponsePart.end(nil))
            case .upgrade: return false
            }
            return true
        } catch {
            return false
        }
    }

    private struct Sink: ResponseSink {
        let channel: any Channel
        func write(_ bytes: [UInt8]) async throws {
            try Task.checkCancellation()
            try await self.channel.writeAndFlush(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: bytes))))
        }
    }
}
