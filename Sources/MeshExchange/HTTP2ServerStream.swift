internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A request of an HTTP/2 client.
final class HTTP2ServerStream: HTTP2Stream, ClientStream {
    private var exchange: Exchange?
    private var hasAnswered = false
    private var isSwitched = false

    private var owner: HTTP2ServerConnection {
        guard let owner = self.connection as? HTTP2ServerConnection else { preconditionFailure("a server's stream") }
        return owner
    }

    func begin(_ head: HTTP2RequestHead, endStream: Bool) {
        let owner = self.owner
        if head.isPlainConnect {
            owner.server.refused(owner.client, "CONNECT is served by the tunnel, not inside it", .http2, status: 405)
            return self.refuse(405)
        }
        if let name = head.protocol, !UpgradeRule.isPassedOn(name) {
            let reason = "an extended CONNECT for \(name), which would go past every route and policy"
            owner.server.refused(owner.client, reason, .http2, status: 501)
            return self.refuse(501)
        }
        var fields = head.fields.endToEnd()
        self.makeSingle(&fields)
        var method = head.method
        if head.protocol != nil {
            // RFC 8441: what HTTP/1 and routes know as a GET with an upgrade.
            method = "GET"
            if head.protocol == "websocket", !fields.has("sec-websocket-key") {
                fields.append("sec-websocket-key", WebSocketKey.random { owner.server.book.random() })
            }
        }
        let request = RequestHead(
            method: method, scheme: head.scheme ?? "http", authority: head.authority ?? head.fields["host"] ?? "",
            path: head.path ?? "/", fields: fields)
        let exchange = owner.server.exchange(
            for: self, of: owner.client, request, .http2, hasBody: !endStream, upgrade: head.protocol)
        self.exchange = exchange
        if endStream { self.finishedByPeer(HTTP2HeaderList()) }
        exchange.start(owner.server.view.served(owner.client.target))
    }

    /// Fields that HTTP/2 may split or repeat, and HTTP/1 must not: cookies (RFC 9113, 8.2.3) and equal lengths.
    private func makeSingle(_ fields: inout HTTP2HeaderList) {
        let cookies = fields.values(of: "cookie")
        if cookies.count > 1 { fields.replace("cookie", cookies.joined(separator: "; ")) }
        let lengths = fields.values(of: "content-length")
        if lengths.count > 1 { fields.replace("content-length", lengths[0]) }
    }

    /// An answer without an exchange.
    func refuse(_ status: Int) {
        var fields = HTTP2HeaderList()
        fields.append("content-length", "0")
        self.respond(ResponseHead(status: status, fields: fields), hasBody: false)
        self.wantsNoMore()
    }

    // MARK: From the client

    override var isAnswered: Bool { self.hasAnswered }

    override func receivedHeaders(_ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2MalformedMessage) {
        guard endStream else { throw .secondHead }
        try HTTP2FieldRules.checkTrailers(fields)
        try self.checkEnd()
        self.finishedByPeer(fields.trailersToForward())
    }

    override func received(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool {
        self.exchange?.receivedBody(bytes, isLast: isLast) ?? true
    }
    override func peerFinished(_ trailers: HTTP2HeaderList) { self.exchange?.requestFinished(trailers) }
    override func peerReset(_ code: HTTP2ErrorCode) { self.left(.clientEnd, "the client reset its stream: \(code)") }
    override func broken(_ text: String) { self.left(.clientProtocolError, text) }
    override func stalled(_ text: String) { self.left(.idleTimeout, text) }
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
        if !hasBody, self.isOpen { self.endedWithHead() }
    }

    private func sendHead(_ head: ResponseHead, endStream: Bool) {
        guard self.isOpen else { return }
        self.connection.sendHeaders(self.id, endStream: endStream) { encoder, block in
            HTTP2ResponseHead.appendStatus(head.status, &encoder, to: &block)
            encoder.append(head.fields, to: &block)
        }
    }

    func send(_ bytes: UnsafeRawBufferPointer, isLast: Bool) { self.queue(bytes, isLast: isLast) }
    func finish(_ trailers: HTTP2HeaderList) { self.queueEnd(trailers) }

    /// RFC 8441: 200 and no more than that; the upgrade's own fields belong to HTTP/1.
    func switchProtocol(_ head: ResponseHead) {
        self.hasAnswered = true
        self.isSwitched = true
        var response = ResponseHead(status: 200, fields: head.fields)
        response.fields.remove(named: "upgrade")
        response.fields.remove(named: "sec-websocket-accept")
        self.sendHead(response, endStream: false)
    }

    func abort() {
        self.exchange = nil
        // RFC 8441, 5: a reset of what is carried is CANCEL.
        self.reset(self.isSwitched ? .cancel : .internalError)
    }

    func exchangeEnded() {
        self.exchange = nil
        self.wantsNoMore()
    }

    func wantsMore() { self.resume() }
}
