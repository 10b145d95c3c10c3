package import KubeAPI

/// What a Deployment needs done: a pure function of the Deployment, its ReplicaSets and the time.
///
/// One plan does one step; its writes change the caches, and the next plan does the next step.
package struct DeploymentPlan {
    package static let component = "deployment-controller"
    package static let revisionAnnotation = "deployment.kubernetes.io/revision"
    static let desiredAnnotation = "deployment.kubernetes.io/desired-replicas"
    static let maxAnnotation = "deployment.kubernetes.io/max-replicas"
    static let causeAnnotation = "kubernetes.io/change-cause"

    package private(set) var writes: [Write] = []
    /// When the plan may change without any object changing: the progress deadline.
    package private(set) var lookAgain: Duration?

    private let deployment: KubeObject
    private var replicaSets: [KubeObject]
    private let now: KubeTime
    private let hasOldPods: Bool
    private var collisions: Int64

    /// - Parameters:
    ///   - replicaSets: those the Deployment controls, and those of its namespace that nobody controls.
    ///   - names: every ReplicaSet name of the namespace that is taken.
    ///   - hasOldPods: whether pods of old ReplicaSets still run; only strategy Recreate asks.
    package init(
        _ deployment: KubeObject, replicaSets: [KubeObject], taken names: Set<String>, hasOldPods: Bool, now: KubeTime
    ) {
        self.deployment = deployment
        self.now = now
        self.hasOldPods = hasOldPods
        self.collisions = deployment.status["collisionCount"]?.int ?? 0
        let claim = Claim(
            .replicaSets, of: deployment, selector: Claim.selector(deployment), candidates: replicaSets)
        self.replicaSets = claim.owned.filter { !$0.isBeingDeleted }.sorted {
            ($0.createdAt, $0.name) < ($1.createdAt, $1.name)
        }
        guard claim.writes.isEmpty else {
            self.writes = claim.writes
            return
        }
        if deployment.isBeingDeleted {
            self.writeStatus()
            return
        }
        let current = self.newReplicaSet
        if self.isPaused {
            self.scaleAll(current)
        } else if let current, self.syncRevision(of: current) {
            // The revision is written first, so that what follows sees it.
        } else if self.needsScaling {
            self.scaleAll(current)
        } else if self.isRecreate {
            self.recreate(current, taken: names)
        } else {
            self.roll(current, taken: names)
        }
        self.writeStatus()
    }

    // MARK: Facts

    private var desired: Int { Int(clamping: self.deployment.spec["replicas"]?.int ?? 1) }
    private var isPaused: Bool { self.deployment.spec["paused"]?.bool == true }
    private var isRecreate: Bool { self.deployment.spec.at("strategy", "type")?.string == "Recreate" }
    private var template: JSONValue { self.deployment.spec["template"] ?? [:] }

    /// Surge rounds up, unavailable rounds down, and both 0 would never move.
    private var limits: (surge: Int, unavailable: Int) {
        if self.isRecreate { return (0, self.desired) }
        let rolling = self.deployment.spec.at("strategy", "rollingUpdate")
        let surge = PodShare.resolve(
            rolling?["maxSurge"], of: self.desired, roundsUp: true, default: (self.desired + 3) / 4)
        var unavailable = PodShare.resolve(
            rolling?["maxUnavailable"], of: self.desired, roundsUp: false, default: self.desired / 4)
        if surge == 0, unavailable == 0 { unavailable = 1 }
        return (surge, min(unavailable, self.desired))
    }

    private var newReplicaSet: KubeObject? {
        self.replicaSets.first { PodTemplate.withoutHash($0.spec["template"] ?? [:]) == self.template }
    }

    private static func size(_ set: KubeObject) -> Int { Int(clamping: set.spec["replicas"]?.int ?? 1) }
    private static func counted(_ set: KubeObject, _ field: String) -> Int {
        Int(clamping: set.status[field]?.int ?? 0)
    }
    private static func revision(_ object: KubeObject) -> Int64 {
        object.annotations[Self.revisionAnnotation].flatMap { Int64($0) } ?? 0
    }
    private func old(than current: KubeObject?) -> [KubeObject] {
        self.replicaSets.filter { $0.uid != current?.uid }
    }
    private var total: Int { self.replicaSets.reduce(0) { $0 + Self.size($1) } }

    // MARK: Revisions

    /// The annotations that the Deployment hands down to its newest ReplicaSet.
    private func annotations(revision: Int64) -> [String: String] {
        let own: Set = [
            Self.revisionAnnotation, Self.desiredAnnotation, Self.maxAnnotation,
            "kubectl.kubernetes.io/last-applied-configuration", "deprecated.deployment.rollback.to",
        ]
        var annotations = self.deployment.annotations.filter { !own.contains($0.key) }
        annotations[Self.revisionAnnotation] = String(revision)
        annotations[Self.desiredAnnotation] = String(self.desired)
        annotations[Self.maxAnnotation] = String(self.desired + self.limits.surge)
        return annotations
    }

    private var nextRevision: Int64 { (self.old(than: self.newReplicaSet).map(Self.revision).max() ?? 0) + 1 }

    /// Makes the ReplicaSet of the current template the newest revision. True when something had to be written.
    private mutating func syncRevision(of current: KubeObject) -> Bool {
        var wrote = false
        let revision = max(Self.revision(current), self.nextRevision)
        if Self.revision(current) != revision
            || current.annotations[Self.causeAnnotation] != self.deployment.annotations[Self.causeAnnotation]
        {
            var annotations = current.annotations
            annotations[Self.revisionAnnotation] = String(revision)
            annotations[Self.causeAnnotation] = self.deployment.annotations[Self.causeAnnotation]
            var changed = current
            changed.set("metadata", "annotations", to: JSONValue(annotations))
            self.writes.append(.replace(.replicaSets, changed))
            wrote = true
        }
        if Self.revision(self.deployment) != revision {
            self.writeDeploymentRevision(revision)
            wrote = true
        }
        return wrote
    }

    private mutating func writeDeploymentRevision(_ revision: Int64) {
        var changed = self.deployment
        var annotations = self.deployment.annotations
        annotations[Self.revisionAnnotation] = String(revision)
        changed.set("metadata", "annotations", to: JSONValue(annotations))
        self.writes.append(.replace(.deployments, changed))
    }

    private mutating func createNew(size: Int, taken names: Set<String>) {
        var name: String
        var hash: String
        repeat {
            hash = PodTemplate.hash(self.template, collision: self.collisions)
            name = "\(self.deployment.name)-\(hash)"
            if !names.contains(name) { break }
            self.collisions += 1
        } while true
        var template = self.template
        template.set(["metadata", "labels", PodTemplate.hashLabel], to: .string(hash))
        var selector = self.deployment.spec["selector"] ?? [:]
        selector.set(["matchLabels", PodTemplate.hashLabel], to: .string(hash))
        var set = KubeObject(
            .replicaSets, namespace: self.deployment.namespace, name: name,
            labels: template.at("metadata", "labels")?.stringMap ?? [:],
            annotations: self.annotations(revision: self.nextRevision),
            ["spec": ["replicas": .int(Int64(size)), "selector": selector, "template": template]])
        if let seconds = self.deployment.spec["minReadySeconds"] { set.set("spec", "minReadySeconds", to: seconds) }
        set.set("metadata", "ownerReferences", to: [self.deployment.controllerReferenceToSelf])
        self.writes.append(.create(.replicaSets, set))
        if Self.revision(self.deployment) != self.nextRevision { self.writeDeploymentRevision(self.nextRevision) }
        self.note("Scaled up replica set \(name) from 0 to \(size)")
    }

    // MARK: Scaling

    private mutating func note(_ message: String) {
        self.writes.append(.event(EventNote(self.deployment, "ScalingReplicaSet", message, by: Self.component)))
    }

    private mutating func scale(_ set: KubeObject, to size: Int) {
        let annotations = set.annotations.merging(
            [
                Self.desiredAnnotation: String(self.desired),
                Self.maxAnnotation: String(self.desired + self.limits.surge),
            ], uniquingKeysWith: { $1 })
        let before = Self.size(set)
        guard before != size || annotations != set.annotations else { return }
        var changed = set
        changed.set("spec", "replicas", to: .int(Int64(size)))
        changed.set("metadata", "annotations", to: JSONValue(annotations))
        self.writes.append(.replace(.replicaSets, changed))
        if before != size {
            self.note("Scaled \(size > before ? "up" : "down") replica set \(set.name) from \(before) to \(size)")
        }
        if let index = self.replicaSets.firstIndex(where: { $0.uid == set.uid }) { self.replicaSets[index] = changed }
    }

    /// Whether `spec.replicas` changed since the ReplicaSets were last sized.
    private var needsScaling: Bool {
        self.replicaSets.contains { set in
            Self.size(set) > 0 && set.annotations[Self.desiredAnnotation].flatMap { Int($0) } != self.desired
        }
    }

    /// Follows a change of `spec.replicas`: the only ReplicaSet takes it all; in the middle of a roll-out each keeps its
    /// share.
    private mutating func scaleAll(_ current: KubeObject?) {
        let active = self.replicaSets.filter { Self.size($0) > 0 }
        if active.count <= 1 {
            if let set = active.first ?? current { self.scale(set, to: self.desired) }
            return
        }
        if let current, Self.counted(current, "availableReplicas") == self.desired, Self.size(current) == self.desired {
            for set in self.old(than: current) where Self.size(set) > 0 { self.scale(set, to: 0) }
            return
        }
        let allowed = self.desired > 0 ? self.desired + self.limits.surge : 0
        var missing = allowed - self.total
        var sizes = active.map { set in
            let before = set.annotations[Self.maxAnnotation].flatMap { Int($0) } ?? self.desired
            let share = before > 0 ? (Self.size(set) * allowed + before / 2) / before : Self.size(set)
            let change = share - Self.size(set)
            let bounded = missing > 0 ? min(max(change, 0), missing) : max(min(change, 0), missing)
            missing -= bounded
            return Self.size(set) + bounded
        }
        // What rounding left over goes to the largest.
        if let largest = sizes.indices.max(by: { sizes[$0] < sizes[$1] }) {
            sizes[largest] = max(0, sizes[largest] + missing)
        }
        for (set, size) in zip(active, sizes) { self.scale(set, to: size) }
    }

    private mutating func recreate(_ current: KubeObject?, taken names: Set<String>) {
        let running = self.old(than: current).filter { Self.size($0) > 0 }
        if !running.isEmpty {
            for set in running { self.scale(set, to: 0) }
        } else if self.hasOldPods {
            // Their deletion wakes us.
        } else if let current {
            self.scale(current, to: self.desired)
            self.cleanUp(current)
        } else {
            self.createNew(size: self.desired, taken: names)
        }
    }

    private mutating func roll(_ current: KubeObject?, taken names: Set<String>) {
        let limits = self.limits
        let ceiling = self.desired + limits.surge
        guard let current else {
            self.createNew(size: max(0, min(self.desired, ceiling - self.total)), taken: names)
            return
        }
        let size = Self.size(current)
        if size > self.desired {
            self.scale(current, to: self.desired)
            return
        }
        if size < self.desired, self.total < ceiling {
            self.scale(current, to: size + min(ceiling - self.total, self.desired - size))
            return
        }
        self.scale(current, to: size)  // only its annotations
        let old = self.old(than: current).filter { Self.size($0) > 0 }
        if old.isEmpty {
            self.cleanUp(current)
            return
        }
        let floor = self.desired - limits.unavailable
        let newUnavailable = size - min(size, Self.counted(current, "availableReplicas"))
        var removable = self.total - floor - newUnavailable
        guard removable > 0 else { return }
        var sizes = old.map(Self.size)
        // Pods that serve nobody go first.
        for (index, set) in old.enumerated() {
            let unhealthy = max(0, sizes[index] - Self.counted(set, "availableReplicas"))
            let removed = min(unhealthy, removable)
            sizes[index] -= removed
            removable -= removed
        }
        let available =
            min(size, Self.counted(current, "availableReplicas"))
            + zip(old, sizes).reduce(0) { $0 + min($1.1, Self.counted($1.0, "availableReplicas")) }
        var spare = min(available - floor, removable)
        for index in sizes.indices where spare > 0 {
            let removed = min(sizes[index], spare)
            sizes[index] -= removed
            spare -= removed
        }
        for (set, size) in zip(old, sizes) where size != Self.size(set) { self.scale(set, to: size) }
    }

    /// Deletes the oldest empty ReplicaSets beyond `revisionHistoryLimit`, once the roll-out is complete.
    private mutating func cleanUp(_ current: KubeObject) {
        guard self.isComplete(current) else { return }
        let limit = Int(clamping: self.deployment.spec["revisionHistoryLimit"]?.int ?? 10)
        let empty = self.old(than: current).filter {
            Self.size($0) == 0 && Self.counted($0, "replicas") == 0
                && ($0.status["observedGeneration"]?.int ?? 0) >= $0.generation
        }
        for set in empty.sorted(by: { Self.revision($0) < Self.revision($1) }).prefix(max(0, empty.count - limit)) {
            self.writes.append(.delete(.replicaSets, set, .background))
        }
    }

    // MARK: Status

    private func isComplete(_ current: KubeObject) -> Bool {
        Self.counted(current, "replicas") == self.desired && Self.counted(current, "availableReplicas") == self.desired
            && self.replicaSets.reduce(0) { $0 + Self.counted($1, "replicas") } == self.desired
            && (current.status["observedGeneration"]?.int ?? 0) >= current.generation
    }

    private mutating func writeStatus() {
        let current = self.newReplicaSet
        func sum(_ field: String) -> Int { self.replicaSets.reduce(0) { $0 + Self.counted($1, field) } }
        let available = sum("availableReplicas")
        let updated = current.map { Self.counted($0, "replicas") } ?? 0
        var status: [String: JSONValue] = ["observedGeneration": .int(self.deployment.generation)]
        let counts = [
            "replicas": sum("replicas"), "updatedReplicas": updated, "readyReplicas": sum("readyReplicas"),
            "availableReplicas": available, "unavailableReplicas": max(0, self.total - available),
        ]
        for (field, count) in counts where count > 0 { status[field] = .int(Int64(count)) }
        if self.collisions > 0 { status["collisionCount"] = .int(self.collisions) }

        let before = self.deployment.status
        var conditions = Conditions(before["conditions"])
        if available >= self.desired - self.limits.unavailable {
            conditions.set(
                "Available", true, reason: "MinimumReplicasAvailable",
                message: "Deployment has minimum availability.", now: self.now, hasUpdateTime: true)
        } else {
            conditions.set(
                "Available", false, reason: "MinimumReplicasUnavailable",
                message: "Deployment does not have minimum availability.", now: self.now, hasUpdateTime: true)
        }
        self.setProgress(&conditions, current, counts, before)
        if let failure = self.replicaSets.lazy.compactMap({ Conditions($0.status["conditions"])["ReplicaFailure"] })
            .first(where: { $0["status"]?.string == "True" })
        {
            conditions.set(
                "ReplicaFailure", true, reason: failure["reason"]?.string ?? "FailedCreate",
                message: failure["message"]?.string ?? "", now: self.now, hasUpdateTime: true)
        } else {
            conditions.remove("ReplicaFailure")
        }
        status["conditions"] = conditions.json
        guard .object(status) != before else { return }
        var changed = self.deployment
        // A status written beside a revision has to be derived from what that revision's write leaves.
        if self.writes.contains(where: { if case .replace(.deployments, _) = $0 { true } else { false } }) { return }
        changed.json["status"] = .object(status)
        self.writes.append(.replaceStatus(.deployments, changed))
    }

    private mutating func setProgress(
        _ conditions: inout Conditions, _ current: KubeObject?, _ counts: [String: Int], _ before: JSONValue
    ) {
        func set(_ status: Bool, _ reason: String, _ message: String, isFresh: Bool = false) {
            conditions.set(
                "Progressing", status, reason: reason, message: message, now: self.now, hasUpdateTime: true,
                isFresh: isFresh)
        }
        let subject = current.map { "ReplicaSet \"\($0.name)\"" } ?? "Deployment \"\(self.deployment.name)\""
        if self.isPaused {
            set(false, "DeploymentPaused", "Deployment is paused")
            return
        }
        if let current, self.isComplete(current) {
            set(true, "NewReplicaSetAvailable", "\(subject) has successfully progressed.")
            return
        }
        func was(_ field: String) -> Int { Int(clamping: before[field]?.int ?? 0) }
        let old = (counts["replicas"] ?? 0) - (counts["updatedReplicas"] ?? 0)
        let hasMoved =
            (counts["updatedReplicas"] ?? 0) > was("updatedReplicas")
            || old < was("replicas") - was("updatedReplicas")
            || (counts["readyReplicas"] ?? 0) > was("readyReplicas")
            || (counts["availableReplicas"] ?? 0) > was("availableReplicas")
            || before["observedGeneration"]?.int != self.deployment.generation
        let known = conditions.reason("Progressing")
        if current == nil {
            set(true, "NewReplicaSetCreated", "Created new replica set \(subject)", isFresh: true)
        } else if hasMoved || known == nil || known == "DeploymentPaused" {
            set(true, "ReplicaSetUpdated", "\(subject) is progressing.", isFresh: true)
        } else if known != "ProgressDeadlineExceeded", known != "NewReplicaSetAvailable",
            let deadline = self.deployment.spec["progressDeadlineSeconds"]?.int, deadline < Int64(Int32.max)
        {
            let since =
                KubeTime(conditions["Progressing"]?["lastUpdateTime"]?.string) ?? self.deployment.createdAt
            if since + deadline <= self.now {
                set(false, "ProgressDeadlineExceeded", "\(subject) has timed out progressing.")
            }
        }
        if let deadline = self.deployment.spec["progressDeadlineSeconds"]?.int, deadline < Int64(Int32.max),
            conditions.reason("Progressing") != "ProgressDeadlineExceeded"
        {
            let since = KubeTime(conditions["Progressing"]?["lastUpdateTime"]?.string) ?? self.now
            self.lookAgain = max(.seconds(1), (since + deadline).since(self.now) + .seconds(1))
        }
    }
}
