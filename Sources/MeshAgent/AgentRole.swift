internal import Glibc
internal import Logging
internal import MeshCA
internal import MeshProcess
internal import MeshTelemetry

/// The agent beside an Envoy: `martlet proxy waypoint`, with the arguments of Istio's templates.
public enum AgentRole {
    /// Whether `arguments` (after `proxy`) ask for this role, and not for the node proxy.
    public static func isMeant(_ arguments: [String]) -> Bool {
        ["waypoint", "sidecar", "router"].contains(arguments.first)
    }

    /// Runs until SIGTERM, SIGINT or until Envoy ends; then drains.
    /// - Parameters:
    ///   - environment, arguments: see `AgentConfiguration`.
    ///   - version: of this program, for the log and the metrics.
    /// - Throws: for a setting that cannot be used, for a port that cannot be bound, and when Envoy ends by itself.
    public static func run(environment: [String: String], arguments: [String], version: String) async throws {
        let configuration = try AgentConfiguration(environment: environment, arguments: arguments)
        let log = MeshLog(directives: configuration.logDirectives, format: configuration.logFormat)
        log.bootstrap()
        // A peer that is gone shows as EPIPE, not as our end.
        signal(SIGPIPE, SIG_IGN)
        // Envoy inherits it.
        DescriptorLimit.raise(log.logger("app"))
        let shutdown = ShutdownSignal()
        let trap = shutdown.trapSignals()
        defer { withExtendedLifetime(trap) {} }
        let signer = CertificateClient(
            CertificateClientConfiguration(endpoint: configuration.ca, validity: configuration.certificateValidity),
            logger: log.logger("ca"))
        let process = AgentProcess(
            configuration: configuration, log: log, signer: signer, shutdown: shutdown, version: version)
        try await process.run()
    }
}
