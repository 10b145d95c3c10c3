internal import MeshHTTP
internal import MeshIdentity
internal import MeshLoop
internal import MeshModel

/// One HBONE connection: TCP, mutual TLS and HTTP/2, carrying CONNECT streams. Dialled by us or accepted by us.
///
///     connecting ─▶ handshaking ─identity proven─▶ open ─GOAWAY─▶ draining ─last stream ends─▶ closed
///     any of them ─error, deadline, silence─▶ closed
///
/// Owns no large buffer at rest: reads into, parses in, and seals from its loop's scratch buffers. All sending
/// happens in ``turn()``, so that whatever one batch of events produced leaves with one system call.
final class TunnelConnection: EventSource {
    enum Phase { case connecting, handshaking, open, closed }

    /// Control frames that wait because the peer does not read; more than this is an attack.
    static let controlBytesMax = 128 << 10
    /// Reads before other connections get their chance.
    static let readsPerTurnMax = 4
    /// How long a drained tunnel waits for its client to close.
    static let lingerTimeout = Duration.seconds(1)
    /// TLS alert access_denied (RFC 8446, 6.2).
    static let accessDenied: UInt8 = 49

    let worker: TunnelWorker
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

    /// Proven by the handshake.
    var peerIdentity: WorkloadIdentity?
    var phase: Phase
    var isDraining = false
    /// All is said; the peer, which has our GOAWAY, closes first. Closing with its frames unread would be a RST that
    /// overtakes our last bytes.
    private var isLingering = false
    /// The peer's first SETTINGS came: it is a working HTTP/2 peer.
    var isProven = false
    var tls: TLSSession?

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
    private final class Expectation {
        var tunnel: TunnelConnection?
        init(tunnel: TunnelConnection) { self.tunnel = tunnel }
    }

    private var expectation: Expectation?
    private var timer: LoopTimer?
    private var lastReceived: UInt64
    private var pingSentAt: UInt64?
    var idleSince: UInt64
    private let release: (@Sendable () -> Void)?

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
        self.reader = HTTP2FrameReader(role: .client, limits: Self.limits(worker.configuration, headerList: 16 << 10))
        self.decoder = HPACKDecoder(listBytesMax: 16 << 10)
        self.lastReceived = worker.loop.now
        self.idleSince = worker.loop.now
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
        self.reader = HTTP2FrameReader(role: .server, limits: Self.limits(worker.configuration, headerList: 64 << 10))
        self.decoder = HPACKDecoder(listBytesMax: 64 << 10)
        self.lastReceived = worker.loop.now
        self.idleSince = worker.loop.now
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

    // MARK: From start to open

    /// Begins the life of either kind: enters the worker's table, arms the deadline. `dialDeadline` covers the TCP
    /// connection of a dialled tunnel, after which the handshake has its own.
    func start() {
        self.worker.opened(self)
        self.timer = LoopTimer(loop: self.loop) { [unowned self] in self.tick() }
        let configuration = self.worker.configuration
        self.timer?.arm(after: self.isServer ? configuration.handshakeTimeout : configuration.dialTimeout)
        if self.isServer {
            self.fetchContext()
        } else {
            self.watch()
        }
    }

    private func watch() {
        do { try self.loop.register(self) } catch { self.close(.dialFailed(self.peer, "\(error)")) }
    }

    /// A server session waits for its certificate without reading; a client fetched one before it dialled.
    private func fetchContext() {
        let expectation = Expectation(tunnel: self)
        self.expectation = expectation
        self.worker.contexts.get(self.ownIdentity) { result in expectation.tunnel?.received(result) }
    }

    private func received(_ result: Result<IdentityContexts, TunnelError>) {
        self.forgetExpectation()
        switch result {
        case .failure(let error): self.close(error)
        case .success(let contexts):
            guard let tls = TLSSession(self.isServer ? contexts.server : contexts.client) else {
                return self.close(.tlsFailed(self.peer, "out of memory"))
            }
            self.tls = tls
            if self.isServer { self.watch() } else { self.advanceHandshake() }
        }
    }

    private func forgetExpectation() {
        self.expectation?.tunnel = nil
        self.expectation = nil
    }

