internal import Glibc
internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

/// One CONNECT stream of a tunnel and the plain connection at our end of it.
///
///     unanswered ─200─▶ relaying ─both directions ended─▶ closed
///     any of them ─reset, refused, deadline, tunnel lost, policy─▶ closed
///
/// Inbound: made by the peer's CONNECT; `app` is the dialled target. Outbound: made for an accepted connection, which
/// is `app`; until the answer comes its requester can take the application elsewhere.
final class TunnelStream: AppSocketHandler, Carrier {
    // One of these rests with every idle connection: what is rarely needed is in an object of its own, and small fields
    // lie side by side.
    let tunnel: TunnelConnection
    private(set) var app: AppSocket?
    /// Who reports this stream. Nil until an inbound request is admitted or refused, and for the outer stream of a
    /// double HBONE connection.
    var proxied: ProxiedConnection?
    /// Told when the stream fails, before its application sees the end.
    var whenFailed: ((TunnelError) -> Void)?
    private var requester: (any StreamRequester)?
    private var deadline: LoopTimer?
    private var loss: Loss?
    /// How long an application has to take what a lost tunnel had brought.
    static let leftoversTimeout = Duration.seconds(30)

    /// The tunnel is gone, and why; what it had brought is still being delivered.
    private final class Loss {
        let error: TunnelError
        init(_ error: TunnelError) { self.error = error }
    }

    let id: HTTP2StreamID
    var sendWindow: FlowWindow
    var receiveWindow: ReceiveWindow
    private(set) var ends = RelayEnds()
    /// The answer was 200: bytes may flow to the peer.
    private(set) var isRelaying = false
    private(set) var isClosed = false
    /// In the tunnel's ready queue.
    var isQueued = false
    /// The application's last read filled a frame: the next one is offered room for many.
    var sendsBulk = false
    /// From the peer, refused by the application's socket; bounded by `receiveWindow`.
    private var pending = PendingBytes()

    init(tunnel: TunnelConnection, id: HTTP2StreamID) {
        self.tunnel = tunnel
        self.id = id
        self.sendWindow = FlowWindow(tunnel.peerSettings.initialWindowBytes)
        self.receiveWindow = ReceiveWindow(target: tunnel.worker.configuration.streamWindowBytes)
    }

    // MARK: Outbound

    /// Takes over the application of `requester`; CONNECT is on its way.
    func carry(_ requester: any StreamRequester, _ app: AppSocket) {
        self.requester = requester
        self.proxied = requester.reported
        self.proxied?.carrier = self
        self.attach(app)
        let limit = self.tunnel.worker.configuration.answerTimeout
        self.arm(after: limit) { stream in
            stream.fail(.answerTimedOut(stream.tunnel.peer, limit), code: .cancel)
        }
    }

    func answered(_ head: HTTP2ResponseHead, endStream: Bool) {
        if head.isInformational { return }
        guard head.status == 200 else {
            return self.fail(.refused(self.tunnel.peer, status: head.status), code: .cancel)
        }
        let requester = self.requester
        self.requester = nil
        self.proxied?.peer = self.tunnel.proof
        requester?.answered(by: self, head)
        self.beginRelay()
        if endStream { self.peerEnded() }
    }

    /// The peer has not looked at this stream: another tunnel may take it.
    func neverProcessed(_ reason: String) {
        self.tunnelLost(.streamRefused(self.tunnel.peer, code: reason))
    }

    // MARK: Inbound

    /// The target is being dialled.
    func dial(_ app: AppSocket) {
        self.attach(app)
        let limit = self.tunnel.worker.configuration.dialTimeout
        self.arm(after: limit) { stream in
            guard let target = stream.proxied?.destination else { return }
            stream.dialFailed(.dialTimedOut(target, limit))
        }
    }

    /// Headers of the 200, kept until the target is connected.
    var responseHeaders: [(name: String, value: String)] = []
    /// What the target gets before the first byte of the peer.
    var preamble: [UInt8] = []

    func appConnected(_ socket: AppSocket) {
        if !self.preamble.isEmpty {
            let result = self.preamble.withUnsafeMutableBytes { bytes in
                var vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
                return socket.write(&vector, 1)
            }
            // A new connection's buffer takes some hundred bytes, or the connection is broken.
            guard result == .moved(self.preamble.count) else {
                guard let target = self.proxied?.destination else { return }
                return self.dialFailed(.dialFailed(target, "the PROXY protocol header could not be sent"))
            }
            self.preamble = []
        }
        self.tunnel.answer(self.id, status: 200, headers: self.responseHeaders, endStream: false)
        self.responseHeaders = []
        self.beginRelay()
    }

