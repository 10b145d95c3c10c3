import MeshCA
import MeshTelemetry
import MeshXDS

/// The control plane's figures, under the names that dashboards for istiod know.
struct ControlMetrics: Sendable {
    let registry = MetricsRegistry()
    private let pushes: CounterFamily
    private let rejects: CounterFamily
    private let stale: CounterFamily
    private let unauthenticated: CounterFamily
    private let notAdmitted: CounterFamily
    private let connected: GaugeFamily
    private let requests: CounterFamily
    private let issued: CounterFamily
    private let caUnauthenticated: CounterFamily
    private let failed: CounterFamily
    private let rootExpiry: GaugeFamily

    /// - Parameter version: of this program.
    init(version: String) {
        self.pushes = self.registry.unsuffixedCounter("pilot_xds_pushes", "Responses sent, by type", labels: ["type"])
        self.rejects = self.registry.unsuffixedCounter(
            "pilot_total_xds_rejects", "Responses that a client refused, by type", labels: ["type"])
        self.stale = self.registry.unsuffixedCounter(
            "pilot_xds_expired_nonce", "Answers to a response that is no longer the last", labels: ["type"])
        self.unauthenticated = self.registry.counter(
            "martlet_xds_authentication_failures_total", "Streams whose caller could not be authenticated")
        self.notAdmitted = self.registry.counter(
            "martlet_xds_refused_callers_total", "Streams whose caller may not read the state of the mesh")
        self.connected = self.registry.gauge("pilot_xds", "Connected clients")
        self.requests = self.registry.unsuffixedCounter("citadel_server_csr_count", "Certificate requests received")
        self.issued = self.registry.unsuffixedCounter(
            "citadel_server_success_cert_issuance_count", "Certificates issued")
        self.caUnauthenticated = self.registry.unsuffixedCounter(
            "citadel_server_authentication_failure_count",
            "Certificate requests whose caller was not authenticated or not allowed")
        self.failed = self.registry.unsuffixedCounter(
            "citadel_server_csr_sign_err_count", "Certificate requests that could not be signed")
        self.rootExpiry = self.registry.gauge(
            "citadel_server_root_cert_expiry_timestamp", "When the first root expires, in seconds since 1970")
        self.registry.addProcessMetrics(component: "istiod", tag: version)
    }

    func record(_ event: XDSEvent) {
        switch event {
        case .connected: self.connected.with().add(1)
        case .disconnected: self.connected.with().add(-1)
        case .unauthenticated: self.unauthenticated.with().add()
        case .notAdmitted: self.notAdmitted.with().add()
        case .pushed(let type, _): self.pushes.with([Self.short(type)]).add()
        case .refused(let type): self.rejects.with([Self.short(type)]).add()
        case .staleNonce(let type): self.stale.with([Self.short(type)]).add()
        case .published: break
        }
    }

    func record(_ event: CertificateService.Event) {
        switch event {
        case .received: self.requests.with().add()
        case .issued: self.issued.with().add()
        case .unauthenticated, .refused: self.caUnauthenticated.with().add()
        case .failed: self.failed.with().add()
        }
    }

    func show(_ authority: CertificateAuthority) {
        self.rootExpiry.with().set(Int64(authority.rootNotAfter.timeIntervalSince1970))
    }

    /// `wds` and `wads`, as the reference's dashboards call them.
    private static func short(_ type: String) -> String {
        switch type {
        case XDSType.address: "wds"
        case XDSType.authorization: "wads"
        case XDSType.serviceRules: "service_rules"
        case XDSType.waypointRules: "waypoint_rules"
        default: "other"
        }
    }
}
