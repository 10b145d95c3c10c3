/// Gives workloads with equal facts the same objects, among those that went through it.
///
/// For whoever makes many workloads at once: without it each has objects of its own, most of them for a moment only,
/// spread over a heap that never gets rid of the holes.
public struct FactsPool {
    private var commons: Set<Workload.Common> = []
    private var sites: Set<Workload.Site> = []

    public init() {}

    public mutating func share(_ workload: inout Workload) {
        workload.common = self.commons.insert(workload.common).memberAfterInsert
        workload.site = self.sites.insert(workload.site).memberAfterInsert
    }
}
