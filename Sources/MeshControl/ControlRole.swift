import KubeClient
import MeshTelemetry
import ServiceLifecycle

/// `martlet control`: the control plane, named istiod in the cluster.
public enum ControlRole {
    /// Returns after SIGTERM or SIGINT, when clients have been sent away in peace.
    /// - Parameter version: of this program, for `/version` and the metrics.
    /// - Throws: what keeps it from starting, in words for an operator.
    public static func run(
        environment: [String: String], arguments: [String], version: String
    ) async throws {
        let options = try ControlOptions(environment: environment, arguments: arguments)
        let log = MeshLog()
        log.bootstrap()
        let logger = log.logger("control")
        let configuration =
            if let path = options.kubeconfig {
                try KubeConfiguration.kubeconfig(path: path)
            } else {
                try KubeConfiguration.inCluster(environment: environment)
            }
        let cluster = try KubeClient(configuration, userAgent: "martlet-control/\(version)")
        let service = ControlRoleService(
            server: ControlServer(options, cluster: cluster, version: version, logger: logger))
        let group = ServiceGroup(
            configuration: .init(
                services: [.init(service: service, successTerminationBehavior: .gracefullyShutdownGroup)],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        do {
            try await group.run()
        } catch {
            try? await cluster.shutdown()
            await log.flush()
            throw error
        }
        try await cluster.shutdown()
        await log.flush()
    }
}

private struct ControlRoleService: ServiceLifecycle.Service {
    let server: ControlServer

    func run() async throws {
        let (stop, stopNow) = AsyncStream.makeStream(of: Void.self)
        try await withGracefulShutdownHandler {
            try await self.server.run(stop: stop)
        } onGracefulShutdown: {
            stopNow.finish()
        }
    }
}
