internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes

/// A request to an HTTP/2 endpoint.
final class HTTP2ClientStream: HTTP2Stream, UpstreamStream {
    /// Heads that may come before the response's own; an endpoint could go on for ever.
    static let informationalMax = 16

    let peer: UpstreamPeer
    private var owner: (any UpstreamStreamOwner)?
    private var hasResponse = false
    private var isSwitched = false
    private var isHead = false
    private var informational = 0
    /// Waits for the endpoint's settings, with its request.
    private var waiting: RequestHead?
    /// Of a request to change the protocol: what it asked for, and the key that its client gave.
    private var upgrade: (name: String, key: String?)?

    init(
        _ id: HTTP2StreamID, _ connection: HTTP2Connection, _ peer: UpstreamPeer, _ owner: any UpstreamStreamOwner
    ) {
        self.peer = peer
        self.owner = owner
        super.init(id, connection)
    }

    private var client: HTTP2ClientConnection? { self.connection as? HTTP2ClientConnection }

    // MARK: The request

    func request(_ head: RequestHead, hasBody: Bool) {
        self.isHead = head.method == "HEAD"
        guard let upgrade = head.fields["upgrade"] else {
            self.sendRequest(head, protocol: nil, endStream: !hasBody)
            if !hasBody { self.endedWithHead() }
            return
        }
        self.upgrade = (upgrade.lowercased(), head.fields["sec-websocket-key"])
        switch self.client?.extendedConnect ?? .unknown {
        case .known: self.sendUpgrade(head)
        case .unknown: self.cannotSwitch()
        case .notSaid:
            self.waiting = head
            self.client?.awaitSettings(self)
        }
    }

    func settingsCame() {
        guard let head = self.waiting, self.isOpen else { return }
        self.waiting = nil
        guard self.client?.extendedConnect == .known else { return self.cannotSwitch() }
        self.sendUpgrade(head)
        // What came meanwhile.
        self.connection.mayPump(self)
        self.connection.sendBodies()
    }

    private func sendUpgrade(_ head: RequestHead) {
        var head = head
        head.method = "CONNECT"
        head.fields.remove(named: "upgrade")
        head.fields.remove(named: "sec-websocket-key")
        self.sendRequest(head, protocol: self.upgrade?.name, endStream: false)
    }

    private func cannotSwitch() {
        self.giveUp(
            UpstreamTrouble(
                .protocolError, "the endpoint's HTTP/2 has no extended CONNECT (RFC 8441), which an upgrade needs",
                isUntouched: false))
    }

    /// Nothing of the request has been sent.
    private func giveUp(_ trouble: UpstreamTrouble) {
        let owner = self.owner
        self.owner = nil
        self.connection.forget(self)
        owner?.attemptFailed(trouble)
    }

