internal import KubeAPI

/// Lets the kubelet ask the agent instead of the app: its probes carry no certificate, and would be captured.
///
/// The agent knows from `ISTIO_KUBE_APP_PROBERS` what to ask the app when `/app-health/<container>/readyz` is asked for.
/// Hooks of a container's life (`postStart`, `preStop`) stay as they are.
struct ProbeRewriting {
    private(set) var probers: [String: JSONValue] = [:]
    let port: Int64

    private static let probes = [
        ("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz"),
    ]

    init(port: Int64) { self.port = port }

    /// For the environment of the agent; nil: there was nothing to rewrite.
    var environment: String? { self.probers.isEmpty ? nil : JSONValue.object(self.probers).description }

    mutating func rewrite(_ container: inout JSONValue) {
        let name = container["name"]?.string ?? ""
        for (field, word) in Self.probes {
            guard var probe = container[field], let check = self.check(probe, container) else { continue }
            let path = "/app-health/\(name)/\(word)"
            var prober = check
            prober["timeoutSeconds"] = probe["timeoutSeconds"] ?? 1
            self.probers[path] = prober
            for kind in ["tcpSocket", "grpc"] { probe[kind] = nil }
            probe["httpGet"] = ["path": .string(path), "port": .int(self.port)]
            container[field] = probe
        }
    }

    /// What the probe asks, with a number for its port; nil for commands, and for what the agent itself answers.
    private func check(_ probe: JSONValue, _ container: JSONValue) -> JSONValue? {
        for kind in ["httpGet", "tcpSocket", "grpc"] {
            guard var check = probe[kind] else { continue }
            guard let number = self.number(check["port"], container), number != self.port else { return nil }
            check["port"] = .int(number)
            return .object([kind: check])
        }
        return nil
    }

    private func number(_ port: JSONValue?, _ container: JSONValue) -> Int64? {
        if let number = port?.int { return number }
        guard let name = port?.string else { return nil }
        if let number = Int64(name) { return number }
        return container["ports"]?.array?.first { $0["name"]?.string == name }?["containerPort"]?.int
    }
}
