internal import Synchronization

/// A number that only grows. Adding is one atomic instruction.
public final class Counter: Sendable {
    private let total = Atomic<UInt64>(0)

    public init() {}

    /// Wraps after 2^64.
    public func add(_ amount: UInt64 = 1) { self.total.wrappingAdd(amount, ordering: .relaxed) }

    public var value: UInt64 { self.total.load(ordering: .relaxed) }
}

/// A number that goes up and down.
public final class Gauge: Sendable {
    private let current = Atomic<Int64>(0)

    public init() {}

    public func set(_ value: Int64) { self.current.store(value, ordering: .relaxed) }
    public func add(_ amount: Int64) { self.current.wrappingAdd(amount, ordering: .relaxed) }

    public var value: Int64 { self.current.load(ordering: .relaxed) }
}

/// How often something was how large.
public final class Histogram: Sendable {
    private struct State {
        /// One per bound, and one for everything above; not cumulative.
        var counts: [UInt64]
        var sum = 0.0
    }
    /// Inclusive upper bounds, ascending.
    public let bounds: [Double]
    private let state: Mutex<State>

    public init(bounds: [Double]) {
        self.bounds = bounds
        self.state = Mutex(State(counts: Array(repeating: 0, count: bounds.count + 1)))
    }

    public func record(_ value: Double) {
        // A handful of bounds: a search would be slower.
        let index = self.bounds.firstIndex { value <= $0 } ?? self.bounds.count
        self.state.withLock { state in
            state.counts[index] += 1
            state.sum += value
        }
    }

    package var snapshot: (counts: [UInt64], sum: Double) { self.state.withLock { ($0.counts, $0.sum) } }
}

/// One metric with labels: hands out the instrument of each combination of label values.
///
/// Keep the instrument where the combination is known for long: finding it takes a lock and hashes all values.
public final class MetricFamily<Instrument: AnyObject & Sendable>: Sendable {
    public let labels: [String]
    private let seriesMax: Int
    private let make: @Sendable () -> Instrument
    private let series = Mutex<[[String]: Instrument]>([:])

    /// The value of every label of the series that stands for all those for which there was no room.
    public static var overflow: String { "overflow" }

    init(labels: [String], seriesMax: Int, make: @escaping @Sendable () -> Instrument) {
        self.labels = labels
        self.seriesMax = seriesMax
        self.make = make
    }

    /// - Parameter values: of the labels, in their order; trailing ones may be left out and are then not shown.
    ///   A combination beyond the bound counts under ``overflow``: outsiders may not fill the memory.
    public func with(_ values: [String] = []) -> Instrument {
        precondition(values.count <= self.labels.count, "more values than labels \(self.labels)")
        return self.series.withLock { series in
            if let found = series[values] { return found }
            if series.count < self.seriesMax {
                let new = self.make()
                series[values] = new
                return new
            }
            let other = Array(repeating: Self.overflow, count: self.labels.count)
            if let found = series[other] { return found }
            let new = self.make()
            series[other] = new
            return new
        }
    }

    /// Sorted, so that two scrapes of the same numbers are the same text.
    package var all: [(values: [String], instrument: Instrument)] {
        self.series.withLock { $0.map { (values: $0.key, instrument: $0.value) } }
            .sorted { $0.values.lexicographicallyPrecedes($1.values) }
    }
}

public typealias CounterFamily = MetricFamily<Counter>
public typealias GaugeFamily = MetricFamily<Gauge>
public typealias HistogramFamily = MetricFamily<Histogram>
