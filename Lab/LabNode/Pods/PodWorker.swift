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
    private(set) var pod: KubeObject
    private(set) var report = PodReport()
    private(set) var running: [String: ContainerRuntime.Running] = [:]
    private var logPaths: [String: [String]] = [:]
    private var sandbox: PodNetwork.Sandbox?
    private let volumes: PodVolumes
    private(set) var isStopping = false
    private var life: Task<Void, Never>?
    private var deletion: CheckedContinuation<Void, Never>?
    private var published: JSONValue?
    private var isPublishing = false
    private var graceSeconds: Int64 = 30

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

    private func stop(graceSeconds: Int64) {
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

    private func untilDeleted() async {
        if self.isStopping { return }
        await withCheckedContinuation { self.deletion = $0 }
    }

    // MARK: Life

    private func live() async {
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
    private func retry(_ reason: String, _ body: () async throws -> Void) async -> Bool {
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

    private func prepareVolumes() async -> Bool {
        await self.retry("FailedMount") { try await self.volumes.prepare(self.downward) }
    }

    private func makeSandbox() async -> Bool {
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

    private func writePodFiles() throws {
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
    private func initialize(_ sidecars: inout TaskGroup<Void>) async -> Bool {
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
    private func keepRunning(_ container: ContainerSpec, onStarted: @escaping @Sendable () -> Void) async {
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

    /// The main containers are done and the sidecars are being stopped.
    private var isWindingDown = false

    private func restarts(_ container: ContainerSpec, _ exit: ProcessExit) -> Bool {
        switch (container.role, self.pod.restartPolicy) {
        case (.sidecar, _), (.main, "Always"): true
        case (.initialization, "Never"), (.main, "Never"): false
        case (.initialization, _), (.main, _): exit.code != 0
        }
    }

    private func announceBackoff(_ container: ContainerSpec, _ wait: Duration) {
        let message =
            "back-off \(wait.components.seconds)s restarting failed container=\(container.name) pod=\(self.pod.name)"
            + "_\(self.pod.namespace)(\(self.pod.uid))"
        guard let report = self.report.containers[container.name] else { return }
        self.report.containers[container.name]?.last = report.termination ?? report.last
        self.report.containers[container.name]?.state = .waiting(reason: "CrashLoopBackOff", message: message)
        self.record(container, .warning, "BackOff", "Back-off restarting failed container \(container.name)")
        self.publish()
    }

    private func failed(_ container: ContainerSpec, _ error: any Error) {
        let (reason, event): (String, String) =
            switch error {
            case is UnknownImage: ("ErrImagePull", "Failed")
            case is ContainerRuntime.Failed: ("RunContainerError", "Failed")
            default: ("CreateContainerConfigError", "Failed")
            }
        if error is ContainerRuntime.Failed {
            self.report.containers[container.name]?.state = .terminated(
                .init(
                    code: 128, reason: "StartError", message: "\(error)", started: nil, finished: Date(),
                    id: self.report.containers[container.name]?.id ?? ""))
        } else {
            let wasPulling =
                if case .waiting("ErrImagePull", _) = self.report.containers[container.name]?.state { true } else {
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

    // MARK: One container

    private func start(_ container: ContainerSpec, _ onStarted: @escaping @Sendable () -> Void) async throws {
        let image = try self.context.catalogue.image(named: container.image)
        self.record(
            container, .normal, "Pulled", "Container image \"\(container.image)\" already present on machine")
        let id = PodNetwork.identifier()
        let bundle = try await self.bundle(container, image, id)
        let log = try ContainerLog(path: self.newLog(container))
        let made = try await self.context.runtime.create(
            id, try bundle.configuration(), log: log, stdin: container.json["stdin"]?.bool ?? false,
            tty: container.json["tty"]?.bool ?? false)
        self.record(container, .normal, "Created", "Created container: \(container.name)")
        let previous = self.report.containers[container.name]?.termination
        self.report.containers[container.name]?.id = id
        do {
            if self.isStopping || self.isWindingDown { throw CancellationError() }
            self.running[container.name] = made
            try await self.context.runtime.start(id)
        } catch {
            self.running[container.name] = nil
            made.process.signal(SIGKILL)
            await self.context.runtime.remove(id)
            throw error
        }
        // A stop that came while it started found nobody who would listen.
        if self.isStopping { made.process.signal(SIGTERM) }
        self.record(container, .normal, "Started", "Started container \(container.name)")
        let hasStartup = container.json["startupProbe"] != nil
        let hasReadiness = container.json["readinessProbe"] != nil
        if var report = self.report.containers[container.name] {
            report.state = .running(since: Date())
            report.last = previous ?? report.last
            report.isStarted = !hasStartup
            report.isReady = !hasReadiness
            self.report.containers[container.name] = report
        }
        self.publish()
        if let hook = container.json.at("lifecycle", "postStart") {
            await self.perform(hook, "FailedPostStartHook", container, id, killsOnFailure: true)
        }
        if !hasStartup { onStarted() }
        self.probing[container.name] = Task { await self.probe(container, id, onStarted) }
    }

    private var probing: [String: Task<Void, Never>] = [:]

    private func bundle(_ container: ContainerSpec, _ image: HostImage, _ id: String) async throws -> ContainerBundle {
        let environment = ContainerEnvironment(
            objects: try await self.context.objects.objects(
                ContainerEnvironment.references(container), namespace: self.pod.namespace),
            downward: self.downward, services: self.context.services.services(), image: image)
        let variables = try environment.variables(container)
        let directory = self.context.paths.pod(self.pod.uid)
        let termination = "\(directory)/\(container.name).termination-log"
        try writeText("", to: termination, mode: 0o666)
        chmod(termination, 0o666)
        let mounts = try await self.volumes.mounts(container, variables: variables)
        let files = [
            ("etc-hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"),
        ]
        let taken = Set(mounts.map(\.target))
        var fileMounts = files.filter { !taken.contains($0.1) }
            .map { ContainerBundle.Mount(source: "\(directory)/\($0.0)", target: $0.1) }
        fileMounts.append(
            .init(
                source: termination,
                target: container.json["terminationMessagePath"]?.string ?? "/dev/termination-log"))
        return ContainerBundle(
            pod: self.pod, container: container, image: image, hostname: self.hostname, environment: variables,
            volumeMounts: mounts, fileMounts: fileMounts, root: self.context.runtime.root(id),
            networkNamespace: self.sandbox?.namespace,
            cgroup: "\(self.context.configuration.cgroup)/kubepods/pod\(self.pod.uid)/\(id)")
    }

    /// `<restart>.log`; the one before stays for `--previous`, older ones go.
    private func newLog(_ container: ContainerSpec) -> String {
        let directory =
            "\(self.context.paths.podLogs)/\(self.pod.namespace)_\(self.pod.name)_\(self.pod.uid)/\(container.name)"
        let number = self.logPaths[container.name].map { $0.count } ?? 0
        let path = "\(directory)/\(number).log"
        self.logPaths[container.name, default: []].append(path)
        if number >= 2 {
            for old in ["\(directory)/\(number - 2).log", "\(directory)/\(number - 2).log.1"] { unlink(old) }
        }
        return path
    }

    /// Waits for the container's end and records it.
    private func untilEnd(_ container: ContainerSpec) async -> ProcessExit {
        guard let running = self.running[container.name] else { return ProcessExit(code: 255, signal: 0) }
        let exit = await running.process.exit
        self.probing.removeValue(forKey: container.name)?.cancel()
        self.running[container.name] = nil
        if let input = running.input { close(input) }
        await self.context.runtime.remove(running.id)
        var started: Date?
        if case .running(let since) = self.report.containers[container.name]?.state { started = since }
        self.report.containers[container.name]?.state = .terminated(
            .init(
                code: exit.code, signal: exit.signal, reason: exit.code == 0 ? "Completed" : "Error",
                message: self.terminationMessage(container, exit), started: started, finished: Date(), id: running.id))
        self.report.containers[container.name]?.isReady = false
        self.report.containers[container.name]?.isStarted = false
        self.publish()
        return exit
    }

    private func terminationMessage(_ container: ContainerSpec, _ exit: ProcessExit) -> String {
        let path = "\(self.context.paths.pod(self.pod.uid))/\(container.name).termination-log"
        // At most 4096 bytes, as the API documents.
        if let text = readText(path), !text.isEmpty { return String(text.prefix(4096)) }
        guard exit.code != 0, container.json["terminationMessagePolicy"]?.string == "FallbackToLogsOnError",
            let log = self.logPaths[container.name]?.last
        else { return "" }
        var options = LogOptions()
        options.tailLines = 80
        var reader = LogReader(path: log, options)
        return String(String(decoding: reader.start(), as: UTF8.self).suffix(2048))
    }

    // MARK: Probes

    private func probe(_ container: ContainerSpec, _ id: String, _ onStarted: @escaping @Sendable () -> Void) async {
        if await self.follow("startupProbe", container, id) == false { return }
        if container.json["startupProbe"] != nil {
            self.report.containers[container.name]?.isStarted = true
            self.publish()
            onStarted()
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { _ = await self.follow("livenessProbe", container, id) }
            group.addTask { _ = await self.follow("readinessProbe", container, id) }
        }
    }

    /// Probes until cancelled, or until a startup probe succeeded or any killed the container. False when it did.
    private func follow(_ kind: String, _ container: ContainerSpec, _ id: String) async -> Bool {
        guard let json = container.json[kind], json != .null else { return true }
        let spec: ProbeSpec
        do { spec = try ProbeSpec(json, container: container) } catch {
            self.record(container, .warning, "Unhealthy", "\(kind): \(error)")
            return kind != "startupProbe"
        }
        var tally = ProbeTally(spec)
        let word = ["startupProbe": "Startup", "livenessProbe": "Liveness"][kind] ?? "Readiness"
        try? await Task.sleep(for: spec.initialDelay)
        while !Task.isCancelled, self.running[container.name]?.id == id {
            var isGood = true
            do {
                try await self.context.probes.perform(
                    spec.action, timeout: spec.timeout, containerID: id, address: self.report.addresses.first ?? "")
            } catch {
                isGood = false
                if Task.isCancelled { return true }
                self.record(container, .warning, "Unhealthy", "\(word) probe failed: \(error)")
            }
            if Task.isCancelled || self.running[container.name]?.id != id { return true }
            switch (kind, tally.record(isGood)) {
            case ("startupProbe", .succeeded): return true
            case ("readinessProbe", .succeeded): self.setReady(container, true)
            case ("readinessProbe", .failed): self.setReady(container, false)
            case (_, .failed):
                self.record(
                    container, .normal, "Killing",
                    "Container \(container.name) failed \(word.lowercased()) probe, will be restarted")
                await self.end(container, grace: self.pod.spec["terminationGracePeriodSeconds"]?.int ?? 30)
                return false
            default: break
            }
            // While a new pod is not ready it is asked more often than its period says, so that it serves soon.
            let isWaiting = kind != "livenessProbe" && self.report.containers[container.name]?.isReady == false
            try? await Task.sleep(for: isWaiting && !isGood ? min(spec.period, .seconds(1)) : spec.period)
        }
        return true
    }

    private func setReady(_ container: ContainerSpec, _ isReady: Bool) {
        guard self.report.containers[container.name]?.isReady != isReady else { return }
        self.report.containers[container.name]?.isReady = isReady
        self.publish()
    }

    private func perform(
        _ hook: JSONValue, _ reason: String, _ container: ContainerSpec, _ id: String, killsOnFailure: Bool
    ) async {
        do {
            let spec = try ProbeSpec(hook, container: container)
            try await self.context.probes.perform(
                spec.action, timeout: .seconds(max(1, self.graceSeconds)), containerID: id,
                address: self.report.addresses.first ?? "")
        } catch {
            self.record(container, .warning, reason, "\(error)")
            if killsOnFailure { self.running[container.name]?.process.signal(SIGKILL) }
        }
    }

    // MARK: End

    /// preStop, TERM, and KILL when the grace is over. Returns when the process has ended.
    private func end(_ container: ContainerSpec, grace: Int64) async {
        guard let running = self.running[container.name] else { return }
        let deadline = Task {
            try await Task.sleep(for: .seconds(max(0, grace)))
            running.process.signal(SIGKILL)
        }
        defer { deadline.cancel() }
        if grace > 0, let hook = container.json.at("lifecycle", "preStop") {
            let performing = Task {
                await self.perform(hook, "FailedPreStopHook", container, running.id, killsOnFailure: false)
            }
            // A hook that outlives the grace does not hold the pod.
            let watch = Task {
                _ = await running.process.exit
                performing.cancel()
            }
            await performing.value
            watch.cancel()
        }
        running.process.signal(grace > 0 ? SIGTERM : SIGKILL)
        _ = await running.process.exit
    }

    private func terminate() async {
        let began = ContinuousClock.now
        let grace = self.graceSeconds
        await withTaskGroup(of: Void.self) { group in
            for container in self.pod.mainContainers + self.pod.initContainers.filter({ $0.role == .initialization })
            where self.running[container.name] != nil {
                self.record(container, .normal, "Killing", "Stopping container \(container.name)")
                group.addTask { await self.end(container, grace: grace) }
            }
        }
        self.isWindingDown = true
        await self.stopSidecars(within: max(1, grace - (.now - began).components.seconds))
    }

    /// In reverse order of their start.
    private func stopSidecars(within grace: Int64? = nil) async {
        self.isWindingDown = true
        for container in self.pod.initContainers.reversed() where container.role == .sidecar {
            await self.end(container, grace: grace ?? self.pod.spec["terminationGracePeriodSeconds"]?.int ?? 30)
        }
    }

    private func removeSandbox() async {
        guard let sandbox else { return }
        self.sandbox = nil
        self.report.hasSandbox = false
        await self.context.network.remove(sandbox)
    }

    private func clean() async {
        await self.removeSandbox()
        await self.volumes.remove()
        let base = self.context.configuration.cgroup
        NodeRemains.removeCgroups("\(base)/kubepods/pod\(self.pod.uid)")
        try? FileManager.default.removeItem(atPath: self.context.paths.pod(self.pod.uid))
        try? FileManager.default.removeItem(
            atPath: "\(self.context.paths.podLogs)/\(self.pod.namespace)_\(self.pod.name)_\(self.pod.uid)")
    }

    private func removeObject() async {
        var wait = Duration.milliseconds(200)
        while true {
            do {
                try await self.sendStatus()
                try await self.context.cluster.delete(
                    .pods, namespace: self.pod.namespace, name: self.pod.name,
                    DeleteOptions(gracePeriodSeconds: 0, uid: self.pod.uid))
                return
            } catch let error as StatusError where error.isNotFound || error.isConflict {
                return
            } catch {
                self.context.logger.warning(
                    "cannot remove the pod's object", metadata: ["pod": "\(self.pod.key)", "error": "\(error)"])
            }
            do { try await Task.sleep(for: wait) } catch { return }
            wait = min(wait * 2, .seconds(10))
        }
    }

    // MARK: Status

    /// Sends the status soon; changes that come together go together.
    private func publish() {
        guard !self.isPublishing else { return }
        self.isPublishing = true
        Task { await self.publishing() }
    }

    private func publishing() async {
        var wait = Duration.milliseconds(200)
        defer { self.isPublishing = false }
        while true {
            do {
                // What changed while the last one was on its way is sent now.
                if try await !self.sendStatus() { return }
            } catch let error as StatusError where error.isNotFound || error.isConflict {
                return
            } catch {
                self.context.logger.info(
                    "status not sent", metadata: ["pod": "\(self.pod.key)", "error": "\(error)"])
                try? await Task.sleep(for: wait)
                wait = min(wait * 2, .seconds(10))
            }
        }
    }

    /// False when the API already has it.
    @discardableResult
    private func sendStatus() async throws -> Bool {
        let status = self.report.status(of: self.pod, now: Date())
        guard status != self.published else { return false }
        let answer = try await self.context.cluster.patch(
            .pods, namespace: self.pod.namespace, name: self.pod.name, subresource: "status",
            .merge(["metadata": ["uid": .string(self.pod.uid)], "status": status]))
        // Transition times are read back from the object: keep them from moving.
        if let conditions = answer.status["conditions"] { self.pod.json.set(["status", "conditions"], to: conditions) }
        self.published = status
        return true
    }

    private func refreshVolumes() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.volumeRefresh)
            if Task.isCancelled || self.report.addresses.isEmpty { continue }
            for error in await self.volumes.refresh(self.downward) {
                self.context.logger.info(
                    "volume not refreshed", metadata: ["pod": "\(self.pod.key)", "error": "\(error)"])
            }
        }
    }

    /// The API promises a minute.
    static let volumeRefresh = Duration.seconds(30)

    // MARK: What the kubelet's server asks

    struct Refused: Error, Hashable, CustomStringConvertible {
        let description: String
    }

    func runningContainer(_ name: String) throws -> ContainerRuntime.Running {
        guard (self.pod.mainContainers + self.pod.initContainers).contains(where: { $0.name == name }) else {
            throw Refused(description: "container \(name) is not valid for pod \(self.pod.name)")
        }
        guard let running = self.running[name] else {
            throw Refused(description: "container \"\(name)\" of pod \(self.pod.name) is not running")
        }
        return running
    }

    var networkNamespace: String? { self.sandbox?.namespace }

    /// The file of a container's log, and whether more can come.
    func log(_ name: String, previous: Bool) throws -> String {
        guard let report = self.report.containers[name] else {
            throw Refused(description: "container \(name) is not valid for pod \(self.pod.name)")
        }
        let paths = self.logPaths[name] ?? []
        if previous {
            guard paths.count > 1 || (self.running[name] == nil && !paths.isEmpty && report.last != nil) else {
                throw Refused(
                    description: "previous terminated container \"\(name)\" in pod \"\(self.pod.name)\" not found")
            }
            // While it waits to be started again the last file is the previous one's.
            return self.running[name] == nil && report.termination == nil ? paths[paths.count - 1] : paths[max(0, paths.count - 2)]
        }
        guard let path = paths.last else {
            var why = "ContainerCreating"
            if case .waiting(let reason, _) = report.state { why = reason }
            throw Refused(
                description: "container \"\(name)\" in pod \"\(self.pod.name)\" is waiting to start: \(why)")
        }
        return path
    }

    func isRunning(_ name: String) -> Bool { self.running[name] != nil }

    var containerNames: [String] { self.pod.mainContainers.map(\.name) }
}
