internal import MeshHTTP
internal import MeshIdentity
internal import MeshLoop
internal import MeshModel
internal import MeshTunnel

/// A stream that is carried without being understood: TCP, or TLS whose server name chooses the route.
final class OpaqueConnection: PipeConsumer {
    enum Hello { case none, expected }

    /// Of a TLS client hello, until its server name is known.
    static let helloBytesMax = 16 << 10
    /// Endpoints that are asked for one stream.
    static let attemptsMax = 3
    /// Of the client's bytes, while there is no connection to an endpoint.
    static let begunBytesMax = 64 << 10

    private let server: ExchangeServer
    private let client: ServedClient
    private var channel: any ByteChannel { self.client.pipe }
    private var begun: [UInt8] = []
    private var hello: Hello
    private var backend: Backend?
    /// The connection to the endpoint that is being made.
    private var opening: UpstreamOpening?
    /// The one that is made.
    private var far: Far?
    private var tried: [UpstreamKey] = []
    private var report: StreamReport
    private var isOpened = false
    private var isOver = false
    private var peerFinished = false
    private var sent: UInt64 = 0
    private var received: UInt64 = 0
    private var told: (sent: UInt64, received: UInt64) = (0, 0)
    private var counted: UpstreamKey?
    /// Among the backend's streams under way.
    private var place: BackendPlaces.Place?

    init(_ server: ExchangeServer, _ client: ServedClient, hello: Hello) {
        self.server = server
        self.client = client
        self.hello = hello
        self.report = StreamReport(
            id: server.nextStreamID(), ends: server.ends(client), startedNanoseconds: server.loop.now)
        server.opened(self)
    }

    /// The pipe has its consumer: it may be closed inside.
    func start() {
        if self.hello == .none { self.plan(nil) }
    }

