import CLabNode
import Foundation
import KubeClient
import Logging

/// One node of the lab, as a process.
///
/// How to start it: `martlet-lab internal node CONFIGURATION` calls ``run(configurationPath:)`` and does nothing else.
/// The configuration is a JSON file (``NodeConfiguration`` documents its keys). The call happens twice:
///
/// 1. In the process that was started (the *keeper*, in the host's namespaces). It makes the network, mount, pid, uts
///    and ipc namespaces, runs the same program with the same arguments as pid 1 inside them, writes that process's
///    host pid to `<run dir>/nodes/<node>/pid` (for `nsenter`), and waits. SIGTERM or SIGINT, or its death by any
///    signal, kills everything in the node; then it removes what a dead node leaves behind.
/// 2. In that pid 1 (the *kubelet*), recognised by the environment variable ``stageVariable``. It plugs the node into
///    the cluster's bridge, gives it private directories, and is kubelet and service proxy until it dies.
///
/// The kubelet is pid 1 of the node, so containers are its children: their exit codes need no shim, and the pods die
/// with the node, never before, never after. There is no restart of the kubelet alone; starting a node again starts
/// its pods again.
///
/// The API server must be reachable from the node's namespace: the kubeconfig names it by the bridge's address, not by
/// 127.0.0.1. `<run dir>/nodes/<node>/kubelet.sock` (mode 0600) answers `GET /healthz` once the node is registered.
/// The process writes its log to standard error.
public enum LabNodeProcess {
    static let stageVariable = "MARTLET_LAB_NODE_HOST_NETNS"

    public static func run(configurationPath: String) async throws {
        let configuration = try NodeConfiguration(path: configurationPath)
        if let descriptor = ProcessInfo.processInfo.environment[self.stageVariable].flatMap({ Int32($0) }) {
            try await self.beNode(configuration, hostNetworkNamespace: descriptor)
        } else {
            try await NodeKeeper(configuration).run()
        }
    }

    private static func beNode(_ configuration: NodeConfiguration, hostNetworkNamespace: Int32) async throws {
        unsetenv(self.stageVariable)
        var logger = Logger(label: "node", factory: { StreamLogHandler.standardError(label: $0) })
        logger[metadataKey: "node"] = "\(configuration.nodeName)"
        let processes = ProcessTable(reapsOrphans: true)
        let commands = CommandRunner(processes: processes, networkNamespace: nil)
        let paths = NodePaths.node(configuration)
        try await NodeSandbox(configuration, paths, commands).enter(hostNetworkNamespace: hostNetworkNamespace)
        var access = try KubeConfiguration.kubeconfig(path: configuration.kubeconfig)
        if let server = configuration.server { access.server = server }
        let cluster = try KubeClient(access, userAgent: "martlet-lab-kubelet")
        let kubelet = Kubelet(
            configuration, paths: paths, cluster: cluster, commands: commands, catalogue: try configuration.catalogue(),
            logger: logger)
        try await kubelet.run()
    }
}
