import Foundation
import KubeAPI
import KubeClient

/// What the API and the kubelet's server learn about a pod.
extension PodWorker {
    // MARK: Status

    /// Sends the status soon; changes that come together go together.
    func publish() {
        guard !self.isPublishing else { return }
        self.isPublishing = true
        Task { await self.publishing() }
    }

    func publishing() async {
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
    func sendStatus() async throws -> Bool {
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

    func refreshVolumes() async {
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
            return self.running[name] == nil && report.termination == nil
                ? paths[paths.count - 1] : paths[max(0, paths.count - 2)]
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
