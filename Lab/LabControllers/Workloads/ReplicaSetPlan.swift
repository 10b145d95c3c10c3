package import KubeAPI

/// What a ReplicaSet needs done: a pure function of the ReplicaSet, its pods and the time.
package struct ReplicaSetPlan {
    package static let component = "replicaset-controller"
    /// How many pods one step creates or deletes.
    static let burstMax = 500

    package private(set) var writes: [Write] = []
    package private(set) var lookAgain: Duration?

    /// - Parameters:
    ///   - pods: those the ReplicaSet controls, and those of its namespace that nobody controls.
    ///   - failure: why the last creation of a pod was refused, if it was.
    package init(_ set: KubeObject, pods: [KubeObject], failure: String?, now: KubeTime) {
        let claim = Claim(.pods, of: set, selector: Claim.selector(set), candidates: pods.filter { !$0.isPodFinished })
        self.writes = claim.writes
        let active = claim.owned.filter(\.isPodActive)
        let desired = Int(clamping: set.spec["replicas"]?.int ?? 1)
        if !set.isBeingDeleted, claim.writes.isEmpty {
            if active.count < desired {
                let template = set.spec["template"] ?? [:]
                for _ in 0..<min(desired - active.count, Self.burstMax) {
                    self.writes.append(.create(.pods, PodTemplate.pod(from: template, owner: set)))
                }
            } else if active.count > desired {
                for pod in active.sorted(by: Self.goesFirst).prefix(min(active.count - desired, Self.burstMax)) {
                    self.writes.append(.delete(.pods, pod, .background))
                    self.writes.append(
                        .event(EventNote(set, "SuccessfulDelete", "Deleted pod: \(pod.name)", by: Self.component)))
                }
            }
        }
        self.writeStatus(set, active, failure: failure, now: now)
    }

    /// Pods without a node, pending, not ready, then the youngest.
    private static func goesFirst(_ a: KubeObject, _ b: KubeObject) -> Bool {
        func rank(_ pod: KubeObject) -> (Int, Int, Int) {
            let phases = ["Pending": 0, "Unknown": 1, "Running": 2]
            let cost = pod.annotations["controller.kubernetes.io/pod-deletion-cost"].flatMap { Int($0) } ?? 0
            return (
                (pod.nodeName.isEmpty ? 0 : 4) + (phases[pod.podPhase] ?? 1), pod.isPodReady ? 1 : 0, cost
            )
        }
        let (first, second) = (rank(a), rank(b))
        if first != second { return first < second }
        if a.createdAt != b.createdAt { return a.createdAt > b.createdAt }
        return a.name > b.name
    }

    private mutating func writeStatus(_ set: KubeObject, _ active: [KubeObject], failure: String?, now: KubeTime) {
        let minReady = set.spec["minReadySeconds"]?.int ?? 0
        let labels = set.spec.at("template", "metadata", "labels")?.stringMap ?? [:]
        let ready = active.filter(\.isPodReady)
        let available = ready.filter { $0.isPodAvailable(minReadySeconds: minReady, now: now) }
        var status: [String: JSONValue] = [
            "observedGeneration": .int(set.generation), "replicas": .int(Int64(active.count)),
        ]
        let counts = [
            "fullyLabeledReplicas": active.count { pod in labels.allSatisfy { pod.labels[$0.key] == $0.value } },
            "readyReplicas": ready.count, "availableReplicas": available.count,
        ]
        for (field, count) in counts where count > 0 { status[field] = .int(Int64(count)) }
        var conditions = Conditions(set.status["conditions"])
        if let failure {
            conditions.set("ReplicaFailure", true, reason: "FailedCreate", message: failure, now: now)
        } else {
            conditions.remove("ReplicaFailure")
        }
        status["conditions"] = conditions.json
        if ready.count > available.count { self.lookAgain = .seconds(max(1, minReady)) }
        guard .object(status) != set.status else { return }
        var changed = set
        changed.json["status"] = .object(status)
        self.writes.append(.replaceStatus(.replicaSets, changed))
    }
}
