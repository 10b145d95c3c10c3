import Foundation
import KubeAPI

/// Probes and hooks of a running container.
extension PodWorker {
    func probe(_ container: ContainerSpec, _ id: String, _ onStarted: @escaping @Sendable () -> Void) async {
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
    func follow(_ kind: String, _ container: ContainerSpec, _ id: String) async -> Bool {
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

    func setReady(_ container: ContainerSpec, _ isReady: Bool) {
        guard self.report.containers[container.name]?.isReady != isReady else { return }
        self.report.containers[container.name]?.isReady = isReady
        self.publish()
    }

    func perform(
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
}
