import Foundation
import KubeAPI
package import KubeClient
package import Logging

/// A node's agent: registers the node, runs its pods, programs its services and routes, answers exec and logs.
package final class Kubelet: Sendable {
    package let configuration: NodeConfiguration
    package let paths: NodePaths
    package let cluster: any KubeCluster
    package let commands: CommandRunner
    package let catalogue: ImageCatalogue
    package let logger: Logger
    let pods = PodTable()
    private let machine = Machine.current()

    package init(
        _ configuration: NodeConfiguration, paths: NodePaths, cluster: any KubeCluster, commands: CommandRunner,
        catalogue: ImageCatalogue, logger: Logger
    ) {
        self.configuration = configuration
        self.paths = paths
        self.cluster = cluster
        self.commands = commands
        self.catalogue = catalogue
        self.logger = logger
    }

    /// Runs until cancelled; then the pods are stopped at once, and nothing of them is left.
    package func run() async throws {
        try self.writeStandardNetwork()
        let registration = NodeRegistration(
            configuration: self.configuration, machine: self.machine, cluster: self.cluster, logger: self.logger)
        try await registration.register()
        self.logger.info("node registered")
        let events = EventRecorder(self.cluster, nodeName: self.configuration.nodeName, logger: self.logger)
        let services = ServiceView()
        let runtime = ContainerRuntime(paths: self.paths, commands: self.commands)
        let context = PodContext(
            configuration: self.configuration, paths: self.paths, cluster: self.cluster, catalogue: self.catalogue,
            runtime: runtime, network: PodNetwork(paths: self.paths, commands: self.commands),
            probes: ProbeRunner(commands: self.commands, runtime: runtime), objects: PodObjects(self.cluster),
            events: events, services: services, logger: self.logger, machine: self.machine)
        let proxy = ServiceProxy(
            self.configuration, cluster: self.cluster, commands: self.commands, view: services, logger: self.logger)
        let routes = NodeRoutes(
            nodeName: self.configuration.nodeName, cluster: self.cluster, commands: self.commands, logger: self.logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await registration.keep() }
            group.addTask { await events.run() }
            group.addTask { await proxy.run() }
            group.addTask { await routes.run() }
            group.addTask { await self.followPods(context) }
            group.addTask { try await KubeletServer(self, runtime: runtime).run() }
            try await group.waitForAll()
        }
    }

    /// The lab's own network, unless somebody configured another before.
    private func writeStandardNetwork() throws {
        let directory = self.paths.cniConfigurations
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: self.paths.cniResults, withIntermediateDirectories: true)
        let path = "\(directory)/10-lab.conflist"
        if FileManager.default.fileExists(atPath: path) { return }
        let chain = CNIChain.standard(
            podCIDR: self.configuration.podCIDR, dataDirectory: "\(self.paths.cniResults)/networks")
        try writeBytes(chain.encoded, to: path)
    }

    private func followPods(_ context: PodContext) async {
        await withTaskGroup(of: Void.self) { group in
            let mine = ListOptions(fieldSelector: "spec.nodeName=\(self.configuration.nodeName)")
            let trouble: @Sendable (any Error) -> Void = { [logger] error in
                logger.warning("pods cannot be followed", metadata: ["error": "\(error)"])
            }
            for await event in Informer(self.cluster, .pods, mine).events(onTrouble: trouble) {
                switch event {
                case .snapshot(let all):
                    let present = Set(all.map(\.uid))
                    for (uid, worker) in await self.pods.all() where !present.contains(uid) { await worker.vanish() }
                    for pod in all { await self.take(pod, context, &group) }
                case .updated(let pod): await self.take(pod, context, &group)
                case .deleted(let pod): await self.pods.worker(uid: pod.uid)?.vanish()
                }
            }
            // Only when cancelled.
            for (_, worker) in await self.pods.all() { await worker.vanish() }
            await group.waitForAll()
        }
    }

    private func take(_ pod: KubeObject, _ context: PodContext, _ group: inout TaskGroup<Void>) async {
        guard pod.spec["nodeName"]?.string == self.configuration.nodeName else { return }
        if let worker = await self.pods.worker(uid: pod.uid) {
            await worker.update(pod)
            return
        }
        let worker = PodWorker(pod, context)
        guard await self.pods.add(worker, pod) else { return }
        await worker.update(pod)
        group.addTask {
            await worker.run()
            await self.pods.remove(uid: pod.uid)
        }
    }
}

/// The pods that are on the node now.
actor PodTable {
    private var workers: [String: PodWorker] = [:]
    private var names: [String: String] = [:]
    /// Uids that are done: a late event of their deletion must not start them again.
    private var finished: [String] = []
    static let finishedMax = 1024

    func all() -> [(String, PodWorker)] { self.workers.map { ($0, $1) } }
    func worker(uid: String) -> PodWorker? { self.workers[uid] }
    func worker(namespace: String, name: String) -> PodWorker? {
        self.names["\(namespace)/\(name)"].flatMap { self.workers[$0] }
    }

    /// False for a pod that has been here already.
    func add(_ worker: PodWorker, _ pod: KubeObject) -> Bool {
        if self.finished.contains(pod.uid) { return false }
        self.workers[pod.uid] = worker
        self.names[pod.key] = pod.uid
        return true
    }

    func remove(uid: String) {
        self.workers[uid] = nil
        self.names = self.names.filter { $0.value != uid }
        self.finished.append(uid)
        if self.finished.count > Self.finishedMax { self.finished.removeFirst() }
    }
}
