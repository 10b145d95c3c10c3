package import MeshTelemetry

/// The agent's own metrics. Names without `martlet_` are the reference's.
package struct NodeMetrics: Sendable {
    package let registry = MetricsRegistry()

    let events: CounterFamily
    let pluginRequests: CounterFamily
    let connectedProxies: Gauge
    let installs: CounterFamily
    let isInstallReady: Gauge
    let pods: GaugeFamily
    let probeEntries: Gauge
    let oldestPendingSeconds: Gauge
    let steps: CounterFamily
    let rulesSeconds: Histogram
    let driftRepaired: CounterFamily
    let openConnections: CounterFamily
    let undrainedConnections: CounterFamily

    /// In seconds. One transaction of nft takes about 10 ms on an idle machine.
    private static let rulesBounds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

    /// - Parameter version: of this program.
    package init(version: String) {
        let registry = self.registry
        self.events = registry.counter(
            "nodeagent_reconcile_events_total", "Pod events handled, by type", labels: ["type"])
        self.pluginRequests = registry.counter(
            "istio_cni_plugin_requests_total", "Requests of the CNI plugin, by response code",
            labels: ["response_code"])
        self.connectedProxies = registry.gauge("ztunnel_connected", "Node proxies connected now").with()
        self.installs = registry.counter(
            "istio_cni_installs_total", "Installations of the CNI plugin, by result", labels: ["result"])
        self.isInstallReady = registry.gauge("istio_cni_install_ready", "1 while the CNI plugin is installed").with()
        self.pods = registry.gauge(
            "martlet_node_pods", "Pods of this node, by state of their enrolment", labels: ["state"])
        self.probeEntries = registry.gauge(
            "martlet_node_probe_entries", "Addresses whose probes are let through"
        ).with()
        self.oldestPendingSeconds = registry.gauge(
            "martlet_node_oldest_pending_seconds", "Age of the pod that has waited longest to be enrolled"
        ).with()
        self.steps = registry.counter(
            "martlet_node_steps_total", "Steps of enrolments, by step and result", labels: ["step", "result"])
        self.rulesSeconds = registry.histogram(
            "martlet_node_rules_seconds", "How long the rules of one pod took", bounds: Self.rulesBounds
        ).with()
        self.driftRepaired = registry.counter(
            "martlet_node_drift_repaired_total", "Rules and probe entries that somebody had changed, put right",
            labels: ["what"])
        self.openConnections = registry.counter(
            "martlet_node_open_connections_total",
            "Connections that were open when their pod was enrolled, and pass by the proxy until they end")
        self.undrainedConnections = registry.counter(
            "martlet_node_undrained_connections_total",
            "Captured connections that were cut because their pod left and the drain limit was over")
        registry.addProcessMetrics(component: "cni", tag: version)
    }
}
