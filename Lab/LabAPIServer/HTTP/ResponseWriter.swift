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
                let sink = Sink(channel: self.channel, head: head)
                do {
                    try await run(sink)
                } catch let error as StatusError {
                    // Nothing is on the wire yet, so the refusal can still be the answer.
                    guard await !sink.hasBegun else { return false }
                    return await self.send(APIResponse(error))
                } catch {
                    // The client went away, or a part of us failed: then it hears of it, while it can.
                    guard !Task.isCancelled, await !sink.hasBegun else { return false }
                    return await self.send(APIResponse(.internalError("\(error)")))
                }
                try Task.checkCancellation()
                try await sink.begin()
                try await self.channel.writeAndFlush(HTTPServerResponsePart.end(nil))
            case .upgrade: return false
            }
            return true
        } catch {
            return false
        }
    }

    private actor Sink: ResponseSink {
        private let channel: any Channel
        private let head: HTTPResponseHead
        private(set) var hasBegun = false

        init(channel: any Channel, head: HTTPResponseHead) {
            self.channel = channel
            self.head = head
        }

        func begin() async throws {
            if self.hasBegun { return }
            self.hasBegun = true
            try await self.channel.writeAndFlush(HTTPServerResponsePart.head(self.head))
        }

        func write(_ bytes: [UInt8]) async throws {
            try Task.checkCancellation()
            try await self.begin()
            try await self.channel.writeAndFlush(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: bytes))))
        }
    }
}
