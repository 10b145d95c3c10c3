internal import Glibc
internal import Logging
internal import MeshCA
internal import MeshProcess
internal import MeshTelemetry
internal import MeshXDS

/// The waypoint of a Gateway: `martlet waypoint`.
public enum WaypointRole {
    /// Whether `arguments` (after `waypoint`) ask for the role, which has none, and not for the user's commands of the same
    /// name.
    public static func isMeant(_ arguments: [String], environment: [String: String]) -> Bool {
        arguments.isEmpty && environment["GATEWAY_NAME"] != nil
    }

    /// Runs until SIGTERM, SIGINT or `POST /quitquitquit`, then drains.
    /// - Parameters:
    ///   - environment: see `WaypointConfiguration`.
    ///   - version: of this program, for the log and the metrics.
    /// - Throws: for a setting that cannot be used, and for a port that cannot be bound.
    public static func run(environment: [String: String], version: String) async throws {
        let configuration = try WaypointConfiguration(environment: environment)
        let log = MeshLog(directives: configuration.logDirectives, format: configuration.logFormat)
        log.bootstrap()
        // A peer that is gone shows as EPIPE, not as our end.
        signal(SIGPIPE, SIG_IGN)
        DescriptorLimit.raise(log.logger("app"))
        let shutdown = ShutdownSignal()
        let trap = shutdown.trapSignals()
        defer { withExtendedLifetime(trap) {} }
        let process = WaypointProcess(
            configuration: configuration, log: log, surroundings: .real(configuration, log), shutdown: shutdown,
            version: version)
        try await process.run()
    }
}

extension WaypointProcess.Surroundings {
    static func real(_ configuration: WaypointConfiguration, _ log: MeshLog) -> Self {
        let (xds, tunnel) = (configuration.xdsClient, configuration.tunnel)
        return Self(
            followMesh: { sink in await MeshXDSClient(xds, waypoint: sink, logger: log.logger("xds")).run() },
            signer: CertificateClient(
                CertificateClientConfiguration(endpoint: configuration.ca, validity: configuration.certificateValidity),
                logger: log.logger("ca")),
            makeEngine: { snapshot, certificates, observer, exchanges in
                try RealWaypointEngine(
                    tunnel, snapshot, certificates: certificates, observer: observer, exchanges: exchanges)
            })
    }
}
