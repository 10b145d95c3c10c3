internal import KubeAPI
internal import KubeClient
package import MeshModel

/// Everything an operator can set, read once from the environment (the names are Istio's; section "node agent" of the
/// reference documentation lists them). A value that cannot be used stops the agent with what was wanted instead.
package struct NodeAgentConfiguration: Sendable {
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    // Identity of this agent.
    package var nodeName: String
    package var podName: String
    package var podNamespace: String
    /// Where the node proxies run: `SYSTEM_NAMESPACE`.
    package var systemNamespace: String
    package var daemonSetName = "istio-cni-node"

    // Enrolment.
    package var isEnabled: Bool
    package var decision: EnrolmentDecision
    package var isDNSCaptured: Bool
    package var isIPv6Enabled: Bool
    package var cutsOpenConnections: Bool
    package var probeSources: [IPAddress]
    /// `AMBIENT_RECONCILE_POD_RULES_ON_STARTUP`: put rules right also in pods that were enrolled by a predecessor.
    /// Otherwise theirs are left alone, by the drift check too, until the pod is enrolled anew or wants other rules.
    package var reconcilesOnStart: Bool
    /// How often the rules of every pod are compared with what they should be; zero turns it off.
    package var driftInterval: Duration
    /// How long captured connections of a pod that leaves the mesh may live on.
    package var drainLimit: Duration
    /// And how long the proxy stays at least: peers that have not heard yet still send through tunnels.
    package var drainMin: Duration
    /// Kubernetes' own limit for our end, less what the last steps need.
    package var shutdownLimit: Duration
    /// `AMBIENT_DISABLE_SAFE_UPGRADE`: every stop is an uninstall.
    package var cleansUpOnEveryStop: Bool

    // Places.
    package var zdsSocket: String
    package var runDirectory: String
    /// The node's root as we see it, for the namespace paths of the runtime: `/host`.
    package var hostRoot: String
    /// A procfs that shows the node's processes, and is writable below `sys/net`.
    package var hostProc: String
    /// The node's own network namespace; nil when we are in it already.
    package var hostNamespacePath: String?
    package var installer: CNIInstallerConfiguration

    package var healthPort: Int
    package var monitoringPort: Int

    package init(environment: [String: String], executable: String) throws {
        func text(_ name: String, _ fallback: String) -> String {
            environment[name].flatMap { $0.isEmpty ? nil : $0 } ?? fallback
        }
        func flag(_ name: String, _ fallback: Bool) throws -> Bool {
            guard let value = environment[name], !value.isEmpty else { return fallback }
            guard let flag = Self.flag(value) else {
                throw Invalid(description: "\(name) is \"\(value)\"; wanted true or false")
            }
            return flag
        }
        func number(_ name: String, _ fallback: Int, _ range: ClosedRange<Int>) throws -> Int {
            guard let value = environment[name], !value.isEmpty else { return fallback }
            guard let number = Int(value), range.contains(number) else {
                throw Invalid(
                    description:
                        "\(name) is \"\(value)\"; wanted a whole number from \(range.lowerBound) to \(range.upperBound)"
                )
            }
            return number
        }
        func address(_ name: String, _ fallback: IPAddress) throws -> IPAddress {
            guard let value = environment[name], !value.isEmpty else { return fallback }
            guard let address = IPAddress(value), address.isV6 == fallback.isV6 else {
                throw Invalid(
                    description: "\(name) is \"\(value)\"; wanted an IPv\(fallback.isV6 ? 6 : 4) address")
            }
            return address
        }
        self.nodeName = environment["NODE_NAME"] ?? ""
        if self.nodeName.isEmpty {
            throw Invalid(description: "NODE_NAME is not set; give it spec.nodeName through the downward API")
        }
        self.podName = text("POD_NAME", "")
        self.podNamespace = text("POD_NAMESPACE", "istio-system")
        self.systemNamespace = text("SYSTEM_NAMESPACE", "istio-system")

        self.isEnabled = try flag("AMBIENT_ENABLED", true)
        self.decision = EnrolmentDecision(
            selectors: try Self.selectors(environment["AMBIENT_ENABLEMENT_SELECTOR"]),
            excludedNamespaces: Set(Self.list(environment["EXCLUDE_NAMESPACES"] ?? "kube-system")))
        self.isDNSCaptured = try flag("AMBIENT_DNS_CAPTURE", true)
        self.isIPv6Enabled = try flag("AMBIENT_IPV6", true)
        self.cutsOpenConnections = try flag("AMBIENT_CUT_OPEN_CONNECTIONS", false)
        let v4 = try address("HOST_PROBE_SNAT_IP", Redirection.probeSourceV4)
        let v6 = try address("HOST_PROBE_SNAT_IPV6", Redirection.probeSourceV6)
        self.probeSources = self.isIPv6Enabled ? [v4, v6] : [v4]
        self.reconcilesOnStart = try flag("AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", true)
        self.driftInterval = .seconds(try number("AMBIENT_DRIFT_CHECK_SECONDS", 30, 0...86_400))
        self.drainLimit = .seconds(try number("AMBIENT_DRAIN_SECONDS", 300, 0...86_400))
        self.drainMin = .seconds(try number("AMBIENT_DRAIN_MIN_SECONDS", 5, 0...3600))
        let grace = try number("TERMINATION_GRACE_PERIOD_SECONDS", 30, 1...86_400)
        self.shutdownLimit = .seconds(max(1, grace - 10))
        self.cleansUpOnEveryStop = try flag("AMBIENT_DISABLE_SAFE_UPGRADE", false)

        self.zdsSocket = text("ZTUNNEL_UDS_ADDRESS", "/var/run/ztunnel/ztunnel.sock")
        self.runDirectory = text("CNI_AGENT_RUN_DIR", "/var/run/istio-cni")
        self.hostRoot = text("HOST_ROOT", "/host")
        self.hostProc = text("HOST_PROC", "/host/proc")
        self.hostNamespacePath =
            try flag("ALLOW_SWITCH_TO_HOST_NS", true)
            ? text("HOST_NETWORK_NAMESPACE", "\(self.hostProc)/1/ns/net") : nil
        self.healthPort = try number("HEALTH_PORT", 8000, 1...65_535)
        self.monitoringPort = try number("MONITORING_PORT", 15014, 1...65_535)

        let own = executable.split(separator: "/").dropLast().joined(separator: "/")
        self.installer = CNIInstallerConfiguration(
            plugin: text("CNI_PLUGIN_BINARY", "/\(own)/martlet-cni"),
            binaryDirectory: text("MOUNTED_CNI_BIN_DIR", "/host/opt/cni/bin"),
            configurationDirectory: text("MOUNTED_CNI_NET_DIR", "/host/etc/cni/net.d"),
            configurationName: environment["CNI_CONF_NAME"].flatMap { $0.isEmpty ? nil : $0 },
            isChained: try flag("CHAINED_CNI_PLUGIN", true),
            ownedName: try flag("ISTIO_OWNED_CNI_CONFIG", false)
                // The chart of the reference sets the one name, its agent reads the other.
                ? text(
                    "ISTIO_OWNED_CNI_CONFIG_FILENAME",
                    text("ISTIO_OWNED_CNI_CONF_FILENAME", "02-istio-cni.conflist")) : nil,
            isGroupReadable: try flag("CNI_CONF_GROUP_READ", false),
            runDirectory: text("CNI_PLUGIN_RUN_DIR", self.runDirectory))
    }

    /// Go's strconv.ParseBool, which is what users of the reference are used to.
    static func flag(_ text: String) -> Bool? {
        switch text {
        case "1", "t", "T", "true", "TRUE", "True": true
        case "0", "f", "F", "false", "FALSE", "False": false
        default: nil
        }
    }

    private static func list(_ text: String) -> [String] {
        text.split(separator: ",").map { String($0.filter { $0 != " " }) }.filter { !$0.isEmpty }
    }

    private static func selectors(_ yaml: String?) throws -> [EnablementSelector] {
        guard let yaml, !yaml.isEmpty else { return EnablementSelector.defaults }
        do {
            return try EnablementSelector.list(try JSONValue(yaml: yaml))
        } catch {
            throw Invalid(description: "AMBIENT_ENABLEMENT_SELECTOR cannot be used: \(error)")
        }
    }

    /// The rules for one pod: the node's defaults, changed by the pod's annotations. What does not parse is ignored, with a
    /// word for the log.
    package func rules(for annotations: [String: String]) -> (rules: PodRules, warnings: [String]) {
        var rules = PodRules()
        var warnings: [String] = []
        rules.isDNSCaptured = self.isDNSCaptured
        rules.probeSources = self.probeSources
        rules.cutsOpenConnections = self.cutsOpenConnections
        func read(_ key: String, _ use: (Bool) -> Void) {
            guard let value = annotations[key] else { return }
            if let flag = Self.flag(value) {
                use(flag)
            } else {
                warnings.append("annotation \(key) is \"\(value)\", wanted true or false; ignored")
            }
        }
        read(MeshKeys.bypassInbound) { rules.isIngress = $0 }
        read(MeshKeys.dnsCapture) { rules.isDNSCaptured = $0 }
        for name in Self.list(annotations[MeshKeys.virtualInterfaces] ?? "") {
            if PodRules.isInterfaceName(name) {
                rules.virtualInterfaces.append(name)
            } else {
                warnings.append("annotation \(MeshKeys.virtualInterfaces) names no interface: \"\(name)\"; ignored")
            }
        }
        return (rules, warnings)
    }
}