    /// 503 and flag CONNECT.
    func dialFailed(_ error: TunnelError) { self.refuse(status: 503) { $0.end(error) } }

    /// Answers with a status and nothing more.
    func refuse(status: Int, report: (ProxiedConnection) -> Void) {
        guard !self.isClosed else { return }
        self.tunnel.answer(self.id, status: status, endStream: true)
        // The answer is complete and the rest of the request is not wanted (RFC 9113, 8.1).
        if !self.ends.peerHasEnded { self.tunnel.sendReset(self.id, .noError) }
        let proxied = self.proxied
        self.shut(resetApp: true)
        if let proxied { report(proxied) }
    }

    // MARK: Relay

    private func attach(_ app: AppSocket) {
        self.app = app
        app.handler = self
    }

    private func beginRelay() {
        self.isRelaying = true
        self.deadline?.cancel()
        self.deadline = nil
        self.drain()
        // What arrived before: its edge has come and gone.
        if !self.isClosed, self.app?.isReadable == true { self.tunnel.markReady(self) }
    }

    /// Bytes from the peer, in the tunnel's scratch buffer: written at once, or copied.
    func deliver(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int, _ bytes: Int) {
        guard !self.isClosed else { return }
        var written = 0
        if self.pending.isEmpty, let app, app.isWritable, self.isRelaying {
            switch app.write(vectors, count) {
            case .moved(let moved): written = moved
            case .wouldBlock, .ended: break
            case .failed(let code): return self.appFailed(app, code: code)
            }
            if written > 0 { self.delivered(written) }
            if written == bytes { return }
            app.isWritable = false
        }
        var skip = written
        for i in 0..<count {
            let length = vectors[i].iov_len
            if skip >= length {
                skip -= length
            } else {
                // SAFETY: `skip` is inside this vector.
                self.pending.append(vectors[i].iov_base + skip, length - skip)
                skip = 0
            }
        }
    }

    private func drain() {
        guard self.isRelaying, let app, app.isWritable, !self.pending.isEmpty else { return }
        // Taken out meanwhile: the application may end the stream inside a write.
        var taken = PendingBytes()
        swap(&taken, &self.pending)
        let (written, stop) = taken.drain { bytes, length in
            var vector = iovec(iov_base: bytes, iov_len: length)
            return app.write(&vector, 1)
        }
        if self.isClosed { return }
        swap(&taken, &self.pending)
        if written > 0 { self.delivered(written) }
        switch stop {
        case .moved:
            self.perform(self.ends.delivered())
            if let loss { self.finish(loss.error) }
        case .wouldBlock, .ended: app.isWritable = false
        case .failed(let code): self.appFailed(app, code: code)
        }
    }

    /// The tunnel is lost, but the application is slow and has not got everything: it gets the rest. If that was all,
    /// both ways, nothing is lost at all; else the reset comes behind it.
    /// From a peer that must not be listened to any longer it gets nothing more.
    private func deliverLeftovers(_ error: TunnelError) -> Bool {
        if error == .peerRevoked { return false }
        guard self.isRelaying, self.loss == nil, !self.pending.isEmpty else { return false }
        self.loss = Loss(error)
        self.arm(after: Self.leftoversTimeout) { $0.finish(error) }
        return true
    }

    private func delivered(_ bytes: Int) {
        if self.tunnel.isServer { self.proxied?.countReceived(bytes) } else { self.proxied?.countSent(bytes) }
        self.release(bytes)
    }

    func countFromApp(_ bytes: Int) {
        if self.tunnel.isServer { self.proxied?.countSent(bytes) } else { self.proxied?.countReceived(bytes) }
    }

    /// The windows of stream and connection have `bytes` back.
    func release(_ bytes: Int) {
        if let increment = self.receiveWindow.released(bytes), !self.ends.peerHasEnded, self.loss == nil {
            HTTP2FrameWriter.appendWindowUpdate(stream: self.id, increment: increment, to: &self.tunnel.control)
            self.tunnel.wantsTurn()
        }
        self.tunnel.returnCredit(bytes)
    }

