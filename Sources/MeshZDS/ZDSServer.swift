public import Logging
public import MeshLinux
internal import Synchronization

/// The node agent's side of ZDS: accepts node proxies, gives each a snapshot, and then passes on what happens.
///
/// Every proxy gets every order. During a hand-over there are two, and either may be the one that stays: the new one, or
/// the old one when the new one fails; after a restart of the agent their order of arrival does not tell which is which.
/// (The reference sends adds to the newest only, and a pod added while a new proxy fails is served by nobody.) One order
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

    /// Whether a proxy that is connected has acknowledged the pod.
    public func isServed(uid: String) -> Bool {
        self.state.withLock { $0.proxies }.contains { $0.serves(uid) }
    }

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

    /// Asks every proxy to serve a pod. Returns as soon as one does; the others go on being asked.
    /// - Throws: when none does: what the newest said.
    public func add(_ pod: ZDSPod, _ namespace: SharedNetworkNamespace) async throws(ZDSError) {
        let proxies = self.state.withLock { $0.proxies }
        guard let newest = proxies.last else { throw .notConnected }
        let (answers, answered) = AsyncStream.makeStream(of: (number: Int, error: ZDSError?).self)
        for proxy in proxies {
            // Not children: a proxy that does not answer must not hold back the one that did. Each ends by itself,
            // within the limit of an answer for every order that waits before it.
            Task {
                var failure: ZDSError?
                do throws(ZDSError) { try await proxy.ask(.add(pod), namespace) } catch { failure = error }
                if let failure, proxies.count > 1 {
                    self.log.warning("node proxy \(proxy.number) does not serve pod \(pod.uid): \(failure)")
                }
                answered.yield((proxy.number, failure))
            }
        }
        var failures: [Int: ZDSError] = [:]
        for await (number, failure) in answers {
            guard let failure else { return }
            failures[number] = failure
            if failures.count == proxies.count { break }
        }
        throw failures[newest.number] ?? .connectionLost("the agent stops")
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
