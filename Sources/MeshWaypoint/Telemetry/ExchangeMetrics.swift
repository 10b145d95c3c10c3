package import MeshTelemetry

/// Istio's metrics of HTTP and gRPC, names and labels as its dashboards, Kiali and analysis templates ask for them
/// (istio.io, "Istio Standard Metrics"), with `reporter="waypoint"`.
package struct ExchangeMetrics: Sendable {
    package let requests, requestMessages, responseMessages: CounterFamily
    package let milliseconds, requestBytes, responseBytes: HistogramFamily
    /// Ours: spans and why they were not delivered.
    package let spans: CounterFamily

    static let labels = [
        "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
        "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
        "destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
        "destination_version", "destination_service", "destination_canonical_service",
        "destination_canonical_revision", "destination_service_name", "destination_service_namespace",
        "destination_cluster", "request_protocol", "response_code", "grpc_response_status", "response_flags",
        "connection_security_policy",
    ]
    /// The bounds that Envoy's histograms have, whatever they measure.
    static let bounds: [Double] = [
        0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
        3_600_000,
    ]
    let budget: SeriesBudget

    package init(_ registry: MetricsRegistry, budget: SeriesBudget) {
        self.budget = budget
        func counter(_ name: String, _ help: String) -> CounterFamily {
            registry.counter(name, help, labels: Self.labels, budget: budget)
        }
        func histogram(_ name: String, _ help: String) -> HistogramFamily {
            registry.histogram(name, help, labels: Self.labels, bounds: Self.bounds, budget: budget)
        }
        self.requests = counter("istio_requests_total", "The total number of requests handled")
        self.milliseconds = histogram("istio_request_duration_milliseconds", "The duration of requests in milliseconds")
        self.requestBytes = histogram("istio_request_bytes", "The size of request bodies in bytes")
        self.responseBytes = histogram("istio_response_bytes", "The size of response bodies in bytes")
        self.requestMessages = counter(
            "istio_request_messages_total", "The total number of gRPC messages sent by clients")
        self.responseMessages = counter(
            "istio_response_messages_total", "The total number of gRPC messages sent by servers")
        self.spans = registry.counter(
            "martlet_spans_total", "Spans by what became of them: exported, dropped (no room) or failed (collector)",
            labels: ["outcome"])
    }
}
