package import MeshIdentity
internal import MeshModel
package import MeshXDS

/// Keeps the mesh's state up to date and publishes a role's snapshot of it after each update.
///
/// Nothing is published before the first complete picture: a half-known mesh would send traffic past waypoints and
/// policies that are still on their way.
package actor MeshDirectory<Snapshot: Sendable>: MeshStateSink {
    private var state: MeshState
    private let make: @Sendable (MeshState, AnsweredDemands) -> Snapshot
    private var answered = AnsweredDemands()
    private var isSynced = false
    private var isEnding = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var localIdentities: Set<WorkloadIdentity> = []
    private let published: @Sendable (Snapshot) -> Void
    private let identitiesChanged: @Sendable (_ added: Set<WorkloadIdentity>, _ removed: Set<WorkloadIdentity>) -> Void
    private let applied: @Sendable (_ resources: Int) -> Void

    /// - Parameters:
    ///   - nodeName: whose workloads count as local; nil: everybody's.
    ///   - make: what the role makes of the state, at each publication.
    ///   - published: called with every new snapshot, in order.
    ///   - identitiesChanged: called when identities of this node's mesh workloads appear or are gone.
    ///   - applied: called after each update, with the number of resources that it brought and took.
    package init(
        nodeName: String?, make: @escaping @Sendable (MeshState, AnsweredDemands) -> Snapshot,
        published: @escaping @Sendable (Snapshot) -> Void = { _ in },
        identitiesChanged:
            @escaping @Sendable (
                _ added: Set<WorkloadIdentity>, _ removed: Set<WorkloadIdentity>
            ) -> Void = { _, _ in },
        applied: @escaping @Sendable (_ resources: Int) -> Void = { _ in }
    ) {
        self.state = MeshState(nodeName: nodeName)
        self.make = make
        self.published = published
        self.identitiesChanged = identitiesChanged
        self.applied = applied
    }

    package var snapshot: Snapshot { self.make(self.state, self.answered) }

    package func apply(_ update: MeshUpdate) {
        switch update {
        case .addresses(let upserted, let removed):
            self.state.apply(upserted: upserted, removed: removed)
            let identities = self.state.localIdentities
            if identities != self.localIdentities {
                let old = self.localIdentities
                self.localIdentities = identities
                self.identitiesChanged(identities.subtracting(old), old.subtracting(identities))
            }
        case .policies(let upserted, let removed):
            self.state.apply(upserted: upserted, removed: removed)
        }
        if self.isSynced { self.published(self.snapshot) }
        self.applied(update.resourceCount)
    }

    /// Connections that wait for these keys are asked again, with a snapshot that has what came for them.
    package func demandsChanged(answered: [String], forgotten: [String]) {
        self.answered.change(answered: answered, forgotten: forgotten)
        if self.isSynced { self.published(self.snapshot) }
    }

    package func synced() {
        guard !self.isSynced else { return }
        self.isSynced = true
        self.published(self.snapshot)
        for waiter in self.waiting { waiter.resume() }
        self.waiting = []
    }

    /// Returns once the first complete picture is published, or ``stopWaiting()`` was called.
    package func waitUntilSynced() async {
        if self.isSynced || self.isEnding { return }
        await withCheckedContinuation { self.waiting.append($0) }
    }

    /// The process ends: nobody has to wait for the mesh any more.
    package func stopWaiting() {
        self.isEnding = true
        for waiter in self.waiting { waiter.resume() }
        self.waiting = []
    }
}
