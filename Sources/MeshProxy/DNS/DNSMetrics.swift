internal import MeshDNS
internal import MeshDirectory
package import MeshTelemetry

/// Istio's metrics of its DNS proxy.
package struct DNSMetrics: Sendable {
    private static let labels = [
        "request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision",
    ]
    private static let secondsBounds = [0.0005, 0.001, 0.01, 0.1, 1, 5]

    let requests, upstreamRequests, upstreamFailures: CounterFamily
    let upstreamSeconds: HistogramFamily

    /// - Parameter budget: the names of types and protocols are a fixed set, but workloads come and go.
    package init(_ registry: MetricsRegistry, budget: SeriesBudget) {
        func counter(_ name: String, _ help: String) -> CounterFamily {
            registry.counter(name, help, labels: Self.labels, budget: budget)
        }
        self.requests = counter("istio_dns_requests_total", "The total number of captured DNS requests (unstable)")
        self.upstreamRequests = counter(
            "istio_dns_upstream_requests_total", "The total number of DNS requests passed on to a resolver (unstable)")
        self.upstreamFailures = counter(
            "istio_dns_upstream_failures_total",
            "The total number of DNS requests that no resolver answered (unstable)")
        self.upstreamSeconds = registry.histogram(
            "istio_dns_upstream_request_duration_seconds",
            "The time in seconds until a resolver answered a DNS request (unstable)", labels: Self.labels,
            bounds: Self.secondsBounds, budget: budget)
    }

    static func values(_ type: DNSRecordType?, _ transport: DNSTransport, _ peer: PeerAttributes?) -> [String] {
        [
            type?.label ?? "unknown", transport.rawValue, peer?.canonicalName ?? "unknown",
            peer?.canonicalRevision ?? "unknown",
        ]
    }
}
