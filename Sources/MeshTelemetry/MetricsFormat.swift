/// How metrics are written.
///
/// The samples are the same in both. They differ in what the family of a counter is called (with `_total` in the older
/// one), so that one text cannot serve readers of both: Prometheus' own parser takes a counter of the other format for
/// something without type and explanation.
public enum MetricsFormat: Sendable {
    /// OpenMetrics 1.0.
    case openMetrics
    /// Prometheus' text format 0.0.4.
    case prometheus

    /// - Parameter accept: the header of the request, if there is one.
    public init(accept: String?) {
        self = accept?.contains("application/openmetrics-text") == true ? .openMetrics : .prometheus
    }

    public var contentType: String {
        switch self {
        case .openMetrics: "application/openmetrics-text;charset=utf-8;version=1.0.0"
        case .prometheus: "text/plain; charset=utf-8"
        }
    }

    var end: String {
        switch self {
        case .openMetrics: "# EOF\n"
        case .prometheus: ""
        }
    }

    func family(ofCounter name: String, suffix: String) -> String {
        switch self {
        case .openMetrics: name
        case .prometheus: name + suffix
        }
    }

    /// For what has a type that its name does not allow.
    var noType: String {
        switch self {
        case .openMetrics: "unknown"
        case .prometheus: "untyped"
        }
    }

    /// `_count` belongs to histograms, says `promtool check metrics`; some of Istio's gauges end in it all the same.
    func gauge(_ name: String) -> String { name.hasSuffix("_count") ? self.noType : "gauge" }
}
