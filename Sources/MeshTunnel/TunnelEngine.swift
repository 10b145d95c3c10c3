public import MeshIdentity
internal import MeshLoop
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
    public init(
        configuration: TunnelConfiguration, view: any MeshView, certificates: any CertificateSource,
        observer: any ConnectionObserver
    ) throws(TunnelStartError) {
        let shared = TunnelShared(configuration: configuration, certificates: certificates, observer: observer)
        self.shared = shared
        var workers: [LoopBound<TunnelWorker>] = []
        for index in 0..<max(1, configuration.loops) {
            let loop: EventLoop
            do throws(SystemError) {
                loop = try EventLoop(name: "tunnel-\(index)")
            } catch {
                throw TunnelStartError(reason: "\(error)")
            }
            workers.append(LoopBound(TunnelWorker(loop: loop, shared: shared, view: view), loop: loop))
        }
        self.workers = workers
        self.loads = TunnelLoads(loops: self.workers.count)
        for worker in self.workers { worker.loop.start() }
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

    /// Stops serving a pod at once: its listeners close, its tunnels end with GOAWAY, its connections are reset.
    public func removePod(uid: String) {
        guard let handle = self.state.withLock({ $0.pods.removeValue(forKey: uid) }) else { return }
        handle.markRemoved()
        for worker in self.workers { worker.execute { $0.remove(uid: uid) } }
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
                        worker.execute { tunnel in
                            let cutter = LoopTimer(loop: tunnel.loop) { [unowned tunnel] in tunnel.cut() }
                            tunnel.drain {
                                cutter.cancel()
                                continuation.resume()
                            }
                            if tunnel.isBusy { cutter.arm(after: deadline) }
                        }
                    }
                    await worker.loop.stop()
                }
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
