import Foundation
import KubeAPI

/// The start and the end of one container.
extension PodWorker {
    func start(_ container: ContainerSpec, _ onStarted: @escaping @Sendable () -> Void) async throws {
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

    func bundle(_ container: ContainerSpec, _ image: HostImage, _ id: String) async throws -> ContainerBundle {
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
    func newLog(_ container: ContainerSpec) -> String {
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
    func untilEnd(_ container: ContainerSpec) async -> ProcessExit {
        guard let running = self.running[container.name] else { return ProcessExit(code: 255, signal: 0) }
        let exit = await running.process.exit
        self.probing.removeValue(forKey: container.name)?.cancel()
        self.running[container.name] = nil
        if let input = running.input { close(input) }
        await self.context.runtime.remove(running.id)
        var started: Date?
        if case .running(let since) = self.report.containers[container.name]?.state { started = since }
        let end = ContainerReport.Termination(
            code: exit.code, signal: exit.signal, reason: exit.code == 0 ? "Completed" : "Error",
            message: self.terminationMessage(container, exit), started: started, finished: Date(), id: running.id)
        self.report.containers[container.name]?.state = .terminated(end)
        self.report.containers[container.name]?.isReady = false
        self.report.containers[container.name]?.isStarted = false
        self.publish()
        return exit
    }

    func terminationMessage(_ container: ContainerSpec, _ exit: ProcessExit) -> String {
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
}
