internal import Collections
internal import MeshModel

/// The facts that workloads have in common, each kept once and for as long as a workload has them.
struct SharedFacts: Sendable {
    private struct Counted<Fact: Sendable>: Sendable {
        let fact: Fact
        var users: Int
    }

    private var commons: TreeDictionary<Workload.Common, Counted<Workload.Common>> = [:]
    private var sites: TreeDictionary<Workload.Site, Counted<Workload.Site>> = [:]

    /// The workload, with the objects that others with the same facts have. To be followed by ``release(_:)`` once it
    /// is gone.
    mutating func share(_ workload: Workload) -> Workload {
        var shared = workload
        shared.common = Self.share(workload.common, &self.commons)
        shared.site = Self.share(workload.site, &self.sites)
        return shared
    }

    mutating func release(_ workload: Workload) {
        Self.release(workload.common, &self.commons)
        Self.release(workload.site, &self.sites)
    }

    /// How many different ones there are; for tests.
    var counts: (commons: Int, sites: Int) { (self.commons.count, self.sites.count) }

    private static func share<Fact: Hashable & Sendable>(
        _ fact: Fact, _ table: inout TreeDictionary<Fact, Counted<Fact>>
    ) -> Fact {
        if var known = table[fact] {
            known.users += 1
            table[known.fact] = known
            return known.fact
        }
        table[fact] = Counted(fact: fact, users: 1)
        return fact
    }

    private static func release<Fact: Hashable & Sendable>(
        _ fact: Fact, _ table: inout TreeDictionary<Fact, Counted<Fact>>
    ) {
        guard var known = table[fact] else { return }
        known.users -= 1
        table[known.fact] = known.users == 0 ? nil : known
    }
}