    // MARK: The client

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.isOver { return bytes.count }
        if self.hello == .expected {
            self.begun.append(contentsOf: bytes)
            switch TLSClientHello.serverName(in: self.begun) {
            case .needsMore where self.begun.count < Self.helloBytesMax: return bytes.count
            case .found(let name): self.plan(name)
            case .needsMore, .none: self.plan(nil)
            }
            return bytes.count
        }
        guard let far else {
            let taken = min(bytes.count, Self.begunBytesMax - min(self.begun.count, Self.begunBytesMax))
            self.begun.append(contentsOf: bytes.prefix(taken))
            return taken
        }
        self.received += UInt64(bytes.count)
        far.channel.send(bytes)
        if far.channel.isFull { self.channel.pause() }
        return bytes.count
    }

    func pipeFinished() {
        self.peerFinished = true
        if self.hello == .expected, self.far == nil { return self.end(.clientEnd, "no TLS client hello came") }
        self.far?.channel.finish()
    }

    func pipeDrained() { self.far?.channel.wantsMore() }

    func pipeClosed(reset: Bool) {
        guard !self.isOver else { return }
        self.opening?.cancel()
        // Else both directions have ended, and what is on its way to the endpoint arrives.
        if reset { self.far?.channel.reset() }
        self.finished(reset ? .clientEnd : [], nil)
    }

    // MARK: The endpoint

    private func plan(_ serverName: String?) {
        self.hello = .none
        self.report.serverName = serverName
        guard let port = self.server.view.served(self.client.target) else {
            return self.end(.noRoute, "the service that was asked for is not served here")
        }
        switch port.plan(stream: serverName, self.server.origin(self.client, isGRPC: false)) {
        case .refuse(let flags, let details): self.end(flags, details)
        case .forward(let backend, let route):
            self.report.route = route
            if backend.service != self.report.ends.service { self.report.ends.backend = backend.service }
            self.backend = backend
            guard let place = backend.streams.take() else {
                return self.end(.upstreamOverflow, "the backend has as many streams as it may")
            }
            self.place = place
            self.dial()
        }
    }

    private func dial() {
        guard let backend, let dialer = self.server.dialer,
            let endpoint = backend.choose(
                self.server.book, excluding: self.tried, hash: nil, at: self.server.loop.now)
        else {
            return self.end(
                .noHealthyUpstream, self.backend?.reasonForNone ?? Backend.noneReady)
        }
        self.tried.append(endpoint.key)
        self.report.ends.endpoint = endpoint.reportedWorkload
        self.report.ends.upstream = endpoint.key.host == nil ? endpoint.key.address : nil
        self.server.book.began(endpoint.key)
        self.counted = endpoint.key
        let opening = UpstreamOpening(
            endpoint, self.server, dialer, client: self.client.source
        ) { [self] result in
            self.opening = nil
            switch result {
            case .success(let opened): self.connected(opened)
            case .failure(let trouble): self.notConnected(trouble)
            }
        }
        self.opening = opening
        opening.start()
    }

    private func connected(_ opened: UpstreamOpening.Opened) {
        guard !self.isOver else { return opened.channel.reset() }
        let far = Far(self, opened.channel)
        self.far = far
        opened.channel.consumer = far
        self.report.ends.upstream = opened.peer.address
        self.report.ends.upstreamIdentity = opened.peer.identity
        self.open()
        let begun = self.begun
        self.begun = []
        self.received += UInt64(begun.count)
        if !begun.isEmpty { begun.withUnsafeBytes { far.channel.send($0) } }
        if self.peerFinished { far.channel.finish() }
        self.channel.wantsMore()
    }

    private func notConnected(_ trouble: UpstreamTrouble) {
        guard !self.isOver else { return }
        self.uncount(failed: true)
        if self.tried.count < Self.attemptsMax, self.tried.count < (self.backend?.endpoints.count ?? 0) {
            return self.dial()
        }
        self.end(
            trouble.kind == .unresolved ? .noHealthyUpstream : .upstreamConnectionFailure, nil, failure: trouble.text)
    }

    func receivedFromFar(_ bytes: UnsafeRawBufferPointer) -> Int {
        self.sent += UInt64(bytes.count)
        self.channel.send(bytes)
        if self.channel.isFull { self.far?.pause() }
        return bytes.count
    }

    func farFinished() { self.channel.finish() }
    func farDrained() { self.channel.wantsMore() }

    func farClosed(reset: Bool) {
        guard !self.isOver else { return }
        if reset {
            self.end(.upstreamReset, nil, failure: "the endpoint reset the connection")
        } else {
            // Both directions of that side are over; ours follows when the client has ended too.
            self.channel.finish()
        }
    }

    // MARK: The end

    private func open() {
        guard !self.isOpened else { return }
        self.isOpened = true
        self.server.observer.opened(self.report)
    }

    private func uncount(failed: Bool) {
        guard let key = self.counted else { return }
        self.counted = nil
        self.server.book.ended(key)
        if failed, let backend { self.server.book.failed(key, .connection, of: backend, at: self.server.loop.now) }
    }

    private func end(_ flags: ExchangeFlags, _ details: String?, failure: String? = nil) {
        guard !self.isOver else { return }
        self.opening?.cancel()
        self.far?.channel.reset()
        self.finished(flags, details, failure)
        self.channel.reset()
    }

    /// What has moved since the last time.
    func reportProgress() {
        let moved = (sent: self.sent &- self.told.sent, received: self.received &- self.told.received)
        guard self.isOpened, moved.sent > 0 || moved.received > 0 else { return }
        self.told = (self.sent, self.received)
        self.server.observer.moved(self.report, sent: moved.sent, received: moved.received)
    }

    private func finished(_ flags: ExchangeFlags, _ details: String?, _ failure: String? = nil) {
        guard !self.isOver else { return }
        self.open()
        self.reportProgress()
        self.isOver = true
        self.place?.giveBack()
        self.place = nil
        self.uncount(failed: false)
        self.opening = nil
        self.far = nil
        self.begun = []
        self.server.closed(self)
        var end = StreamReport.End(
            flags: flags, sent: self.sent, received: self.received,
            durationNanoseconds: self.server.loop.now &- self.report.startedNanoseconds)
        end.details = details
        end.upstreamFailure = failure
        self.server.observer.closed(self.report, end)
    }
}
