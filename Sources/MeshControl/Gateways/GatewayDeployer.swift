import KubeAPI
package import KubeClient
package import Logging
import Synchronization

/// Makes the cluster hold what ``GatewayPlan``s say: applies objects, applies them again when somebody changed them, and
/// removes those that are no longer wanted. An object that does not carry our label is somebody else's and never touched;
/// when a Gateway goes, the cluster removes what it owned.
///
/// Works in ``run()``, which only the leader runs.
package final class GatewayDeployer: Sendable {
    private struct ChildKey: Hashable, Sendable {
        var child: GatewayChild
        /// `<namespace>/<name>`
        var key: String
    }
    private struct Applied: Sendable {
        var wanted: KubeObject
        /// What the server made of it.
        var version: String
    }
    private struct State {
        var plans: [String: GatewayPlan] = [:]
        /// Objects with our label, as the watches tell.
        var live: [ChildKey: KubeObject] = [:]
        var applied: [ChildKey: Applied] = [:]
        /// Gateways to look at, each once.
        var dirty: Set<String> = []
        /// Kinds of objects not listed yet: before, nothing is known to be missing.
        var unlisted = Set(GatewayChild.allCases)
        var wake: AsyncStream<Void>.Continuation?

        mutating func mark(_ gateway: String) {
            self.dirty.insert(gateway)
            self.wake?.yield()
        }

        mutating func observed(_ key: ChildKey, _ object: KubeObject?) {
            let before = self.live[key]
            self.live[key] = object
            for owner in [before, object] {
                if let gateway = owner.flatMap(GatewayDeployer.gateway), self.plans[gateway] != nil {
                    self.mark(gateway)
                }
            }
        }
    }

    static let fieldManager = GatewayClassView.waypointController
    /// Before a Gateway that could not be deployed is tried again; doubled up to ``waitMax``.
    private static let waitMin = Duration.milliseconds(500)
    private static let waitMax = Duration.seconds(30)

    private let cluster: any KubeCluster
    private let logger: Logger
    private let state = Mutex(State())

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    package func want(_ gateway: String, _ plan: GatewayPlan?) {
        self.state.withLock { state in
            state.plans[gateway] = plan
            state.mark(gateway)
        }
    }

    /// Which Gateway an object was made for.
    private static func gateway(of object: KubeObject) -> String? {
        object.labels[Names.gatewayName].map { "\(object.namespace)/\($0)" }
    }

    /// - Parameter report: told for each Gateway after each attempt what kept it from being deployed, nil for nothing.
    package func run(report: @escaping @Sendable (_ gateway: String, _ trouble: String?) async -> Void) async {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.state.withLock { state in
            state.wake = wake
            state.unlisted = Set(GatewayChild.allCases)
            state.live = [:]
            state.applied = [:]
            state.dirty.formUnion(state.plans.keys)
        }
        defer { self.state.withLock { $0.wake = nil } }
        await withTaskGroup(of: Void.self) { group in
            for child in GatewayChild.allCases { group.addTask { await self.follow(child) } }
            wake.yield()
            var waits: [String: Duration] = [:]
            for await _ in signals {
                while !Task.isCancelled, let gateway = self.next() {
                    let trouble = await self.deploy(gateway)
                    await report(gateway, trouble)
                    guard trouble != nil else {
                        waits[gateway] = nil
                        continue
                    }
                    let wait = waits[gateway] ?? Self.waitMin
                    waits[gateway] = min(wait * 2, Self.waitMax)
                    group.addTask {
                        try? await Task.sleep(for: wait)
                        if !Task.isCancelled { self.state.withLock { $0.mark(gateway) } }
                    }
                }
            }
            group.cancelAll()
        }
    }

    private func next() -> String? { self.state.withLock { $0.unlisted.isEmpty ? $0.dirty.popFirst() : nil } }

    private func follow(_ child: GatewayChild) async {
        let options = ListOptions(labelSelector: "\(Names.managed)=\(GatewayKind.managedLabel)")
        let logger = self.logger
        let events = Informer(self.cluster, child.type, options).events { error in
            logger.warning("watch failed", metadata: ["type": "\(child.type)", "why": "\(error)"])
        }
        for await event in events {
            self.state.withLock { state in
                switch event {
                case .snapshot(let all):
                    let ours = Dictionary(
                        all.filter(Self.isOurs).map { (ChildKey(child: child, key: $0.key), $0) },
                        uniquingKeysWith: { $1 })
                    for key in state.live.keys where key.child == child && ours[key] == nil {
                        state.observed(key, nil)
                    }
                    for (key, object) in ours { state.observed(key, object) }
                    state.unlisted.remove(child)
                    state.wake?.yield()
                case .updated(let object):
                    state.observed(
                        ChildKey(child: child, key: object.key), Self.isOurs(object) ? object : nil)
                case .deleted(let object): state.observed(ChildKey(child: child, key: object.key), nil)
                }
            }
        }
    }

    private static func isOurs(_ object: KubeObject) -> Bool {
        object.labels[Names.managed] == GatewayKind.managedLabel
    }

    /// - Returns: what kept it from being done.
    private func deploy(_ gateway: String) async -> String? {
        guard let plan = self.state.withLock({ $0.plans[gateway] }) else { return nil }
        do {
            if plan.stampsVersion { try await self.stamp(plan) }
            var trouble: String?
            for (child, object) in plan.objects {
                do {
                    try await self.apply(child, object)
                } catch let error as StatusError where error.code == 422 || error.code == 400 || error.code == 403 {
                    // One that is refused must not keep the others away.
                    trouble = trouble ?? "\(object.kind) \(object.key) was refused: \(error)"
                }
            }
            try await self.removeSuperfluous(plan)
            if let trouble {
                self.logger.warning(
                    "a Gateway cannot be deployed", metadata: ["gateway": "\(gateway)", "why": "\(trouble)"])
            }
            return trouble
        } catch is CancellationError {
            return nil
        } catch {
            if Task.isCancelled { return nil }
            self.logger.warning(
                "a Gateway cannot be deployed; trying again",
                metadata: ["gateway": "\(gateway)", "why": "\(error)"])
            return "its objects cannot be written: \(error)"
        }
    }

    /// Says on the Gateway which version of us is responsible.
    private func stamp(_ plan: GatewayPlan) async throws {
        do {
            _ = try await self.cluster.patch(
                .gateways, namespace: plan.gateway.namespace, name: plan.gateway.name, subresource: nil,
                .merge([
                    "metadata": [
                        "annotations": [Names.controllerVersion: .string("\(WaypointObjects.controllerVersion)")]
                    ]
                ]))
        } catch let error as StatusError where error.isNotFound {
            // It is gone; the watch will tell.
        }
    }

    private func apply(_ child: GatewayChild, _ object: KubeObject) async throws {
        let key = ChildKey(child: child, key: object.key)
        let (live, applied) = self.state.withLock { ($0.live[key], $0.applied[key]) }
        if let live {
            if let applied, applied.wanted == object,
                applied.version == live.resourceVersion || live.json.contains(object.json)
            {
                return
            }
        } else if let existing = try await self.cluster.find(
            child.type, namespace: object.namespace, name: object.name), !Self.isOurs(existing)
        {
            self.logger.info(
                "an object of that name is not ours and stays as it is",
                metadata: ["object": "\(child.type) \(object.key)"])
            return
        }
        let answer = try await self.cluster.patch(
            child.type, namespace: object.namespace, name: object.name, subresource: nil,
            .apply(object.json, fieldManager: Self.fieldManager, force: true))
        self.state.withLock { state in
            state.applied[key] = Applied(wanted: object, version: answer.resourceVersion)
        }
    }

    /// Objects that were made for this Gateway before and are not in its plan any more.
    private func removeSuperfluous(_ plan: GatewayPlan) async throws {
        let wanted = Set(plan.objects.map { ChildKey(child: $0.child, key: $0.object.key) })
        let superfluous = self.state.withLock { state in
            state.live.filter { key, object in
                !wanted.contains(key) && !object.isBeingDeleted && !plan.uid.isEmpty
                    && object.ownerReferences.contains { $0["uid"]?.string == plan.uid }
            }
        }
        for (key, object) in superfluous {
            do {
                try await self.cluster.delete(
                    key.child.type, namespace: object.namespace, name: object.name,
                    DeleteOptions(propagation: .background, uid: object.uid.isEmpty ? nil : object.uid))
            } catch let error as StatusError where error.isNotFound || error.isConflict {
                // Gone already, or another one by now.
            }
        }
    }
}

extension GatewayPlan {
    /// The objects with their kinds, in the order in which they are made.
    var objects: [(child: GatewayChild, object: KubeObject)] {
        self.children.compactMap { object in
            GatewayChild.allCases.first { $0.type.kind == object.kind }.map { ($0, object) }
        }
    }
}

extension JSONValue {
    /// Whether everything that `other` says is so here: members may be more, lists are as long.
    fileprivate func contains(_ other: JSONValue) -> Bool {
        switch (self, other) {
        case (.object(let mine), .object(let theirs)):
            theirs.allSatisfy { name, value in mine[name]?.contains(value) ?? false }
        case (.array(let mine), .array(let theirs)):
            mine.count == theirs.count && zip(mine, theirs).allSatisfy { $0.contains($1) }
        default: self == other
        }
    }
}
