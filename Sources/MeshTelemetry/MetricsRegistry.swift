internal import Synchronization

/// Every metric of the process, in the order of registration, and their OpenMetrics text.
public final class MetricsRegistry: Sendable {
    /// Combinations of label values per metric, unless a metric asks for another bound.
    public static let seriesMax = 10_000
    /// What Prometheus gets when it asks for OpenMetrics; others get the same text as `text/plain`.
    public static let openMetricsType = "application/openmetrics-text;charset=utf-8;version=1.0.0"

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

    public init(seriesMax: Int = MetricsRegistry.seriesMax) { self.seriesMax = seriesMax }

    /// - Parameters:
    ///   - name: as it is scraped, with `_total`.
    ///   - help: a sentence without its full stop; unstable metrics end in `(unstable)`.
    public func counter(
        _ name: String, _ help: String, labels: [String] = [], seriesMax: Int? = nil
    ) -> CounterFamily {
        precondition(name.hasSuffix("_total"), "a counter's name ends in _total: \(name)")
        let family = CounterFamily(labels: labels, seriesMax: seriesMax ?? self.seriesMax) { Counter() }
        self.add(String(name.dropLast("_total".count)), help, .counter(family, suffix: "_total"))
        return family
    }

    /// A counter under a name without `_total`, as many of istiod's are and its dashboards want them. OpenMetrics asks for
    /// the suffix; Prometheus takes a counter without it in both formats.
    public func unsuffixedCounter(
        _ name: String, _ help: String, labels: [String] = [], seriesMax: Int? = nil
    ) -> CounterFamily {
        let family = CounterFamily(labels: labels, seriesMax: seriesMax ?? self.seriesMax) { Counter() }
        self.add(name, help, .counter(family, suffix: ""))
        return family
    }

    public func gauge(_ name: String, _ help: String, labels: [String] = [], seriesMax: Int? = nil) -> GaugeFamily {
        let family = GaugeFamily(labels: labels, seriesMax: seriesMax ?? self.seriesMax) { Gauge() }
        self.add(name, help, .gauge(family))
        return family
    }

    /// A gauge whose value is asked for at each scrape.
    public func observedGauge(_ name: String, _ help: String, _ read: @escaping @Sendable () -> Int64?) {
        self.add(name, help, .observed(read))
    }

    /// - Parameter bounds: inclusive upper bounds, ascending, without infinity.
    public func histogram(
        _ name: String, _ help: String, labels: [String] = [], bounds: [Double], seriesMax: Int? = nil
    ) -> HistogramFamily {
        let family = HistogramFamily(labels: labels, seriesMax: seriesMax ?? self.seriesMax) {
            Histogram(bounds: bounds)
        }
        self.add(name, help, .histogram(family))
        return family
    }

    private func add(_ name: String, _ help: String, _ instruments: Instruments) {
        self.entries.withLock { entries in
            precondition(!entries.contains { $0.name == name }, "metric \(name) is registered twice")
            entries.append(Entry(name: name, help: help, instruments: instruments))
        }
    }

    // MARK: OpenMetrics text

    /// Families without series are left out.
    public func openMetrics() -> String {
        var text = ""
        for entry in self.entries.withLock({ $0 }) {
            var samples = ""
            let type: String
            switch entry.instruments {
            case .counter(let family, let suffix):
                type = "counter"
                for (values, counter) in family.all {
                    Self.sample(&samples, entry.name + suffix, family.labels, values, "\(counter.value)")
                }
            case .gauge(let family):
                type = "gauge"
                for (values, gauge) in family.all {
                    Self.sample(&samples, entry.name, family.labels, values, "\(gauge.value)")
                }
            case .histogram(let family):
                type = "histogram"
                for (values, histogram) in family.all {
                    Self.samples(&samples, entry.name, family.labels, values, histogram)
                }
            case .observed(let read):
                type = "gauge"
                if let value = read() { Self.sample(&samples, entry.name, [], [], "\(value)") }
            }
            if samples.isEmpty { continue }
            text += "# HELP \(entry.name) \(Self.escaped(entry.help)).\n# TYPE \(entry.name) \(type)\n" + samples
        }
        return text + "# EOF\n"
    }

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
        text += name
        if !values.isEmpty {
            text += "{"
            for (index, pair) in zip(labels, values).enumerated() {
                if index > 0 { text += "," }
                text += "\(pair.0)=\"\(Self.escaped(pair.1))\""
            }
            text += "}"
        }
        text += " \(value)\n"
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
