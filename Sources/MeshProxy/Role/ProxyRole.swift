internal import Glibc
internal import MeshCA
internal import MeshLinux
internal import MeshProcess
internal import MeshTelemetry
internal import MeshTunnel
internal import MeshXDS
internal import MeshZDS

/// The node proxy: `martlet proxy`.
public enum ProxyRole {
    /// Runs until SIGTERM, SIGINT or `POST /quitquitquit`, then drains.
    /// - Parameters:
    ///   - environment: see `ProxyConfiguration`.
    ///   - version: of this program, for the log and the metrics.
    ///   - arguments: after the role's name; `proxy` and `ztunnel`, as the charts write them, or none.
    /// - Throws: for a setting that cannot be used, and for a port that cannot be bound.
    public static func run(
        environment: [String: String], arguments: [String], version: String
    ) async throws {
        if let unknown = arguments.first(where: { $0 != "ztunnel" && $0 != "proxy" }) {
            throw InvalidSetting("argument", unknown, wanted: "no arguments: the node proxy is set up by environment")
        }
        let configuration = try ProxyConfiguration(environment: environment)
        let log = MeshLog(directives: configuration.logDirectives, format: configuration.logFormat)
        log.bootstrap()
        // A peer that is gone shows as EPIPE, not as our end.
        signal(SIGPIPE, SIG_IGN)
        DescriptorLimit.raise(log.logger("app"))
        let shutdown = ShutdownSignal()
        let trap = shutdown.trapSignals()
        defer { withExtendedLifetime(trap) {} }
        let process = ProxyProcess(
            configuration: configuration, log: log, surroundings: .real(configuration, log), shutdown: shutdown,
            version: version)
        try await process.run()
    }
}

extension ProxyProcess.Surroundings {
    static func real(_ configuration: ProxyConfiguration, _ log: MeshLog) -> Self {
        let xds = configuration.xdsClient
        let signer = CertificateClient(
            CertificateClientConfiguration(endpoint: configuration.ca, validity: configuration.certificateValidity),
            logger: log.logger("ca"))
        let demands = configuration.isOnDemand ? MeshDemands() : nil
        var surroundings = Self(
            followMesh: { sink in
                // Without a control plane the local mesh is all there is.
                guard configuration.followsControlPlane else { return await sink.synced() }
                await MeshXDSClient(xds, sink: sink, logger: log.logger("xds"), demands: demands).run()
            },
            signer: signer,
            obeyAgent: { enrolment in
                if let pod = configuration.onlyPod { return await enrolment.serveAlone(pod) }
                await ZDSClient(path: configuration.agentSocket, log: log.logger("zds")).run(handler: enrolment)
            },
            makeTunnel: { view, certificates, observer, resolver in
                try TunnelEngine(
                    configuration: configuration.tunnel, view: view, certificates: certificates, observer: observer,
                    resolver: resolver)
            })
        if let demands { surroundings.demand = { demands.demand($0) } }
        return surroundings
    }
}
