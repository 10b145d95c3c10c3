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
    public init(
        configuration: TunnelConfiguration, view: any MeshView, certificates: any CertificateSource,
        observer: any ConnectionObserver, resolver: (any HostResolver)? = nil
    ) throws(TunnelStartError) {
        let shared = TunnelShared(
            configuration: configuration, certificates: certificates, observer: observer, resolver: resolver)
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
