public import Logging
public import MeshLinux
internal import Synchronization

/// The node agent's side of ZDS: accepts node proxies, gives each a snapshot, and then passes on what happens.
///
/// The newest proxy gets the adds (during a hand-over it is the one that stays); every proxy gets the deletes. One order
/// at a time is under way per proxy. A proxy that does not answer in time is cut off: it reconnects and gets a snapshot.
public final class ZDSServer: Sendable {
    /// A hand-over has two; more means that something restarts proxies in a loop.
    public static let proxiesMax = 8
    /// Orders that wait for one proxy, e.g. while it still takes its snapshot.
    public static let ordersMax = 1024
    /// For a packet to be taken, and for its answer to come, unless ``init(path:log:answerLimit:changed:)`` was told
    /// otherwise.
    public static let answerLimit = Duration.seconds(5)
    /// At most five accepts a second.
    static let acceptPause = Duration.milliseconds(200)

    private struct State {
        /// Oldest first.
        var proxies: [ZDSConnection] = []
        var nextNumber = 0
    }
    private let state = Mutex(State())
    private let listener: UnixListener
    private let log: Logger
    private let answerLimit: Duration
    private let changed: @Sendable (_ connected: Int) -> Void

    /// Listens at once: a proxy may connect, and waits until ``run(snapshot:)`` accepts it.
    /// - Parameters:
    ///   - answerLimit: a proxy that takes longer over one packet is cut off.
    ///   - changed: called with the number of proxies whenever it changes, on any thread.
    public init(
        path: String, log: Logger, answerLimit: Duration = ZDSServer.answerLimit,
        changed: @escaping @Sendable (_ connected: Int) -> Void = { _ in }
    ) throws(SystemError) {
        self.listener = try UnixListener(path: path, .sequencedPackets, mode: 0o600)
        self.log = log
        self.answerLimit = answerLimit
        self.changed = changed
    }

    public var connectedCount: Int { self.state.withLock { $0.proxies.count } }

    /// Serves until the task is cancelled.
    /// - Parameter snapshot: asked for each new proxy, after the proxy counts as connected: an add that happens meanwhile
    ///   reaches it twice rather than never.
    public func run(snapshot: @escaping @Sendable () async -> [ZDSSnapshotEntry]) async {
        defer { self.listener.unlink() }
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                do {
                    let socket = try await KernelThread.performCancellable { wakeup in
                        try self.listener.accept(wakeup: wakeup)
                    }
                    group.addTask { await self.serve(socket, snapshot) }
                } catch  where !Task.isCancelled {
                    self.log.error("cannot accept node proxies: \(error)")
                } catch {}
                try? await Task.sleep(for: Self.acceptPause)
            }
        }
    }

    private func serve(
        _ socket: UnixSocket, _ snapshot: @escaping @Sendable () async -> [ZDSSnapshotEntry]
    ) async {
        let number = self.state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        let proxy = ZDSConnection(number: number, socket: socket, answerLimit: self.answerLimit)
        do {
            try await proxy.receiveHello()
        } catch {
            self.log.warning("a node proxy connected and said no hello: \(error)")
            return
        }
        let (isAccepted, count) = self.state.withLock { state in
            if state.proxies.count >= Self.proxiesMax { return (false, state.proxies.count) }
            state.proxies.append(proxy)
            return (true, state.proxies.count)
        }
        guard isAccepted else {
            self.log.error("refused a node proxy: \(count) are connected already")
            return
        }
        self.log.info("node proxy \(number) connected")
        self.changed(count)
        let reason = await proxy.run(snapshot: snapshot, self.log)
        let left = self.state.withLock { state in
            state.proxies.removeAll { $0 === proxy }
            return state.proxies.count
        }
        proxy.failAll(reason)
        self.log.info("node proxy \(number) disconnected: \(reason)")
        self.changed(left)
    }

    /// Asks the newest proxy to serve a pod and waits for its answer. When that proxy is lost meanwhile, the next
    /// newest is asked.
    public func add(_ pod: ZDSPod, _ namespace: SharedNetworkNamespace) async throws(ZDSError) {
        var lost: Set<Int> = []
        var reason = ZDSError.notConnected
        while let proxy = self.state.withLock({ $0.proxies.last { !lost.contains($0.number) } }) {
            do throws(ZDSError) {
                try await proxy.ask(.add(pod), namespace)
                return
            } catch {
                guard case .connectionLost = error else { throw error }
                reason = error
                lost.insert(proxy.number)
            }
        }
        throw reason
    }

    /// Tells all proxies to stop serving a pod and waits until each has answered or is lost.
    public func delete(uid: String) async {
        await withDiscardingTaskGroup { group in
            for proxy in self.state.withLock({ $0.proxies }) {
                group.addTask {
                    do throws(ZDSError) {
                        try await proxy.ask(.delete(uid: uid), nil)
                    } catch {
                        self.log.warning("node proxy \(proxy.number) did not drop pod \(uid): \(error)")
                    }
                }
            }
        }
    }
}
