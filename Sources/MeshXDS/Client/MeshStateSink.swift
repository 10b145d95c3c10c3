public import MeshModel

/// What changed in the mesh, in the order it has to be applied.
public enum MeshUpdate: Hashable, Sendable {
    /// `removed` holds resource names: a workload's uid or a service's `<namespace>/<hostname>`.
    case addresses(upserted: [MeshAddress], removed: [String])
    case policies(upserted: [AuthorizationPolicy], removed: [NamespacedName])

    /// What it brings and what it takes.
    public var resourceCount: Int {
        switch self {
        case .addresses(let upserted, let removed): upserted.count + removed.count
        case .policies(let upserted, let removed): upserted.count + removed.count
        }
    }
}

/// Who keeps the mesh's state. Calls come one after the other; the answer to the control plane waits for them.
public protocol MeshStateSink: Sendable {
    func apply(_ update: MeshUpdate) async
    /// Once: every type has arrived completely and was accepted.
    func synced() async
    /// On demand only: these keys have been answered, with what was applied before or with nothing; or they are no
    /// longer kept up to date and have to be demanded again.
    func demandsChanged(answered: [String], forgotten: [String]) async
}
