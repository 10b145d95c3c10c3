internal import MeshIdentity
internal import MeshLoop
internal import MeshModel

/// The tunnel on one event loop: its pods, pool, contexts and live connections. Touched only on the loop.
final class TunnelWorker {
    let loop: EventLoop
    let shared: TunnelShared
    let contexts: TunnelContexts
    var view: any MeshView
    var configuration: TunnelConfiguration { self.shared.configuration }

    /// Outbound tunnels by their name in the pool.
    var pool: TunnelPool
    var pooled: [UInt64: TunnelConnection] = [:]
    /// By number, in the order of their making.
    var tunnels: [UInt64: TunnelConnection] = [:]
    var lastTunnel: UInt64 = 0
    /// How many of them each pod has accepted, by uid.
    var inboundTunnels: [String: Int] = [:]
    /// Accepted tunnels before their peer's first SETTINGS, by number of arrival.
    var unproven: [UInt64: TunnelConnection] = [:]
    var nextUnproven: UInt64 = 0
    var oldestUnproven: UInt64 = 0
    /// Pods whose tunnels are ending: whom to tell when the last one has closed.
    var removals: [String: [() -> Void]] = [:]

    /// Who waits for the mesh, or for a name.
    let room: WaitingRoom
    let hosts: HostCache
    let book: EndpointBook
    /// The book as questions carry it.
    let endpoints: LoopBound<EndpointBook>

    /// Serves streams in this process; nil in a node proxy.
    let server: (any StreamServer)?

    var live: [UInt64: ProxiedConnection] = [:]
    /// Counts the views; what was asked of which, see ``publish(_:)``.
    var viewNumber: UInt32 = 0
    var recheck: Recheck?
    var revocation = Revocation.ignored
    /// Counts what has been published of it.
    var revocationNumber: UInt64 = 0
    private var listeners: [String: [Listener]] = [:]
    private var steered: [ObjectIdentifier: UInt64] = [:]
    private var waitersLook: LoopTimer?
    static let waitersLookInterval = Duration.milliseconds(50)
    private var drained: [() -> Void] = []
    /// No listeners any more: the first step of the end.
    private(set) var hasStoppedListening = false
    private(set) var isDraining = false
    private var progress: LoopTimer?

    /// How often the observer hears of moved bytes.
    static let progressInterval = Duration.seconds(1)

    init(loop: EventLoop, shared: TunnelShared, view: any MeshView) {
        self.loop = loop
        self.shared = shared
        self.view = view
        self.contexts = TunnelContexts(source: shared.certificates, make: shared.makeContexts, loop: loop)
        self.pool = TunnelPool(streamsMax: shared.configuration.streamsPerTunnelMax)
        self.room = WaitingRoom(loop: loop)
        self.hosts = HostCache(resolver: shared.resolver, loop: loop)
        let book = EndpointBook { [unowned loop] in loop.now }
        self.book = book
        self.endpoints = LoopBound(book, loop: loop)
        self.server = shared.makeServer?(loop)
    }

    // MARK: The live table

    func entered(_ connection: ProxiedConnection, id: UInt64) {
        self.live[id] = connection
        self.shared.counters.openConnections.add(1, ordering: .relaxed)
        self.reportProgressLater()
    }

    func left(_ id: UInt64) {
        self.live[id] = nil
        self.shared.counters.openConnections.subtract(1, ordering: .relaxed)
        self.finishDrainIfDone()
    }

    private func reportProgressLater() {
        if let progress, progress.isArmed { return }
        let timer =
            self.progress
            ?? LoopTimer(loop: self.loop) { [unowned self] in
                for connection in self.live.values { connection.reportProgress() }
                if !self.live.isEmpty { self.reportProgressLater() }
            }
        self.progress = timer
        timer.arm(after: Self.progressInterval)
    }

    // MARK: Pods

    /// `accept` is called on this loop for each new connection.
    func listen(uid: String, _ sockets: [(Sockets.ListenResult, (CInt, IPEndpoint) -> Void)]) {
        guard !self.hasStoppedListening else {
            for (socket, _) in sockets { Sockets.closeDescriptor(socket.descriptor) }
            return
        }
        for (socket, accept) in sockets {
            let listener = Listener(socket, loop: self.loop, accepted: accept) { [shared] error in
                shared.observer.refusedEarly(
                    direction: .inbound, source: nil, destination: nil,
                    RefusalReason(.connect, "\(error)", kind: .shortage))
            }
            do {
                try listener.start()
                self.listeners[uid, default: []].append(listener)
            } catch {
                listener.stop()
                self.shared.observer.refusedEarly(
                    direction: .inbound, source: nil, destination: nil,
                    RefusalReason(.connect, "\(error)", kind: .shortage))
            }
        }
    }

