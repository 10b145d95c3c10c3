package import KubeAPI

/// What a DaemonSet needs done: one pod on each eligible node, replaced node by node when the template changes.
package struct DaemonSetPlan {
    package static let component = "daemonset-controller"

    package private(set) var writes: [Write] = []
    package private(set) var lookAgain: Duration?

    /// - Parameters:
    ///   - pods: those the DaemonSet controls, and those of its namespace that nobody controls.
    ///   - revisions: ControllerRevisions that the DaemonSet controls.
    package init(_ set: KubeObject, pods: [KubeObject], nodes: [KubeObject], revisions: [KubeObject], now: KubeTime) {
        let claim = Claim(.pods, of: set, selector: Claim.selector(set), candidates: pods)
        guard claim.writes.isEmpty else {
            self.writes = claim.writes
            return
        }
        let history = ControllerRevisions(
            set, revisions: revisions,
            hashesInUse: Set(claim.owned.compactMap { $0.labels[ControllerRevisions.hashLabel] }))
        let template = Self.template(set)
        let sample = KubeObject(["spec": template["spec"] ?? [:]])
        var assigned: [String: [KubeObject]] = [:]
        for pod in claim.owned { assigned[Self.node(of: pod), default: []].append(pod) }
        var state = State(
            set: set, hash: history.currentHash, template: template, now: now,
            minReady: set.spec["minReadySeconds"]?.int ?? 0)
        for node in nodes {
            let verdict = Placement.daemonVerdict(sample, on: node)
            state.nodes.append((node, verdict, assigned.removeValue(forKey: node.name) ?? []))
        }
        // The garbage collector of pods takes those whose node is gone.
        if !set.isBeingDeleted {
            self.writes += history.writes
            self.place(&state)
            self.update(&state)
        }
        self.writeStatus(state)
    }

    private struct State {
        let set: KubeObject
        let hash: String
        let template: JSONValue
        let now: KubeTime
        let minReady: Int64
        var nodes: [(node: KubeObject, verdict: Placement.DaemonVerdict, pods: [KubeObject])] = []
        var deleted: Set<String> = []

        func isCurrent(_ pod: KubeObject) -> Bool { pod.labels[ControllerRevisions.hashLabel] == self.hash }
        func isAvailable(_ pod: KubeObject) -> Bool {
            pod.isPodActive && pod.isPodAvailable(minReadySeconds: self.minReady, now: self.now)
        }
        var surge: Int {
            PodShare.resolve(
                self.set.spec.at("updateStrategy", "rollingUpdate", "maxSurge"), of: self.desired, roundsUp: true,
                default: 0)
        }
        var unavailable: Int {
            let given = PodShare.resolve(
                self.set.spec.at("updateStrategy", "rollingUpdate", "maxUnavailable"), of: self.desired, roundsUp: true,
                default: 1)
            return given == 0 && self.surge == 0 ? 1 : given
        }
        var desired: Int { self.nodes.count { $0.verdict.shouldRun } }
        var isRolling: Bool { self.set.spec.at("updateStrategy", "type")?.string != "OnDelete" }
    }

    /// The node that a pod is on, or is meant for while the scheduler has not bound it.
    static func node(of pod: KubeObject) -> String {
        if !pod.nodeName.isEmpty { return pod.nodeName }
        let terms =
            pod.spec.at(
                "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution",
                "nodeSelectorTerms")?.array ?? []
        for term in terms {
            for field in term["matchFields"]?.array ?? [] where field["key"]?.string == "metadata.name" {
                return field["values"]?[0]?.string ?? ""
            }
        }
        return ""
    }

    /// The template with the tolerations that keep daemons on troubled nodes.
    static func template(_ set: KubeObject) -> JSONValue {
        var template = set.spec["template"] ?? [:]
        var tolerations = template.at("spec", "tolerations")?.array ?? []
        var standard = [
            ("node.kubernetes.io/not-ready", "NoExecute"), ("node.kubernetes.io/unreachable", "NoExecute"),
            ("node.kubernetes.io/disk-pressure", "NoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule"),
            ("node.kubernetes.io/pid-pressure", "NoSchedule"), ("node.kubernetes.io/unschedulable", "NoSchedule"),
        ]
        if template.at("spec", "hostNetwork")?.bool == true {
            standard.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
        }
        for (key, effect) in standard {
            let toleration: JSONValue = ["key": .string(key), "operator": "Exists", "effect": .string(effect)]
            if !tolerations.contains(toleration) { tolerations.append(toleration) }
        }
        template.set(["spec", "tolerations"], to: .array(tolerations))
        return template
    }

    private mutating func create(on node: KubeObject, _ state: State) {
        var pod = PodTemplate.pod(
            from: state.template, owner: state.set,
            labels: [
                ControllerRevisions.hashLabel: state.hash,
                "pod-template-generation": String(
                    state.set.annotations["deprecated.daemonset.template.generation"] ?? String(state.set.generation)),
            ])
        let thisNode: JSONValue = [
            "matchFields": [["key": "metadata.name", "operator": "In", "values": [.string(node.name)]]]
        ]
        let path = ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"]
        // Terms are alternatives: each one the template has must also name this node.
        let terms = pod.json.at(path)?["nodeSelectorTerms"]?.array ?? []
        let pinned =
            terms.isEmpty
            ? [thisNode]
            : terms.map { term in
                var term = term
                term["matchFields"] = .array(
                    (term["matchFields"]?.array ?? []) + (thisNode["matchFields"]?.array ?? []))
                return term
            }
        pod.json.set(path, to: ["nodeSelectorTerms": .array(pinned)])
        self.writes.append(.create(.pods, pod))
    }

    private mutating func delete(_ pod: KubeObject, _ state: inout State) {
        guard !pod.isBeingDeleted, state.deleted.insert(pod.uid).inserted else { return }
        self.writes.append(.delete(.pods, pod, .background))
        self.writes.append(
            .event(EventNote(state.set, "SuccessfulDelete", "Deleted pod: \(pod.name)", by: Self.component)))
    }

    /// Missing pods are made, superfluous and failed ones go.
    private mutating func place(_ state: inout State) {
        for (node, verdict, pods) in state.nodes {
            let alive = pods.filter(\.isPodActive)
            for pod in pods where pod.isPodFinished && !pod.isBeingDeleted {
                self.writes.append(
                    .event(
                        EventNote(
                            state.set, isWarning: true, "FailedDaemonPod",
                            "Found failed daemon pod \(pod.namespace)/\(pod.name) on node \(node.name), will try to kill it",
                            by: Self.component)))
                self.delete(pod, &state)
            }
            if !verdict.shouldContinue {
                for pod in alive { self.delete(pod, &state) }
                continue
            }
            guard verdict.shouldRun else { continue }
            if alive.isEmpty {
                // With surge a terminating predecessor may still be there: nobody waits for it.
                if pods.allSatisfy({ !$0.isBeingDeleted }) || (state.surge > 0 && state.isRolling) {
                    self.create(on: node, state)
                }
                continue
            }
            // One of each revision may live beside the other while surging; more are superfluous.
            let current = alive.filter(state.isCurrent)
            let old = alive.filter { !state.isCurrent($0) }
            for group in [current, old] where group.count > 1 {
                let keep = group.sorted {
                    ($0.isPodReady ? 0 : 1, $0.createdAt, $0.name) < ($1.isPodReady ? 0 : 1, $1.createdAt, $1.name)
                }
                for pod in keep.dropFirst() { self.delete(pod, &state) }
            }
            if state.surge > 0, let new = current.first, state.isAvailable(new) {
                for pod in old { self.delete(pod, &state) }
            } else if state.surge == 0, !current.isEmpty {
                for pod in old { self.delete(pod, &state) }
            }
        }
    }

    /// Replaces pods of old revisions within the limits of the strategy.
    private mutating func update(_ state: inout State) {
        guard state.isRolling else { return }
        let running = state.nodes.filter { $0.verdict.shouldRun }
        if state.surge > 0 {
            var surging = 0
            var candidates: [(KubeObject, isBroken: Bool)] = []
            for (node, _, pods) in running {
                let alive = pods.filter(\.isPodActive)
                guard let old = alive.first(where: { !state.isCurrent($0) }) else { continue }
                if alive.contains(where: state.isCurrent) {
                    surging += 1
                } else {
                    candidates.append((node, !state.isAvailable(old)))
                }
            }
            // A pod that serves nobody is replaced without counting.
            for (node, isBroken) in candidates where isBroken { self.create(on: node, state) }
            for (node, _) in candidates.filter({ !$0.isBroken }).prefix(max(0, state.surge - surging)) {
                self.create(on: node, state)
            }
            return
        }
        var unavailable = 0
        var candidates: [KubeObject] = []
        for (_, _, pods) in running {
            let alive = pods.filter { $0.isPodActive && !state.deleted.contains($0.uid) }
            guard let pod = alive.first else {
                unavailable += 1
                continue
            }
            if !alive.contains(where: state.isAvailable) {
                unavailable += 1
                if !alive.contains(where: state.isCurrent) { self.delete(pod, &state) }
            } else if !alive.contains(where: state.isCurrent) {
                candidates.append(pod)
            }
        }
        for pod in candidates.prefix(max(0, state.unavailable - unavailable)) { self.delete(pod, &state) }
    }

    private mutating func writeStatus(_ state: State) {
        var scheduled = 0
        var misscheduled = 0
        var ready = 0
        var available = 0
        var updated = 0
        for (_, verdict, pods) in state.nodes {
            let alive = pods.filter { $0.isPodActive }
            if !verdict.shouldRun {
                if !alive.isEmpty { misscheduled += 1 }
                continue
            }
            guard !alive.isEmpty else { continue }
            scheduled += 1
            if alive.contains(where: \.isPodReady) { ready += 1 }
            if alive.contains(where: state.isAvailable) {
                available += 1
            } else if let since = alive.lazy.compactMap(\.readySince).first {
                let due = (since + state.minReady).since(state.now)
                self.lookAgain = min(self.lookAgain ?? due, max(due, .milliseconds(100)))
            }
            if alive.contains(where: state.isCurrent) { updated += 1 }
        }
        let desired = state.desired
        var status: [String: JSONValue] = [
            "currentNumberScheduled": .int(Int64(scheduled)), "desiredNumberScheduled": .int(Int64(desired)),
            "numberMisscheduled": .int(Int64(misscheduled)), "numberReady": .int(Int64(ready)),
            "observedGeneration": .int(state.set.generation),
        ]
        let counts = [
            "updatedNumberScheduled": updated, "numberAvailable": available, "numberUnavailable": desired - available,
        ]
        for (field, count) in counts where count > 0 { status[field] = .int(Int64(count)) }
        if let collisions = state.set.status["collisionCount"] { status["collisionCount"] = collisions }
        guard .object(status) != state.set.status else { return }
        var changed = state.set
        changed.json["status"] = .object(status)
        self.writes.append(.replaceStatus(.daemonSets, changed))
    }
}
