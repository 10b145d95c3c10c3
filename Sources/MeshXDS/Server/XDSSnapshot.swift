/// One state of the mesh, immutable, with a memory of how it came about: which names changed since an earlier
/// revision. A client is therefore remembered by one number instead of by everything it holds.
package struct XDSSnapshot: Sendable {
    struct ChangedName: Sendable {
        var name: String
        /// Whether the resource existed before this change.
        var existed: Bool
    }
    struct ChangeSet: Sendable {
        var revision: UInt64
        var names: [ChangedName]
    }
    package struct Difference {
        package var upserted: [EncodedResource] = []
        package var removed: [String] = []
        package var isEmpty: Bool { self.upserted.isEmpty && self.removed.isEmpty }
    }

    /// How many changed names are remembered in total. A client further behind has to start over, which costs it
    /// one reconnect.
    static let changesMax = 200_000

    package private(set) var revision: UInt64 = 0
    private var resources: [String: [String: EncodedResource]] = [
        XDSType.address: [:], XDSType.authorization: [:],
    ]
    private var log: [String: [ChangeSet]] = [:]
    /// Revisions up to this one are no longer in the log.
    private var forgotten: UInt64 = 0

    package init() {}

    static let types = [XDSType.address, XDSType.authorization]

    package func all(_ type: String) -> [String: EncodedResource] { self.resources[type] ?? [:] }

    /// Everything that changed after `revision`; nil when that is too long ago to say.
    package func difference(_ type: String, since revision: UInt64) -> Difference? {
        guard revision >= self.forgotten else { return nil }
        let current = self.resources[type] ?? [:]
        var seen: Set<String> = []
        var difference = Difference()
        for set in (self.log[type] ?? []).drop(while: { $0.revision <= revision }) {
            for change in set.names where seen.insert(change.name).inserted {
                if let resource = current[change.name] {
                    difference.upserted.append(resource)
                } else if change.existed {
                    difference.removed.append(change.name)
                }
            }
        }
        return difference
    }

    /// What a client that holds `versions` lacks, and what it should forget.
    package func difference(_ type: String, from versions: [String: String]) -> Difference {
        let current = self.resources[type] ?? [:]
        return Difference(
            upserted: current.values.filter { versions[$0.name] != $0.version }.sorted { $0.name < $1.name },
            removed: versions.keys.filter { current[$0] == nil }.sorted())
    }

    /// The next revision. `changes`: by type and name the new resource, nil for a removal.
    package mutating func advance(_ changes: [String: [String: EncodedResource?]]) {
        self.revision += 1
        for (type, byName) in changes {
            var names: [ChangedName] = []
            for (name, resource) in byName.sorted(by: { $0.key < $1.key }) {
                let existed = self.resources[type, default: [:]].updateValue(resource, orRemove: name)
                names.append(ChangedName(name: name, existed: existed))
            }
            self.log[type, default: []].append(ChangeSet(revision: self.revision, names: names))
        }
        self.forgetOldChanges()
    }

    private mutating func forgetOldChanges() {
        var total = self.log.values.reduce(0) { $0 + $1.reduce(0) { $0 + $1.names.count } }
        while total > Self.changesMax,
            let oldest = self.log.compactMap({ entry in entry.value.first.map { (entry.key, $0.revision) } })
                .min(by: { $0.1 < $1.1 })
        {
            let dropped = self.log[oldest.0]?.removeFirst()
            total -= dropped?.names.count ?? 0
            self.forgotten = max(self.forgotten, oldest.1)
        }
    }
}

extension Dictionary {
    /// Sets or removes; answers whether there was a value before.
    fileprivate mutating func updateValue(_ value: Value?, orRemove key: Key) -> Bool {
        if let value { return self.updateValue(value, forKey: key) != nil }
        return self.removeValue(forKey: key) != nil
    }
}
