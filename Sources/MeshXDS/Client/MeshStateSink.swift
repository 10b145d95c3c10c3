public import MeshModel
package import MeshRoutes

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

/// What changed in the rules of a waypoint.
package enum RulesUpdate: Hashable, Sendable {
    /// A service without routes and policies has rules too: without, this waypoint does not serve it.
    case services(upserted: [ServiceRules], removed: [NamespacedName])
    /// Nil: the control plane knows no such waypoint any more.
    case waypoint(WaypointRules?)
}

/// Who keeps a waypoint's state: besides the mesh's, its rules. ``MeshStateSink/synced()`` comes when addresses and
/// both kinds of rules have arrived.
package protocol WaypointSink: MeshStateSink {
    func apply(_ update: RulesUpdate) async
}
