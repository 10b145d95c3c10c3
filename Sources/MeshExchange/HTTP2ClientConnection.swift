internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A connection to an endpoint that speaks HTTP/2, shared by many requests.
final class HTTP2ClientConnection: HTTP2Connection, PooledConnection {
    /// Assumed of an endpoint that has said nothing yet.
    static let streamsAssumed = 100

    let key: UpstreamKey
    let peer: UpstreamPeer
    private let pool: UpstreamPool
    private var nextStream: UInt32 = 1
    private(set) var isGoingAway = false
    var idleSince: UInt64 = 0
    /// Want an extended CONNECT, of which the endpoint must first say that it knows it.
    private var awaitingSettings: [HTTP2ClientStream] = []

    init(_ pool: UpstreamPool, _ key: UpstreamKey, _ channel: any ByteChannel, _ peer: UpstreamPeer) {
        self.pool = pool
        self.key = key
        self.peer = peer
        super.init(pool.server, channel, role: .client)
    }

    var isIdle: Bool { self.streams.isEmpty && !self.isOver }

    var hasRoom: Bool {
        let limit = min(
            self.peerSettings.maxConcurrentStreams ?? Self.streamsAssumed, self.pool.server.configuration.streamsMax)
        return !self.isOver && !self.isGoingAway && self.streams.count < limit
            && self.nextStream < HTTP2StreamID.largest - 2
            // Identifiers must go out in order: nobody overtakes a request that waits.
            && self.awaitingSettings.isEmpty
    }

    /// The endpoint wants no requests for a while, and says so: another connection would hear the same.
    var isRefusing: Bool { !self.isOver && !self.isGoingAway && self.peerSettings.maxConcurrentStreams == 0 }

    func take(_ attempt: Attempt) {
        let stream = HTTP2ClientStream(HTTP2StreamID(self.nextStream), self, self.peer, attempt)
        self.nextStream += 2
        self.add(stream)
        attempt.connected(stream)
        if self.nextStream >= HTTP2StreamID.largest - 2 {
            // No identifiers are left: the connection serves what it has.
            self.isGoingAway = true
            self.pool.goingAway(self)
        }
    }

    override func opened(
        _ id: HTTP2StreamID, _ fields: HTTP2HeaderList, endStream: Bool
    ) throws(HTTP2ConnectionError) {
        // Nobody has asked for this.
        throw .wrongStream(.headers, id)
    }

    override func receivedGoAway(_ last: HTTP2StreamID, _ code: HTTP2ErrorCode) {
        if !self.isGoingAway {
            self.isGoingAway = true
            self.pool.goingAway(self)
        }
        for stream in Array(self.streams.values) where stream.id > last {
            self.remove(stream)
            (stream as? HTTP2ClientStream)?.neverProcessed("GOAWAY \(code)")
        }
        self.streamsChanged()
    }

    // MARK: Extended CONNECT (RFC 8441)

    enum ExtendedConnect { case known, unknown, notSaid }

    var extendedConnect: ExtendedConnect {
        self.hasPeerSettings ? self.peerSettings.enableConnectProtocol ? .known : .unknown : .notSaid
    }

    func awaitSettings(_ stream: HTTP2ClientStream) { self.awaitingSettings.append(stream) }

    override func settingsChanged() {
        let awaiting = self.awaitingSettings
        self.awaitingSettings = []
        for stream in awaiting { stream.settingsCame() }
        self.pool.hasRoom(self)
    }

    override func streamsChanged() {
        guard !self.isOver else { return }
        if self.streams.isEmpty {
            if self.isGoingAway { return self.close(.noError, "") }
            self.idleSince = self.server.loop.now
        }
        self.pool.hasRoom(self)
    }

    override func ended() {
        self.awaitingSettings = []
        self.pool.ended(self)
    }

    func close() { self.close(.noError, "") }
}
