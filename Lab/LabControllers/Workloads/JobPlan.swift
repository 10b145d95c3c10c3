package import KubeAPI

/// What a Job needs done: pods until enough of them have succeeded, or too many have failed.
///
/// Completion mode NonIndexed. Indexed Jobs and pod failure policies are refused with a condition that says so.
package struct JobPlan {
    package static let component = "job-controller"
    /// The first wait before a failed pod is replaced, doubled up to ``backoffMaxSeconds``.
    private static let backoffSeconds: Int64 = 10
    private static let backoffMaxSeconds: Int64 = 600

    package private(set) var writes: [Write] = []
    package private(set) var lookAgain: Duration?

    private let job: KubeObject
    private let now: KubeTime

    /// - Parameter pods: those the Job controls.
    package init(_ job: KubeObject, pods: [KubeObject], now: KubeTime) {
        self.job = job
        self.now = now
        var conditions = Conditions(job.status["conditions"])
        if let finished = Self.finish(conditions) {
            self.expire(finished)
            return
        }
        guard !job.isBeingDeleted else { return }
        let succeeded = pods.count { $0.podPhase == "Succeeded" }
        let failedPods = pods.filter { $0.podPhase == "Failed" }
        let active = pods.filter(\.isPodActive)
        let completions = job.spec["completions"]?.int.map { Int(clamping: $0) }
        let parallelism = Int(clamping: job.spec["parallelism"]?.int ?? 1)
        var status: [String: JSONValue] = [
            "uncountedTerminatedPods": [:],
            "terminating": .int(Int64(pods.count { $0.isBeingDeleted && !$0.isPodFinished })),
        ]
        if job.spec["suspend"]?.bool == true {
            self.suspend(&conditions, active)
        } else {
            if conditions["Suspended"]?["status"]?.string == "True" {
                conditions.set("Suspended", false, reason: "JobResumed", message: "Job resumed", now: now)
            }
            let start = job.status["startTime"]?.string ?? now.text
            status["startTime"] = .string(start)
            let deadline = job.spec["activeDeadlineSeconds"]?.int.flatMap { seconds in
                KubeTime(start).map { $0 + seconds }
            }
            if job.spec["completionMode"]?.string == "Indexed" || job.spec["podFailurePolicy"] != nil {
                self.fail(
                    &conditions, active, "UnsupportedByLab",
                    "the lab runs Jobs without completionMode Indexed and without podFailurePolicy")
            } else if Self.restarts(pods) + failedPods.count > Int(clamping: job.spec["backoffLimit"]?.int ?? 6) {
                self.fail(&conditions, active, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
            } else if let deadline, deadline <= now {
                self.fail(&conditions, active, "DeadlineExceeded", "Job was active longer than specified deadline")
            } else if completions.map({ succeeded >= $0 }) ?? (succeeded > 0 && active.isEmpty) {
                self.complete(&conditions, active)
                status["completionTime"] = .string(now.text)
            } else {
                if let deadline { self.look(after: deadline.since(now)) }
                let missing = completions.map { min(parallelism, $0 - succeeded) } ?? (succeeded > 0 ? 0 : parallelism)
                self.balance(active, wanted: missing, failed: failedPods)
            }
        }
        let counts = [
            "active": active.count, "ready": active.count(where: \.isPodReady), "succeeded": succeeded,
            "failed": failedPods.count,
        ]
        for (field, count) in counts where count > 0 || field == "ready" { status[field] = .int(Int64(count)) }
        if Self.finish(conditions) != nil { status["active"] = nil }
        status["conditions"] = conditions.json
        guard .object(status) != job.status else { return }
        var changed = job
        changed.json["status"] = .object(status)
        self.writes.append(.replaceStatus(.jobs, changed))
    }

    /// When the Job completed or failed.
    private static func finish(_ conditions: Conditions) -> KubeTime? {
        for type in ["Complete", "Failed"] {
            if let condition = conditions[type], condition["status"]?.string == "True" {
                return KubeTime(condition["lastTransitionTime"]?.string) ?? KubeTime(secondsSince1970: 0)
            }
        }
        return nil
    }

    /// Containers restarted in place count as failures when the pods restart by themselves.
    private static func restarts(_ pods: [KubeObject]) -> Int {
        pods.filter { $0.spec["restartPolicy"]?.string == "OnFailure" && $0.isPodActive }.reduce(0) { sum, pod in
            sum
                + (pod.status["containerStatuses"]?.array ?? []).reduce(0) {
                    $0 + Int(clamping: $1["restartCount"]?.int ?? 0)
                }
        }
    }

    private mutating func look(after delay: Duration) {
        let delay = max(delay, .zero) + .milliseconds(100)
        self.lookAgain = min(self.lookAgain ?? delay, delay)
    }

    private mutating func expire(_ finished: KubeTime) {
        guard let seconds = self.job.spec["ttlSecondsAfterFinished"]?.int, !self.job.isBeingDeleted else { return }
        if finished + seconds <= self.now {
            self.writes.append(.delete(.jobs, self.job, .background))
        } else {
            self.look(after: (finished + seconds).since(self.now))
        }
    }

    private mutating func note(_ reason: String, _ message: String, isWarning: Bool = false) {
        self.writes.append(
            .event(EventNote(self.job, isWarning: isWarning, reason, message, by: Self.component)))
    }

    private mutating func end(_ active: [KubeObject]) {
        for pod in active {
            self.writes.append(.delete(.pods, pod, .background))
            self.note("SuccessfulDelete", "Deleted pod: \(pod.name)")
        }
    }

    private mutating func suspend(_ conditions: inout Conditions, _ active: [KubeObject]) {
        self.end(active)
        if conditions["Suspended"]?["status"]?.string != "True" { self.note("Suspended", "Job suspended") }
        conditions.set("Suspended", true, reason: "JobSuspended", message: "Job suspended", now: self.now)
    }

    private mutating func fail(
        _ conditions: inout Conditions, _ active: [KubeObject], _ reason: String, _ message: String
    ) {
        self.end(active)
        for type in ["FailureTarget", "Failed"] {
            conditions.set(type, true, reason: reason, message: message, now: self.now)
        }
        self.note(reason, message, isWarning: true)
    }

    private mutating func complete(_ conditions: inout Conditions, _ active: [KubeObject]) {
        self.end(active)
        for type in ["SuccessCriteriaMet", "Complete"] {
            conditions.set(
                type, true, reason: "CompletionsReached", message: "Reached expected number of succeeded pods",
                now: self.now)
        }
        self.note("Completed", "Job completed")
    }

    private mutating func balance(_ active: [KubeObject], wanted: Int, failed: [KubeObject]) {
        if active.count > wanted {
            self.end(Array(active.sorted { $0.createdAt > $1.createdAt }.prefix(active.count - wanted)))
            return
        }
        guard active.count < wanted else { return }
        if let last = failed.map(\.failedAt).max() {
            let wait = min(Self.backoffSeconds << Int64(min(failed.count - 1, 10)), Self.backoffMaxSeconds)
            if last + wait > self.now {
                self.look(after: (last + wait).since(self.now))
                return
            }
        }
        let labels = [
            "job-name": self.job.name, "batch.kubernetes.io/job-name": self.job.name,
            "controller-uid": self.job.uid, "batch.kubernetes.io/controller-uid": self.job.uid,
        ]
        for _ in active.count..<wanted {
            self.writes.append(
                .create(
                    .pods, PodTemplate.pod(from: self.job.spec["template"] ?? [:], owner: self.job, labels: labels)))
        }
    }
}

extension KubeObject {
    /// When the pod's last container ended.
    fileprivate var failedAt: KubeTime {
        let ends = (self.status["containerStatuses"]?.array ?? []).compactMap {
            KubeTime($0.at("state", "terminated", "finishedAt")?.string)
        }
        return ends.max() ?? self.createdAt
    }
}
