internal import Synchronization

/// What a series counts with.
public protocol MetricInstrument: AnyObject, Sendable {
    /// Differs from what it was before when something was counted in between.
    var changeMark: UInt64 { get }
}

/// A number that only grows. Adding is one atomic instruction.
public final class Counter: MetricInstrument {
    private let total = Atomic<UInt64>(0)

    public init() {}

    /// Wraps after 2^64.
    public func add(_ amount: UInt64 = 1) { self.total.wrappingAdd(amount, ordering: .relaxed) }

    public var value: UInt64 { self.total.load(ordering: .relaxed) }
    public var changeMark: UInt64 { self.value }
}

/// A number that goes up and down.
public final class Gauge: MetricInstrument {
    private let current = Atomic<Int64>(0)

    public init() {}

    public func set(_ value: Int64) { self.current.store(value, ordering: .relaxed) }
    public func add(_ amount: Int64) { self.current.wrappingAdd(amount, ordering: .relaxed) }

    public var value: Int64 { self.current.load(ordering: .relaxed) }
    public var changeMark: UInt64 { UInt64(bitPattern: self.value) }
}

/// How often something was how large.
public final class Histogram: MetricInstrument {
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

    public var changeMark: UInt64 { self.state.withLock { $0.counts.reduce(0, +) } }

    package var snapshot: (counts: [UInt64], sum: Double) { self.state.withLock { ($0.counts, $0.sum) } }
}
