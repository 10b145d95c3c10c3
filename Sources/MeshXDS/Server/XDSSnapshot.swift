/// One state of the mesh, immutable, with a memory of how it came about: which names changed since an earlier
/// revision. A client is therefore remembered by one number instead of by everything it holds.
package struct XDSSnapshot: Sendable {
    package struct Difference {
        package var upserted: [EncodedResource] = []
        package var removed: [String] = []
        package var isEmpty: Bool { self.upserted.isEmpty && self.removed.isEmpty }
    }

    /// How many changed names are remembered in total. A client further behind has to start over, which costs it
    /// one reconnect.
    static let changesMax = 200_000

    package private(set) var revision: UInt64 = 0
    private var resources: [String: ShardedMap<EncodedResource>] = [
        XDSType.address: ShardedMap(), XDSType.authorization: ShardedMap(), XDSType.serviceRules: ShardedMap(),
        XDSType.waypointRules: ShardedMap(),
    ]
    private var lookUps = ResourceLookUp()
    private var logs: [String: ChangeLog] = [:]
    /// Revisions up to this one are no longer in the log.
    private var forgotten: UInt64 = 0

    package init() {}

    func resource(_ type: String, _ name: String) -> EncodedResource? { self.resources[type]?[name] }

    /// Everything that changed after `revision`, in the order of the changes; nil when that is too long ago to say.
    package func difference(_ type: String, since revision: UInt64) -> Difference? {
        guard revision >= self.forgotten else { return nil }
        var difference = Difference()
        guard let current = self.resources[type], let log = self.logs[type] else { return difference }
        var seen: Set<String> = []
        for set in log.after(revision) {
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

    /// What a client that holds `versions` lacks, and what it should forget; in no particular order.
    package func difference(_ type: String, from versions: [String: String]) -> Difference {
        guard let current = self.resources[type] else { return Difference(removed: Array(versions.keys)) }
        return Difference(
            upserted: current.values.filter { versions[$0.name] != $0.version },
            removed: versions.keys.filter { current[$0] == nil })
    }

    /// What stands under these names and aliases, and with a service its workloads; `unknown` are the keys that lead
    /// nowhere.
    func find(_ type: String, _ keys: some Sequence<String>) -> (found: [EncodedResource], unknown: [String]) {
        guard let current = self.resources[type] else { return ([], Array(keys)) }
        var found: [String: EncodedResource] = [:]
        var unknown: [String] = []
        for key in keys {
            let names = self.lookUps.names(key)
            var hits = names.compactMap { current[$0] }
            if let named = current[key] { hits.append(named) }
            if hits.isEmpty { unknown.append(key) }
            for hit in hits {
                found[hit.name] = hit
                guard hit.isService else { continue }
                for name in self.lookUps.workloads(ofService: hit.name) { found[name] = current[name] }
            }
        }
        return (found.values.sorted { $0.name < $1.name }, unknown)
    }

    /// What is for one waypoint, by name.
    func resources(_ type: String, for gateway: String) -> [EncodedResource] {
        (self.resources[type]?.values.filter { $0.audience.contains(gateway) } ?? []).sorted { $0.name < $1.name }
    }

    /// The workloads of one node.
    func onNode(_ node: String) -> [EncodedResource] {
        let current = self.resources[XDSType.address]
        return self.lookUps.workloads(onNode: node).sorted().compactMap { current?[$0] }
    }

    /// The next revision. `changes`: by type and name the new resource, nil for a removal.
    package mutating func advance(_ changes: [String: [String: EncodedResource?]]) {
        self.revision += 1
        for (type, byName) in changes {
            var names: [ChangeLog.ChangedName] = []
            names.reserveCapacity(byName.count)
            for (name, resource) in byName.sorted(by: { $0.key < $1.key }) {
                let old =
                    if let resource {
                        self.resources[type, default: ShardedMap()].replace(name, resource)
                    } else {
                        self.resources[type, default: ShardedMap()].remove(name)
                    }
                if type == XDSType.address { self.lookUps.replace(old, resource) }
                names.append(.init(name: name, existed: old != nil))
            }
            self.logs[type, default: ChangeLog()].append(.init(revision: self.revision, names: names))
        }
        self.forgetOldChanges()
    }

    private mutating func forgetOldChanges() {
        while self.logs.values.reduce(0, { $0 + $1.nameCount }) > Self.changesMax,
            let oldest = self.logs.compactMap({ entry in entry.value.oldest.map { (entry.key, $0) } })
                .min(by: { $0.1 < $1.1 })
        {
            self.logs[oldest.0]?.forgetOldest()
            self.forgotten = max(self.forgotten, oldest.1)
        }
    }
}

/// Which names changed at which revision, of one type; the oldest first.
struct ChangeLog: Sendable {
    struct ChangedName: Sendable {
        var name: String
        /// Whether the resource existed before this change.
        var existed: Bool
    }
    struct ChangeSet: Sendable {
        var revision: UInt64
        var names: [ChangedName]
    }

    private var sets: [ChangeSet] = []
    /// Sets before this one are forgotten; they are cut off when they are half of all.
    private var first = 0
    private(set) var nameCount = 0

    var oldest: UInt64? { self.first < self.sets.count ? self.sets[self.first].revision : nil }

    mutating func append(_ set: ChangeSet) {
        self.sets.append(set)
        self.nameCount += set.names.count
    }

    mutating func forgetOldest() {
        guard self.first < self.sets.count else { return }
        self.nameCount -= self.sets[self.first].names.count
        self.sets[self.first].names = []
        self.first += 1
        if self.first * 2 > self.sets.count {
            self.sets.removeFirst(self.first)
            self.first = 0
        }
    }

    func after(_ revision: UInt64) -> ArraySlice<ChangeSet> {
        var (low, high) = (self.first, self.sets.count)
        while low < high {
            let middle = (low + high) / 2
            if self.sets[middle].revision <= revision { low = middle + 1 } else { high = middle }
        }
        return self.sets[low...]
    }
}

/// Finds addresses by what an on-demand client may call them, without a look at every resource.
struct ResourceLookUp: Sendable {
    private var byAlias = ShardedMap<Set<String>>()
    private var byService = ShardedMap<Set<String>>()
    private var byNode = ShardedMap<Set<String>>()

    mutating func replace(_ old: EncodedResource?, _ new: EncodedResource?) {
        if let old, let new, old.aliases == new.aliases, old.serviceKeys == new.serviceKeys, old.node == new.node {
            return
        }
        if let old {
            for alias in old.aliases { self.byAlias.remove(old.name, under: alias) }
            for key in old.serviceKeys { self.byService.remove(old.name, under: key) }
            if !old.node.isEmpty { self.byNode.remove(old.name, under: old.node) }
        }
        if let new {
            for alias in new.aliases { self.byAlias.insert(new.name, under: alias) }
            for key in new.serviceKeys { self.byService.insert(new.name, under: key) }
            if !new.node.isEmpty { self.byNode.insert(new.name, under: new.node) }
        }
    }

    func names(_ alias: String) -> Set<String> { self.byAlias[alias] ?? [] }
    func workloads(ofService key: String) -> Set<String> { self.byService[key] ?? [] }
    func workloads(onNode node: String) -> Set<String> { self.byNode[node] ?? [] }
}