    /// END_STREAM from the peer; every byte before it was given to `deliver`.
    func peerEnded() {
        // Before the target is connected nothing has been told, however little there was to tell.
        self.perform(self.ends.peerEnded(isDelivered: self.pending.isEmpty && self.isRelaying))
    }

    /// The application sent FIN, and END_STREAM is on its way.
    func appEnded() {
        self.app?.isReadable = false
        self.perform(self.ends.appEnded())
    }

    private func perform(_ action: RelayEnds.Action) {
        switch action {
        case .none: break
        case .finishApp:
            self.app?.finishWriting()
        case .finishAppAndClose, .close:
            let proxied = self.proxied
            self.shut(resetApp: false)
            proxied?.end(nil)
        }
    }

    /// Whether the application has nothing left but its end: that needs no window.
    var isAtEnd: Bool { self.app?.isAtEnd() ?? false }

    func windowOpened() {
        if self.app?.isReadable == true { self.tunnel.markReady(self) }
    }

    // MARK: The application's socket

    func appReadable(_ socket: AppSocket) { self.tunnel.markReady(self) }
    func appWritable(_ socket: AppSocket) { self.drain() }
    func appTurn(_ socket: AppSocket) {}

    func appLeft(_ socket: AppSocket) -> Bool {
        guard self.ends.appHasEnded, !self.isClosed else { return false }
        // The answer is complete and the rest is not wanted (RFC 9113, 8.1): what is on its way is not cut off.
        if !self.ends.peerHasEnded { self.tunnel.sendReset(self.id, .noError) }
        let proxied = self.proxied
        self.shut(resetApp: false)
        proxied?.end(nil)
        return true
    }

    func appFailed(_ socket: AppSocket, code: CInt) {
        let reason = SystemError.text(code)
        if self.tunnel.isServer, !self.isRelaying {
            guard let target = self.proxied?.destination else { return }
            return self.dialFailed(.dialFailed(target, reason))
        }
        // RFC 9113, 8.5: a TCP error is a stream error of this type.
        self.fail(.clientReset(reason), code: .connectError)
    }

    // MARK: Ends before their time

    /// RST_STREAM from the peer.
    func peerReset(_ code: HTTP2ErrorCode) {
        if code == .refusedStream, self.requester != nil { return self.neverProcessed("\(code)") }
        // After END_STREAM it only says that no more is read.
        if code == .noError, self.ends.peerHasEnded, self.isRelaying {
            if !self.ends.appHasEnded { self.perform(self.ends.appEnded()) }
            return
        }
        self.finish(.peerReset(code: "\(code)"))
    }

    /// Our decision: resets both sides.
    func fail(_ error: TunnelError, code: HTTP2ErrorCode) {
        guard !self.isClosed else { return }
        self.tunnel.sendReset(self.id, code)
        self.finish(error)
    }

    func abort(_ error: TunnelError) { self.fail(error, code: .cancel) }

    /// The tunnel broke or will not serve this stream. An unanswered outbound connection tries elsewhere.
    func tunnelLost(_ error: TunnelError) {
        if !self.isClosed, self.deliverLeftovers(error) { return }
        self.finish(error, isStale: self.tunnel.isProven)
    }

    private func finish(_ error: TunnelError, isStale: Bool = false) {
        guard !self.isClosed else { return }
        if let requester, let app {
            // Unanswered: not a byte of the application has left, and whoever wanted the stream decides.
            self.requester = nil
            self.app = nil
            app.handler = nil
            self.proxied = nil
            self.shut(resetApp: false)
            requester.takeBack(app)
            requester.tunnelFailed(error, isStale: isStale)
        } else {
            let (proxied, whenFailed) = (self.proxied, self.whenFailed)
            self.shut(resetApp: true)
            whenFailed?(error)
            proxied?.end(error)
        }
    }

    private func shut(resetApp: Bool) {
        self.isClosed = true
        self.deadline?.cancel()
        self.deadline = nil
        self.requester = nil
        self.whenFailed = nil
        self.proxied = nil
        self.app?.end(reset: resetApp)
        self.app = nil
        self.tunnel.forget(self)
        self.pending.removeAll()
    }

    private func arm(after limit: Duration, _ expired: @escaping (TunnelStream) -> Void) {
        let timer = LoopTimer(loop: self.tunnel.loop) { [unowned self] in expired(self) }
        self.deadline = timer
        timer.arm(after: limit)
    }
}
