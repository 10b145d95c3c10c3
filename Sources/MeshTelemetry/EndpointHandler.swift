internal import NIOCore
internal import NIOHTTP1

/// One connection of an ``HTTPEndpoints`` server; requests are answered one after the other.
final class EndpointHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let routes: [EndpointRoute]
    private let limits: HTTPEndpoints.Limits
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    private var timer: Scheduled<Void>?

    init(routes: [EndpointRoute], limits: HTTPEndpoints.Limits) {
        self.routes = routes
        self.limits = limits
    }

    func channelActive(context: ChannelHandlerContext) {
        self.arm(self.limits.headTimeout, context)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.timer?.cancel()
        context.fireChannelInactive()
    }

    private func arm(_ limit: TimeAmount, _ context: ChannelHandlerContext) {
        self.timer?.cancel()
        let channel = context.channel
        self.timer = context.eventLoop.scheduleTask(in: limit) { channel.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.unwrapInboundIn(data) {
        case .head(let head):
            self.body = []
            if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }),
                length > self.limits.bodyBytesMax
            {
                return self.refuseBody(context)
            }
            self.head = head
        case .body(let part):
            guard self.head != nil else { return }
            guard self.body.count + part.readableBytes <= self.limits.bodyBytesMax else {
                return self.refuseBody(context)
            }
            self.body += part.readableBytesView
        case .end:
            guard let head = self.head else { return }
            self.timer?.cancel()
            self.head = nil
            self.answer(head, context)
        }
    }

    /// Whatever else comes on this connection is ignored.
    private func refuseBody(_ context: ChannelHandlerContext) {
        self.head = nil
        self.body = []
        self.send(.text("the body is too long\n", status: 413), keepAlive: false, context)
    }

    private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let (path, query) = RequestTarget.split(head.uri)
        var request = EndpointRequest(
            method: head.method.rawValue, path: path, query: query,
            headers: head.headers.map { ($0.name.lowercased(), $0.value) }, body: self.body)
        self.body = []
        let peer = context.channel.remoteAddress?.ipAddress ?? ""
        request.isFromThisMachine = ["127.", "::ffff:127."].contains { peer.hasPrefix($0) } || peer == "::1"
        let (asked, routes) = (request, self.routes)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let keepAlive = head.isKeepAlive
        context.eventLoop.makeFutureWithTask { await routes.answer(asked) }.whenSuccess { answer in
            let (handler, context) = bound.value
            handler.send(answer, keepAlive: keepAlive, context)
        }
    }

    private func send(_ answer: EndpointAnswer, keepAlive: Bool, _ context: ChannelHandlerContext) {
        guard context.channel.isActive else { return }
        var headers = HTTPHeaders()
        headers.add(name: "content-type", value: answer.contentType)
        headers.add(name: "content-length", value: "\(answer.body.count)")
        if !keepAlive { headers.add(name: "connection", value: "close") }
        let head = HTTPResponseHead(
            version: .http1_1, status: HTTPResponseStatus(statusCode: answer.status), headers: headers)
        context.write(self.wrapOutboundOut(.head(head)), promise: nil)
        context.write(
            self.wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: answer.body)))), promise: nil
        )
        let channel = context.channel
        let sent = context.writeAndFlush(self.wrapOutboundOut(.end(nil)))
        if keepAlive {
            self.arm(HTTPEndpoints.idleTimeout, context)
        } else {
            sent.whenComplete { _ in channel.close(promise: nil) }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// `path?name=value&flag`.
package enum RequestTarget {
    /// More parameters than this are ignored.
    static let parametersMax = 64

    package static func split(_ target: String) -> (path: String, query: [(name: String, value: String?)]) {
        guard let mark = target.firstIndex(of: "?") else { return (Self.decode(target[...]), []) }
        let query = target[target.index(after: mark)...].split(separator: "&").prefix(Self.parametersMax)
            .map { part -> (name: String, value: String?) in
                guard let equals = part.firstIndex(of: "=") else { return (Self.decode(part), nil) }
                return (Self.decode(part[..<equals]), Self.decode(part[part.index(after: equals)...]))
            }
        return (Self.decode(target[..<mark]), query)
    }

    /// Percent escapes that are none stay as they are.
    private static func decode(_ text: Substring) -> String {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
        let bytes = Array(text.utf8)
        var decoded: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
                let value = UInt8(String(decoding: bytes[index + 1...index + 2], as: UTF8.self), radix: 16)
            {
                decoded.append(value)
                index += 3
            } else {
                decoded.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: decoded, as: UTF8.self)
    }
}
