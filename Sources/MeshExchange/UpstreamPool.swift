internal import MeshHTTP
internal import MeshLoop
internal import MeshTunnel

/// A connection that the pool keeps.
protocol PooledConnection: AnyObject {
    var key: UpstreamKey { get }
    var isIdle: Bool { get }
    var idleSince: UInt64 { get set }
    func close()
}

/// Connections to endpoints, of one loop: idle ones are used again, the newest first, so that spare ones fall idle and are
/// closed.
final class UpstreamPool {
    /// Connections to one endpoint, being made or made.
    static let connectionsPerEndpointMax = 1_024
    /// Attempts that wait for a connection to one endpoint.
    static let waitingMax = 1_024
    /// How often idle ones are looked for.
    static let sweepInterval = Duration.seconds(10)

    struct Name: Hashable {
        var key: UpstreamKey
        var isHTTP2: Bool
    }

    final class Lane {
        var idle: [HTTP1ClientConnection] = []
        var shared: [HTTP2ClientConnection] = []
        /// Connections of either kind, with those being made.
        var count = 0
        var connecting = 0
        var waiting: [Attempt] = []
    }

    unowned let server: ExchangeServer
    private var lanes: [Name: Lane] = [:]
    private var sweeper: LoopTimer?

    init(server: ExchangeServer) { self.server = server }

    var connections: Int { self.lanes.values.reduce(0) { $0 + $1.count } }
    var waiting: Int { self.lanes.values.reduce(0) { $0 + $1.waiting.count } }
    var idleConnections: Int {
        self.lanes.values.reduce(0) { $0 + $1.idle.count + $1.shared.count(where: \.isIdle) }
    }

    private func name(_ connection: any PooledConnection) -> Name {
        Name(key: connection.key, isHTTP2: connection is HTTP2ClientConnection)
    }

    /// Gives the attempt a stream, now or soon, or tells it why there is none.
    func request(_ attempt: Attempt, isHTTP2: Bool) {
        let name = Name(key: attempt.endpoint.key, isHTTP2: isHTTP2)
        let lane: Lane
        if let found = self.lanes[name] {
            lane = found
        } else {
            lane = Lane()
            self.lanes[name] = lane
        }
        if isHTTP2, let connection = lane.shared.first(where: \.hasRoom) { return connection.take(attempt) }
        if let connection = lane.idle.popLast() { return connection.take(attempt) }
        guard lane.waiting.count < Self.waitingMax else {
            return attempt.attemptFailed(
                UpstreamTrouble(
                    .overflow, "\(Self.waitingMax) requests wait for a connection to the endpoint", isUntouched: true))
        }
        attempt.isWaiting = true
        lane.waiting.append(attempt)
        if lane.shared.contains(where: \.isRefusing) { return }
        // One HTTP/2 connection that is being made serves many.
        let perConnection = isHTTP2 ? 100 : 1
        if lane.waiting.count > lane.connecting * perConnection, lane.count < Self.connectionsPerEndpointMax {
            self.open(name, lane, attempt.endpoint)
        }
    }

    private func open(_ name: Name, _ lane: Lane, _ endpoint: UpstreamEndpoint) {
        guard let dialer = self.server.dialer else { return }
        lane.count += 1
        lane.connecting += 1
        UpstreamOpening(endpoint, self.server, dialer, client: nil) { [self] result in
            lane.connecting -= 1
            switch result {
            case .success(let opened): self.connected(name, lane, opened)
            case .failure(let trouble): self.failed(name, lane, trouble)
            }
        }.start()
    }

    private func connected(_ name: Name, _ lane: Lane, _ opened: UpstreamOpening.Opened) {
        if name.isHTTP2 {
            let connection = HTTP2ClientConnection(self, name.key, opened.channel, opened.peer)
            opened.channel.consumer = connection
            lane.shared.append(connection)
            self.hasRoom(connection)
        } else {
            let connection = HTTP1ClientConnection(self, name.key, opened.channel, opened.peer)
            opened.channel.consumer = connection
            self.returned(connection)
        }
        self.sweepLater()
    }

