public import KubeClient
public import Logging

/// All controllers of the lab, the scheduler included, over one shared view of the cluster.
public struct ControllerManager: Sendable {
    public struct Configuration: Sendable {
        /// PEM certificates that the API server's certificate chains up to: `ca.crt` of every namespace.
        public var authority: String
        public init(authority: String) { self.authority = authority }
    }

    private let context: ControllerContext
    private let configuration: Configuration

    public init(cluster: any KubeCluster, configuration: Configuration, logger: Logger) {
        self.configuration = configuration
        self.context = ControllerContext(
            cluster: cluster, view: ClusterView(cluster, log: logger), events: EventRecorder(cluster, log: logger),
            log: logger)
    }

    /// Runs until cancelled.
    public func run() async {
        let context = self.context
        let catalogue = ResourceCatalogue(context.view)
        let controllers: [any Controller] = [
            NamespaceDefaults(context, authority: self.configuration.authority),
            NamespaceController(context, catalogue), NodeLifecycle(context), Scheduler(context),
            DeploymentController(context), ReplicaSetController(context), DaemonSetController(context),
            StatefulSetController(context), JobController(context), EndpointSliceController(context),
            LoadBalancerStatus(context),
        ]
        await withDiscardingTaskGroup { group in
            group.addTask { await context.view.run() }
            group.addTask { await context.events.run() }
            group.addTask { await GarbageCollector(context, catalogue).run() }
            for controller in controllers { group.addTask { await ControllerLoop(controller, context).run() } }
        }
    }
}
