public import Logging
public import MeshChannel
package import MeshModel
package import MeshRoutes
import Synchronization

/// Serves the mesh's state over delta xDS. It is given changes (``apply(_:)``), makes snapshots of them at a measured
/// pace (``run()``), and tells each client the difference. It knows nothing about where the state comes from.
public final class XDSServer: Sendable {
    public struct Configuration: Sendable {
        public var quiet: Duration
        public var longest: Duration
        /// The pace of rules for waypoints, which a user waits for who changes a route.
        public var rulesQuiet: Duration
        public var rulesLongest: Duration
        public var clientsMax: Int

        public init(
            quiet: Duration = .milliseconds(100), longest: Duration = .seconds(10),
            rulesQuiet: Duration = .milliseconds(2), rulesLongest: Duration = .milliseconds(8), clientsMax: Int = 10_000
        ) {
            self.quiet = quiet
            self.longest = longest
            self.rulesQuiet = rulesQuiet
            self.rulesLongest = rulesLongest
            self.clientsMax = clientsMax
        }
    }

    /// Decides whether an authenticated caller may be served as this node. Asked twice: when the stream opens, with
    /// nothing of the node, and when the node has said who it is; the second answer counts.
    public typealias Admission =
        @Sendable (AuthenticatedCaller, _ nodeID: String, _ metadata: [String: String]) -> XDSAdmission

    struct State {
        var snapshot = XDSSnapshot()
        var pending: [String: [String: EncodedResource?]] = [:]
        /// By Gateway, or by ``SidecarLayer``.
        var envoys: [String: EnvoyResourceSet] = [:]
        var pendingEnvoys: [String: [EnvoyResourceSet.Name: EncodedResource?]] = [:]
        var debounce: Debounce
        /// Of rules, which are published by themselves.
        var rulesDebounce: Debounce
        /// Of Envoys' resources, likewise.
        var envoysDebounce: Debounce
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
    /// Of the loops that publish addresses and rules, rules alone, and what Envoys get.
    private let (wake, rulesWake, envoysWake) = (WakeUps(), WakeUps(), WakeUps())

    public init(
        _ configuration: Configuration = Configuration(), authenticator: any CallerAuthenticator,
        admission: @escaping Admission = { _, _, _ in .nodeProxy }, logger: Logger,
        record: @escaping @Sendable (XDSEvent) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.authenticator = authenticator
        self.admission = admission
        self.logger = logger
        self.record = record
        let rules = Debounce(quiet: configuration.rulesQuiet, longest: configuration.rulesLongest)
        self.state = Mutex(
            State(
                debounce: Debounce(quiet: configuration.quiet, longest: configuration.longest),
                rulesDebounce: rules, envoysDebounce: rules))
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
        self.take(type, upserts, removals)
    }

    /// Rules of services, each with the waypoints that get it. They are published at a pace of their own.
    package func apply(
        serviceRules: [(rules: ServiceRules, waypoints: Set<NamespacedName>)], removed: [NamespacedName]
    ) {
        self.take(
            XDSType.serviceRules, serviceRules.map { EncodedResource($0.rules, for: $0.waypoints) },
            removed.map(\.description))
    }

    package func apply(waypointRules: [WaypointRules], removed: [NamespacedName]) {
        self.take(XDSType.waypointRules, waypointRules.map { EncodedResource($0) }, removed.map(\.description))
    }

    /// Changed resources of the Envoys of a waypoint, or of a part of sidecars' configurations (``SidecarLayer``), nil for
    /// those that are gone. They are published as rules
    /// are, but after much of it there is a rest (``EnvoyPace``).
    package func apply(envoys gateway: String, _ changes: [EnvoyResourceSet.Name: EncodedResource?]) {
        let isTouched = self.state.withLock { state in
            var isTouched = false
            for (name, resource) in changes {
                let published = state.envoys[gateway]?.resource(name.type, name.name)
                if resource?.version == published?.version {
                    state.pendingEnvoys[gateway]?.removeValue(forKey: name)
                } else {
                    isTouched = true
                    state.pendingEnvoys[gateway, default: [:]].updateValue(resource, forKey: name)
                }
            }
            if isTouched { state.envoysDebounce.changed(at: .now) }
            return isTouched
        }
        if isTouched { self.envoysWake.continuation.yield() }
    }

