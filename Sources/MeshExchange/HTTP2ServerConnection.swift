internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A client that speaks HTTP/2.
///
///     open ─drain─▶ announced ─PING answered, or a while─▶ draining ─last stream over─▶ over
///     any of them ─idle, wrong, gone─▶ over
final class HTTP2ServerConnection: HTTP2Connection, ServedConnection {
    private enum Phase { case open, announced, draining }
    /// For the answer to the PING that follows the first GOAWAY.
    private static let noticeTimeout = Duration.seconds(1)
    private static let noticePing: UInt64 = 0x6472_6169_6e69_6e67

    let client: ServedClient
    private var phase = Phase.open
    private var timer: LoopTimer?

    init(_ server: ExchangeServer, _ client: ServedClient) {
        self.client = client
        super.init(server, client.pipe, role: .server)
        server.opened(self)
        self.arm(server.configuration.idleTimeout)
        if server.isDraining { self.drain() }
    }

    override func opened(
        _ id: HTTP2StreamID, _ fields: HTTP2HeaderList, endStream: Bool
    ) throws(HTTP2ConnectionError) {
        guard self.phase != .draining, self.streams.count < self.server.configuration.streamsMax else {
            self.note(id)
            return try self.refused(id)
        }
        if self.streams.isEmpty, self.phase == .open { self.timer?.cancel() }
        let stream = HTTP2ServerStream(id, self)
        self.add(stream)
        if fields.isTruncated {
            self.server.refused(self.client, "\(HTTP2MalformedMessage.truncated)", .http2, status: 431)
            return stream.refuse(431)
        }
        do throws(HTTP2MalformedMessage) {
            let head = try HTTP2RequestHead(validating: fields, extendedConnect: true)
            let length = try HTTP2FieldRules.contentLength(fields)
            if endStream, let length, length > 0 { throw .wrongContentLength }
            stream.expect(length)
            stream.begin(head, endStream: endStream)
        } catch {
            self.server.refused(self.client, "\(error)", .http2)
            try self.broke(HTTP2StreamError(id, .malformed(error)))
        }
    }

    override func streamsChanged() {
        guard self.streams.isEmpty, !self.isOver else { return }
        switch self.phase {
        case .open: self.arm(self.server.configuration.idleTimeout)
        case .announced: break
        case .draining: self.close(.noError, "")
        }
    }

    override func ended() {
        self.timer?.cancel()
        self.timer = nil
        self.server.closed(self)
    }

    /// One timer for the connection: idle, and while the client is told that we go.
    private func arm(_ limit: Duration) {
        let timer = self.timer ?? LoopTimer(loop: self.server.loop) { [unowned self] in self.expired() }
        self.timer = timer
        timer.arm(after: limit)
    }

    private func expired() {
        switch self.phase {
        case .open: if self.streams.isEmpty { self.close(.noError, "idle") }
        case .announced: self.announcedLongEnough()
        case .draining: break
        }
    }

    // MARK: Draining

    /// First a GOAWAY that refuses nothing, so that requests which are on their way are served (RFC 9113, 6.8); when the
    /// client has heard it, the last one.
    func drain() {
        guard self.phase == .open, !self.isOver else { return }
        self.phase = .announced
        self.goAway(.noError, last: HTTP2StreamID(HTTP2StreamID.largest))
        self.control { HTTP2FrameWriter.appendPing(opaque: Self.noticePing, ack: false, to: &$0) }
        self.arm(Self.noticeTimeout)
    }

    override func receivedPingAck(_ opaque: UInt64) {
        if opaque == Self.noticePing, self.phase == .announced { self.announcedLongEnough() }
    }

    private func announcedLongEnough() {
        self.phase = .draining
        self.timer?.cancel()
        if self.streams.isEmpty { self.close(.noError, "") } else { self.goAway(.noError) }
    }
}
