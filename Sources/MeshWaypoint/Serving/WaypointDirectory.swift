internal import Collections
package import MeshDirectory
package import MeshModel
package import MeshRoutes
package import MeshXDS

/// Keeps a waypoint's picture up to date: the mesh's addresses, the rules of the services it serves, and its own. Publishes
/// a snapshot after each update, and nothing before the first complete picture: half-known rules would let through what a
/// policy that is still on its way forbids.
package actor WaypointDirectory: WaypointSink {
    private var state: MeshState
    private var rules: TreeDictionary<NamespacedName, RulesEntry> = [:]
    private var telemetry: TreeDictionary<NamespacedName, WaypointTelemetry> = [:]
    private var waypoint: WaypointEntry?
    private var isSynced = false
    private var isEnding = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private let make: @Sendable (WaypointPicture) -> WaypointSnapshot
    private let published: @Sendable (WaypointSnapshot) -> Void
    private let applied: @Sendable (_ resources: Int) -> Void

    /// - Parameters:
    ///   - nodeName: of our own node, whose workloads are kept at hand.
    ///   - published: called with every new snapshot, in order.
    ///   - applied: called after each update, with the number of resources that it brought and took.
    package init(
        nodeName: String, make: @escaping @Sendable (WaypointPicture) -> WaypointSnapshot,
        published: @escaping @Sendable (WaypointSnapshot) -> Void = { _ in },
        applied: @escaping @Sendable (_ resources: Int) -> Void = { _ in }
    ) {
        self.state = MeshState(nodeName: nodeName)
        self.make = make
        self.published = published
        self.applied = applied
    }

    package var snapshot: WaypointSnapshot {
        self.make(
            WaypointPicture(
                state: self.state, rules: self.rules, telemetry: self.telemetry, waypoint: self.waypoint))
    }

    package func apply(_ update: MeshUpdate) {
        switch update {
        case .addresses(let upserted, let removed): self.state.apply(upserted: upserted, removed: removed)
        case .policies(let upserted, let removed): self.state.apply(upserted: upserted, removed: removed)
        }
        self.changed(update.resourceCount)
    }

    package func apply(_ update: RulesUpdate) {
        switch update {
        case .services(let upserted, let removed):
            for key in removed {
                self.rules[key] = nil
                self.telemetry[key] = nil
            }
            for rules in upserted {
                self.rules[rules.key] = RulesEntry(rules)
                self.telemetry[rules.key] = rules.telemetry
            }
            self.changed(upserted.count + removed.count)
        case .waypoint(let rules):
            self.waypoint = rules.map(WaypointEntry.init)
            self.changed(1)
        }
    }

    private func changed(_ resources: Int) {
        if self.isSynced { self.published(self.snapshot) }
        self.applied(resources)
    }

    /// A waypoint demands nothing.
    package func demandsChanged(answered: [String], forgotten: [String]) {}

    package func synced() {
        guard !self.isSynced else { return }
        self.isSynced = true
        self.published(self.snapshot)
        self.wakeAll()
    }

    /// Returns once the first complete picture is published, or ``stopWaiting()`` was called.
    package func waitUntilSynced() async {
        if self.isSynced || self.isEnding { return }
        await withCheckedContinuation { self.waiting.append($0) }
    }

    /// The process ends: nobody has to wait for the mesh any more.
    package func stopWaiting() {
        self.isEnding = true
        self.wakeAll()
    }

    private func wakeAll() {
        for waiter in self.waiting { waiter.resume() }
        self.waiting = []
    }
}

/// What a snapshot is made of.
package struct WaypointPicture: Sendable {
    package var state: MeshState
    private var rules: TreeDictionary<NamespacedName, RulesEntry>
    /// Of services that differ from the waypoint.
    let telemetry: TreeDictionary<NamespacedName, WaypointTelemetry>
    /// Nil: the control plane does not know us.
    let own: WaypointEntry?

    fileprivate init(
        state: MeshState, rules: TreeDictionary<NamespacedName, RulesEntry>,
        telemetry: TreeDictionary<NamespacedName, WaypointTelemetry>, waypoint: WaypointEntry?
    ) {
        self.state = state
        self.rules = rules
        self.telemetry = telemetry
        self.own = waypoint
    }

    package init(state: MeshState, rules: [ServiceRules], waypoint: WaypointRules?) {
        self.init(
            state: state, rules: TreeDictionary(uniqueKeysWithValues: rules.map { ($0.key, RulesEntry($0)) }),
            telemetry: TreeDictionary(
                uniqueKeysWithValues: rules.compactMap { rules in rules.telemetry.map { (rules.key, $0) } }),
            waypoint: waypoint.map(WaypointEntry.init))
    }

    package var waypoint: WaypointRules? { self.own?.rules }

    /// Where spans go: the waypoint's collector, else the first that a service names, by name of the service.
    package var traceCollector: String? {
        self.waypoint?.telemetry.traceCollector
            ?? self.telemetry.filter { $0.value.traceCollector != nil }
            .min { $0.key.description < $1.key.description }?.value.traceCollector
    }

    /// Nil: this waypoint does not serve it.
    package func rules(of service: NamespacedName) -> RulesEntry? { self.rules[service] }

    /// For dumps, sorted by service.
    package var allRules: [ServiceRules] {
        self.rules.values.map(\.rules).sorted { $0.key.description < $1.key.description }
    }
}
