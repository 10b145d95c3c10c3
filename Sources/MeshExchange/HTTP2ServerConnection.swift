internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A client that speaks HTTP/2.
final class HTTP2ServerConnection: HTTP2Connection, ServedConnection {
    let served: ServedStream
    let target: ServedTarget
    private var isDraining = false
    private var timer: LoopTimer?

    init(_ server: ExchangeServer, _ stream: ServedStream, _ target: ServedTarget) {
        self.served = stream
        self.target = target
        super.init(server, stream.pipe, role: .server)
        server.opened(self)
        self.armIdle()
        if server.isDraining { self.drain() }
    }

    override func opened(
        _ id: HTTP2StreamID, _ fields: HTTP2HeaderList, endStream: Bool
    ) throws(HTTP2ConnectionError) {
        // Trailers or a second head for a stream that has ended.
        guard id > self.lastStream else { throw .wrongStream(.headers, id) }
        guard !self.isDraining, self.streams.count < self.server.configuration.streamsMax else {
            self.note(id)
            return try self.refused(id)
        }
        let stream = HTTP2ServerStream(id, self)
        self.timer?.cancel()
        do throws(HTTP2MalformedMessage) {
            let head = try HTTP2RequestHead(validating: fields, extendedConnect: true)
            let length = try HTTP2FieldRules.contentLength(fields)
            if endStream, let length, length > 0 { throw .badContentLength(String(length)) }
            stream.expect(length)
            self.add(stream)
            stream.begin(head, endStream: endStream)
        } catch {
            self.note(id)
            self.server.refused(self.served, "\(error)")
            try self.broke(HTTP2StreamError(id, .malformed(error)))
        }
    }

    override func streamsChanged() {
        guard self.streams.isEmpty, !self.isOver else { return }
        if self.isDraining { return self.close(.noError, "") }
        self.armIdle()
    }

    override func ended() {
        self.timer?.cancel()
        self.timer = nil
        self.server.closed(self)
    }

    private func armIdle() {
        let timer = LoopTimer(loop: self.server.loop) { [unowned self] in
            if self.streams.isEmpty { self.close(.noError, "idle") }
        }
        self.timer?.cancel()
        self.timer = timer
        timer.arm(after: self.server.configuration.idleTimeout)
    }

    /// GOAWAY: what is under way is served to its end.
    func drain() {
        guard !self.isDraining, !self.isOver else { return }
        self.isDraining = true
        if self.streams.isEmpty { return self.close(.noError, "") }
        self.goAway(.noError)
    }
}

/// A request of an HTTP/2 client.
final class HTTP2ServerStream: HTTP2Stream, ClientStream {
    private var exchange: Exchange?
    private var hasAnswered = false
    /// An extended CONNECT (RFC 8441) that an HTTP/1 endpoint sees as an upgrade.
    private var isExtendedConnect = false

    private var owner: HTTP2ServerConnection {
        guard let owner = self.connection as? HTTP2ServerConnection else { preconditionFailure("a server's stream") }
        return owner
    }

    func begin(_ head: HTTP2RequestHead, endStream: Bool) {
        if head.isPlainConnect {
            let server = self.owner.server
            server.refused(self.owner.served, "CONNECT is served by the tunnel, not inside it")
            self.isExtendedConnect = false
            var fields = HTTP2HeaderList()
            fields.append("content-length", "0")
            self.respond(ResponseHead(status: 405, fields: fields), hasBody: false)
            return
        }
        var fields = head.fields.endToEnd()
        var method = head.method
        var upgrade: String?
        if let name = head.protocol {
            self.isExtendedConnect = true
            upgrade = name
            method = "GET"
        }
        let request = RequestHead(
            method: method, scheme: head.scheme ?? "http", authority: head.authority ?? head.fields["host"] ?? "",
            path: head.path ?? "/", fields: self.joinCookies(&fields))
        let owner = self.owner
        let exchange = owner.server.exchange(
            for: self, owner.served, owner.target, request, .http2, hasBody: !endStream, upgrade: upgrade)
        self.exchange = exchange
        if endStream { self.finishedByPeer(HTTP2HeaderList()) }
        exchange.start(owner.server.view.served(owner.target))
    }

    /// RFC 9113, 8.2.3: split for compression, one field for everybody else.
    private func joinCookies(_ fields: inout HTTP2HeaderList) -> HTTP2HeaderList {
        let cookies = fields.values(of: "cookie")
        guard cookies.count > 1 else { return fields }
        fields.replace("cookie", cookies.joined(separator: "; "))
        return fields
    }

    // MARK: From the client

    override var isAnswered: Bool { self.hasAnswered }

    override func receivedHeaders(_ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2MalformedMessage) {
        guard endStream, !self.receivedEnd else { throw .unexpectedPseudoHeader("a second head") }
        try HTTP2FieldRules.checkTrailers(fields)
        try self.checkEnd()
        self.finishedByPeer(fields)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) -> Bool { self.exchange?.receivedBody(bytes) ?? true }
    override func peerFinished(_ trailers: HTTP2HeaderList) { self.exchange?.requestFinished(trailers) }
    override func peerReset(_ code: HTTP2ErrorCode) { self.left(.clientEnd, "the client reset its stream: \(code)") }
    override func broken(_ text: String) { self.left(.clientProtocolError, text) }
    override func connectionLost(_ text: String) { self.left(.clientEnd, text) }
    override func drained() { self.exchange?.clientDrained() }

    private func left(_ flags: ExchangeFlags, _ details: String) {
        let exchange = self.exchange
        self.exchange = nil
        exchange?.clientLeft(flags, details: details)
    }

    // MARK: The response

    func inform(_ head: ResponseHead) { if head.status != 101 { self.sendHead(head, endStream: false) } }

    func respond(_ head: ResponseHead, hasBody: Bool) {
        self.hasAnswered = true
        self.sendHead(head, endStream: !hasBody)
        if !hasBody { self.endedWithHead() }
    }

    private func sendHead(_ head: ResponseHead, endStream: Bool) {
        self.connection.sendHeaders(
            self.id,
            { encoder, block in
                HTTP2ResponseHead.appendStatus(head.status, &encoder, to: &block)
                encoder.append(head.fields, to: &block)
            }, endStream: endStream)
    }

    func send(_ bytes: UnsafeRawBufferPointer) { self.queue(bytes) }
    func finish(_ trailers: HTTP2HeaderList) { self.queueEnd(trailers) }

    func switchProtocol(_ head: ResponseHead) {
        self.hasAnswered = true
        var response = ResponseHead(status: 200, fields: head.fields)
        response.fields.remove(named: "upgrade")
        response.fields.remove(named: "sec-websocket-accept")
        self.sendHead(response, endStream: false)
    }

    func abort() {
        self.exchange = nil
        self.reset(.internalError)
    }

    func exchangeEnded() {
        self.exchange = nil
        // The response is complete, and the rest of the request is not wanted (RFC 9113, 8.1): that is said behind it.
        if !self.receivedEnd, self.sentEnd { self.reset(.noError) }
    }

    func wantsMore() { self.resume() }
}
