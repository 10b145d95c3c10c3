internal import KubeClient
internal import Logging
internal import MeshLinux
internal import ServiceLifecycle

/// `martlet node-agent`: the DaemonSet `istio-cni-node`.
public enum NodeAgentRole {
    private struct Agent: Service {
        let agent: NodeAgent
        func run() async throws {
            try await self.agent.run { try? await gracefulShutdown() }
        }
    }

    /// Runs until SIGTERM or SIGINT; a second signal does not cut the clean-up short, Kubernetes' grace period does.
    /// - Parameter version: of this program, for the metrics.
    /// - Throws: when the configuration cannot be used, or a server cannot be started.
    public static func run(
        environment: [String: String], arguments: [String], version: String
    ) async throws {
        var log = Logger(label: "node-agent")
        log.logLevel = environment["LOG_LEVEL"].flatMap { Logger.Level(rawValue: $0) } ?? .info
        let configuration = try NodeAgentConfiguration(
            environment: environment, executable: Self.executable(arguments))
        let kube = try KubeClient(
            Self.kubeConfiguration(environment), userAgent: "martlet-node-agent/\(configuration.nodeName)")
        let agent = try NodeAgent(configuration, kube, log, metrics: NodeMetrics(version: version))
        let group = ServiceGroup(
            services: [Agent(agent: agent)], gracefulShutdownSignals: [.sigterm, .sigint], logger: log)
        do {
            try await group.run()
        } catch {
            try? await kube.shutdown()
            throw error
        }
        try await kube.shutdown()
    }

    private static func kubeConfiguration(_ environment: [String: String]) throws -> KubeConfiguration {
        if environment["KUBECONFIG"]?.isEmpty ?? true, environment["KUBERNETES_SERVICE_HOST"] != nil {
            return try KubeConfiguration.inCluster(environment: environment)
        }
        return try KubeConfiguration.kubeconfig(
            path: KubeConfiguration.kubeconfigPath(explicit: nil, environment: environment))
    }

    private static func executable(_ arguments: [String]) -> String {
        (try? Files.target(ofLink: "/proc/self/exe")) ?? arguments.first ?? ""
    }
}