    override func ready(_ readiness: Readiness) {
        if readiness.contains(.failed) {
            let code = Sockets.pendingError(of: self.descriptor)
            let reason = SystemError.text(code)
            return self.close(
                self.phase == .connecting ? .dialFailed(self.peer, reason) : .peerClosed(self.peer))
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
        guard self.phase != .closed, self.isDraining, self.streams.isEmpty, self.waiting.isEmpty else { return }
        guard self.phase == .open else { return self.close(.drained) }
        guard self.control.isEmpty, self.unsent.isEmpty, !self.isLingering else { return }
        if self.isServer || self.isPrivate {
            self.isLingering = true
            // Inside another stream nobody else could tell the peer that we are done.
            if self.isPrivate { Sockets.finishWriting(self.descriptor) }
            self.timer?.arm(after: Self.lingerTimeout)
        } else {
            self.close(.drained)
        }
    }

    /// Drives the handshake with what was fed; sends its messages at once, because the peer waits for them.
    func advanceHandshake() {
        guard let tls else { return }
        let sealed = self.loop.scratch.sealed
        let (progress, count) = tls.handshake(into: sealed)
        if count > 0 { self.sendSealed(sealed.baseAddress!, count) }
        guard self.phase == .handshaking else { return }
        switch progress {
        case .wantsMore: break
        case .failed: self.close(.tlsFailed(self.peer, tls.errorText))
        case .done: self.handshakeDone(tls)
        }
    }

    private func handshakeDone(_ tls: TLSSession) {
        self.worker.shared.counters.handshakeDone(isInbound: self.isServer)
        if let error = self.judgePeer(tls) {
            let sealed = self.loop.scratch.sealed
            let count = tls.alert(Self.accessDenied, into: sealed)
            if count > 0 { self.sendSealed(sealed.baseAddress!, count) }
            return self.close(error)
        }
        // The reference serves a peer without ALPN; one that chose another protocol cannot get here.
        self.phase = .open
        self.sendPreface()
        let waiting = self.waiting
        self.waiting = []
        for connection in waiting { self.open(connection) }
    }

    /// Nil when the peer is who it must be. Nothing of HTTP/2 is read or written before this.
    private func judgePeer(_ tls: TLSSession) -> TunnelError? {
        let uris = tls.peerURIs()
        let identities = uris.compactMap { try? WorkloadIdentity(spiffe: $0) }
        if let key {
            guard let proven = identities.first(where: key.expected.contains) else {
                return .wrongIdentity(self.peer, presented: uris, expected: key.expected)
            }
            self.peerIdentity = proven
        } else {
            let trustDomain = self.ownIdentity.trustDomain
            guard let proven = identities.first(where: { $0.trustDomain == trustDomain }) else {
                return .wrongTrustDomain(self.peer, presented: uris, trustDomain: trustDomain)
            }
            self.peerIdentity = proven
        }
        return nil
    }

    private func sendPreface() {
        let configuration = self.worker.configuration
        var own = HTTP2Settings()
        own.initialWindowBytes = configuration.streamWindowBytes
        own.frameBytesMax = configuration.frameBytesMax
        own.headerListBytesMax = self.decoder.listBytesMax
        own.enablePush = false
        if self.isServer {
            own.maxConcurrentStreams = configuration.inboundStreamsMax
        } else {
            HTTP2FrameWriter.appendClientPreface(to: &self.control)
        }
        HTTP2FrameWriter.appendSettings(own.announcement(from: self.isServer ? .server : .client), to: &self.control)
        if let increment = self.receiveWindow.grow(to: configuration.tunnelWindowBytes) {
            HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: increment, to: &self.control)
        }
        self.wantsTurn()
    }

    /// The first SETTINGS came: the handshake's deadline gives way to the keepalive.
    func proven() {
        guard !self.isProven else { return }
        self.isProven = true
        self.armKeepalive()
        // Accepted in time, but the engine ends: its first streams are served, and others go elsewhere.
        if self.worker.isDraining { self.goAway() }
    }

    // MARK: Deadlines

    @inline(__always)
    func heard() {
        self.lastReceived = self.loop.now
        self.pingSentAt = nil
    }

