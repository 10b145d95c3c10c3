import Foundation
import KubeAPI
import KubeClient
import Logging

/// What all pods of a node share.
struct PodContext: Sendable {
    let configuration: NodeConfiguration
    let paths: NodePaths
    let cluster: any KubeCluster
    let catalogue: ImageCatalogue
    let runtime: ContainerRuntime
    let network: PodNetwork
    let probes: ProbeRunner
    let objects: PodObjects
    let events: EventRecorder
    let services: ServiceView
    let logger: Logger
    let machine: Machine
}

/// One pod on this node, from its assignment to the removal of its object.
///
/// ``run()`` is its life, one step after the other; deletion arrives through ``update(_:)`` and makes every wait in it
/// end. After each `await` the world may have changed, so a step that starts something looks at `isStopping` first.
actor PodWorker {
    let context: PodContext
    var pod: KubeObject
    var report = PodReport()
    var running: [String: ContainerRuntime.Running] = [:]
    var logPaths: [String: [String]] = [:]
    var sandbox: PodNetwork.Sandbox?
    let volumes: PodVolumes
    var isStopping = false
    var life: Task<Void, Never>?
    var deletion: CheckedContinuation<Void, Never>?
    var published: JSONValue?
    var isPublishing = false
    var graceSeconds: Int64 = 30
    /// The main containers are done and the sidecars are being stopped.
    var isWindingDown = false
    var probing: [String: Task<Void, Never>] = [:]

    init(_ pod: KubeObject, _ context: PodContext) {
        self.pod = pod
        self.context = context
        self.volumes = PodVolumes(pod, directory: context.paths.pod(pod.uid), source: context.objects)
        self.report.hostIP = context.configuration.nodeIP
        for container in pod.initContainers + pod.mainContainers {
            self.report.containers[container.name] = ContainerReport(
                state: .waiting(reason: pod.initContainers.isEmpty ? "ContainerCreating" : "PodInitializing"))
        }
    }

    // MARK: What the kubelet says

    func update(_ pod: KubeObject) {
        self.pod = pod
        if pod.isBeingDeleted {
            self.stop(
                graceSeconds: pod.metadata["deletionGracePeriodSeconds"]?.int
                    ?? pod.spec["terminationGracePeriodSeconds"]?.int ?? 30)
        }
    }

    /// The object is gone from the API without waiting for us.
    func vanish() { self.stop(graceSeconds: 1) }

    func stop(graceSeconds: Int64) {
        self.graceSeconds = graceSeconds
        guard !self.isStopping else { return }
        self.isStopping = true
        self.report.isStopping = true
        self.life?.cancel()
        self.deletion?.resume()
        self.deletion = nil
    }

    /// Returns when nothing of the pod is left on the node.
    func run() async {
        let life = Task { await self.live() }
        self.life = life
        if self.isStopping { life.cancel() }
        let refresher = Task { await self.refreshVolumes() }
        await self.untilDeleted()
        refresher.cancel()
        await self.terminate()
        await life.value
        await self.clean()
        await self.removeObject()
    }

    func untilDeleted() async {
        if self.isStopping { return }
        await withCheckedContinuation { self.deletion = $0 }
    }

    // MARK: Life

    func live() async {
        let phase = self.pod.status["phase"]?.string
        if phase == "Succeeded" || phase == "Failed" { return }
        self.report.started = Date()
        self.publish()
        guard await self.prepareVolumes(), await self.makeSandbox() else { return }
        self.publish()
        let background = await withTaskGroup(of: Void.self) { sidecars -> Bool in
            guard await self.initialize(&sidecars) else {
                if !self.isStopping { await self.stopSidecars() }
                return false
            }
            self.report.isInitialized = true
            for container in self.pod.mainContainers {
                if case .waiting = self.report.containers[container.name]?.state {
                    self.report.containers[container.name]?.state = .waiting(reason: "ContainerCreating")
                }
            }
            self.publish()
            await withTaskGroup(of: Void.self) { group in
                for container in self.pod.mainContainers {
                    group.addTask { await self.keepRunning(container, onStarted: {}) }
                }
            }
            // The pod has done its work; its sidecars are told so.
            if !self.isStopping { await self.stopSidecars() }
            return true
        }
        if self.isStopping { return }
        if !background { self.report.isStopping = true }
        await self.removeSandbox()
        self.publish()
    }

    /// Waits and tries again with growing pauses until it works. False when the pod is being deleted.
    func retry(_ reason: String, _ body: () async throws -> Void) async -> Bool {
        var wait = Duration.milliseconds(500)
        while !self.isStopping {
            do {
                try await body()
                return true
            } catch {
                self.context.events.record(self.pod, .warning, reason, "\(error)")
                self.context.logger.info(
                    "\(reason)", metadata: ["pod": "\(self.pod.key)", "error": "\(error)"])
            }
            try? await Task.sleep(for: wait)
            wait = min(wait * 2, .seconds(15))
        }
        return false
    }

    func prepareVolumes() async -> Bool {
        await self.retry("FailedMount") { try await self.volumes.prepare(self.downward) }
    }

    func makeSandbox() async -> Bool {
        if self.pod.usesHostNetwork {
            self.report.addresses = [self.context.configuration.nodeIP]
            self.report.hasSandbox = true
        } else {
            let made = await self.retry("FailedCreatePodSandBox") {
                do { self.sandbox = try await self.context.network.create(self.pod) } catch {
                    throw PodNetwork.PluginError(
                        description: "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup "
                            + "network for sandbox: \(error)")
                }
            }
            guard made, let sandbox else { return false }
            self.report.addresses = sandbox.addresses
            self.report.hasSandbox = true
        }
        return await self.retry("FailedMount") { try self.writePodFiles() }
    }

    func writePodFiles() throws {
        let directory = self.context.paths.pod(self.pod.uid)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let configuration = self.context.configuration
        let hosts =
            self.pod.usesHostNetwork
            ? (readText("/etc/hosts") ?? "") + "\(configuration.nodeIP)\t\(configuration.nodeName)\n"
            : PodFiles.hosts(
                self.pod, addresses: self.report.addresses, clusterDomain: configuration.clusterDomain)
        try writeText(hosts, to: "\(directory)/etc-hosts")
        try writeText(
            PodFiles.resolvConf(
                self.pod, clusterDNS: configuration.clusterDNS, clusterDomain: configuration.clusterDomain,
                node: readText(self.context.paths.resolvConf) ?? ""), to: "\(directory)/resolv.conf")
        try writeText(self.hostname + "\n", to: "\(directory)/hostname")
    }

    var hostname: String {
        self.pod.usesHostNetwork ? self.context.configuration.nodeName : self.pod.podHostname
    }

    var downward: DownwardAPI {
        DownwardAPI(
            pod: self.pod, podIPs: self.report.addresses, nodeName: self.context.configuration.nodeName,
            nodeIP: self.context.configuration.nodeIP, nodeCPUs: self.context.machine.cpus,
            nodeMemoryBytes: self.context.machine.memoryBytes)
    }

    /// Runs the init containers in order. False when the pod is being deleted or one failed for good.
    func initialize(_ sidecars: inout TaskGroup<Void>) async -> Bool {
        for container in self.pod.initContainers {
            if self.isStopping { return false }
            if container.role == .sidecar {
                let (started, end) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
                sidecars.addTask {
                    await self.keepRunning(container, onStarted: { end.yield() })
                    end.finish()
                }
                var iterator = started.makeAsyncIterator()
                if await iterator.next() == nil { return false }
            } else {
                await self.keepRunning(container, onStarted: {})
                guard self.report.containers[container.name]?.termination?.code == 0 else { return false }
            }
        }
        return !self.isStopping
    }

    /// Starts a container, again and again as its restart policy has it. Returns when it will not be started again.
    func keepRunning(_ container: ContainerSpec, onStarted: @escaping @Sendable () -> Void) async {
        var backoff = RestartBackoff()
        var startFailures = RestartBackoff()
        while !self.isStopping, !self.isWindingDown {
            let began = ContinuousClock.now
            do {
                try await self.start(container, onStarted)
                startFailures = RestartBackoff()
            } catch {
                if self.isStopping || self.isWindingDown { return }
                self.failed(container, error)
                if container.role != .sidecar, self.pod.restartPolicy == "Never", error is ContainerRuntime.Failed {
                    return
                }
                let wait = max(startFailures.ended(after: .zero), .seconds(1))
                try? await Task.sleep(for: wait)
                continue
            }
            let exit = await self.untilEnd(container)
            if self.isStopping || self.isWindingDown || !self.restarts(container, exit) {
                self.publish()
                return
            }
            let wait = backoff.ended(after: .now - began)
            if wait > .zero { self.announceBackoff(container, wait) }
            try? await Task.sleep(for: wait)
            self.report.containers[container.name]?.restarts += 1
        }
    }

    func restarts(_ container: ContainerSpec, _ exit: ProcessExit) -> Bool {
        switch (container.role, self.pod.restartPolicy) {
        case (.sidecar, _), (.main, "Always"): true
        case (.initialization, "Never"), (.main, "Never"): false
        case (.initialization, _), (.main, _): exit.code != 0
        }
    }

    func announceBackoff(_ container: ContainerSpec, _ wait: Duration) {
        let message =
            "back-off \(wait.components.seconds)s restarting failed container=\(container.name) pod=\(self.pod.name)"
            + "_\(self.pod.namespace)(\(self.pod.uid))"
        guard let report = self.report.containers[container.name] else { return }
        self.report.containers[container.name]?.last = report.termination ?? report.last
        self.report.containers[container.name]?.state = .waiting(reason: "CrashLoopBackOff", message: message)
        self.record(container, .warning, "BackOff", "Back-off restarting failed container \(container.name)")
        self.publish()
    }

    func failed(_ container: ContainerSpec, _ error: any Error) {
        let (reason, event): (String, String) =
            switch error {
            case is UnknownImage: ("ErrImagePull", "Failed")
            case is ContainerRuntime.Failed: ("RunContainerError", "Failed")
            default: ("CreateContainerConfigError", "Failed")
            }
        // Worked out before it is stored: an assignment through `?.` holds the report while its right side is made.
        let before = self.report.containers[container.name]
        if error is ContainerRuntime.Failed {
            let end = ContainerReport.Termination(
                code: 128, reason: "StartError", message: "\(error)", finished: Date(), id: before?.id ?? "")
            self.report.containers[container.name]?.state = .terminated(end)
        } else {
            let wasPulling =
                if case .waiting("ErrImagePull", _) = before?.state { true } else {
                    false
                }
            self.report.containers[container.name]?.state = .waiting(
                reason: wasPulling ? "ImagePullBackOff" : reason,
                message: wasPulling ? "Back-off pulling image \"\(container.image)\": \(error)" : "\(error)")
        }
        self.record(
            container, .warning, event,
            error is UnknownImage ? "Failed to pull image \"\(container.image)\": \(error)" : "Error: \(error)")
        self.publish()
    }

    func record(_ container: ContainerSpec, _ kind: EventRecorder.Kind, _ reason: String, _ message: String) {
        self.context.events.record(
            self.pod, kind, reason, message, container: container.name, isInit: container.role != .main)
    }
}
