package import Foundation
package import KubeAPI

/// How one container is.
package struct ContainerReport: Hashable, Sendable {
    package struct Termination: Hashable, Sendable {
        package var code: Int32
        package var signal: Int32 = 0
        package init(code: Int32, signal: Int32 = 0, reason: String, message: String = "", started: Date? = nil, finished: Date, id: String = "") {
            self.code = code
            self.signal = signal
            self.reason = reason
            self.message = message
            self.started = started
            self.finished = finished
            self.id = id
        }

        /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun` ...
        package var reason: String
        package var message = ""
        package var started: Date?
        package var finished: Date
        package var id: String
    }
    package init(state: State = State.waiting(reason: "PodInitializing"), isReady: Bool = false, isStarted: Bool = false) {
        self.state = state
        self.isReady = isReady
        self.isStarted = isStarted
    }

    package enum State: Hashable, Sendable {
        case waiting(reason: String, message: String = "")
        case running(since: Date)
        case terminated(Termination)
    }
    package var state = State.waiting(reason: "PodInitializing")
    package var last: Termination?
    package var restarts = 0
    /// What the readiness probe says; true without one.
    package var isReady = false
    /// What the startup probe says; true without one, once it runs.
    package var isStarted = false
    /// Empty before the first start.
    package var id = ""

    package var isRunning: Bool { if case .running = self.state { true } else { false } }
    package var termination: Termination? { if case .terminated(let how) = self.state { how } else { nil } }
}

/// How a pod is, as far as its node knows. ``status(of:now:)`` makes the object's `status` from it; a pure function.
package struct PodReport: Hashable, Sendable {
    package var containers: [String: ContainerReport] = [:]
    package var addresses: [String] = []
    package var hostIP = ""
    package var started: Date?
    package var hasSandbox = false
    /// All init containers have done their part.
    package var isInitialized = false
    /// The node has decided that the pod failed, whatever its containers say: `(reason, message)`.
    package var failure: [String]?
    /// Nothing will be started any more.
    package var isStopping = false

    package init() {}

    /// `Pending`, `Running`, `Succeeded` or `Failed`, by the kubelet's rules.
    package func phase(of pod: KubeObject) -> String {
        if self.failure != nil { return "Failed" }
        let policy = pod.restartPolicy
        if !self.isInitialized {
            let failed = pod.initContainers.contains {
                $0.role == .initialization && (self.containers[$0.name]?.termination?.code ?? 0) != 0
            }
            return failed && (policy == "Never" || self.isStopping) ? "Failed" : "Pending"
        }
        let reports = pod.mainContainers.map { self.containers[$0.name] ?? ContainerReport() }
        let running = reports.filter(\.isRunning).count
        let ended = reports.compactMap { report -> Int32? in
            if let code = report.termination?.code { return code }
            if case .waiting = report.state, let last = report.last { return last.code }
            return nil
        }
        if running == 0, ended.count < reports.count { return "Pending" }
        if running + ended.count < reports.count { return "Pending" }
        if running > 0 { return "Running" }
        if self.isStopping { return ended.allSatisfy { $0 == 0 } ? "Succeeded" : "Failed" }
        switch policy {
        case "Never": return ended.allSatisfy { $0 == 0 } ? "Succeeded" : "Failed"
        case "OnFailure":
            return reports.allSatisfy { $0.termination?.code == 0 } ? "Succeeded" : "Running"
        default: return "Running"
        }
    }

    package func status(of pod: KubeObject, now: Date) -> JSONValue {
        let phase = self.phase(of: pod)
        var status: JSONValue = [
            "phase": .string(phase), "hostIP": .string(self.hostIP), "hostIPs": [["ip": .string(self.hostIP)]],
            "qosClass": .string(pod.status["qosClass"]?.string ?? Self.qosClass(pod)),
            "conditions": .array(self.conditions(pod, phase, now)),
            "containerStatuses": .array(pod.mainContainers.map { self.status($0) }),
        ]
        if !pod.initContainers.isEmpty {
            status["initContainerStatuses"] = .array(pod.initContainers.map { self.status($0) })
        }
        if let started { status["startTime"] = .string(Timestamp.seconds(started)) }
        // A merge patch: what is gone has to be said.
        status["podIP"] = self.addresses.first.map { .string($0) } ?? .null
        status["podIPs"] =
            self.addresses.isEmpty ? .null : .array(self.addresses.map { ["ip": .string($0)] })
        status["reason"] = self.failure.map { .string($0[0]) }
        status["message"] = self.failure.map { .string($0[1]) }
        return status
    }

    private func status(_ container: ContainerSpec) -> JSONValue {
        let report = self.containers[container.name] ?? ContainerReport()
        let isReady =
            switch container.role {
            case .initialization: report.termination?.code == 0
            case .sidecar, .main: report.isRunning && report.isReady && report.isStarted
            }
        return [
            "name": .string(container.name), "image": .string(container.image),
            "imageID": .string(report.id.isEmpty ? "" : "lab://\(ImageReference(container.image))"),
            "containerID": .string(report.id.isEmpty ? "" : "lab://\(report.id)"),
            "ready": .bool(isReady), "started": .bool(report.isRunning && report.isStarted),
            "restartCount": .int(Int64(report.restarts)), "state": Self.json(report.state),
            "lastState": report.last.map { Self.json(.terminated($0)) } ?? [:],
        ]
    }

    private static func json(_ state: ContainerReport.State) -> JSONValue {
        switch state {
        case .waiting(let reason, let message):
            var waiting: JSONValue = ["reason": .string(reason)]
            if !message.isEmpty { waiting["message"] = .string(message) }
            return ["waiting": waiting]
        case .running(let since):
            return ["running": ["startedAt": .string(Timestamp.seconds(since))]]
        case .terminated(let how):
            var json: JSONValue = [
                "exitCode": .int(Int64(how.code)), "reason": .string(how.reason),
                "finishedAt": .string(Timestamp.seconds(how.finished)),
                "startedAt": .string(Timestamp.seconds(how.started ?? how.finished)),
            ]
            if how.signal != 0 { json["signal"] = .int(Int64(how.signal)) }
            if !how.message.isEmpty { json["message"] = .string(how.message) }
            if !how.id.isEmpty { json["containerID"] = .string("lab://\(how.id)") }
            return ["terminated": json]
        }
    }

    private func conditions(_ pod: KubeObject, _ phase: String, _ now: Date) -> [JSONValue] {
        let isOver = phase == "Succeeded" || phase == "Failed"
        let serving = pod.mainContainers + pod.initContainers.filter { $0.role == .sidecar }
        let unready = serving.map(\.name).filter { name in
            let report = self.containers[name] ?? ContainerReport()
            return !(report.isRunning && report.isReady && report.isStarted)
        }
        let missingGates = (pod.spec["readinessGates"]?.array ?? []).compactMap { $0["conditionType"]?.string }
            .filter { pod.condition($0) != "True" }
        let containersReady = unready.isEmpty && self.isInitialized && !isOver
        let unreadyWords = isOver ? "" : "containers with unready status: [\(unready.joined(separator: " "))]"
        var wanted: [(type: String, isTrue: Bool, reason: String, message: String)] = [
            ("PodReadyToStartContainers", self.hasSandbox, "", ""),
            (
                "Initialized", self.isInitialized,
                phase == "Succeeded" ? "PodCompleted" : self.isInitialized ? "" : "ContainersNotInitialized",
                self.isInitialized
                    ? ""
                    : "containers with incomplete status: ["
                        + pod.initContainers.map(\.name).filter { self.containers[$0]?.termination?.code != 0 }
                        .joined(separator: " ") + "]"
            ),
            (
                "Ready", containersReady && missingGates.isEmpty,
                containersReady
                    ? (missingGates.isEmpty ? "" : "ReadinessGatesNotReady") : Self.unreadyReason(phase),
                containersReady ? "" : unreadyWords
            ),
            (
                "ContainersReady", containersReady, containersReady ? "" : Self.unreadyReason(phase),
                containersReady ? "" : unreadyWords
            ),
        ]
        if pod.condition("PodScheduled") == nil { wanted.append(("PodScheduled", true, "", "")) }
        let old = pod.status["conditions"]?.array ?? []
        let own = Set(wanted.map(\.type))
        let made = wanted.map { type, isTrue, reason, message -> JSONValue in
            let status = isTrue ? "True" : "False"
            let before = old.first { $0["type"]?.string == type }
            let since = before?["status"]?.string == status ? before?["lastTransitionTime"]?.string : nil
            var condition: JSONValue = [
                "type": .string(type), "status": .string(status), "lastProbeTime": .null,
                "lastTransitionTime": .string(since ?? Timestamp.seconds(now)),
            ]
            if !reason.isEmpty { condition["reason"] = .string(reason) }
            if !message.isEmpty { condition["message"] = .string(message) }
            return condition
        }
        // Those that others own (PodScheduled, readiness gates) stay.
        return made + old.filter { !own.contains($0["type"]?.string ?? "") }
    }

    private static func unreadyReason(_ phase: String) -> String {
        switch phase {
        case "Succeeded": "PodCompleted"
        case "Failed": "PodFailed"
        default: "ContainersNotReady"
        }
    }

    /// `Guaranteed`: every container limits cpu and memory and requests no less; `BestEffort`: none says anything.
    package static func qosClass(_ pod: KubeObject) -> String {
        var isGuaranteed = true
        var isSilent = true
        for container in pod.mainContainers + pod.initContainers {
            let requests = container.json.at("resources", "requests") ?? [:]
            let limits = container.json.at("resources", "limits") ?? [:]
            for resource in ["cpu", "memory"] {
                let limit = limits[resource].flatMap(Quantity.init)
                let request = requests[resource].flatMap(Quantity.init)
                if limit != nil || request != nil { isSilent = false }
                if limit == nil || (request != nil && request != limit) { isGuaranteed = false }
            }
        }
        return isSilent ? "BestEffort" : isGuaranteed ? "Guaranteed" : "Burstable"
    }
}
