internal import Synchronization

/// One metric with labels: hands out the instrument of each combination of label values.
///
/// Keep the instrument where the combination is known for long: finding it takes a lock and hashes all values. While
/// somebody keeps it, its series stays; see ``SeriesBudget``.
public final class MetricFamily<Instrument: MetricInstrument>: Sendable {
    /// How many series there may be.
    enum Bound: Sendable {
        /// Of this family alone.
        case own(Int)
        /// Shared with others, and idle series make room.
        case shared(SeriesBudget)
    }
    private struct Series {
        var instrument: Instrument
        /// As the last sweep found it.
        var mark: UInt64
        var changedAt: ContinuousClock.Instant
    }

    public let labels: [String]
    private let bound: Bound
    /// Lines that a series takes in a scrape, and places that it takes of a budget.
    private let lines: Int
    private let make: @Sendable () -> Instrument
    private let series = Mutex<[[String]: Series]>([:])
    private let overflow = Mutex<Instrument?>(nil)

    /// The value of every label of the series that stands for all those for which there was no room.
    public static var overflow: String { "overflow" }

    init(labels: [String], bound: Bound, lines: Int = 1, make: @escaping @Sendable () -> Instrument) {
        self.labels = labels
        self.bound = bound
        self.lines = lines
        self.make = make
    }

    /// - Parameter values: of the labels, in their order; trailing ones may be left out and are then not shown.
    ///   A combination beyond the bound counts under ``overflow``: outsiders may not fill the memory.
    public func with(_ values: [String] = []) -> Instrument { self.find(values).instrument }

    /// - Returns: also whether there was no room, so that it counts under ``overflow``.
    public func find(_ values: [String]) -> (instrument: Instrument, isOverflow: Bool) {
        precondition(values.count <= self.labels.count, "more values than labels \(self.labels)")
        switch self.bound {
        case .own(let seriesMax):
            let found = self.series.withLock { series in
                series[values]?.instrument
                    ?? (series.count < seriesMax ? self.add(values, to: &series, at: ContinuousClock.now) : nil)
            }
            if let found { return (found, false) }
        case .shared(let budget):
            if let found = self.series.withLock({ $0[values]?.instrument }) { return (found, false) }
            // Outside the lock: to make room, the budget may look through this family too.
            guard budget.take(self.lines) else { break }
            let (instrument, isNew) = self.series.withLock { series in
                if let found = series[values]?.instrument { return (found, false) }
                return (self.add(values, to: &series, at: budget.now()), true)
            }
            if !isNew { budget.give(back: self.lines) }
            return (instrument, false)
        }
        return (self.overflowInstrument(), true)
    }

    private func add(
        _ values: [String], to series: inout [[String]: Series], at time: ContinuousClock.Instant
    ) -> Instrument {
        let new = self.make()
        series[values] = Series(instrument: new, mark: new.changeMark, changedAt: time)
        return new
    }

    /// Beside the others and for ever: it may never start again at nothing while there is traffic that it stands for.
    private func overflowInstrument() -> Instrument {
        self.overflow.withLock { overflow in
            if let overflow { return overflow }
            let new = self.make()
            overflow = new
            return new
        }
    }

    /// Sorted, so that two scrapes of the same numbers are the same text; the overflow is last.
    package var all: [(values: [String], instrument: Instrument)] {
        let known = self.series.withLock { $0.map { (values: $0.key, instrument: $0.value.instrument) } }
            .sorted { $0.values.lexicographicallyPrecedes($1.values) }
        guard let other = self.overflow.withLock({ $0 }) else { return known }
        return known + [(values: Array(repeating: Self.overflow, count: self.labels.count), instrument: other)]
    }
}

extension MetricFamily: BudgetedFamily {
    /// Notes which series have changed, and drops those that nobody holds and that have not changed for so long.
    /// - Parameter idleAfter: nil drops none.
    /// - Returns: how many series were dropped, and the places that they took.
    func sweep(at now: ContinuousClock.Instant, idleAfter: Duration?) -> (series: Int, places: Int) {
        self.series.withLock { series in
            var idle: [[String]] = []
            var index = series.startIndex
            while index != series.endIndex {
                let mark = series.values[index].instrument.changeMark
                if mark != series.values[index].mark {
                    series.values[index].mark = mark
                    series.values[index].changedAt = now
                } else if let idleAfter, now - series.values[index].changedAt >= idleAfter,
                    // Under the lock nobody can be given it anew.
                    isKnownUniquelyReferenced(&series.values[index].instrument)
                {
                    idle.append(series.keys[index])
                }
                index = series.index(after: index)
            }
            for values in idle { series[values] = nil }
            return (idle.count, idle.count * self.lines)
        }
    }
}

public typealias CounterFamily = MetricFamily<Counter>
public typealias GaugeFamily = MetricFamily<Gauge>
public typealias HistogramFamily = MetricFamily<Histogram>
