package import MeshModel
package import MeshRoutes
internal import Synchronization

/// What is under way to one backend, of all loops together; outlives the backend, which is made anew when its endpoints
/// change.
package final class BackendUse: Sendable {
    let requests = BackendCounter()
    let streams = BackendCounter()

    package init() {}
}

final class BackendCounter: Sendable {
    let value = Atomic<Int>(0)
}

/// So many at a time; counted only where there is a limit.
struct BackendPlaces: Sendable {
    let max: UInt32?
    let counter: BackendCounter

    /// Nil: all are taken. Who gets a place gives it back.
    func take() -> Place? {
        guard let max else { return Place(counter: nil) }
        guard self.counter.value.add(1, ordering: .relaxed).newValue <= Int(max) else {
            self.counter.value.subtract(1, ordering: .relaxed)
            return nil
        }
        return Place(counter: self.counter)
    }

    struct Place: Sendable {
        fileprivate let counter: BackendCounter?
        func giveBack() { self.counter?.value.subtract(1, ordering: .relaxed) }
    }
}

/// A port of a service as a destination: its endpoints, and how one is chosen. Built once for a picture of the mesh.
package final class Backend: Sendable {
    package let service: NamespacedName?
    package let port: UInt16
    package let appProtocol: ServicePort.AppProtocol
    package let choice: BackendBalancing.Choice
    package let retryBudgetPercent: UInt32
    package let retriesMin: UInt32
    let ejection: EndpointEjection
    /// Requests and streams under way, against their limits.
    let requests, streams: BackendPlaces
    /// Why there is no endpoint, when there is none: for the access log.
    let reasonForNone: String
    static let noneReady = "the backend has no endpoint that is ready"
    /// Nearest first.
    package let endpoints: [UpstreamEndpoint]
    /// `endpoints` up to here have the priority of the first.
    private let priorities: [Range<Int>]
    /// Of round robin, for all loops together.
    private let turn = Atomic<UInt64>(0)

    package init(
        service: NamespacedName?, port: UInt16, appProtocol: ServicePort.AppProtocol,
        balancing: BackendBalancing = BackendBalancing(), endpoints: [UpstreamEndpoint], use: BackendUse = BackendUse(),
        reasonForNone: String? = nil
    ) {
        self.reasonForNone = reasonForNone ?? Self.noneReady
        self.service = service
        self.port = port
        self.appProtocol = appProtocol
        self.choice = balancing.choice
        self.retryBudgetPercent = balancing.retryBudgetPercent
        self.retriesMin = balancing.retriesMin
        self.ejection = balancing.ejection
        self.requests = BackendPlaces(max: balancing.requestsMax, counter: use.requests)
        self.streams = BackendPlaces(max: balancing.streamsMax, counter: use.streams)
        let sorted = endpoints.enumerated()
            .sorted { ($0.element.priority, $0.offset) < ($1.element.priority, $1.offset) }.map(\.element)
        self.endpoints = sorted
        var priorities: [Range<Int>] = []
        var start = 0
        for index in sorted.indices
        where index + 1 == sorted.count || sorted[index + 1].priority != sorted[index].priority {
            priorities.append(start..<index + 1)
            start = index + 1
        }
        self.priorities = priorities
    }

    /// Whether one more of its endpoints may be passed over.
    func mayEject(_ book: UpstreamBook, at now: UInt64) -> Bool {
        if self.ejection.percentMax >= 100 { return true }
        let ejected = self.endpoints.count { book.isEjected($0.key, at: now) }
        return ejected == 0 || (ejected + 1) * 100 <= self.endpoints.count * Int(self.ejection.percentMax)
    }

    /// Another endpoint than `excluded` if there is one; nil: there is none at all.
    ///
    /// - Parameter hash: of what the choice says; nil: none, or the request lacks it.
    func choose(_ book: UpstreamBook, excluding excluded: [UpstreamKey], hash: UInt64?, at now: UInt64)
        -> UpstreamEndpoint?
    {
        if self.endpoints.count == 1 { return self.endpoints[0] }
        guard !self.endpoints.isEmpty else { return nil }
        for range in self.priorities {
            if let chosen = self.choose(in: range, book, excluded, hash, now) { return chosen }
        }
        // Everybody has failed or was tried: better a second time than not at all.
        return self.endpoints[Int(book.random() % UInt64(self.endpoints.count))]
    }

    private func choose(
        in range: Range<Int>, _ book: UpstreamBook, _ excluded: [UpstreamKey], _ hash: UInt64?, _ now: UInt64
    ) -> UpstreamEndpoint? {
        func isUsable(_ endpoint: UpstreamEndpoint) -> Bool {
            !excluded.contains(endpoint.key) && !book.isEjected(endpoint.key, at: now)
        }
        if let hash {
            // Rendezvous: the highest of the hashes of key and endpoint; who leaves moves only its own share.
            var best: (score: UInt64, endpoint: UpstreamEndpoint)?
            for endpoint in self.endpoints[range] {
                let score = StableHash.mixed(endpoint.hash ^ hash)
                // The book is asked last: of many endpoints only a few are ever the highest so far.
                if score >= best?.score ?? 0, isUsable(endpoint) { best = (score, endpoint) }
            }
            return best?.endpoint
        }
        if self.choice == .roundRobin { return self.next(in: range, isUsable) }
        if range.count > 2, excluded.isEmpty {
            for _ in 0..<4 {
                let first = self.endpoints[range.lowerBound + Int(book.random() % UInt64(range.count))]
                let second = self.endpoints[range.lowerBound + Int(book.random() % UInt64(range.count))]
                let firstGood = isUsable(first)
                if firstGood, isUsable(second) {
                    if self.choice == .random { return first }
                    return self.cost(first, book, now) <= self.cost(second, book, now) ? first : second
                }
                if firstGood { return first }
            }
        }
        var best: (cost: Double, endpoint: UpstreamEndpoint)?
        let start = Int(book.random() % UInt64(range.count))
        for offset in 0..<range.count {
            let endpoint = self.endpoints[range.lowerBound + (start + offset) % range.count]
            guard isUsable(endpoint) else { continue }
            if self.choice == .random { return endpoint }
            let cost = self.cost(endpoint, book, now)
            if best == nil || cost < best!.cost { best = (cost, endpoint) }
        }
        return best?.endpoint
    }

    /// One after the other, each as many times in a row as it weighs.
    private func next(in range: Range<Int>, _ isUsable: (UpstreamEndpoint) -> Bool) -> UpstreamEndpoint? {
        let total = self.endpoints[range].reduce(0) { $0 + UInt64($1.weight) }
        var place = self.turn.add(1, ordering: .relaxed).oldValue % total
        var start = range.lowerBound
        while place >= UInt64(self.endpoints[start].weight) {
            place -= UInt64(self.endpoints[start].weight)
            start += 1
        }
        for offset in 0..<range.count {
            let endpoint = self.endpoints[range.lowerBound + (start - range.lowerBound + offset) % range.count]
            if isUsable(endpoint) { return endpoint }
        }
        return nil
    }

    private func cost(_ endpoint: UpstreamEndpoint, _ book: UpstreamBook, _ now: UInt64) -> Double {
        book.load(endpoint.key, at: now) / Double(endpoint.weight)
    }
}
