public import Logging
public import MeshChannel
import Synchronization

/// Serves the mesh's state over delta xDS. It is given changes (``apply(_:)``), makes snapshots of them at a measured
/// pace (``run()``), and tells each client the difference. It knows nothing about where the state comes from.
public final class XDSServer: Sendable {
    public struct Configuration: Sendable {
        public var quiet: Duration
        public var longest: Duration
        public var clientsMax: Int

        public init(
            quiet: Duration = .milliseconds(100), longest: Duration = .seconds(10), clientsMax: Int = 10_000
        ) {
            self.quiet = quiet
            self.longest = longest
            self.clientsMax = clientsMax
        }
    }

    /// Decides whether an authenticated caller may be served as this node. Asked twice: when the stream opens, with
    /// nothing of the node, and when the node has said who it is. Answers the reason of a refusal, which the caller is
    /// told.
    public typealias Admission =
        @Sendable (AuthenticatedCaller, _ nodeID: String, _ metadata: [String: String])
        -> String?

    struct State {
        var snapshot = XDSSnapshot()
        var pending: [String: [String: EncodedResource?]] = [:]
        var debounce: Debounce
        var isReady = false
        var isDraining = false
        var clients: [UInt64: XDSConnection] = [:]
        var nextClient: UInt64 = 1
    }

    let state: Mutex<State>
    let configuration: Configuration
    let authenticator: any CallerAuthenticator
    let admission: Admission
    let logger: Logger
    let record: @Sendable (XDSEvent) -> Void
    private let wake: AsyncStream<Void>.Continuation
    private let wakeUps: AsyncStream<Void>

    public init(
        _ configuration: Configuration = Configuration(), authenticator: any CallerAuthenticator,
        admission: @escaping Admission = { _, _, _ in nil }, logger: Logger,
        record: @escaping @Sendable (XDSEvent) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.authenticator = authenticator
        self.admission = admission
        self.logger = logger
        self.record = record
        self.state = Mutex(
            State(debounce: Debounce(quiet: configuration.quiet, longest: configuration.longest)))
        (self.wakeUps, self.wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Takes changes in. One that changes nothing on the wire is dropped here.
    public func apply(_ update: MeshUpdate) {
        let type: String
        let upserts: [EncodedResource]
        let removals: [String]
        switch update {
        case .addresses(let upserted, let removed):
            (type, upserts, removals) = (XDSType.address, upserted.map { EncodedResource($0) }, removed)
        case .policies(let upserted, let removed):
            type = XDSType.authorization
            upserts = upserted.map { EncodedResource($0) }
            removals = removed.map(\.description)
        }
        let changed = self.state.withLock { state in
            var isTouched = false
            func set(_ name: String, _ resource: EncodedResource?) {
                if state.snapshot.resource(type, name)?.version == resource?.version {
                    // As published already: nothing to say, and an earlier pending change is void.
                    state.pending[type]?.removeValue(forKey: name)
                } else {
                    isTouched = true
                    state.pending[type, default: [:]].updateValue(resource, forKey: name)
                }
            }
            for name in removals { set(name, nil) }
            for resource in upserts { set(resource.name, resource) }
            if isTouched { state.debounce.changed(at: .now) }
            return isTouched
        }
        if changed { self.wake.yield() }
    }

    /// Publishes what is pending, at once, and from now on serves clients. Before, they are refused, so that none
    /// ever sees half a mesh.
    public func becomeReady() {
        self.publish()
        self.state.withLock { $0.isReady = true }
    }

    public var isReady: Bool { self.state.withLock { $0.isReady } }

    /// Publishes changes as they come. Returns when the task is cancelled.
    public func run() async {
        for await _ in self.wakeUps {
            while !Task.isCancelled, let deadline = self.state.withLock({ $0.isReady ? $0.debounce.deadline : nil }) {
                let now = ContinuousClock.now
                if deadline <= now {
                    self.publish()
                } else {
                    try? await Task.sleep(until: deadline, clock: .continuous)
                }
            }
        }
    }

    private func publish() {
        let clients = self.state.withLock { state -> [XDSConnection] in
            state.debounce.published()
            let changes = state.pending.filter { !$0.value.isEmpty }
            state.pending = [:]
            if changes.isEmpty { return [] }
            state.snapshot.advance(changes)
            return Array(state.clients.values)
        }
        if !clients.isEmpty { self.record(.published) }
        for client in clients { client.signal() }
    }

    var snapshot: XDSSnapshot { self.state.withLock { $0.snapshot } }

    /// Ends every stream cleanly; clients connect again, to another replica if there is one.
    public func drain() {
        let clients = self.state.withLock { state -> [XDSConnection] in
            state.isDraining = true
            return Array(state.clients.values)
        }
        for client in clients { client.end() }
    }

    /// Every connected client, for `proxy-status`.
    public var clients: [XDSClientStatus] {
        self.state.withLock { Array($0.clients.values) }.compactMap(\.status)
            .sorted { ($0.nodeID, $0.peer) < ($1.nodeID, $1.peer) }
    }

    enum Admittance { case admitted(UInt64), notReady, full }

    func add(_ connection: XDSConnection) -> Admittance {
        self.state.withLock { state in
            if !state.isReady || state.isDraining { return .notReady }
            if state.clients.count >= self.configuration.clientsMax { return .full }
            defer { state.nextClient += 1 }
            state.clients[state.nextClient] = connection
            return .admitted(state.nextClient)
        }
    }

    func remove(_ id: UInt64) { self.state.withLock { $0.clients[id] = nil } }
}
