import Foundation
import KubeAPI
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket

/// Reaching a port of a pod, on the pod's own loopback, as `kubectl port-forward` does: through the API server and the
/// kubelet, over a WebSocket with the subprotocol `v4.channel.k8s.io`. Channel 0 carries the connection's bytes, channel 1
/// the text of an error; the first message on each is the port's number.
extension KubeClient {
    private typealias Frames = NIOAsyncChannel<WebSocketFrame, WebSocketFrame>
    private typealias Parts = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    private enum Answer: Sendable {
        case upgraded(Frames)
        case refused(Parts)
    }

    private static let protocolName = "v4.channel.k8s.io"
    private static let dataChannel: UInt8 = 0
    private static let errorChannel: UInt8 = 1
    /// Kubelets send at most 32 KiB at once.
    private static let frameBytesMax = 4 << 20
    private static let errorBytesMax = 64 << 10
    static let podRequestTimeout = Duration.seconds(30)

    /// One HTTP request to a server inside a pod.
    ///
    /// - Throws: ``StatusError`` when the API server refuses, ``KubeConnectionError`` when the pod could not be asked. Any
    ///   status of the pod's own answer is a success here.
    public func podRequest(
        namespace: String, pod: String, port: Int, method: String = "GET", path: String, body: [UInt8] = []
    ) async throws -> PodResponse {
        let subject = "port \(port) of pod \(namespace)/\(pod)"
        return try await withThrowingTaskGroup(of: PodResponse.self) { group in
            group.addTask {
                do {
                    return try await self.exchange(namespace, pod, port, method, path, body)
                } catch let error as StatusError {
                    throw error
                } catch let error as KubeConnectionError {
                    throw error
                } catch let error as CancellationError {
                    throw error
                } catch {
                    throw KubeConnectionError("\(subject) cannot be asked: \(error)")
                }
            }
            group.addTask {
                try await Task.sleep(for: Self.podRequestTimeout)
                throw KubeConnectionError("\(subject) did not answer within \(Self.podRequestTimeout)")
            }
            defer { group.cancelAll() }
            guard let first = try await group.next() else { throw CancellationError() }
            return first
        }
    }

    private func exchange(
        _ namespace: String, _ pod: String, _ port: Int, _ method: String, _ path: String, _ body: [UInt8]
    ) async throws -> PodResponse {
        let target = ResourceType.pods.path(namespace: namespace, name: pod, subresource: "portforward")
        switch try await self.upgrade(target + Self.encode([("ports", String(port))])) {
        case .refused(let channel): throw try await Self.refusal(channel)
        case .upgraded(let channel):
            let request =
                "\(method) \(path) HTTP/1.1\r\nHost: localhost:\(port)\r\nConnection: close\r\n"
                + "User-Agent: martlet\r\nContent-Length: \(body.count)\r\n\r\n"
            return try await Self.converse(channel, Array(request.utf8) + body)
        }
    }

    private static func converse(_ channel: Frames, _ request: [UInt8]) async throws -> PodResponse {
        try await channel.executeThenClose { inbound, outbound in
            try await outbound.write(Self.frame(.binary, [Self.dataChannel] + request))
            var reader = PodResponseReader()
            var begun: Set<UInt8> = []
            var current = Self.dataChannel
            frames: for try await frame in inbound {
                var data = frame.unmaskedData
                switch frame.opcode {
                case .ping: try await outbound.write(Self.frame(.pong, Array(data.readableBytesView)))
                case .connectionClose: break frames
                case .binary, .text, .continuation:
                    if frame.opcode != .continuation {
                        guard let number = data.readInteger(as: UInt8.self) else { continue }
                        current = number
                        // The port, in two bytes.
                        if begun.insert(number).inserted { data.moveReaderIndex(forwardBy: min(2, data.readableBytes)) }
                    }
                    if current == Self.dataChannel {
                        if let response = try reader.receive(data.readableBytesView) { return response }
                    } else if current == Self.errorChannel, data.readableBytes > 0 {
                        let text = String(decoding: data.readableBytesView.prefix(Self.errorBytesMax), as: UTF8.self)
                        throw KubeConnectionError(text)
                    }
                default: continue
                }
            }
            return try reader.end()
        }
    }

    private static func frame(_ opcode: WebSocketOpcode, _ bytes: [UInt8]) -> WebSocketFrame {
        WebSocketFrame(fin: true, opcode: opcode, maskKey: .random(), data: ByteBuffer(bytes: bytes))
    }

    private static func refusal(_ channel: Parts) async throws -> StatusError {
        try await channel.executeThenClose { inbound, _ in
            var status = 0
            var body: [UInt8] = []
            parts: for try await part in inbound {
                switch part {
                case .head(let head): status = Int(head.status.code)
                case .body(let bytes):
                    if body.count < Self.errorBytesMax { body += bytes.readableBytesView }
                case .end: break parts
                }
            }
            return StatusError(code: status, body: (try? JSONValue(parsing: body)) ?? .null)
        }
    }

    private func upgrade(_ target: String) async throws -> Answer {
        guard let url = URLComponents(string: self.configuration.server), let host = url.host else {
            throw KubeConnectionError("\(self.configuration.server) is no URL of an API server")
        }
        // URLComponents leaves the brackets of an IPv6 address in place.
        let name = host.trimmingCharacters(in: ["[", "]"])
        let port = url.port ?? 443
        let context = try NIOSSLContext(configuration: Self.tls(self.configuration))
        var headers = HTTPHeaders([
            ("Host", "\(host):\(port)"), ("User-Agent", self.userAgent), ("Content-Length", "0"),
            ("Sec-WebSocket-Protocol", Self.protocolName),
        ])
        if let token = try self.credential.token() { headers.add(name: "Authorization", value: "Bearer \(token)") }
        let head = HTTPRequestHead(
            version: .http1_1, method: .GET, uri: (url.path == "/" ? "" : url.path) + target, headers: headers)
        let isAddress = (try? SocketAddress(ipAddress: name, port: port)) != nil
        let answer: EventLoopFuture<Answer>
        do {
            answer = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connectTimeout(.seconds(5))
                .connect(host: name, port: port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        // A certificate for an address is compared with the address that we are connected to.
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: context, serverHostname: isAddress ? nil : name))
                        return try Self.configure(channel, head)
                    }
                }
        } catch {
            throw self.unreachable("GET", target, error)
        }
        return try await answer.get()
    }

    private static func configure(_ channel: any Channel, _ head: HTTPRequestHead) throws -> EventLoopFuture<Answer> {
        let upgrader = NIOTypedWebSocketClientUpgrader<Answer>(maxFrameSize: Self.frameBytesMax) { channel, _ in
            channel.eventLoop.makeCompletedFuture {
                .upgraded(try Frames(wrappingChannelSynchronously: channel))
            }
        }
        let upgrade = NIOTypedHTTPClientUpgradeConfiguration<Answer>(
            upgradeRequestHead: head, upgraders: [upgrader],
            notUpgradingCompletionHandler: { channel in
                channel.eventLoop.makeCompletedFuture { .refused(try Parts(wrappingChannelSynchronously: channel)) }
            })
        var pipeline = NIOUpgradableHTTPClientPipelineConfiguration(upgradeConfiguration: upgrade)
        // The kubelet speaks first, perhaps in the same packet as the response: left alone, NIO drops that.
        pipeline.leftOverBytesStrategy = .forwardBytes
        return try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(configuration: pipeline)
    }
}