    /// Stops its listeners, resets its connections and ends its tunnels with GOAWAY; calls `done` when the last of them
    /// has closed, which takes no longer than ``TunnelConnection/lingerTimeout`` and a peer that does not read.
    func remove(uid: String, _ done: @escaping () -> Void) {
        for listener in self.listeners.removeValue(forKey: uid) ?? [] { listener.stop() }
        self.room.end(podUID: uid, .podRemoved)
        for connection in Array(self.live.values) where connection.pod.uid == uid {
            connection.carrier?.abort(.podRemoved)
        }
        for tunnel in Array(self.tunnels.values) where tunnel.handle.pod.uid == uid {
            tunnel.retire(.podRemoved)
        }
        self.removals[uid, default: []].append(done)
        self.finishRemoval(uid: uid)
    }

    // MARK: Drain

    var isBusy: Bool { !self.live.isEmpty || !self.tunnels.isEmpty || !self.room.isEmpty }

    /// New connections go to the successor's listeners, if there is one. It came after us, so that its place is the
    /// second; ``steerElsewhere()`` is for the case that it came before.
    func steerAway() {
        for listener in self.listeners.values.joined() {
            listener.steerAway(to: 1)
            self.steered[ObjectIdentifier(listener)] = listener.acceptedCount
        }
    }

    /// Notes how many each has accepted by now: after the steering only who was in the backlog.
    func noteArrivals() {
        for listener in self.listeners.values.joined() {
            self.steered[ObjectIdentifier(listener)] = listener.acceptedCount
        }
    }

    /// Where connections still arrive, we have steered to ourselves, or are alone.
    func steerElsewhere() {
        for listener in self.listeners.values.joined()
        where self.steered[ObjectIdentifier(listener)] != listener.acceptedCount {
            listener.steerAway(to: 0)
        }
    }

    /// Takes who is waiting to be accepted, and closes the listeners. Peers are told nothing yet: who hears GOAWAY
    /// connects again at once, and must not meet a listener that is about to close.
    func stopListening() {
        self.hasStoppedListening = true
        for listener in self.listeners.values.joined() { listener.finish() }
        self.listeners = [:]
    }

    /// Stops accepting, tells peers with GOAWAY, and calls `done` once every connection has ended and every tunnel has
    /// sent its last byte: tunnels close themselves when they are empty.
    ///
    /// Everybody who was accepted is served to the end, also those that come from another loop's listener, and tunnels
    /// whose handshake is under way: these are told when they are proven (``TunnelConnection/proven()``).
    func drain(_ done: @escaping () -> Void) {
        self.stopListening()
        self.isDraining = true
        self.drained.append(done)
        self.server?.drain()
        for tunnel in Array(self.tunnels.values) where tunnel.isProven || !tunnel.isServer { tunnel.goAway() }
        self.finishDrainIfDone()
        self.lookAfterWaiters()
    }

    /// Who waits for the mesh to know more was accepted in time and is waited for. Leaving the room is not the end of a
    /// connection, so it is looked at from outside, for as long as its waits last.
    private func lookAfterWaiters() {
        guard !self.room.isEmpty else { return }
        let timer = LoopTimer(loop: self.loop) { [unowned self] in
            self.finishDrainIfDone()
            self.lookAfterWaiters()
        }
        self.waitersLook = timer
        timer.arm(after: Self.waitersLookInterval)
    }

    /// Drains, and cuts what is left at the deadline.
    func drain(deadline: Duration, _ done: @escaping () -> Void) {
        let cutter = LoopTimer(loop: self.loop) { [unowned self] in self.cut() }
        self.drain {
            cutter.cancel()
            done()
        }
        if self.isBusy { cutter.arm(after: deadline) }
    }

    /// The deadline passed: cuts what is left.
    func cut() {
        self.room.end(.drained)
        for connection in Array(self.live.values) { connection.carrier?.abort(.drained) }
        for tunnel in Array(self.tunnels.values) { tunnel.close(.drained) }
        self.finishDrainIfDone()
    }

    func finishDrainIfDone() {
        guard self.isDraining, !self.isBusy, !self.drained.isEmpty else { return }
        let waiting = self.drained
        self.drained = []
        self.progress?.cancel()
        self.waitersLook?.cancel()
        self.room.stop()
        for done in waiting { done() }
    }
}
