internal import MeshCA
internal import MeshLinux

/// How this control plane runs: environment variables under Istio's names, ports also by argument (for tests and for
/// more than one on a machine).
package struct ControlOptions: Sendable {
    package var podName = "istiod"
    package var namespace = "istio-system"
    package var settings = MeshSettings()
    package var trustedNodeAccounts: Set<String> = []
    package var audiences = ["istio-ca"]
    /// The address of all ports; by default every address that there is.
    package var bind = LocalAddresses.everywhere()
    package var secureGRPCPort = 15012
    /// Nil: no plaintext port. Callers authenticate there too.
    package var plaintextGRPCPort: Int?
    package var readinessPort = 8080
    package var monitoringPort = 15014
    /// Whether sidecars are init containers that stay (`ENABLE_NATIVE_SIDECARS`); nil: where all nodes can run them.
    package var wantsNativeSidecars: Bool?
    /// HTTPS: `/inject` and `/validate`.
    package var webhookPort = 15017
    package var kubeconfig: String?
    package var extraHostNames: [String] = []
    package var quiet = Duration.milliseconds(100)
    package var longest = Duration.seconds(10)
    /// Whether hosts of ServiceEntries without addresses get virtual ones (`PILOT_ENABLE_IP_AUTOALLOCATE`).
    package var allocatesAddresses = true
    /// Whether Gateways get proxies, classes and statuses (`PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER`).
    package var deploysWaypoints = true
    package var rootRotation = RootRotation()
    /// How often the stored key material is looked at.
    package var keyMaterialInterval = Duration.seconds(60)
    /// After so long every workload knows a root that is handed out.
    package var rootOverlap = CertificateAuthority.workloadTTL
    /// Whether revocation lists of a plugged-in CA are published (`PILOT_ENABLE_CA_CRL`).
    package var publishesRevocations = true

    package init() {}

    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    package init(environment: [String: String], arguments: [String]) throws(Invalid) {
        func text(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        func list(_ name: String) -> [String]? {
            text(name)?.split(separator: ",").map { String($0.filter { !$0.isWhitespace }) }.filter { !$0.isEmpty }
        }
        self.podName = text("POD_NAME") ?? self.podName
        self.namespace = text("POD_NAMESPACE") ?? self.namespace
        self.settings.rootNamespace = self.namespace
        self.settings.controlPlaneNamespace = self.namespace
        self.settings.clusterID = text("CLUSTER_ID") ?? self.settings.clusterID
        self.settings.revision = text("REVISION") ?? self.settings.revision
        self.settings.domainSuffix = text("DOMAIN_SUFFIX") ?? self.settings.domainSuffix
        self.settings.allowsDryRun = text("AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY") == "true"
        self.settings.requiresWaypoints = text("PILOT_AUTO_ALLOW_WAYPOINT_POLICY") == "true"
        self.allocatesAddresses = text("PILOT_ENABLE_IP_AUTOALLOCATE") != "false"
        self.wantsNativeSidecars = text("ENABLE_NATIVE_SIDECARS").flatMap(Names.boolean)
        self.publishesRevocations = text("PILOT_ENABLE_CA_CRL") != "false"
        self.deploysWaypoints = text("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER") != "false"
        do throws(WaypointInstallation.Invalid) {
            self.settings.waypoints = try WaypointInstallation(environment: environment)
        } catch {
            throw Invalid(description: error.description)
        }
        self.rootRotation = try Self.rootRotation(environment)
        self.trustedNodeAccounts = Set(list("CA_TRUSTED_NODE_ACCOUNTS") ?? [])
        self.audiences = list("TOKEN_AUDIENCES") ?? self.audiences
        self.extraHostNames = list("ISTIOD_CUSTOM_HOST") ?? []
        for account in self.trustedNodeAccounts where account.split(separator: "/").count != 2 {
            throw Invalid(
                description: "CA_TRUSTED_NODE_ACCOUNTS: \"\(account)\" is not <namespace>/<service account>")
        }
        self.quiet = try Self.duration(environment, "PILOT_DEBOUNCE_AFTER") ?? self.quiet
        self.longest = try Self.duration(environment, "PILOT_DEBOUNCE_MAX") ?? self.longest
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            guard let value = parts.count == 2 ? parts[1] : rest.popFirst() else {
                throw Invalid(description: "\(argument) wants a value")
            }
            switch parts[0] {
            case "--kubeconfig": self.kubeconfig = value
            case "--bind": self.bind = value
            case "--secure-grpc-port": self.secureGRPCPort = try Self.port(parts[0], value)
            case "--plaintext-grpc-port": self.plaintextGRPCPort = try Self.port(parts[0], value)
            case "--http-port": self.readinessPort = try Self.port(parts[0], value)
            case "--monitoring-port": self.monitoringPort = try Self.port(parts[0], value)
            case "--https-port": self.webhookPort = try Self.port(parts[0], value)
            default:
                throw Invalid(
                    description: "unknown argument \(parts[0]); known are --kubeconfig, --bind, --secure-grpc-port, "
                        + "--plaintext-grpc-port, --http-port, --monitoring-port and --https-port")
            }
        }
    }

    private static func rootRotation(_ environment: [String: String]) throws(Invalid) -> RootRotation {
        var rotation = RootRotation()
        let start = "CITADEL_SELF_SIGNED_"
        rotation.validity = try Self.duration(environment, start + "CA_CERT_TTL") ?? rotation.validity
        rotation.checkInterval =
            try Self.duration(environment, start + "ROOT_CERT_CHECK_INTERVAL") ?? rotation.checkInterval
        let grace = start + "ROOT_CERT_GRACE_PERIOD_PERCENTILE"
        if let text = environment[grace], !text.isEmpty {
            guard let percent = Int(text), (1...99).contains(percent) else {
                throw Invalid(description: "\(grace): \"\(text)\" is no percentage from 1 to 99")
            }
            rotation.gracePercent = percent
        }
        guard rotation.validity >= .seconds(60) else {
            throw Invalid(description: "\(start)CA_CERT_TTL: a root has to live for a minute at least")
        }
        rotation.hasJitter = environment["CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR"] != "false"
        return rotation
    }

    private static func port(_ name: String, _ value: String) throws(Invalid) -> Int {
        guard let port = UInt16(value) else { throw Invalid(description: "\(name): \"\(value)\" is no port") }
        return Int(port)
    }

    /// `100ms`, `10s`, `1m`, `1h`.
    private static func duration(
        _ environment: [String: String], _ name: String
    ) throws(Invalid) -> Duration? {
        guard let text = environment[name], !text.isEmpty else { return nil }
        let digits = text.prefix { $0.isNumber }
        if let number = Int64(digits), number <= 1_000_000 {
            switch text.dropFirst(digits.count) {
            case "ms": return .milliseconds(number)
            case "s": return .seconds(number)
            case "m": return .seconds(number * 60)
            case "h": return .seconds(number * 3600)
            default: break
            }
        }
        throw Invalid(description: "\(name): \"\(text)\" is no duration such as 100ms, 10s, 1m or 1h")
    }

    /// The names that clients may call us by.
    package var serverNames: [String] {
        ["istiod", "istiod-remote", "istio-pilot"].map { "\($0).\(self.namespace).svc" }
            + ["istiod.\(self.namespace).svc.\(self.settings.domainSuffix)", "istiod.\(self.namespace)"]
            + (self.settings.revision == "default" ? [] : ["istiod-\(self.settings.revision).\(self.namespace).svc"])
            + self.extraHostNames
    }
}
