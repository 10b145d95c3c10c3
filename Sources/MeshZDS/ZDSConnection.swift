internal import Logging
internal import MeshLinux
internal import Synchronization

/// One connected node proxy: a queue of orders, worked off one after the other by ``run(snapshot:_:)``.
final class ZDSConnection: Sendable {
    private struct Order: Sendable {
        let request: ZDSRequest
        let namespace: SharedNetworkNamespace?
        let done: CheckedContinuation<Result<Void, ZDSError>, Never>
    }
    private struct State {
        /// Nil once the connection has ended: nothing more is taken.
        var waiting: [Order]? = []
        /// UIDs of the pods that the proxy said it serves.
        var served: Set<String> = []
    }

    let number: Int
    private let socket: UnixSocket
    private let answerLimit: Duration
    private let state = Mutex(State())
    /// Says that `waiting` is no longer empty; one pending signal is enough.
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    init(number: Int, socket: UnixSocket, answerLimit: Duration) {
        self.number = number
        self.socket = socket
        self.answerLimit = answerLimit
        (self.signals, self.signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    func serves(_ uid: String) -> Bool { self.state.withLock { $0.served.contains(uid) } }

    func receiveHello() async throws {
        let (socket, limit) = (self.socket, self.answerLimit)
        let isHello = try await KernelThread.performCancellable { wakeup in
            guard
                let packet = try socket.receive(
                    bytesMax: ZDS.packetBytesMax, timeout: limit, wakeup: wakeup)
            else { return false }
            return ZDS.isHello(packet.bytes)
        }
        if !isHello { throw ZDSMalformed(reason: "not a hello of version 1") }
    }

    /// Queues an order and waits for its answer.
    func ask(_ request: ZDSRequest, _ namespace: SharedNetworkNamespace?) async throws(ZDSError) {
        let result = await withCheckedContinuation { done in
            let refusal: ZDSError? = self.state.withLock { state in
                guard let count = state.waiting?.count else { return .connectionLost("it has just ended") }
                if count >= ZDSServer.ordersMax { return .overloaded }
                state.waiting?.append(Order(request: request, namespace: namespace, done: done))
                return nil
            }
            if let refusal { done.resume(returning: .failure(refusal)) } else { self.signal.yield() }
        }
        try result.get()
    }

    /// Sends the snapshot, then orders as they come, until the proxy is gone or breaks the protocol.
    /// - Returns: why it ended.
    func run(snapshot: @escaping @Sendable () async -> [ZDSSnapshotEntry], _ log: Logger) async -> String {
        await withTaskGroup(of: String.self) { group in
            group.addTask { await self.waitForHangUp() }
            group.addTask { await self.work(snapshot, log) }
            let reason = await group.next() ?? "ended"
            self.socket.shutDown()
            group.cancelAll()
            return reason
        }
    }

    /// Orders that were not done, because the connection ended.
    func failAll(_ reason: String) {
        let left = self.state.withLock { state in
            defer { state.waiting = nil }
            return state.waiting ?? []
        }
        for order in left { order.done.resume(returning: .failure(.connectionLost(reason))) }
    }

    private func waitForHangUp() async -> String {
        let socket = self.socket
        do {
            try await KernelThread.performCancellable { try socket.waitForHangUp(wakeup: $0) }
            return "it closed the connection"
        } catch {
            return "\(error)"
        }
    }

    private func work(_ snapshot: @Sendable () async -> [ZDSSnapshotEntry], _ log: Logger) async -> String {
        do throws(ZDSError) {
            for entry in await snapshot() {
                do throws(ZDSError) {
                    switch entry {
                    case .add(let pod, let namespace): try await self.exchange(.add(pod), namespace)
                    case .keep(let uid): try await self.exchange(.keep(uid: uid), nil)
                    }
                } catch .refused(let reason) {
                    // The proxy keeps the pod as pending and retries by itself.
                    log.warning("node proxy \(self.number) refused a pod of its snapshot: \(reason)")
                } catch .malformed(let reason) {
                    log.error("a pod cannot be named to the node proxy: \(reason)")
                }
            }
            try await self.exchange(.snapshotSent, nil)
            for await _ in self.signals {
                while let order = self.takeOrder() {
                    do throws(ZDSError) {
                        try await self.exchange(order.request, order.namespace)
                        order.done.resume(returning: .success(()))
                    } catch {
                        order.done.resume(returning: .failure(error))
                        if case .connectionLost = error { throw error }
                    }
                }
            }
            return "the agent stops"
        } catch {
            return "\(error)"
        }
    }

    private func takeOrder() -> Order? {
        self.state.withLock { state in
            guard let isEmpty = state.waiting?.isEmpty, !isEmpty else { return nil }
            return state.waiting?.removeFirst()
        }
    }

    /// One request and its answer.
    private func exchange(_ request: ZDSRequest, _ namespace: SharedNetworkNamespace?) async throws(ZDSError) {
        let bytes: [UInt8]
        do throws(ZDSMalformed) { bytes = try request.encoded() } catch { throw .malformed(error) }
        let (socket, limit) = (self.socket, self.answerLimit)
        let answer: ZDSResponse
        do {
            answer = try await KernelThread.performCancellable { wakeup in
                if socket.isReadable { throw ZDSMalformed(reason: "the proxy spoke unasked, or closed") }
                if let namespace {
                    try namespace.namespace.withDescriptor {
                        try socket.send(bytes, passing: $0, timeout: limit, wakeup: wakeup)
                    }
                } else {
                    try socket.send(bytes, timeout: limit, wakeup: wakeup)
                }
                guard
                    let packet = try socket.receive(
                        bytesMax: ZDS.packetBytesMax, timeout: limit, wakeup: wakeup)
                else { throw ZDSMalformed(reason: "the proxy closed instead of answering") }
                return try ZDSResponse(decoding: packet.bytes)
            }
        } catch {
            throw .connectionLost("\(error)")
        }
        let isRefused = answer.error != nil
        self.state.withLock { state in
            switch request {
            case .add(let pod) where !isRefused: state.served.insert(pod.uid)
            case .add(let pod): state.served.remove(pod.uid)
            case .delete(let uid): state.served.remove(uid)
            case .keep, .snapshotSent: break
            }
        }
        if let reason = answer.error { throw .refused(reason) }
    }
}
