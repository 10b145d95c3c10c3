import Foundation
import KubeAPI
import KubeClient

/// The end of a pod: its containers, its traces on the node, its object.
extension PodWorker {
    /// preStop, TERM, and KILL when the grace is over. Returns when the process has ended.
    func end(_ container: ContainerSpec, grace: Int64) async {
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

    func terminate() async {
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
    func stopSidecars(within grace: Int64? = nil) async {
        self.isWindingDown = true
        for container in self.pod.initContainers.reversed() where container.role == .sidecar {
            await self.end(container, grace: grace ?? self.pod.spec["terminationGracePeriodSeconds"]?.int ?? 30)
        }
    }

    func removeSandbox() async {
        guard let sandbox else { return }
        self.sandbox = nil
        self.report.hasSandbox = false
        await self.context.network.remove(sandbox)
    }

    func clean() async {
        await self.removeSandbox()
        await self.volumes.remove()
        let base = self.context.configuration.cgroup
        NodeRemains.removeCgroups("\(base)/kubepods/pod\(self.pod.uid)")
        try? FileManager.default.removeItem(atPath: self.context.paths.pod(self.pod.uid))
        try? FileManager.default.removeItem(
            atPath: "\(self.context.paths.podLogs)/\(self.pod.namespace)_\(self.pod.name)_\(self.pod.uid)")
    }

    func removeObject() async {
        var wait = Duration.milliseconds(200)
        while true {
            do {
                // A pod that was over before this node's life keeps the status of that life.
                if self.report.started != nil { try await self.sendStatus() }
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
}
