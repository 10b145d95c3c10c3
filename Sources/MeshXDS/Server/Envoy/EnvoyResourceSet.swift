/// The configuration of one kind of Envoy (all replicas of one waypoint), or a part of it, immutable, with a memory of what changed
/// lately: a push looks at that, and not at everything.
package struct EnvoyResourceSet: Sendable {
    package struct Name: Hashable, Sendable {
        package var type, name: String
        package init(type: String, name: String) {
            self.type = type
            self.name = name
        }
    }

    /// Changed names that are remembered; a client that is further behind is compared with everything.
    static let changesMax = 4096

    package private(set) var revision: UInt64 = 0
    private var byType: [String: [String: EncodedResource]] = [:]
    private var changes: [(revision: UInt64, name: Name)] = []
    /// Revisions up to this one are no longer among the changes.
    private var forgotten: UInt64 = 0

    package init() {}

    func resource(_ type: String, _ name: String) -> EncodedResource? { self.byType[type]?[name] }
    var isEmpty: Bool { self.byType.values.allSatisfy(\.isEmpty) }
    func names(_ type: String) -> [String] { self.byType[type].map { Array($0.keys) } ?? [] }

    /// What changed after `revision`, each name once; nil: nobody remembers.
    func changed(since revision: UInt64) -> Set<Name>? {
        guard revision >= self.forgotten else { return nil }
        var found: Set<Name> = []
        for change in self.changes.reversed() {
            if change.revision <= revision { break }
            found.insert(change.name)
        }
        return found
    }

    /// The next revision; nil removes.
    package mutating func advance(_ changes: [Name: EncodedResource?]) {
        self.revision += 1
        for (name, resource) in changes {
            self.byType[name.type, default: [:]][name.name] = resource
            self.changes.append((self.revision, name))
        }
        let excess = self.changes.count - Self.changesMax
        if excess > 0 {
            self.forgotten = self.changes[excess - 1].revision
            self.changes.removeAll { $0.revision <= self.forgotten }
        }
    }
}
