internal import MeshHTTP
internal import MeshIdentity
internal import MeshLoop
internal import MeshModel

/// One HBONE connection: TCP, mutual TLS and HTTP/2, carrying CONNECT streams. Dialled by us or accepted by us.
///
///     connecting ─▶ handshaking ─identity proven─▶ open ─GOAWAY─▶ draining ─last stream ends─▶ closed
///     any of them ─error, deadline, silence─▶ closed
///
/// From start to open: `+Handshake`. Bytes and frames in: `+Read`, `+Frames`. Out: `+Write`. Streams: `+Streams`.
/// Deadlines and keepalive: `+Deadlines`. GOAWAY, linger and close: `+End`.
///
/// Owns no large buffer at rest: reads into, parses in, and seals from its loop's scratch buffers. All sending
/// happens in ``turn()``, so that whatever one batch of events produced leaves with one system call.
final class TunnelConnection: EventSource {
    enum Phase { case connecting, handshaking, open, closed }

    /// How far we are in telling the peer to go.
    enum Draining {
        case no
        /// Server only. GOAWAY without a last stream is out: what the peer opened before it heard is still served.
        case announced
        /// GOAWAY with the last stream is out: nothing new is taken.
        case final
        /// All is said; the peer, which has our GOAWAY, closes first. Closing with its frames unread would be a RST
        /// that overtakes our last bytes.
        case lingering
    }

    /// Control frames that wait because the peer does not read; more than this is an attack.
    static let controlBytesMax = 128 << 10
    /// Reads before other connections get their chance.
    static let readsPerTurnMax = 4
    /// How long a drained tunnel waits for its client to close.
    static let lingerTimeout = Duration.seconds(1)
    /// How long the peer has to hear that we are draining, when it does not answer the PING behind that.
    static let announcementTimeout = Duration.seconds(1)
    /// The PING behind the first GOAWAY: "goaway".
    static let announcementPing: UInt64 = 0x676f_6177_6179
    /// Header lists of answers and of requests; what we announce as MAX_HEADER_LIST_SIZE.
    static let answerListBytesMax = 16 << 10
    static let requestListBytesMax = 64 << 10
    /// TLS alert access_denied (RFC 8446, 6.2).
    static let accessDenied: UInt8 = 49
    /// TLS alert certificate_revoked.
    static let certificateRevoked: UInt8 = 44

    let worker: TunnelWorker
    /// The worker's name for it; 0 until it is in the worker's table.
    var number: UInt64 = 0
    let handle: PodHandle
    let peer: IPEndpoint
    let isServer: Bool

    // Client only.
    let key: TunnelKey?
    var poolID: UInt64?
    /// Dialled for one stream only, inside another tunnel's: see ``GatewayLeg``.
    let isPrivate: Bool
    /// Those that will get a stream once the tunnel is open. Bounded by the pool's stream limit.
    var waiting: [any StreamRequester] = []
    var streamIDs = HTTP2StreamIDAllocator()
    var highestOwnStream = HTTP2StreamID.connection

    // Server only.
    /// Where the connection arrived: the pod's own address.
    let local: IPEndpoint?
    let ownIdentity: WorkloadIdentity
    var lastPeerStream = HTTP2StreamID.connection

    /// By the handshake.
    var proof: ProvenPeer?
    var peerIdentity: WorkloadIdentity? { self.proof?.identity }
    /// Kept where certificates may be revoked later.
    var peerCertificates: PeerCertificates?
    var phase: Phase
    var draining = Draining.no
    var isDraining: Bool { self.draining != .no }
    /// Why a tunnel that drains was told to: what its close reports.
    var drainReason = TunnelError.drained
    var hasSaidGoAway = false
    /// The peer's first SETTINGS came: it is a working HTTP/2 peer.
    var isProven = false
    var tls: (any SecureSession)?

    var reader: HTTP2FrameReader
    var decoder: HPACKDecoder
    var encoder = HPACKEncoder()
    var peerSettings = HTTP2Settings()
    var sendWindow = FlowWindow(65_535)
    var receiveWindow = ReceiveWindow(target: 65_535)
    var flood = HTTP2FloodGuard()
    var streams: [HTTP2StreamID: TunnelStream] = [:]

    /// Frames other than DATA, in order, to be sealed with the next batch.
    var control: [UInt8] = []
    /// Ciphertext whose record is not complete.
    var remainder = RecordRemainder()
    /// Ciphertext that the socket refused. Nothing more is sealed until it is gone.
    var unsent = PendingBytes()
    var isWritable: Bool
    var hasMoreToRead = false
    var sawEnd = false
    /// Streams whose application has bytes to send; `readyHead` is the first that counts.
    var ready: [TunnelStream] = []
    var readyHead = 0