    private func armKeepalive() {
        let configuration = self.worker.configuration
        var delay = min(configuration.pingInterval, configuration.pingTimeout)
        if !self.isServer { delay = min(delay, configuration.idleTunnelTimeout) }
        self.timer?.arm(after: delay)
    }

    private func tick() {
        let configuration = self.worker.configuration
        switch self.phase {
        case .closed: return
        case .connecting: return self.close(.dialTimedOut(self.peer, configuration.dialTimeout))
        case .handshaking: return self.close(.handshakeTimedOut(self.peer, configuration.handshakeTimeout))
        case .open where self.isLingering: return self.close(.drained)
        case .open:
            guard self.isProven else {
                return self.close(.handshakeTimedOut(self.peer, configuration.handshakeTimeout))
            }
        }
        let now = self.loop.now
        func isOver(_ start: UInt64, _ limit: Duration) -> Bool { .nanoseconds(Int64(clamping: now &- start)) >= limit }
        if !self.isServer, self.streams.isEmpty, self.waiting.isEmpty,
            isOver(self.idleSince, configuration.idleTunnelTimeout)
        {
            self.goAway()
            return
        }
        if let pingSentAt, isOver(pingSentAt, configuration.pingTimeout) {
            return self.close(.peerSilent(self.peer, configuration.pingTimeout))
        }
        if self.pingSentAt == nil, isOver(self.lastReceived, configuration.pingInterval) {
            self.pingSentAt = now
            HTTP2FrameWriter.appendPing(opaque: now, ack: false, to: &self.control)
            self.wantsTurn()
        }
        self.armKeepalive()
    }

    // MARK: The end

    /// Takes no new streams and tells the peer; closes when the last one has ended.
    func goAway() {
        guard self.phase != .closed, !self.isDraining else { return }
        self.isDraining = true
        if let poolID {
            self.worker.pool.forget(poolID)
            self.worker.pooled[poolID] = nil
        }
        if self.phase == .open {
            HTTP2FrameWriter.appendGoAway(lastStream: self.lastPeerStream, code: .noError, to: &self.control)
        }
        self.wantsTurn()
    }

    /// Ends the connection now, and every stream with it.
    func close(_ error: TunnelError, code: HTTP2ErrorCode = .noError) {
        guard self.phase != .closed else { return }
        let wasOpen = self.phase == .open
        self.phase = .closed
        self.forgetExpectation()
        self.timer?.cancel()
        self.timer = nil
        if wasOpen { self.sayGoodbye(code, "\(error)") }
        let (streams, waiting) = (self.streams, self.waiting)
        self.streams = [:]
        self.waiting = []
        self.ready = []
        self.gathered = nil
        self.gatheredCount = 0
        self.gatheredBytes = 0
        self.worker.closed(self)
        if !self.isProven {
            self.worker.shared.counters.failedHandshakes.add(1, ordering: .relaxed)
            if self.isServer {
                self.worker.shared.observer.refusedEarly(
                    direction: .inbound, source: self.peer, destination: self.local, error.refusal)
            }
        }
        for stream in streams.values { stream.tunnelLost(error) }
        for connection in waiting { connection.tunnelFailed(error, isStale: self.isProven) }
        self.tls = nil
        self.close()
        self.release?()
    }

    /// GOAWAY and close_notify, if they can go at once; the peer must not be needed for our end.
    private func sayGoodbye(_ code: HTTP2ErrorCode, _ text: String) {
        guard let tls, self.unsent.isEmpty else { return }
        HTTP2FrameWriter.appendGoAway(
            lastStream: self.lastPeerStream, code: code, debug: code == .noError ? "" : text, to: &self.control)
        let sealed = self.loop.scratch.sealed
        let count = self.control.withUnsafeBytes { tls.write($0.baseAddress!, $0.count, into: sealed) }
        self.control = []
        guard let count else { return }
        // SAFETY: `count` bytes of `sealed` are used; the close_notify record goes behind them.
        let rest = UnsafeMutableRawBufferPointer(rebasing: sealed[count...])
        let total = count + tls.closeNotify(into: rest)
        _ = Sockets.write(self.descriptor, sealed.baseAddress!, total)
    }
}
