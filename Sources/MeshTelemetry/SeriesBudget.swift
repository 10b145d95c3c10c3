internal import Synchronization

/// How many series those metrics may have together whose labels come from traffic: who can open connections may not fill
/// our memory, nor Prometheus'.
///
/// A series is idle when nobody holds its instrument (a connection that is open does) and it has not changed for
/// ``idleAfter``. Idle series are dropped once more than half of the budget is used; one that comes back starts at zero,
/// which Prometheus takes for a restarted counter. When there is no room, new combinations count under
/// ``MetricFamily/overflow``; those that have a series keep it.
///
/// A counter in use is an atomic number as before: the budget is only asked for a combination that is not known.
public final class SeriesBudget: Sendable {
    /// A node serves about 250 pods; this is 20 flows for each, of four series. A full budget takes some 15 MB, and so
    /// does a scrape of it before it is compressed.
    public static let seriesMaxDefault = 20_000
    /// Several times what anybody waits between two scrapes, so that the last value was seen.
    public static let idleAfter = Duration.seconds(600)
    /// Between two looks through all series, which takes milliseconds when the budget is full.
    static let sweepInterval = Duration.seconds(10)

    public let seriesMax: Int
    let now: @Sendable () -> ContinuousClock.Instant
    private let used = Atomic(0)
    private let state: Mutex<State>
    let evicted = Counter()
    let overflowed = Counter()

    private struct State {
        var families: [WeakFamily] = []
        var holders: [WeakHolder] = []
        var sweptAt: ContinuousClock.Instant?
    }
    /// They know the budget.
    private struct WeakFamily: Sendable {
        weak let family: (any BudgetedFamily)?
    }
    private struct WeakHolder: Sendable {
        weak let holder: (any SeriesHolder)?
    }

    public init(
        seriesMax: Int = SeriesBudget.seriesMaxDefault,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        self.seriesMax = seriesMax
        self.now = now
        self.state = Mutex(State())
    }

    /// Series in use; a histogram counts with each of its lines. Overflow series come on top.
    public var usedCount: Int { self.used.load(ordering: .relaxed) }
    public var hasRoom: Bool { self.usedCount < self.seriesMax }

    /// Asked before each sweep to let go of instruments that it only keeps for the next time.
    public func add(holder: any SeriesHolder) {
        self.state.withLock { $0.holders.append(WeakHolder(holder: holder)) }
    }

    func add(_ family: any BudgetedFamily) { self.state.withLock { $0.families.append(WeakFamily(family: family)) } }

    /// Takes places for a new series. When all are taken, idle series are dropped first.
    func take(_ places: Int) -> Bool {
        if self.tryTake(places) { return true }
        if self.sweepIfDue(), self.tryTake(places) { return true }
        self.overflowed.add()
        return false
    }

    private func tryTake(_ places: Int) -> Bool {
        guard self.used.add(places, ordering: .relaxed).newValue <= self.seriesMax else {
            self.give(back: places)
            return false
        }
        return true
    }

    func give(back places: Int) { self.used.subtract(places, ordering: .relaxed) }

    /// Looks through all series, unless somebody has just done so or is about it.
    @discardableResult
    func sweepIfDue() -> Bool {
        let now = self.now()
        // The lock is held for the decision only: families and holders have their own.
        let due = self.state.withLock { state -> (families: [WeakFamily], holders: [WeakHolder])? in
            if let last = state.sweptAt, now - last < Self.sweepInterval { return nil }
            state.sweptAt = now
            state.holders.removeAll { $0.holder == nil }
            return (state.families, state.holders)
        }
        guard let due else { return false }
        for holder in due.holders { holder.holder?.releaseIdle() }
        // While there is plenty of room nothing is forgotten.
        let idleAfter = self.usedCount > self.seriesMax / 2 ? Self.idleAfter : nil
        for family in due.families.compactMap(\.family) {
            let (series, places) = family.sweep(at: now, idleAfter: idleAfter)
            self.give(back: places)
            self.evicted.add(UInt64(series))
        }
        return true
    }
}

/// Who keeps instruments beyond the connections that use them.
public protocol SeriesHolder: AnyObject, Sendable {
    /// Lets go of those that no connection uses. Called on any thread, without a lock of the metrics.
    func releaseIdle()
}

protocol BudgetedFamily: AnyObject, Sendable {
    func sweep(at now: ContinuousClock.Instant, idleAfter: Duration?) -> (series: Int, places: Int)
}
