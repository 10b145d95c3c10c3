public import Logging
public import MeshLinux

/// What the node proxy does about the node agent's orders. Calls come one at a time and in order; the answer to an order
/// is sent when its call returns.
public protocol ZDSHandler: Sendable {
    /// A new connection: everything named from here on to ``snapshotSent()`` belongs to the new snapshot. Pods keep
    /// being served.
    func connected() async
    /// Start serving a pod, or serve it still (same UID, same namespace: nothing to do).
    /// - Returns: nil once its listeners are bound; else the reason for the agent's log, and the agent tries again.
    func add(_ pod: ZDSPod, namespace: consuming NetworkNamespace) async -> String?
    /// The pod is to stay if it is served; nothing is started.
    func keep(uid: String) async
    /// Stop serving the pod at once. An unknown UID is fine.
    func delete(uid: String) async
    /// Every pod not named since ``connected()`` is gone.
    func snapshotSent() async
    /// The agent is gone: not ready, but pods keep being served.
    func disconnected() async
    /// Asked before each attempt to connect; after "no" the client ends.
    func wantsConnection() async -> Bool
}

/// The node proxy's side of ZDS: connects to the node agent, says hello, follows its orders, for ever.
public struct ZDSClient: Sendable {
    /// Waits between attempts to connect: the first, doubled up to the last. That one is short, because pods cannot be
    /// added to the node before we are back, and an attempt on a socket that nobody listens on costs nothing.
    static let waitMin = Duration.milliseconds(10)
    static let waitMax = Duration.seconds(1)
    /// Between two complaints that the agent cannot be reached.
    static let complaintInterval = Duration.seconds(15)
    /// For an answer to be taken by the agent.
    static let sendLimit = Duration.seconds(5)

    private let path: String
    private let log: Logger

    /// - Parameter path: `/var/run/ztunnel/ztunnel.sock` unless `INPOD_UDS` says otherwise.
    public init(path: String, log: Logger) {
        self.path = path
        self.log = log
    }

    /// Returns when the task is cancelled, or the handler wants no connection any more.
    public func run(handler: some ZDSHandler) async {
        var wait = Self.waitMin
        var complained: ContinuousClock.Instant?
        while !Task.isCancelled, await handler.wantsConnection() {
            do {
                let socket = try UnixSocket.connect(to: self.path, .sequencedPackets)
                try await KernelThread.perform { try socket.send(ZDS.hello, timeout: Self.sendLimit) }
                let started = ContinuousClock.now
                complained = nil
                await handler.connected()
                do {
                    try await self.follow(socket, handler)
                    self.log.info("the node agent closed the connection")
                } catch  where !Task.isCancelled {
                    self.log.warning("lost the node agent: \(error)")
                } catch {}
                await handler.disconnected()
                // An agent that accepts and closes at once is not hammered.
                if ContinuousClock.now - started > .seconds(1) { wait = Self.waitMin }
            } catch {
                if complained.map({ ContinuousClock.now - $0 >= Self.complaintInterval }) ?? true {
                    complained = .now
                    self.log.warning(
                        "cannot reach the node agent at \(self.path): \(error); does istio-cni-node run on this node?")
                }
            }
            try? await Task.sleep(for: wait)
            wait = min(wait * 2, Self.waitMax)
        }
    }

    /// Answers requests until the agent closes.
    private func follow(_ socket: UnixSocket, _ handler: some ZDSHandler) async throws {
        var isSnapshotDone = false
        while let received = try await self.receive(socket) {
            let response: ZDSResponse
            var violation: ZDSMalformed?
            do throws(ZDSMalformed) {
                response = ZDSResponse(error: try await self.perform(received, handler, &isSnapshotDone))
            } catch {
                response = ZDSResponse(error: "\(error)")
                violation = error
            }
            try await KernelThread.perform { try socket.send(response.encoded, timeout: Self.sendLimit) }
            if let violation { throw violation }
        }
    }

    private struct Received: Sendable {
        let bytes: [UInt8]
        let namespace: SharedNetworkNamespace?
    }

    private func receive(_ socket: UnixSocket) async throws -> Received? {
        try await KernelThread.performCancellable { wakeup in
            guard var packet = try socket.receive(bytesMax: ZDS.packetBytesMax, timeout: nil, wakeup: wakeup) else {
                return nil
            }
            let namespace = try packet.takeDescriptor().map {
                try SharedNetworkNamespace(NetworkNamespace(adopting: $0))
            }
            return Received(bytes: packet.bytes, namespace: namespace)
        }
    }

    /// - Throws: for orders that break the protocol; the connection ends after they were refused.
    private func perform(
        _ received: Received, _ handler: some ZDSHandler, _ isSnapshotDone: inout Bool
    ) async throws(ZDSMalformed) -> String? {
        let request = try ZDSRequest(decoding: received.bytes)
        switch (request, received.namespace) {
        case (.add(let pod), let namespace?):
            do throws(SystemError) {
                return await handler.add(pod, namespace: try namespace.namespace.duplicate())
            } catch {
                return "\(error)"
            }
        case (.add, nil): throw ZDSMalformed(reason: "add without a namespace descriptor")
        case (_, _?): throw ZDSMalformed(reason: "a descriptor came with a request that takes none")
        case (.keep, nil) where isSnapshotDone: throw ZDSMalformed(reason: "keep after the snapshot")
        case (.keep(let uid), nil): await handler.keep(uid: uid)
        case (.delete(let uid), nil): await handler.delete(uid: uid)
        case (.snapshotSent, nil) where isSnapshotDone: throw ZDSMalformed(reason: "a second snapshot")
        case (.snapshotSent, nil):
            isSnapshotDone = true
            await handler.snapshotSent()
        }
        return nil
    }
}
