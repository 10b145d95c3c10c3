internal import Synchronization

/// The agent's own metrics, in the text format of Prometheus. Names without `martlet_` are the reference's.
package final class NodeMetrics: Sendable {
    /// A counter or gauge with at most one label; label values come from our own code, never from outside.
    private struct Series: Hashable {
        let name: String
        let label: String?
    }
    private struct Value {
        var amount = 0.0
        var isCounter: Bool
    }
    private let values = Mutex<[Series: Value]>([:])

    package init() {}

    private static let help: [String: String] = [
        "nodeagent_reconcile_events_total": "Pod events handled, by type.",
        "istio_cni_plugin_requests_total": "Requests of the CNI plugin, by response code.",
        "ztunnel_connected": "Node proxies connected now.",
        "istio_cni_installs_total": "Installations of the CNI plugin, by result.",
        "istio_cni_install_ready": "1 while the CNI plugin is installed.",
        "martlet_node_pods": "Pods of this node, by state of their enrolment.",
        "martlet_node_probe_entries": "Addresses whose probes are let through.",
        "martlet_node_oldest_pending_seconds": "Age of the pod that has waited longest to be enrolled.",
        "martlet_node_steps_total": "Steps of enrolments, by step and result.",
        "martlet_node_rules_seconds_total": "Time spent applying rules in pods.",
        "martlet_node_drift_repaired_total": "Rules and probe entries that somebody had changed, put right.",
        "martlet_node_open_connections_total":
            "Connections that were open when their pod was enrolled, and pass by the proxy until they end.",
        "martlet_node_undrained_connections_total":
            "Captured connections that were cut because their pod left and the drain limit was over.",
    ]

    package func count(_ name: String, _ label: String? = nil, by amount: Double = 1) {
        self.values.withLock { $0[Series(name: name, label: label), default: Value(isCounter: true)].amount += amount }
    }

    package func set(_ name: String, _ label: String? = nil, to amount: Double) {
        self.values.withLock { $0[Series(name: name, label: label)] = Value(amount: amount, isCounter: false) }
    }

    package var text: String {
        let values = self.values.withLock { $0 }
        var text = ""
        for (name, series) in Dictionary(grouping: values, by: \.key.name).sorted(by: { $0.key < $1.key }) {
            text += "# HELP \(name) \(Self.help[name] ?? name)\n"
            text += "# TYPE \(name) \(series[0].value.isCounter ? "counter" : "gauge")\n"
            for (series, value) in series.sorted(by: { ($0.key.label ?? "") < ($1.key.label ?? "") }) {
                let amount = Int64(exactly: value.amount).map(String.init) ?? String(value.amount)
                text += "\(name)\(series.label.map { "{\($0)}" } ?? "") \(amount)\n"
            }
        }
        return text
    }
}
