internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// A few pages over HTTP for kubelet and Prometheus. GET only; anything else gets 404.
struct StatusServer: Sendable {
    struct Page: Sendable {
        let status: Int
        let text: String
    }
    typealias Pages = [String: @Sendable () async -> Page]

    let port: Int
    let pages: Pages

    /// Serves until the task is cancelled.
    func run() async throws {
        let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .bind(host: "0.0.0.0", port: self.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    return try NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>(
                        wrappingChannelSynchronously: channel)
                }
            }
        try await withThrowingDiscardingTaskGroup { group in
            try await server.executeThenClose { connections in
                for try await connection in connections {
                    group.addTask { try? await self.serve(connection) }
                }
            }
        }
    }

    private func serve(_ connection: NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>) async throws {
        try await connection.executeThenClose { requests, responses in
            for try await part in requests {
                guard case .head(let head) = part else { continue }
                let path = head.uri.prefix { $0 != "?" }
                let page =
                    head.method == .GET
                    ? await self.pages[String(path)]?() ?? Page(status: 404, text: "no such page\n")
                    : Page(status: 404, text: "GET only\n")
                var headers = HTTPHeaders()
                headers.add(name: "content-type", value: "text/plain; version=0.0.4; charset=utf-8")
                headers.add(name: "content-length", value: "\(page.text.utf8.count)")
                try await responses.write(
                    contentsOf: [
                        .head(
                            HTTPResponseHead(
                                version: head.version, status: HTTPResponseStatus(statusCode: page.status),
                                headers: headers)),
                        .body(.byteBuffer(ByteBuffer(string: page.text))), .end(nil),
                    ])
            }
        }
    }
}
