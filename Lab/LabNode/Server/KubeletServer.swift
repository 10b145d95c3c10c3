import Foundation
import KubeAPI
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket

/// What the API server asks a node for, over a unix socket that only root may open: logs, exec, attach, port-forward.
struct KubeletServer: Sendable {
    static let frameBytesMax = 1 << 20
    static let fragmentsMax = 1024
    /// How often a followed log is looked at.
    static let followInterval = Duration.milliseconds(50)

    typealias Answer = HTTPPart<HTTPResponseHead, ByteBuffer>
    typealias Plain = NIOAsyncChannel<HTTPServerRequestPart, Answer>
    typealias Socket = NIOAsyncChannel<WebSocketFrame, WebSocketFrame>
    enum Connection: Sendable {
        case plain(Plain)
        case socket(Socket, HTTPRequestHead)
    }

    let kubelet: Kubelet
    let runtime: ContainerRuntime

    init(_ kubelet: Kubelet, runtime: ContainerRuntime) {
        self.kubelet = kubelet
        self.runtime = runtime
    }

    /// Serves until cancelled.
    func run() async throws {
        let path = self.kubelet.configuration.kubeletSocket
        try FileManager.default.createDirectory(
            atPath: self.kubelet.configuration.nodeRunDirectory, withIntermediateDirectories: true)
        let listener = try await ServerBootstrap(group: NIOSingletons.posixEventLoopGroup)
            .bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true) { channel in
                channel.eventLoop.makeCompletedFuture { try self.configure(channel) }
            }
        chmod(path, 0o600)
        try await withThrowingDiscardingTaskGroup { group in
            try await listener.executeThenClose { inbound in
                for try await connection in inbound {
                    group.addTask {
                        do { try await self.serve(try await connection.get()) } catch {
                            self.kubelet.logger.debug("connection ended", metadata: ["error": "\(error)"])
                        }
                    }
                }
            }
        }
    }

    private func configure(_ channel: any Channel) throws -> EventLoopFuture<Connection> {
        let upgrader = NIOTypedWebSocketServerUpgrader<Connection>(
            maxFrameSize: Self.frameBytesMax,
            shouldUpgrade: { channel, head in
                let decision = channel.eventLoop.makePromise(of: Result<HTTPHeaders, Refused>.self)
                decision.completeWithTask { await self.upgradeHeaders(head) }
                return decision.futureResult.map { decision in
                    switch decision {
                    case .success(let headers): return headers
                    case .failure(let reason):
                        Self.refuse(reason, on: channel)
                        return nil
                    }
                }
            },
            upgradePipelineHandler: { channel, head in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        NIOWebSocketFrameAggregator(
                            minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: Self.fragmentsMax,
                            maxAccumulatedFrameSize: Self.frameBytesMax))
                    return .socket(try Socket(wrappingChannelSynchronously: channel), head)
                }
            })
        return try channel.pipeline.syncOperations.configureUpgradableHTTPServerPipeline(
            configuration: .init(
                upgradeConfiguration: NIOTypedHTTPServerUpgradeConfiguration(
                    upgraders: [upgrader],
                    notUpgradingCompletionHandler: { channel in
                        channel.eventLoop.makeCompletedFuture {
                            try channel.pipeline.syncOperations.addHandler(AnswerHandler())
                            return .plain(try Plain(wrappingChannelSynchronously: channel))
                        }
                    })))
    }

    // MARK: WebSockets

    private func upgradeHeaders(_ head: HTTPRequestHead) async -> Result<HTTPHeaders, Refused> {
        guard let request = KubeletRequest(uri: head.uri) else {
            return .failure(Refused(status: .notFound, message: "404 page not found"))
        }
        do { try await self.check(request) } catch { return .failure(error) }
        let isForward = if case .portForward = request.target { true } else { false }
        let ours = isForward ? StreamProtocol.portForward : StreamProtocol.exec
        guard let chosen = StreamProtocol.choose(ours, offered: head.headers["Sec-WebSocket-Protocol"]) else {
            return .failure(
                Refused(
                    status: .badRequest,
                    message: "unable to upgrade: wanted one of the WebSocket protocols \(ours.joined(separator: ", "))")
            )
        }
        return .success(["Sec-WebSocket-Protocol": chosen])
    }

    /// Answers a request whose upgrade is refused. NIO's upgrade handler has swallowed its head by then, so it cannot
    /// be answered as a plain one. Runs on the channel's loop.
    private static func refuse(_ reason: Refused, on channel: any Channel) {
        let body = ByteBuffer(string: reason.message)
        let headers: HTTPHeaders = [
            "Content-Type": "text/plain", "Content-Length": "\(body.readableBytes)", "Connection": "close",
        ]
        let head = HTTPResponseHead(version: .http1_1, status: reason.status, headers: headers)
        let pipeline = channel.pipeline.syncOperations
        pipeline.write(NIOAny(HTTPServerResponsePart.head(head)), promise: nil)
        pipeline.write(NIOAny(HTTPServerResponsePart.body(.byteBuffer(body))), promise: nil)
        let sent = channel.eventLoop.makePromise(of: Void.self)
        pipeline.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: sent)
        sent.futureResult.whenComplete { _ in channel.close(promise: nil) }
    }

    private struct Refused: Error {
        var status: HTTPResponseStatus
        var message: String
    }

    private func worker(_ namespace: String, _ pod: String) async throws(Refused) -> PodWorker {
        guard let worker = await self.kubelet.pods.worker(namespace: namespace, name: pod) else {
            throw Refused(
                status: .notFound,
                message: "pod \(namespace)/\(pod) is not on node \(self.kubelet.configuration.nodeName)")
        }
        return worker
    }

    /// Finds what an exec, attach or port-forward is about, or says why it cannot be.
    @discardableResult
    private func check(_ request: KubeletRequest) async throws(Refused) -> ContainerRuntime.Running? {
        switch request.target {
        case .exec(let namespace, let pod, let container), .attach(let namespace, let pod, let container):
            let worker = try await self.worker(namespace, pod)
            do { return try await worker.runningContainer(container) } catch {
                throw Refused(status: .badRequest, message: "\(error)")
            }
        case .portForward(let namespace, let pod):
            _ = try await self.worker(namespace, pod)
            return nil
        case .health, .logs: throw Refused(status: .badRequest, message: "this path needs no upgrade")
        }
    }

    private func serve(_ connection: Connection) async throws {
        switch connection {
        case .plain(let channel): try await self.servePlain(channel)
        case .socket(let channel, let head):
            guard let request = KubeletRequest(uri: head.uri) else { return }
            do {
                let container = try await self.check(request)
                if case .portForward(let namespace, let pod) = request.target {
                    let worker = try await self.worker(namespace, pod)
                    let offered = head.headers["Sec-WebSocket-Protocol"]
                    let session = PortForwardSession(namespace: await worker.networkNamespace)
                    if StreamProtocol.choose(StreamProtocol.portForward, offered: offered) == "v4.channel.k8s.io" {
                        try await session.runChannels(
                            channel, ports: (request.query["ports"] ?? []).compactMap { Int($0) })
                    } else {
                        try await session.runTunnel(channel)
                    }
                    return
                }
                guard let container else { return }
                let session = StreamSession(runtime: self.runtime, request: request, container: container)
                if case .exec = request.target {
                    try await session.exec(channel)
                } else {
                    try await session.attach(channel)
                }
            } catch let error as Refused {
                // It ended between the upgrade and now.
                try await channel.executeThenClose { _, outbound in
                    try await StreamSocket(outbound: outbound).end(ExecStatus.failure(error.message))
                }
            }
        }
    }

    // MARK: plain HTTP

    private func servePlain(_ channel: Plain) async throws {
        try await channel.executeThenClose { inbound, outbound in
            for try await part in inbound {
                guard case .head(let head) = part else { continue }
                do {
                    try await self.answer(head, outbound)
                } catch let error as Refused {
                    try await self.send(error.status, error.message, outbound)
                }
                // One request for each connection: the API server opens a new one each time.
                return
            }
        }
    }

    private func answer(_ head: HTTPRequestHead, _ outbound: NIOAsyncChannelOutboundWriter<Answer>) async throws {
        guard let request = KubeletRequest(uri: head.uri) else {
            throw Refused(status: .notFound, message: "404 page not found")
        }
        switch request.target {
        case .health: try await self.send(.ok, "ok", outbound)
        case .logs(let namespace, let pod, let container):
            try await self.sendLog(try await self.worker(namespace, pod), container, request, outbound)
        case .exec, .attach, .portForward:
            try await self.check(request)
            throw Refused(
                status: .badRequest,
                message: "unable to upgrade: the lab speaks WebSocket with one of "
                    + (StreamProtocol.exec + StreamProtocol.portForward).joined(separator: ", ")
                    + "; kubectl 1.31 and later do")
        }
    }

    private func send(
        _ status: HTTPResponseStatus, _ text: String, _ outbound: NIOAsyncChannelOutboundWriter<Answer>
    ) async throws {
        let body = ByteBuffer(string: text)
        let headers: HTTPHeaders = [
            "Content-Type": "text/plain", "Content-Length": "\(body.readableBytes)", "Connection": "close",
        ]
        try await outbound.write(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers)))
        try await outbound.write(.body(body))
        try await outbound.write(.end(nil))
    }

    private func sendLog(
        _ worker: PodWorker, _ container: String, _ request: KubeletRequest,
        _ outbound: NIOAsyncChannelOutboundWriter<Answer>
    ) async throws {
        let isPrevious = request.flag("previous")
        let path: String
        do { path = try await worker.log(container, previous: isPrevious) } catch {
            throw Refused(status: .badRequest, message: "\(error)")
        }
        let options = LogOptions(request.pairs)
        var reader = LogReader(path: path, options)
        let headers: HTTPHeaders = ["Content-Type": "text/plain", "Connection": "close"]
        try await outbound.write(.head(HTTPResponseHead(version: .http1_1, status: .ok, headers: headers)))
        var bytes: [UInt8]? = reader.start()
        while let piece = bytes {
            if !piece.isEmpty { try await outbound.write(.body(ByteBuffer(bytes: piece))) }
            guard options.follow, !isPrevious else { break }
            let canGrow = await worker.isRunning(container)
            if canGrow { try await Task.sleep(for: Self.followInterval) }
            bytes = reader.next()
            // What was written between the last look and the end has been read by now.
            if !canGrow, bytes?.isEmpty == true { break }
        }
        try await outbound.write(.end(nil))
    }
}

/// Turns our answers into those that the HTTP encoder takes.
private final class AnswerHandler: ChannelOutboundHandler {
    typealias OutboundIn = KubeletServer.Answer
    typealias OutboundOut = HTTPServerResponsePart

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part: HTTPServerResponsePart =
            switch self.unwrapOutboundIn(data) {
            case .head(let head): .head(head)
            case .body(let buffer): .body(.byteBuffer(buffer))
            case .end(let trailers): .end(trailers)
            }
        context.write(self.wrapOutboundOut(part), promise: promise)
    }
}
