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
    private struct State {
        var pods: [String: PodHandle] = [:]
        var nextAcceptor = 0
        var isDraining = false
    }

    private let shared: TunnelShared
    private let workers: [LoopBound<TunnelWorker>]
    private let loads: TunnelLoads
    private let state = Mutex(State())

    /// Starts the loops.
    ///
    /// - Throws: ``TunnelStartError`` when a loop cannot be made; then nothing runs.
    public convenience init(
        configuration: TunnelConfiguration, view: any MeshView, certificates: any CertificateSource,
        observer: any ConnectionObserver
    ) throws(TunnelStartError) {
        var loops: [EventLoop] = []
        for index in 0..<max(1, configuration.loops) {
            do throws(SystemError) {
                loops.append(try EventLoop(name: "tunnel-\(index)"))
            } catch {
                throw TunnelStartError(reason: "\(error)")
            }
        }
        let shared = TunnelShared(configuration: configuration, certificates: certificates, observer: observer)
        self.init(shared: shared, view: view, loops: loops)
    }

    /// For simulations: on loops, and with sessions, that are not the product's.
    package convenience init(
        configuration: TunnelConfiguration, view: any MeshView, certificates: any CertificateSource,
        observer: any ConnectionObserver, loops: [EventLoop], makeContexts: @escaping ContextMaker
    ) {
        let shared = TunnelShared(
            configuration: configuration, certificates: certificates, observer: observer, makeContexts: makeContexts)
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

    /// New tunnels prove the newest certificate of `identity`; open ones keep theirs.
    public func certificateRenewed(_ identity: WorkloadIdentity) {
        for worker in self.workers { worker.execute { $0.contexts.renewed(identity) } }
    }

    /// Starts to serve a pod: binds its three ports inside its network namespace.
    ///
    /// - Parameter namespace: descriptor of the pod's network namespace, borrowed; -1: the process's own.
    /// - Returns: the ports that were bound.
    @discardableResult
    public func addPod(
        _ pod: EnrolledPod, namespace: CInt
    ) throws(PodStartError) -> TunnelConfiguration.Ports {
        let acceptor = try self.state.withLock { state throws(PodStartError) -> Int in
            guard !state.isDraining else { throw .draining }
            guard state.pods[pod.uid] == nil else { throw .alreadyServed(uid: pod.uid) }
            state.nextAcceptor += 1
            return state.nextAcceptor % self.workers.count
        }
        let sockets = try PodSockets(pod: pod, namespace: namespace, configuration: self.shared.configuration)
        let handle = PodHandle(
            pod: pod, ports: sockets.ports, namespaceDescriptor: sockets.namespace,
            maySpoofSource: sockets.maySpoofSource)
        let isRegistered = self.state.withLock { state in
            guard !state.isDraining, state.pods[pod.uid] == nil else { return false }
            state.pods[pod.uid] = handle
            return true
        }
        guard isRegistered else {
            sockets.close()
            throw .alreadyServed(uid: pod.uid)
        }
        let (workers, loads) = (self.workers, self.loads)
        workers[acceptor].execute { worker in
            guard !handle.isRemoved else { return sockets.close() }
            worker.listen(
                uid: pod.uid,
                sockets.all.map { kind, socket in
                    (
                        socket,
                        { descriptor, peer in
                            let arrival = Arrival(kind: kind, descriptor: descriptor, peer: peer, handle: handle)
                            let chosen = loads.choose(preferring: acceptor)
                            loads.add(chosen)
                            let leave: @Sendable () -> Void = { loads.remove(chosen) }
                            if chosen == acceptor {
                                worker.arrived(arrival, whenDone: leave)
                            } else {
                                workers[chosen].execute { $0.arrived(arrival, whenDone: leave) }
                            }
                        }
                    )
                })
        }
        return sockets.ports
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
        let left = RemovalCount(loops: self.workers.count)
        for worker in self.workers {
            worker.execute { worker in
                worker.remove(uid: uid) { if left.isLast() { whenDone() } }
            }
        }
    }

    /// The loops that still have tunnels of a removed pod.
    private final class RemovalCount: Sendable {
        private let loops: Atomic<Int>
        init(loops: Int) { self.loops = Atomic(loops) }
        func isLast() -> Bool { self.loops.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 }
    }

    /// Ends the engine in order: closes the listeners, tells peers with GOAWAY, lets connections finish until the
    /// deadline, cuts the rest and stops the loops. Later calls wait for nothing.
    public func drain(deadline: Duration) async {
        let isFirst = self.state.withLock { state in
            defer { state.isDraining = true }
            return !state.isDraining
        }
        guard isFirst else { return }
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

    /// What ``drain(deadline:)`` does, without the end of the loops; `done` is called once for each of them.
    package func beginDrain(deadline: Duration, _ done: @escaping @Sendable () -> Void) {
        self.state.withLock { $0.isDraining = true }
        for worker in self.workers { worker.execute { $0.drain(deadline: deadline, done) } }
    }
}