    private func sendRequest(_ head: RequestHead, protocol name: String?, endStream: Bool) {
        if let limit = self.connection.peerSettings.headerListBytesMax {
            let bytes = Self.listBytes(head, protocol: name)
            guard bytes <= limit else {
                return self.giveUp(
                    UpstreamTrouble(
                        .headTooLarge, "the request's head has \(bytes) bytes, and the endpoint takes \(limit)",
                        isUntouched: true))
            }
        }
        self.connection.sendHeaders(self.id, endStream: endStream) { encoder, block in
            encoder.append(":method", head.method, .none, to: &block)
            encoder.append(":scheme", head.scheme, .none, to: &block)
            if !head.authority.isEmpty { encoder.append(":authority", head.authority, .table, to: &block) }
            encoder.append(":path", head.path, .none, to: &block)
            if let name { encoder.append(":protocol", name, .table, to: &block) }
            encoder.append(head.fields, to: &block)
        }
    }

    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113, 6.5.2).
    private static func listBytes(_ head: RequestHead, protocol name: String?) -> Int {
        var bytes = head.fields.listBytes
        func add(_ pseudo: StaticString, _ value: String) { bytes += pseudo.utf8CodeUnitCount + value.utf8.count + 32 }
        add(":method", head.method)
        add(":scheme", head.scheme)
        if !head.authority.isEmpty { add(":authority", head.authority) }
        add(":path", head.path)
        if let name { add(":protocol", name) }
        return bytes
    }

    override var holdsBody: Bool { self.waiting != nil }

    func send(_ bytes: UnsafeRawBufferPointer, isLast: Bool) { self.queue(bytes, isLast: isLast) }
    func finish(_ trailers: HTTP2HeaderList) { self.queueEnd(trailers) }
    func wantsMore() { self.resume() }

    func cancel() {
        self.owner = nil
        // Both directions have ended: what waits for the endpoint's window still goes.
        if self.isSwitched, self.receivedEnd, self.isEnding { return }
        if self.waiting != nil { self.connection.forget(self) } else { self.reset(.cancel) }
    }

    // MARK: The response

    override var isAnswered: Bool { self.hasResponse }

    override func receivedHeaders(_ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2MalformedMessage) {
        if self.hasResponse {
            guard endStream else { throw .secondHead }
            try HTTP2FieldRules.checkTrailers(fields)
            try self.checkEnd()
            return self.finishedByPeer(fields.trailersToForward())
        }
        let head = try HTTP2ResponseHead(validating: fields)
        var response = ResponseHead(status: head.status, fields: head.fields.endToEnd())
        if head.isInformational {
            self.informational += 1
            guard !endStream, self.informational <= Self.informationalMax else { throw .badStatus(String(head.status)) }
            self.owner?.attemptInformed(response)
            return
        }
        self.hasResponse = true
        if let upgrade, head.isSuccess {
            self.isSwitched = true
            self.answerUpgrade(upgrade, &response)
            self.owner?.attemptSwitchedProtocol(response)
            return endStream ? self.finishedByPeer(HTTP2HeaderList()) : ()
        }
        let length = try HTTP2FieldRules.contentLength(fields)
        // The head says what a body would be; there is none, whatever follows (RFC 9110, 6.4.1).
        let hasNone = self.isHead || response.status == 304 || response.status == 204
        if !hasNone, endStream, let length, length > 0 { throw .wrongContentLength }
        self.expect(hasNone ? 0 : length)
        let hasBody = !endStream && !hasNone
        let owner = self.owner
        if !hasBody { self.owner = nil }
        owner?.attemptResponded(response, hasBody: hasBody)
        if endStream { self.finishedByPeer(HTTP2HeaderList()) }
    }

    /// As an HTTP/1 server would have said it.
    private func answerUpgrade(_ upgrade: (name: String, key: String?), _ response: inout ResponseHead) {
        response.status = 101
        response.fields.replace("upgrade", upgrade.name)
        if let key = upgrade.key { response.fields.replace("sec-websocket-accept", WebSocketKey.answer(to: key)) }
    }

    override func checkBody() throws(HTTP2MalformedMessage) {
        guard self.hasResponse else { throw .missingPseudoHeader(":status") }
    }

    override func received(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool {
        self.owner?.attemptReceived(bytes, isLast: isLast) ?? true
    }

    override func peerFinished(_ trailers: HTTP2HeaderList) {
        // One direction; the other is the owner's to end.
        if self.isSwitched { return self.owner?.attemptFinished(trailers) ?? () }
        let owner = self.owner
        self.owner = nil
        owner?.attemptFinished(trailers)
        // The endpoint has answered before it had everything: the rest is not sent.
        if !self.sentEnd { self.reset(.noError) }
    }

    override func peerReset(_ code: HTTP2ErrorCode) {
        self.fail(
            UpstreamTrouble(
                code == .refusedStream ? .refused : .reset, "the endpoint reset the stream: \(code)",
                isUntouched: code == .refusedStream))
    }

    func neverProcessed(_ reason: String) {
        self.fail(UpstreamTrouble(.refused, "the endpoint did not look at the request: \(reason)", isUntouched: true))
    }

    override func broken(_ text: String) {
        self.fail(UpstreamTrouble(.protocolError, "the endpoint broke HTTP/2: \(text)", isUntouched: false))
    }

    override func stalled(_ text: String) { self.fail(UpstreamTrouble(.reset, text, isUntouched: false)) }

    override func connectionLost(_ text: String) {
        self.fail(
            UpstreamTrouble(
                .ended, "the endpoint's connection was lost: \(text)", isUntouched: self.waiting != nil))
    }

    override func drained() { self.owner?.attemptDrained() }

    private func fail(_ trouble: UpstreamTrouble) {
        let owner = self.owner
        self.owner = nil
        owner?.attemptFailed(trouble)
    }
}
