internal import Foundation
internal import KubeAPI
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOSSL

/// One HTTPS request to a webhook, on a connection of its own.
struct WebhookClient: Sendable {
    /// A review holds one object, and the store takes none above 3 MiB.
    static let answerBytesMax = 8 << 20

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Where a webhook listens, and who it must prove to be.
    struct Destination: Sendable {
        var host: String
        var port: Int
        /// The node whose network reaches ``host``; nil: this process's own network does.
        var node: String?
        /// In the server's certificate, and in the Host header.
        var name: String
        var path: String
        /// PEM; empty: the roots of this machine.
        var authority: String
    }

    let nodes: any NodeConnector

    /// - Returns: the body of a 200 answer.
    func post(_ body: [UInt8], to destination: Destination, timeout: Duration) async throws -> [UInt8] {
        let start = ContinuousClock.now
        let group = NIOSingletons.posixEventLoopGroup
        let answer = group.next().makePromise(of: [UInt8].self)
        let channel: any Channel
        do {
            let context = try Self.context(destination)
            let host = destination.name
            let bootstrap = ClientBootstrap(group: group)
                .connectTimeout(TimeAmount(timeout))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let sync = channel.pipeline.syncOperations
                        // A certificate for an address is checked against the address that was connected to.
                        try sync.addHandler(
                            try NIOSSLClientHandler(context: context, serverHostname: Self.isAddress(host) ? nil : host)
                        )
                        try sync.addHTTPClientHandlers()
                        try sync.addHandler(AnswerHandler(answer))
                    }
                }
            channel = try await self.connect(bootstrap, to: destination, timeout)
        } catch {
            answer.fail(error)
            throw Failure(description: "dial tcp \(destination.host):\(destination.port): \(error)")
        }
        let remaining = timeout - (ContinuousClock.now - start)
        let deadline = channel.eventLoop.scheduleTask(in: TimeAmount(max(remaining, .zero))) {
            answer.fail(Failure(description: "context deadline exceeded"))
        }
        defer {
            deadline.cancel()
            channel.close(promise: nil)
        }
        var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: destination.path)
        head.headers = [
            "Host": destination.name, "Content-Type": "application/json", "Accept": "application/json",
            "Content-Length": "\(body.count)", "User-Agent": "kube-apiserver-admission", "Connection": "close",
        ]
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil)
        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        do {
            return try await answer.futureResult.get()
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure(description: Self.text(error))
        }
    }

    private func connect(
        _ bootstrap: ClientBootstrap, to destination: Destination, _ timeout: Duration
    ) async throws -> any Channel {
        if let node = destination.node {
            let socket = try await self.nodes.podSocket(
                node: node, host: destination.host, port: destination.port, timeout: timeout)
            if let socket {
                do {
                    return try await bootstrap.withConnectedSocket(socket).get()
                } catch {
                    close(socket)
                    throw error
                }
            }
        }
        return try await bootstrap.connect(host: destination.host, port: destination.port).get()
    }

    private static func context(_ destination: Destination) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.applicationProtocols = ["http/1.1"]
        configuration.minimumTLSVersion = .tlsv12
        if !destination.authority.isEmpty {
            configuration.trustRoots = .certificates(
                try NIOSSLCertificate.fromPEMBytes(Array(destination.authority.utf8)))
        }
        return try NIOSSLContext(configuration: configuration)
    }

    static func isAddress(_ host: String) -> Bool { (try? SocketAddress(ipAddress: host, port: 0)) != nil }

    private static func text(_ error: any Error) -> String {
        if case NIOSSLError.handshakeFailed(let why) = error { return "tls: the handshake failed: \(why)" }
        if error is NIOSSLExtraError { return "tls: the certificate is not the server's: \(error)" }
        return "\(error)"
    }
}

/// Collects the one answer of a connection. Runs on its channel's loop.
private final class AnswerHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let answer: EventLoopPromise<[UInt8]>
    private var status = 0
    private var body: [UInt8] = []

    init(_ answer: EventLoopPromise<[UInt8]>) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.unwrapInboundIn(data) {
        case .head(let head): self.status = Int(head.status.code)
        case .body(let buffer):
            guard self.body.count + buffer.readableBytes <= WebhookClient.answerBytesMax else {
                self.answer.fail(
                    WebhookClient.Failure(
                        description: "the answer is larger than \(WebhookClient.answerBytesMax) bytes"))
                context.close(promise: nil)
                return
            }
            self.body += buffer.readableBytesView
        case .end:
            if self.status == 200 {
                self.answer.succeed(self.body)
            } else {
                let text = String(decoding: self.body.prefix(512), as: UTF8.self)
                    .trimmingCharacters(in: .whitespacesAndNewlines)
                self.answer.fail(
                    WebhookClient.Failure(
                        description:
                            "the server answered with HTTP status \(self.status)\(text.isEmpty ? "" : ": \(text)")"
                    ))
            }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.answer.fail(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.answer.fail(WebhookClient.Failure(description: "EOF: the server closed the connection without an answer"))
        context.fireChannelInactive()
    }
}
