internal import Synchronization

/// Every metric of the process, in the order of registration, and their text.
public final class MetricsRegistry: Sendable {
    /// Combinations of label values per metric, unless a metric asks for another bound.
    public static let seriesMax = 10_000

    private enum Instruments: Sendable {
        /// With what is appended to the name of a sample: `_total`, or nothing.
        case counter(CounterFamily, suffix: String)
        case gauge(GaugeFamily)
        case histogram(HistogramFamily)
        /// Asked at every scrape; nil shows nothing.
        case observed(@Sendable () -> Int64?)
    }
    private struct Entry: Sendable {
        var name: String
        var help: String
        var instruments: Instruments
    }
    private let entries = Mutex<[Entry]>([])
    private let seriesMax: Int
    private let budgets = Mutex<[SeriesBudget]>([])

    public init(seriesMax: Int = MetricsRegistry.seriesMax) { self.seriesMax = seriesMax }

    /// - Parameters:
    ///   - name: as it is scraped, with `_total`.
    ///   - help: a sentence without its full stop; unstable metrics end in `(unstable)`.
    ///   - budget: for metrics whose labels come from traffic.
    public func counter(
        _ name: String, _ help: String, labels: [String] = [], budget: SeriesBudget? = nil
    ) -> CounterFamily {
        precondition(name.hasSuffix("_total"), "a counter's name ends in _total: \(name)")
        let family = CounterFamily(labels: labels, bound: self.bound(budget)) { Counter() }
        budget?.add(family)
        self.add(String(name.dropLast("_total".count)), help, .counter(family, suffix: "_total"))
        return family
    }

    /// A counter under a name without `_total`, as many of istiod's are and its dashboards want them. Neither format lets
    /// a counter have such a name, so no type is told; to a query that makes no difference.
    public func unsuffixedCounter(_ name: String, _ help: String, labels: [String] = []) -> CounterFamily {
        let family = CounterFamily(labels: labels, bound: self.bound(nil)) { Counter() }
        self.add(name, help, .counter(family, suffix: ""))
        return family
    }

    public func gauge(_ name: String, _ help: String, labels: [String] = []) -> GaugeFamily {
        let family = GaugeFamily(labels: labels, bound: self.bound(nil)) { Gauge() }
        self.add(name, help, .gauge(family))
        return family
    }

    /// A gauge whose value is asked for at each scrape.
    public func observedGauge(_ name: String, _ help: String, _ read: @escaping @Sendable () -> Int64?) {
        self.add(name, help, .observed(read))
    }

    /// - Parameters:
    ///   - bounds: inclusive upper bounds, ascending, without infinity.
    ///   - budget: for metrics whose labels come from traffic.
    public func histogram(
        _ name: String, _ help: String, labels: [String] = [], bounds: [Double], budget: SeriesBudget? = nil
    ) -> HistogramFamily {
        // The buckets, the one without bound, the sum and the count.
        let family = HistogramFamily(labels: labels, bound: self.bound(budget), lines: bounds.count + 3) {
            Histogram(bounds: bounds)
        }
        budget?.add(family)
        self.add(name, help, .histogram(family))
        return family
    }

    private func bound<Instrument>(_ budget: SeriesBudget?) -> MetricFamily<Instrument>.Bound {
        budget.map { .shared($0) } ?? .own(self.seriesMax)
    }

    /// Shows how far the budget is used. It is swept at scrapes, so that it knows what has been idle before room is
    /// needed.
    public func show(_ budget: SeriesBudget) {
        self.observedGauge(
            "martlet_metrics_series", "Series in use of those metrics whose labels come from traffic"
        ) { Int64(budget.usedCount) }
        self.observedGauge(
            "martlet_metrics_series_max", "How many series those metrics may have whose labels come from traffic"
        ) { Int64(budget.seriesMax) }
        self.observedCounter(
            "martlet_metrics_series_evicted_total", "Series that were dropped because they were idle", budget.evicted)
        self.observedCounter(
            "martlet_metrics_series_overflowed_total",
            "Times that a series found no room and counted under overflow", budget.overflowed)
        self.budgets.withLock { $0.append(budget) }
    }

    /// A counter that stands elsewhere.
    private func observedCounter(_ name: String, _ help: String, _ counter: Counter) {
        let family = CounterFamily(labels: [], bound: .own(1)) { counter }
        _ = family.with()
        self.add(String(name.dropLast("_total".count)), help, .counter(family, suffix: "_total"))
    }

    private func add(_ name: String, _ help: String, _ instruments: Instruments) {
        self.entries.withLock { entries in
            precondition(!entries.contains { $0.name == name }, "metric \(name) is registered twice")
            entries.append(Entry(name: name, help: help, instruments: instruments))
        }
    }

    // MARK: Text

    /// Families without series are left out.
    public func text(_ format: MetricsFormat) -> String {
        for budget in self.budgets.withLock({ $0 }) { budget.sweepIfDue() }
        var text = ""
        for entry in self.entries.withLock({ $0 }) {
            var samples = ""
            var name = entry.name
            let type: String
            switch entry.instruments {
            case .counter(let family, let suffix):
                type = suffix.isEmpty ? format.noType : "counter"
                for (values, counter) in family.all {
                    Self.sample(&samples, entry.name + suffix, family.labels, values, "\(counter.value)")
                }
                name = format.family(ofCounter: entry.name, suffix: suffix)
            case .gauge(let family):
                type = format.gauge(name)
                for (values, gauge) in family.all {
                    Self.sample(&samples, entry.name, family.labels, values, "\(gauge.value)")
                }
            case .histogram(let family):
                type = "histogram"
                for (values, histogram) in family.all {
                    Self.samples(&samples, entry.name, family.labels, values, histogram)
                }
            case .observed(let read):
                type = format.gauge(name)
                if let value = read() { Self.sample(&samples, entry.name, [], [], "\(value)") }
            }
            if samples.isEmpty { continue }
            text += "# HELP \(name) \(Self.escaped(entry.help)).\n# TYPE \(name) \(type)\n" + samples
        }
        return text + format.end
    }

    public func openMetrics() -> String { self.text(.openMetrics) }

    private static func samples(
        _ text: inout String, _ name: String, _ labels: [String], _ values: [String], _ histogram: Histogram
    ) {
        let (counts, sum) = histogram.snapshot
        let total = counts.reduce(0, +)
        Self.sample(&text, name + "_sum", labels, values, "\(sum)")
        Self.sample(&text, name + "_count", labels, values, "\(total)")
        let known = Array(labels.prefix(values.count))
        var below: UInt64 = 0
        for (index, count) in counts.enumerated() {
            below += count
            let bound = index < histogram.bounds.count ? "\(histogram.bounds[index])" : "+Inf"
            Self.sample(&text, name + "_bucket", known + ["le"], values + [bound], "\(below)")
        }
    }

    private static func sample(
        _ text: inout String, _ name: String, _ labels: [String], _ values: [String], _ value: String
    ) {
        // Piece by piece: a full budget is half a million labels, and an interpolation makes a text of each.
        text += name
        if !values.isEmpty {
            var separator = "{"
            for (label, value) in zip(labels, values) {
                text += separator
                text += label
                text += "=\""
                text += Self.escaped(value)
                text += "\""
                separator = ","
            }
            text += "}"
        }
        text += " "
        text += value
        text += "\n"
    }

    /// Backslash, quote and line feed, the three that the format names.
    private static func escaped(_ value: String) -> String {
        guard value.utf8.contains(where: { $0 == 0x5c || $0 == 0x22 || $0 == 0x0a }) else { return value }
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