    private func take(_ type: String, _ upserts: [EncodedResource], _ removals: [String]) {
        let changed = self.state.withLock { state in
            var isTouched = false
            func set(_ name: String, _ resource: EncodedResource?) {
                let published = state.snapshot.resource(type, name)
                if resource?.says(theSameAs: published) ?? (published == nil) {
                    // As published already: nothing to say, and an earlier pending change is void.
                    state.pending[type]?.removeValue(forKey: name)
                } else {
                    isTouched = true
                    state.pending[type, default: [:]].updateValue(resource, forKey: name)
                }
            }
            for name in removals { set(name, nil) }
            for resource in upserts { set(resource.name, resource) }
            if isTouched {
                if XDSType.isScoped(type) {
                    state.rulesDebounce.changed(at: .now)
                } else {
                    state.debounce.changed(at: .now)
                }
            }
            return isTouched
        }
        if changed { (XDSType.isScoped(type) ? self.rulesWake : self.wake).continuation.yield() }
    }

    /// Publishes what is pending, at once, and from now on serves clients. Before, they are refused, so that none
    /// ever sees half a mesh.
    public func becomeReady() {
        self.publish()
        self.publishEnvoys()
        self.state.withLock { $0.isReady = true }
    }

    public var isReady: Bool { self.state.withLock { $0.isReady } }

    /// Publishes changes as they come. Returns when the task is cancelled.
    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.pace(self.wake, \.debounce.deadline) { self.publish() } }
            group.addTask {
                await self.pace(self.rulesWake, \.rulesDebounce.deadline) { self.publish(rulesOnly: true) }
            }
            group.addTask { await self.pace(self.envoysWake, \.envoysDebounce.deadline) { self.publishEnvoys() } }
        }
    }

    /// However many come while nobody looks, they count as one.
    private struct WakeUps: Sendable {
        let stream: AsyncStream<Void>
        let continuation: AsyncStream<Void>.Continuation

        init() {
            (self.stream, self.continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        }
    }

    private func pace(
        _ wakeUps: WakeUps, _ deadline: @Sendable (State) -> ContinuousClock.Instant?, _ publish: () -> Void
    ) async {
        for await _ in wakeUps.stream {
            while !Task.isCancelled, let deadline = self.state.withLock({ $0.isReady ? deadline($0) : nil }) {
                if deadline <= ContinuousClock.now {
                    publish()
                } else {
                    try? await Task.sleep(until: deadline, clock: .continuous)
                }
            }
        }
    }

    /// - Parameter rulesOnly: besides the rules only services, which rules may lead to.
    private func publish(rulesOnly: Bool = false) {
        self.publish { state in
            state.rulesDebounce.published(at: .now)
            var changes = state.pending.filter { !$0.value.isEmpty }
            state.pending = [:]
            if rulesOnly {
                for (type, pending) in changes where !XDSType.isScoped(type) {
                    let now = type == XDSType.address ? pending.filter { $0.value?.isService ?? false } : [:]
                    changes[type] = now.isEmpty ? nil : now
                    state.pending[type] = pending.filter { now[$0.key] == nil }
                }
            } else {
                state.debounce.published(at: .now)
            }
            if changes.isEmpty { return false }
            state.snapshot.advance(changes)
            return true
        }
    }

    private func publishEnvoys() {
        self.publish { state in
            let envoys = state.pendingEnvoys.filter { !$0.value.isEmpty }
            state.pendingEnvoys = [:]
            let bytes = envoys.values.flatMap(\.values).reduce(0) { $0 + ($1?.message.resource.value.count ?? 0) }
            state.envoysDebounce.published(at: .now, rest: EnvoyPace.rest(after: bytes))
            for (gateway, changes) in envoys {
                state.envoys[gateway, default: EnvoyResourceSet()].advance(changes)
                if SidecarLayer.isOfPod(gateway), state.envoys[gateway]?.isEmpty == true {
                    state.envoys[gateway] = nil
                }
            }
            return !envoys.isEmpty
        }
    }

    /// - Parameter advance: returns whether there is anything for clients.
    private func publish(_ advance: (inout State) -> Bool) {
        let clients = self.state.withLock { advance(&$0) ? Array($0.clients.values) : nil }
        guard let clients else { return }
        if !clients.isEmpty { self.record(.published) }
        for client in clients { client.signal() }
    }

    var snapshot: XDSSnapshot { self.state.withLock { $0.snapshot } }

    /// - Parameter keys: of the parts of a configuration.
    func envoyResources(_ keys: [String]) -> EnvoyResourceLayers {
        self.state.withLock { state in
            EnvoyResourceLayers(keys.map { state.envoys[$0] ?? EnvoyResourceSet() })
        }
    }

    package func hasEnvoyResources(_ key: String) -> Bool { self.state.withLock { $0.envoys[key] != nil } }

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
