import CLabNode
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// Performs the action of a probe from the node's namespace.
struct ProbeRunner: Sendable {
    struct Failed: Error, Hashable, CustomStringConvertible {
        let description: String
    }

    /// What is kept of an answer for the event.
    static let answerBytesMax = 512

    let commands: CommandRunner
    let runtime: ContainerRuntime

    /// - Parameters:
    ///   - containerID: for exec.
    ///   - address: the pod's.
    /// - Throws: ``Failed`` with the words that the event gets.
    func perform(_ action: ProbeSpec.Action, timeout: Duration, containerID: String, address: String) async throws {
        switch action {
        case .exec(let command):
            let result = try await self.runtime.run(command, in: containerID, deadline: timeout)
            if result.exit.signal == SIGKILL {
                throw Failed(description: "command timed out after \(timeout.components.seconds)s")
            }
            if result.exit.code != 0 {
                let said = (result.errorText + result.text).prefix(Self.answerBytesMax)
                throw Failed(description: said.isEmpty ? "exit code \(result.exit.code)" : String(said))
            }
        case .tcp(let host, let port):
            close(try await self.connect(host ?? address, port, timeout))
        case .http(let host, let port, let path, let isHTTPS, let headers):
            try await self.get(host ?? address, port, path, isHTTPS, headers, timeout)
        case .grpc(let port, let service):
            try await self.checkGRPC(address, port, service, timeout)
        case .sleep(let seconds):
            try await Task.sleep(for: .seconds(seconds))
        }
    }

    /// grpc.health.v1 through curl, which speaks HTTP/2 with prior knowledge: a request is one length-prefixed
    /// `HealthCheckRequest{service = 1}`, a healthy answer `HealthCheckResponse{status = 1 SERVING}`.
    private func checkGRPC(_ address: String, _ port: Int, _ service: String, _ timeout: Duration) async throws {
        let name = Array(service.utf8.prefix(100))
        let message = name.isEmpty ? [] : [0x0a, UInt8(name.count)] + name
        let result = try await self.commands.run(
            [
                "curl", "--silent", "--show-error", "--http2-prior-knowledge", "--header",
                "content-type: application/grpc",
                "--header", "te: trailers", "--data-binary", "@-", "--max-time", "\(timeout.components.seconds)",
                "http://\(address):\(port)/grpc.health.v1.Health/Check",
            ], input: [0, 0, 0, 0, UInt8(message.count)] + message, deadline: timeout + .seconds(1))
        guard result.exit.code == 0, result.output == [0, 0, 0, 0, 2, 0x08, 0x01] else {
            let said = result.errorText.trimmingCharacters(in: .whitespacesAndNewlines)
            throw Failed(
                description: "service unhealthy (responded with \"NOT_SERVING\")\(said.isEmpty ? "" : ": \(said)")")
        }
    }

    private func connect(_ host: String, _ port: Int, _ timeout: Duration) async throws -> Int32 {
        let namespace = self.commands.networkNamespace ?? -1
        let milliseconds = Int32(clamping: timeout.components.seconds * 1000)
        let descriptor = await CommandRunner.blocking {
            clabnode_connect(namespace, host, UInt16(port), milliseconds)
        }
        if descriptor < 0 {
            throw Failed(
                description: "dial tcp \(host):\(port): \(String(cString: strerror(-descriptor)).lowercased())")
        }
        return descriptor
    }

    private func get(
        _ host: String, _ port: Int, _ path: String, _ isHTTPS: Bool, _ headers: [[String]], _ timeout: Duration
    ) async throws {
        let socket = try await self.connect(host, port, timeout)
        let url = "\(isHTTPS ? "https" : "http")://\(host):\(port)\(path)"
        let group = NIOSingletons.posixEventLoopGroup
        let answer = group.next().makePromise(of: HTTPResponseStatus.self)
        let channel: any Channel
        do {
            channel = try await ClientBootstrap(group: group)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        if isHTTPS {
                            // As the kubelet: a probe asks for life, not for identity.
                            var configuration = TLSConfiguration.makeClientConfiguration()
                            configuration.certificateVerification = .none
                            let context = try NIOSSLContext(configuration: configuration)
                            try channel.pipeline.syncOperations.addHandler(
                                try NIOSSLClientHandler(context: context, serverHostname: nil))
                        }
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        try channel.pipeline.syncOperations.addHandler(ProbeAnswerHandler(answer))
                    }
                }.withConnectedSocket(socket).get()
        } catch {
            close(socket)
            answer.fail(error)
            throw Failed(description: "Get \"\(url)\": \(error)")
        }
        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: path.hasPrefix("/") ? path : "/\(path)")
        head.headers = ["User-Agent": "kube-probe/1.32", "Accept": "*/*", "Connection": "close"]
        for pair in headers { head.headers.replaceOrAdd(name: pair[0], value: pair[1]) }
        if head.headers["Host"].isEmpty { head.headers.add(name: "Host", value: "\(host):\(port)") }
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        let deadline = channel.eventLoop.scheduleTask(in: .seconds(timeout.components.seconds)) {
            answer.fail(Failed(description: "Get \"\(url)\": context deadline exceeded (Client.Timeout exceeded)"))
        }
        defer {
            deadline.cancel()
            channel.close(promise: nil)
        }
        let status: HTTPResponseStatus
        do { status = try await answer.futureResult.get() } catch let error as Failed { throw error } catch {
            throw Failed(description: "Get \"\(url)\": \(error)")
        }
        guard (200..<400).contains(status.code) else {
            throw Failed(description: "HTTP probe failed with statuscode: \(status.code)")
        }
    }
}

/// Waits for the head of the answer. Runs on its channel's loop.
private final class ProbeAnswerHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    private let answer: EventLoopPromise<HTTPResponseStatus>

    init(_ answer: EventLoopPromise<HTTPResponseStatus>) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .head(let head) = self.unwrapInboundIn(data) { self.answer.succeed(head.status) }
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.answer.fail(error)
        context.close(promise: nil)
    }
    func channelInactive(context: ChannelHandlerContext) {
        self.answer.fail(ProbeRunner.Failed(description: "EOF"))
        context.fireChannelInactive()
    }
}