    /// Everybody who waits hears why; another endpoint may do better.
    private func failed(_ name: Name, _ lane: Lane, _ trouble: UpstreamTrouble) {
        lane.count -= 1
        guard lane.connecting == 0 else { return }
        let waiting = lane.waiting
        lane.waiting = []
        self.forgetIfEmpty(name, lane)
        for attempt in waiting { attempt.attemptFailed(trouble) }
    }

    /// An attempt waits no longer.
    func gaveUp(_ attempt: Attempt) {
        for isHTTP2 in [false, true] {
            let name = Name(key: attempt.endpoint.key, isHTTP2: isHTTP2)
            guard let lane = self.lanes[name], let index = lane.waiting.firstIndex(where: { $0 === attempt }) else {
                continue
            }
            lane.waiting.remove(at: index)
            self.forgetIfEmpty(name, lane)
        }
    }

    private func nextWaiting(_ lane: Lane) -> Attempt? {
        while !lane.waiting.isEmpty {
            let attempt = lane.waiting.removeFirst()
            if !attempt.isOver { return attempt }
        }
        return nil
    }

    /// An HTTP/1 connection is free.
    func returned(_ connection: HTTP1ClientConnection) {
        guard let lane = self.lanes[self.name(connection)] else { return connection.close() }
        if let attempt = self.nextWaiting(lane) { return connection.take(attempt) }
        if self.server.isDraining { return connection.close() }
        connection.idleSince = self.server.loop.now
        lane.idle.append(connection)
    }

    func hasRoom(_ connection: HTTP2ClientConnection) {
        guard let lane = self.lanes[self.name(connection)] else { return }
        while connection.hasRoom, let attempt = self.nextWaiting(lane) { connection.take(attempt) }
    }

    func goingAway(_ connection: HTTP2ClientConnection) {
        self.lanes[self.name(connection)]?.shared.removeAll { $0 === connection }
    }

    func ended(_ connection: any PooledConnection) {
        let name = self.name(connection)
        guard let lane = self.lanes[name] else { return }
        lane.count -= 1
        lane.idle.removeAll { $0 === connection }
        lane.shared.removeAll { $0 === connection }
        // Who waits for a free one would wait for ever.
        if let attempt = lane.waiting.first(where: { !$0.isOver }), lane.count < Self.connectionsPerEndpointMax,
            lane.connecting == 0
        {
            self.open(name, lane, attempt.endpoint)
        }
        self.forgetIfEmpty(name, lane)
    }

    private func forgetIfEmpty(_ name: Name, _ lane: Lane) {
        if lane.count == 0, lane.waiting.isEmpty { self.lanes[name] = nil }
    }

    // MARK: Idle connections

    private func sweepLater() {
        guard self.sweeper == nil else { return }
        let timer = LoopTimer(loop: self.server.loop) { [unowned self] in
            self.sweeper = nil
            self.sweep()
            if !self.lanes.isEmpty { self.sweepLater() }
        }
        self.sweeper = timer
        timer.arm(after: Self.sweepInterval)
    }

    private func sweep() {
        let limit = self.server.configuration.upstreamIdleNanoseconds
        let now = self.server.loop.now
        for lane in Array(self.lanes.values) {
            for connection in lane.idle where now &- connection.idleSince > limit { connection.close() }
            for connection in lane.shared where connection.isIdle && now &- connection.idleSince > limit {
                connection.close()
            }
        }
    }

    /// No idle connection stays.
    func drain() {
        for lane in Array(self.lanes.values) {
            for connection in lane.idle { connection.close() }
            for connection in lane.shared where connection.isIdle { connection.close() }
        }
        self.sweeper?.cancel()
        self.sweeper = nil
    }
}