    // What `push` has gathered for one stream in the loop's vectors.
    var gathered: TunnelStream?
    var gatheredCount = 0
    var gatheredBytes = 0

    /// Stands for this tunnel where a certificate is waited for, however long that takes. A weak reference would do, but
    /// it makes every later retain and release of the tunnel slow.
    final class Expectation {
        var tunnel: TunnelConnection?
        init(tunnel: TunnelConnection) { self.tunnel = tunnel }
    }

    var expectation: Expectation?
    var timer: LoopTimer?
    var lastReceived: UInt64
    var pingSentAt: UInt64?
    var idleSince: UInt64
    let startedAt: UInt64
    /// Header blocks begun when the deadlines were last looked at, while one was open; see `+Deadlines`.
    var blocksAtTick: UInt64?
    /// Its place among the worker's tunnels that have not proven themselves.
    var unprovenNumber: UInt64?
    let release: (@Sendable () -> Void)?

    /// A dialled tunnel, its TCP connection not yet made. `poolID` nil: for one stream only.
    init(dialled descriptor: CInt, worker: TunnelWorker, handle: PodHandle, key: TunnelKey, poolID: UInt64?) {
        self.worker = worker
        self.handle = handle
        self.key = key
        self.poolID = poolID
        self.isPrivate = poolID == nil
        self.peer = key.peer
        self.ownIdentity = key.source
        self.isServer = false
        self.local = nil
        self.phase = .connecting
        self.isWritable = false
        self.release = nil
        self.reader = HTTP2FrameReader(
            role: .client, limits: Self.limits(worker.configuration, headerList: Self.answerListBytesMax))
        self.decoder = HPACKDecoder(listBytesMax: Self.answerListBytesMax)
        self.lastReceived = worker.loop.now
        self.idleSince = worker.loop.now
        self.startedAt = worker.loop.now
        super.init(descriptor: descriptor, loop: worker.loop)
    }

    /// An accepted tunnel. `release` is called once, when it has closed.
    init(
        accepted descriptor: CInt, worker: TunnelWorker, handle: PodHandle, peer: IPEndpoint, local: IPEndpoint,
        ownIdentity: WorkloadIdentity, release: @escaping @Sendable () -> Void
    ) {
        self.worker = worker
        self.handle = handle
        self.key = nil
        self.isPrivate = false
        self.peer = peer
        self.ownIdentity = ownIdentity
        self.isServer = true
        self.local = local
        self.phase = .handshaking
        self.isWritable = true
        self.release = release
        self.reader = HTTP2FrameReader(
            role: .server, limits: Self.limits(worker.configuration, headerList: Self.requestListBytesMax))
        self.decoder = HPACKDecoder(listBytesMax: Self.requestListBytesMax)
        self.lastReceived = worker.loop.now
        self.idleSince = worker.loop.now
        self.startedAt = worker.loop.now
        super.init(descriptor: descriptor, loop: worker.loop)
    }

    private static func limits(
        _ configuration: TunnelConfiguration, headerList: Int
    ) -> HTTP2FrameReader.Limits {
        var limits = HTTP2FrameReader.Limits()
        limits.frameBytesMax = configuration.frameBytesMax
        limits.headerBlockBytesMax = headerList
        return limits
    }

    // MARK: Events of the loop

    override func ready(_ readiness: Readiness) {
        if readiness.contains(.failed) {
            if self.phase == .connecting {
                let code = Sockets.pendingError(of: self.descriptor)
                return self.close(.dialFailed(self.peer, SystemError.text(code)))
            }
            // What arrived before the reset is still there to be read, the ends of streams among it.
            self.sawEnd = true
            self.hasMoreToRead = true
            while self.tls != nil, self.hasMoreToRead, self.phase != .closed { self.readBatch() }
            return self.close(.peerClosed(self.peer))
        }
        if readiness.contains(.writable) {
            self.isWritable = true
            if self.phase == .connecting {
                guard !readiness.contains(.hungUp) else {
                    return self.close(.dialFailed(self.peer, "connection refused"))
                }
                self.phase = .handshaking
                self.timer?.arm(after: self.worker.configuration.handshakeTimeout)
                self.fetchContext()
                if self.phase == .closed { return }
            } else {
                self.wantsTurn()
            }
        }
        if !readiness.isDisjoint(with: [.readable, .peerFinished, .hungUp]) {
            if !readiness.isDisjoint(with: [.peerFinished, .hungUp]) { self.sawEnd = true }
            self.hasMoreToRead = true
            if self.tls != nil { self.readBatch() }
        }
    }

    /// Reads what is left, then sends everything that this batch of events produced.
    override func turn() {
        if self.hasMoreToRead, self.tls != nil {
            self.readBatch()
            if self.phase == .closed { return }
        }
        self.pump()
        if self.phase != .closed, self.isDraining { self.finishDrainIfDone() }
    }
}
