package import KubeAPI

/// What a StatefulSet needs done: pods `name-0` … `name-N-1`, made in order and replaced in reverse order.
package struct StatefulSetPlan {
    package static let component = "statefulset-controller"
    package static let podNameLabel = "statefulset.kubernetes.io/pod-name"
    package static let indexLabel = "apps.kubernetes.io/pod-index"

    package private(set) var writes: [Write] = []
    package private(set) var lookAgain: Duration?

    /// - Parameters:
    ///   - pods: those the StatefulSet controls, and those of its namespace that nobody controls.
    ///   - claims: names of the PersistentVolumeClaims of its namespace.
    package init(_ set: KubeObject, pods: [KubeObject], revisions: [KubeObject], claims: Set<String>, now: KubeTime) {
        let claim = Claim(
            .pods, of: set, selector: Claim.selector(set),
            candidates: pods.filter { Self.ordinal($0, of: set) != nil })
        guard claim.writes.isEmpty else {
            self.writes = claim.writes
            return
        }
        let history = ControllerRevisions(
            set, revisions: revisions,
            hashesInUse: Set(
                claim.owned.compactMap { $0.labels[ControllerRevisions.hashLabel] }
                    + [set.status["currentRevision"]?.string].compactMap { name in
                        revisions.first { $0.name == name }?.labels[ControllerRevisions.hashLabel]
                    }))
        self.writes = history.writes
        let start = Int(clamping: set.spec.at("ordinals", "start")?.int ?? 0)
        let desired = Int(clamping: set.spec["replicas"]?.int ?? 1)
        let current = set.status["currentRevision"]?.string ?? history.currentName
        var byOrdinal: [Int: KubeObject] = [:]
        for pod in claim.owned { byOrdinal[Self.ordinal(pod, of: set) ?? 0] = pod }
        let context = Context(
            set: set, range: start..<start + desired, update: history.currentName, current: current,
            currentTemplate: revisions.first { $0.name == current }?.json.at("data", "spec", "template")
                .map(Self.withoutDirective),
            minReady: set.spec["minReadySeconds"]?.int ?? 0, now: now)
        if !set.isBeingDeleted { self.step(context, byOrdinal, claims) }
        self.writeStatus(context, byOrdinal)
    }

    private struct Context {
        let set: KubeObject
        let range: Range<Int>
        let update, current: String
        let currentTemplate: JSONValue?
        let minReady: Int64
        let now: KubeTime
        var isParallel: Bool { self.set.spec["podManagementPolicy"]?.string == "Parallel" }
        var partition: Int {
            Int(clamping: self.set.spec.at("updateStrategy", "rollingUpdate", "partition")?.int ?? 0)
        }
        func isHealthy(_ pod: KubeObject) -> Bool {
            pod.isPodActive && pod.isPodAvailable(minReadySeconds: self.minReady, now: self.now)
        }
        func revision(_ pod: KubeObject) -> String {
            "\(self.set.name)-\(pod.labels[ControllerRevisions.hashLabel] ?? "")"
        }
    }

    private static func withoutDirective(_ template: JSONValue) -> JSONValue {
        var template = template
        template["$patch"] = nil
        return template
    }

    /// `web-3` of `web` is 3.
    static func ordinal(_ pod: KubeObject, of set: KubeObject) -> Int? {
        guard pod.name.hasPrefix("\(set.name)-") else { return nil }
        let digits = pod.name.dropFirst(set.name.count + 1)
        guard let number = Int(digits), number >= 0, String(number) == digits else { return nil }
        return number
    }

    private mutating func step(_ context: Context, _ pods: [Int: KubeObject], _ claims: Set<String>) {
        // Ascending: each waits until those before it are healthy, unless they need not wait for each other.
        for ordinal in context.range {
            guard let pod = pods[ordinal] else {
                self.create(ordinal, context, claims)
                if context.isParallel { continue }
                return
            }
            if pod.isPodFinished, !pod.isBeingDeleted {
                self.delete(pod, context)
                if context.isParallel { continue }
                return
            }
            if !context.isParallel, !context.isHealthy(pod) {
                // A broken pod of an old revision is replaced by the update below, or it would block us for ever.
                if context.revision(pod) != context.update, self.isBroken(pod) { break }
                return
            }
        }
        // Superfluous ones go from the top, one at a time.
        for ordinal in pods.keys.filter({ !context.range.contains($0) }).sorted(by: >) {
            guard let pod = pods[ordinal] else { continue }
            if !pod.isBeingDeleted { self.delete(pod, context) }
            if !context.isParallel { return }
        }
        guard context.set.spec.at("updateStrategy", "type")?.string != "OnDelete" else { return }
        for ordinal in context.range.reversed() where ordinal >= context.partition {
            guard let pod = pods[ordinal] else { continue }
            if context.revision(pod) != context.update {
                if !pod.isBeingDeleted { self.delete(pod, context) }
                return
            }
            if !context.isHealthy(pod) { return }
        }
    }

    private func isBroken(_ pod: KubeObject) -> Bool { !pod.isPodReady && !pod.isBeingDeleted }

    private mutating func delete(_ pod: KubeObject, _ context: Context) {
        self.writes.append(.delete(.pods, pod, .background))
        self.writes.append(
            .event(
                EventNote(
                    context.set, "SuccessfulDelete",
                    "delete Pod \(pod.name) in StatefulSet \(context.set.name) successful", by: Self.component)))
    }

    private mutating func create(_ ordinal: Int, _ context: Context, _ claims: Set<String>) {
        let set = context.set
        let name = "\(set.name)-\(ordinal)"
        // Below the partition the old revision stays.
        let isOld = ordinal < context.range.lowerBound + context.partition && context.current != context.update
        let revision = isOld && context.currentTemplate != nil ? context.current : context.update
        let template = (isOld ? context.currentTemplate : nil) ?? set.spec["template"] ?? [:]
        var pod = PodTemplate.pod(
            from: template, owner: set, name: name,
            labels: [
                Self.podNameLabel: name, Self.indexLabel: String(ordinal),
                ControllerRevisions.hashLabel: String(revision.dropFirst(set.name.count + 1)),
            ])
        pod.set("spec", "hostname", to: .string(name))
        if let service = set.spec["serviceName"]?.string, !service.isEmpty {
            pod.set("spec", "subdomain", to: .string(service))
        }
        var volumes = pod.spec["volumes"]?.array ?? []
        for template in set.spec["volumeClaimTemplates"]?.array ?? [] {
            let volume = template.at("metadata", "name")?.string ?? ""
            let claimName = "\(volume)-\(name)"
            volumes.removeAll { $0["name"]?.string == volume }
            volumes.append(["name": .string(volume), "persistentVolumeClaim": ["claimName": .string(claimName)]])
            guard !claims.contains(claimName) else { continue }
            let labels = set.spec.at("selector", "matchLabels")?.stringMap ?? [:]
            let claim = KubeObject(
                Self.claimType, namespace: set.namespace, name: claimName,
                labels: (template.at("metadata", "labels")?.stringMap ?? [:]).merging(labels, uniquingKeysWith: { $1 }),
                ["spec": template["spec"] ?? [:]])
            self.writes.append(.create(Self.claimType, claim))
        }
        if !volumes.isEmpty { pod.set("spec", "volumes", to: .array(volumes)) }
        self.writes.append(.create(.pods, pod))
    }

    package static let claimType = ResourceType(
        group: "", version: "v1", plural: "persistentvolumeclaims", kind: "PersistentVolumeClaim", isNamespaced: true)

    private mutating func writeStatus(_ context: Context, _ pods: [Int: KubeObject]) {
        let alive = pods.values.filter { !$0.isPodFinished }
        let active = alive.filter { !$0.isBeingDeleted }
        let ready = active.filter(\.isPodReady)
        let available = ready.filter { $0.isPodAvailable(minReadySeconds: context.minReady, now: context.now) }
        if ready.count > available.count { self.lookAgain = .seconds(max(1, context.minReady)) }
        let updated = active.count { context.revision($0) == context.update }
        let isComplete =
            active.count == context.range.count && updated == active.count && ready.count == active.count
            && alive.count == active.count
        let current = isComplete ? context.update : context.current
        var status: [String: JSONValue] = [
            "observedGeneration": .int(context.set.generation), "replicas": .int(Int64(alive.count)),
            "availableReplicas": .int(Int64(available.count)),
            "currentRevision": .string(current), "updateRevision": .string(context.update),
            "collisionCount": context.set.status["collisionCount"] ?? 0,
        ]
        let counts = [
            "readyReplicas": ready.count, "updatedReplicas": updated,
            "currentReplicas": active.count { context.revision($0) == current },
        ]
        for (field, count) in counts where count > 0 { status[field] = .int(Int64(count)) }
        guard .object(status) != context.set.status else { return }
        var changed = context.set
        changed.json["status"] = .object(status)
        self.writes.append(.replaceStatus(.statefulSets, changed))
    }
}
