internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A connection to an endpoint that speaks HTTP/2, shared by many requests.
final class HTTP2ClientConnection: HTTP2Connection, PooledConnection {
    let key: UpstreamKey
    private let pool: UpstreamPool
    private var nextStream: UInt32 = 1
    private(set) var isGoingAway = false
    var idleSince: UInt64 = 0

    init(_ pool: UpstreamPool, _ key: UpstreamKey, _ channel: any ByteChannel) {
        self.pool = pool
        self.key = key
        super.init(pool.server, channel, role: .client)
    }

    var isIdle: Bool { self.streams.isEmpty && !self.isOver }

    var hasRoom: Bool {
        let limit = min(self.peerSettings.maxConcurrentStreams ?? 100, self.pool.server.configuration.streamsMax)
        return !self.isOver && !self.isGoingAway && self.streams.count < max(1, limit)
            && self.nextStream < HTTP2StreamID.largest - 2
    }

    func take(_ attempt: Attempt) {
        let stream = HTTP2ClientStream(HTTP2StreamID(self.nextStream), self, attempt)
        self.nextStream += 2
        self.add(stream)
        attempt.connected(stream)
    }

    override func opened(
        _ id: HTTP2StreamID, _ fields: HTTP2HeaderList, endStream: Bool
    ) throws(HTTP2ConnectionError) {
        // Of a stream that we gave up; anything else nobody has asked for.
        guard id <= self.lastStream, id.rawValue % 2 == 1 else { throw .wrongStream(.headers, id) }
    }

    override func receivedGoAway(_ last: HTTP2StreamID, _ code: HTTP2ErrorCode) {
        self.isGoingAway = true
        self.pool.goingAway(self)
        for stream in Array(self.streams.values) where stream.id > last {
            self.remove(stream)
            (stream as? HTTP2ClientStream)?.neverProcessed("GOAWAY \(code)")
        }
        self.streamsChanged()
    }

    override func settingsChanged() { self.pool.hasRoom(self) }

    override func streamsChanged() {
        guard !self.isOver else { return }
        if self.streams.isEmpty {
            if self.isGoingAway { return self.close(.noError, "") }
            self.idleSince = self.server.loop.now
        }
        self.pool.hasRoom(self)
    }

    override func ended() { self.pool.ended(self) }

    func close() { self.close(.noError, "") }
}

/// A request to an HTTP/2 endpoint.
final class HTTP2ClientStream: HTTP2Stream, UpstreamStream {
    private var owner: (any UpstreamStreamOwner)?
    private var hasResponse = false
    private var isHead = false
    private var isSwitched = false
    private var expectsSwitch = false

    init(_ id: HTTP2StreamID, _ connection: HTTP2Connection, _ owner: any UpstreamStreamOwner) {
        self.owner = owner
        super.init(id, connection)
    }

    // MARK: The request

    func request(_ head: RequestHead, hasBody: Bool) {
        self.isHead = head.method == "HEAD"
        let upgrade = head.fields["upgrade"]
        self.expectsSwitch = upgrade != nil
        self.connection.sendHeaders(
            self.id,
            { encoder, block in
                encoder.append(":method", upgrade == nil ? head.method : "CONNECT", .none, to: &block)
                encoder.append(":scheme", head.scheme, .none, to: &block)
                encoder.append(":authority", head.authority, .table, to: &block)
                encoder.append(":path", head.path, .none, to: &block)
                var fields = head.fields
                if let upgrade {
                    encoder.append(":protocol", upgrade, .none, to: &block)
                    fields.remove(named: "upgrade")
                    fields.remove(named: "sec-websocket-key")
                }
                encoder.append(fields, to: &block)
            }, endStream: !hasBody && upgrade == nil)
        if !hasBody, upgrade == nil { self.endedWithHead() }
    }

    func send(_ bytes: UnsafeRawBufferPointer) { self.queue(bytes) }
    func finish(_ trailers: HTTP2HeaderList) { self.queueEnd(trailers) }
    func wantsMore() { self.resume() }

    func cancel() {
        self.owner = nil
        self.reset(.cancel)
    }

    // MARK: The response

    override var isAnswered: Bool { self.hasResponse }

    override func receivedHeaders(_ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2MalformedMessage) {
        if self.hasResponse {
            guard endStream else { throw .unexpectedPseudoHeader("a second head") }
            try HTTP2FieldRules.checkTrailers(fields)
            try self.checkEnd()
            return self.finishedByPeer(fields)
        }
        let head = try HTTP2ResponseHead(validating: fields)
        let response = ResponseHead(status: head.status, fields: head.fields.endToEnd())
        if head.isInformational {
            guard !endStream else { throw .badStatus(String(head.status)) }
            self.owner?.attemptInformed(response)
            return
        }
        self.hasResponse = true
        if self.expectsSwitch, head.isSuccess {
            self.isSwitched = true
            self.owner?.attemptSwitchedProtocol(response)
            return
        }
        if !self.isHead, response.status != 304 {
            let length = try HTTP2FieldRules.contentLength(fields)
            if endStream, let length, length > 0 { throw .badContentLength(String(length)) }
            self.expect(length)
        }
        let owner = self.owner
        if endStream { self.owner = nil }
        owner?.attemptResponded(response, hasBody: !endStream)
        if endStream { self.endOfResponse() }
    }

    override var acceptsData: Bool { self.hasResponse && !self.receivedEnd }

    override func received(_ bytes: UnsafeRawBufferPointer) -> Bool { self.owner?.attemptReceived(bytes) ?? true }

    override func peerFinished(_ trailers: HTTP2HeaderList) {
        let owner = self.owner
        self.owner = nil
        owner?.attemptFinished(trailers)
        // The endpoint has answered before it had everything: the rest is not sent.
        if !self.sentEnd { self.reset(.noError) }
    }

    private func endOfResponse() { self.finishedByPeer(HTTP2HeaderList()) }

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

    override func connectionLost(_ text: String) {
        self.fail(UpstreamTrouble(.ended, "the endpoint's connection was lost: \(text)", isUntouched: false))
    }

    override func drained() { self.owner?.attemptDrained() }

    private func fail(_ trouble: UpstreamTrouble) {
        let owner = self.owner
        self.owner = nil
        owner?.attemptFailed(trouble)
    }
}
