import KubeAPI
import MeshModel
import MeshRoutes

/// `opentelemetry` of MeshConfig's `extensionProviders`.
enum TraceCollector {
    /// `http://host:port/path`; nil when it asks for gRPC, which waypoints do not speak to collectors.
    static func address(_ json: JSONValue) -> String? {
        guard let service = json["service"]?.string, let port = json["port"]?.int, (1...65535).contains(port),
            let http = json["http"], http.object != nil
        else { return nil }
        // `[<namespace>/]<host name>`
        let host = service.split(separator: "/").last.map(String.init) ?? service
        let path = http["path"]?.string ?? "/v1/traces"
        return "http://\(host):\(port)\(path.hasPrefix("/") ? "" : "/")\(path)"
    }
}

/// Telemetry objects → what a waypoint says about its traffic.
enum TelemetryReader {
    /// Of requests without a decision of their caller, in percent, where nobody says how many (Istio's default).
    static let tracePercentDefault = 1.0

    /// Settings of one scope over those of a wider one: each section that says something replaces the wider one's.
    static func read(
        _ views: [TelemetryView], over wider: WaypointTelemetry, _ settings: MeshSettings
    ) -> WaypointTelemetry {
        var telemetry = wider
        // One object for each scope is what the API wants; of several the oldest counts.
        guard let view = views.min(by: { ($0.createdAt, $0.key.name) < ($1.createdAt, $1.key.name) }) else {
            return telemetry
        }
        for logging in view.accessLogging ?? [] where Self.concernsServers(logging) {
            telemetry.isAccessLogEnabled = !(logging["disabled"]?.bool ?? false)
            if let providers = logging["providers"]?.array {
                telemetry.accessLog = settings.accessLog.style(ofProviders: providers.compactMap { $0["name"]?.string })
            }
        }
        for tracing in view.tracing ?? [] where Self.concernsServers(tracing) {
            if let providers = tracing["providers"]?.array {
                telemetry.traceCollector = Self.collector(providers.compactMap { $0["name"]?.string }, settings)
                if telemetry.traceCollector != nil, wider.traceCollector == nil {
                    telemetry.tracePercent = Self.tracePercentDefault
                }
            }
            if let percent = tracing["randomSamplingPercentage"]?.double, (0...100).contains(percent) {
                telemetry.tracePercent = percent
            }
            if tracing["disableSpanReporting"]?.bool == true { telemetry.traceCollector = nil }
        }
        return telemetry
    }

    /// Without any object.
    static func initial(_ settings: MeshSettings) -> WaypointTelemetry {
        var telemetry = WaypointTelemetry()
        telemetry.traceCollector = Self.collector(settings.tracingProviders, settings)
        if telemetry.traceCollector != nil { telemetry.tracePercent = Self.tracePercentDefault }
        let log = settings.accessLog
        telemetry.isAccessLogEnabled = log.isEnabled
        telemetry.accessLog =
            log.defaultProviders.isEmpty ? log.style : log.style(ofProviders: log.defaultProviders)
        return telemetry
    }

    private static func collector(_ names: [String], _ settings: MeshSettings) -> String? {
        names.lazy.compactMap { settings.traceCollectors[$0] ?? nil }.first
    }

    /// A waypoint takes requests, as a server's proxy does.
    private static func concernsServers(_ json: JSONValue) -> Bool {
        json.at("match", "mode")?.string != "CLIENT"
    }
}
