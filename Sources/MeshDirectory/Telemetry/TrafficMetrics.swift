package import MeshTelemetry
internal import MeshTunnel

/// Istio's TCP metrics, names and labels as its dashboards expect them.
package struct TrafficMetrics: Sendable {
    package let opened, closed, failed, received, sent: CounterFamily
    package let onDemandDNS, revoked: CounterFamily
    /// Ours: what no other metric shows.
    package let refused, ejected: CounterFamily

    static let labels = [
        "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
        "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
        "destination_service", "destination_service_namespace", "destination_service_name", "destination_workload",
        "destination_canonical_service", "destination_canonical_revision", "destination_workload_namespace",
        "destination_principal", "destination_app", "destination_version", "destination_cluster",
        "request_protocol", "response_flags", "connection_security_policy", "source_region", "source_zone",
        "destination_region", "destination_zone",
    ]
    /// Of all families here whose labels tell who talks to whom.
    let budget: SeriesBudget

    package init(_ registry: MetricsRegistry, budget: SeriesBudget) {
        self.budget = budget
        func counter(_ name: String, _ help: String) -> CounterFamily {
            registry.counter(name, help, labels: Self.labels, budget: budget)
        }
        self.opened = counter("istio_tcp_connections_opened_total", "The total number of TCP connections opened")
        self.closed = counter("istio_tcp_connections_closed_total", "The total number of TCP connections closed")
        self.received = counter(
            "istio_tcp_received_bytes_total",
            "The size of total bytes received during request in case of a TCP connection")
        self.sent = counter(
            "istio_tcp_sent_bytes_total", "The size of total bytes sent during response in case of a TCP connection")
        self.failed = counter(
            "istio_tcp_connections_failed_total", "The total number of TCP connections that failed (unstable)")
        self.onDemandDNS = registry.counter(
            "istio_on_demand_dns_total", "The total number of requests that used on-demand DNS (unstable)",
            labels: Self.nameLookupLabels, budget: budget)
        self.revoked = registry.counter(
            "istio_crl_policy_rejections_total",
            "The total number of tunnels refused or closed by a certificate revocation list (unstable)",
            labels: ["reporter"])
        self.refused = registry.counter(
            "martlet_connections_refused_total",
            "Connections refused before enough was known for an access log record, by reason",
            labels: ["direction", "reason"])
        self.ejected = registry.counter(
            "martlet_endpoints_ejected_total",
            "Times that an endpoint kept failing and was passed over for a while by an event loop")
    }

    private static let nameLookupLabels = Array(labels[1..<9]) + ["hostname"]

    static func nameLookup(by source: PeerAttributes, _ host: String) -> [String] {
        let values: [String?] = [
            source.workloadName, source.canonicalName, source.canonicalRevision, source.namespace, nil, source.app,
            source.version, source.cluster, host,
        ]
        return values.map { $0 ?? "unknown" }
    }

    /// In the order of ``labels``; regions and zones only when a workload is known.
    static func values(_ flow: Flow, flag: String) -> [String] {
        func peer(_ peer: PeerAttributes?, _ principal: String?) -> [String?] {
            [
                peer?.workloadName, peer?.canonicalName, peer?.canonicalRevision, peer?.namespace, principal,
                peer?.app, peer?.version, peer?.cluster,
            ]
        }
        var values: [String?] = [flow.reporter.rawValue]
        values += peer(flow.source, flow.isMutualTLS ? flow.sourceIdentity?.description : nil)
        values += [flow.service?.hostname, flow.service?.namespace, flow.service?.name]
        values += peer(flow.destination, flow.destinationIdentity?.description)
        values += ["tcp", flag, flow.isMutualTLS ? "mutual_tls" : "unknown"]
        if flow.source != nil || flow.destination != nil {
            values += [flow.source?.region, flow.source?.zone, flow.destination?.region, flow.destination?.zone]
        }
        return values.map { $0 ?? "unknown" }
    }
}
