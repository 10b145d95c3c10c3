package import KubeClient
package import Logging

/// Everything that writes for Gateways. One leader runs it all, because what a status says follows from what the deployer
/// could do.
package struct GatewayWriters: Sendable {
    package let statuses: GatewayStatusWriter
    package let deployer: GatewayDeployer
    private let keeper: GatewayClassKeeper

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.statuses = GatewayStatusWriter(cluster, logger: logger)
        self.deployer = GatewayDeployer(cluster, logger: logger)
        self.keeper = GatewayClassKeeper(cluster, logger: logger)
    }

    /// Until the task is cancelled.
    package func run(report: @escaping @Sendable (_ gateway: String, _ trouble: String?) async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.keeper.run() }
            group.addTask { await self.statuses.run() }
            group.addTask { await self.deployer.run(report: report) }
        }
    }
}
