public import MeshIdentity
package import MeshLoop
internal import MeshModel
internal import Synchronization

/// Carries the connections of enrolled pods: captured outbound ones into HBONE tunnels, inbound tunnels and captured
/// plaintext to the application.
///
/// Owns its event-loop threads. Everything it needs to know it asks the view, the certificate source and the
/// observer that it was made with. An engine ends with ``drain(deadline:)``.
public final class TunnelEngine: Sendable {
    struct State {
        var pods: [String: PodHandle] = [:]
        var nextAcceptor = 0
        var isDraining = false
    }

    let shared: TunnelShared
    let workers: [LoopBound<TunnelWorker>]
    let loads: TunnelLoads
    let state = Mutex(State())

    /// Starts the loops.
    ///
    /// - Parameter resolver: looks up workloads that are known by host name only; nil: they cannot be reached.
    /// - Throws: ``TunnelStartError`` when a loop cannot be made; then nothing runs.
    public convenience init(
        configuration: TunnelConfiguration, view: any MeshView, certificates: any CertificateSource,
        observer: any ConnectionObserver, resolver: (any HostResolver)? = nil
    ) throws(TunnelStartError) {
        try self.init(
            configuration: configuration, view: view, certificates: certificates, observer: observer,
            resolver: resolver, makeServer: nil)
    }

    /// With a server of streams on every loop, for the targets of ``InboundAnswer/serve(_:_:labels:)``.
    package convenience init(
        configuration: TunnelConfiguration, view: any MeshView, certificates: any CertificateSource,
        observer: any ConnectionObserver, resolver: (any HostResolver)? = nil, makeServer: StreamServerMaker?
    ) throws(TunnelStartError) {
        var loops: [EventLoop] = []
        for index in 0..<max(1, configuration.loops) {
            do throws(SystemError) {
                loops.append(try EventLoop(name: "tunnel-\(index)"))
            } catch {
                throw TunnelStartError(reason: "\(error)")
            }
        }
        let shared = TunnelShared(
            configuration: configuration, certificates: certificates, observer: observer, resolver: resolver,
            makeServer: makeServer)
        self.init(shared: shared, view: view, loops: loops)
    }

    /// For simulations: on loops, and with sessions, that are not the product's.
    package convenience init(
        configuration: TunnelConfiguration, view: any MeshView, certificates: any CertificateSource,
        observer: any ConnectionObserver, loops: [EventLoop], makeContexts: @escaping ContextMaker
    ) {
        let shared = TunnelShared(
            configuration: configuration, certificates: certificates, observer: observer, resolver: nil,
            makeContexts: makeContexts)
        self.init(shared: shared, view: view, loops: loops)
    }

    private init(shared: TunnelShared, view: any MeshView, loops: [EventLoop]) {
        self.shared = shared
        self.workers = loops.map { LoopBound(TunnelWorker(loop: $0, shared: shared, view: view), loop: $0) }
        self.loads = TunnelLoads(loops: loops.count)
        for loop in loops { loop.start() }
    }

    public var statistics: TunnelStatistics { TunnelStatistics(self.shared.counters) }

    /// From now on connections ask `view`. Live inbound connections are asked again; those that it refuses are closed
    /// with flag DENY. Returns at once; each loop switches between two of its rounds.
    public func publish(_ view: any MeshView) {
        // Under the lock, so that two publishers reach every loop in the same order.
        self.state.withLock { _ in
            for worker in self.workers { worker.execute { $0.publish(view) } }
        }
    }

    /// Runs `body` with every loop's server, on its loop, in order of the calls. Nothing without servers.
    package func withServers(_ body: @escaping @Sendable (any StreamServer) -> Void) {
        self.state.withLock { _ in
            for worker in self.workers { worker.execute { if let server = $0.server { body(server) } } }
        }
    }

    /// New tunnels prove the newest certificate of `identity`; open ones keep theirs.
    public func certificateRenewed(_ identity: WorkloadIdentity) {
        for worker in self.workers { worker.execute { $0.contexts.renewed(identity) } }
    }

    public func removePod(uid: String) { self.removePod(uid: uid, whenDone: {}) }

    /// Stops serving a pod at once: its listeners close, its connections are reset, its tunnels end with GOAWAY.
    ///
    /// - Parameter whenDone: called once, on a loop of this engine, when the peers have been told and the last tunnel
    ///   has closed: until then, a second or so, the pod's network should stay, or peers wait for a PING to fail.
    public func removePod(uid: String, whenDone: @escaping @Sendable () -> Void) {
        guard let handle = self.state.withLock({ $0.pods.removeValue(forKey: uid) }) else {
            whenDone()
            return
        }
        handle.markRemoved()
        let left = LoopCount(self.workers.count)
        for worker in self.workers {
            worker.execute { worker in
                worker.remove(uid: uid) { if left.isLast() { whenDone() } }
            }
        }
    }

    /// The loops that have not come so far.
    private final class LoopCount: Sendable {
        private let loops: Atomic<Int>
        init(_ loops: Int) { self.loops = Atomic(loops) }
        func isLast() -> Bool { self.loops.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 }
    }

    /// For handshakes under way when new connections are steered to a successor: many round trips inside a cluster.
    static let steeringPause = Duration.milliseconds(50)

    /// Ends the engine in order: steers new connections to a successor, if there is one, takes who waits to be accepted
    /// and closes the listeners, on all loops; then tells peers with GOAWAY, lets connections finish until the
    /// deadline, cuts the rest and stops the loops. Later calls wait for nothing.
    public func drain(deadline: Duration) async {
        let isFirst = self.state.withLock { state in
            defer { state.isDraining = true }
            return !state.isDraining
        }
        guard isFirst else { return }
        if deadline > .zero {
            for step in [TunnelWorker.steerAway, TunnelWorker.noteArrivals, TunnelWorker.steerElsewhere] {
                await self.onEveryLoop(step)
                try? await Task.sleep(for: Self.steeringPause)
            }
        }
        // All listeners are closed before any loop drains: what one loop has accepted it may give to another, and there
        // it has to arrive before the end is looked for.
        await self.onEveryLoop(TunnelWorker.stopListening)
        await withTaskGroup(of: Void.self) { group in
            for worker in self.workers {
                group.addTask {
                    await withCheckedContinuation { continuation in
                        worker.execute { $0.drain(deadline: deadline) { continuation.resume() } }
                    }
                    await worker.loop.stop()
                }
            }
        }
    }

    /// What ``drain(deadline:)`` does, without successor and without the end of the loops; `done` is called once for each
    /// of them.
    package func beginDrain(deadline: Duration, _ done: @escaping @Sendable () -> Void) {
        self.state.withLock { $0.isDraining = true }
        let workers = self.workers
        let left = LoopCount(workers.count)
        for worker in workers {
            worker.execute { worker in
                worker.stopListening()
                guard left.isLast() else { return }
                for worker in workers { worker.execute { $0.drain(deadline: deadline, done) } }
            }
        }
    }

    private func onEveryLoop(_ step: @escaping @Sendable (TunnelWorker) -> () -> Void) async {
        for worker in self.workers {
            await withCheckedContinuation { continuation in
                worker.execute {
                    step($0)()
                    continuation.resume()
                }
            }
        }
    }
}
