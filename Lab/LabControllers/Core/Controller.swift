package import KubeAPI
package import KubeClient
package import Logging
internal import Synchronization

/// A loop that makes one kind of thing true. It is told which keys may need work, looks at the caches, decides, writes.
package protocol Controller: Sendable {
    /// As real clusters name it: `deployment-controller`. The `source` of its events.
    var name: String { get }
    /// Changes that concern us, and which keys each one concerns.
    var concerns: [Concern] { get }
    /// How many keys may be worked on at a time.
    var workers: Int { get }
    /// - Returns: when to look again even if nothing changes.
    func reconcile(_ key: ObjectKey) async throws -> Duration?
}

extension Controller {
    package var workers: Int { 4 }
}

package struct Concern: Sendable {
    package let type: ResourceType
    package let keys: @Sendable (KubeObject) -> [ObjectKey]
    package init(_ type: ResourceType, _ keys: @escaping @Sendable (KubeObject) -> [ObjectKey]) {
        self.type = type
        self.keys = keys
    }
    /// The object itself.
    package static func each(_ type: ResourceType) -> Concern { Concern(type) { [ObjectKey($0)] } }
    /// The object's controlling owner of this kind.
    package static func owned(_ type: ResourceType, by owner: ResourceType) -> Concern {
        Concern(type) { object in
            guard let reference = object.controllerReference, reference["kind"]?.string == owner.kind,
                reference["apiVersion"]?.string == owner.apiVersion, let name = reference["name"]?.string
            else { return [] }
            return [ObjectKey(owner.isNamespaced ? object.namespace : "", name)]
        }
    }
}

/// What every controller works with.
package struct ControllerContext: Sendable {
    package let cluster: any KubeCluster
    package let view: ClusterView
    package let events: EventRecorder
    package let log: Logger
    package let now: @Sendable () -> KubeTime

    package init(
        cluster: any KubeCluster, view: ClusterView, events: EventRecorder, log: Logger,
        now: @escaping @Sendable () -> KubeTime = { .now }
    ) {
        self.cluster = cluster
        self.view = view
        self.events = events
        self.log = log
        self.now = now
    }

    /// How many creations or deletions go out together.
    private static let concurrentWritesMax = 16

    /// Does what was decided, in order; neighbouring creations go out together, and so do neighbouring deletions.
    /// The caches see the results before this returns. The first failure is thrown when the rest of its group is done.
    package func perform(_ writes: [Write]) async throws {
        var rest = writes[...]
        while let first = rest.first {
            let group: ArraySlice<Write>
            switch first {
            case .create:
                group = rest.prefix { if case .create = $0 { true } else { false } }.prefix(Self.concurrentWritesMax)
            case .delete:
                group = rest.prefix { if case .delete = $0 { true } else { false } }.prefix(Self.concurrentWritesMax)
            default: group = rest.prefix(1)
            }
            rest = rest.dropFirst(group.count)
            if group.count == 1 {
                try await self.perform(first)
            } else {
                let failures = await withTaskGroup(of: (any Error)?.self) { tasks in
                    for write in group {
                        tasks.addTask {
                            do {
                                try await self.perform(write)
                                return nil
                            } catch {
                                return error
                            }
                        }
                    }
                    return await tasks.reduce(into: [any Error]()) { if let error = $1 { $0.append(error) } }
                }
                if let failure = failures.first { throw failure }
            }
        }
    }

    private func perform(_ write: Write) async throws {
        switch write {
        case .create(let type, let object):
            self.view.cache(type).updated(try await self.cluster.create(type, object))
        case .replace(let type, let object):
            self.wrote(type, try await self.cluster.replace(type, object))
        case .replaceStatus(let type, let object):
            self.wrote(type, try await self.cluster.replace(type, object, subresource: "status"))
        case .delete(let type, let object, let propagation, let grace):
            do {
                let answer = try await self.cluster.delete(
                    type, namespace: type.isNamespaced ? object.namespace : nil, name: object.name,
                    DeleteOptions(gracePeriodSeconds: grace, propagation: propagation, uid: object.uid))
                if answer.uid == object.uid {
                    self.view.cache(type).updated(answer)
                } else {
                    self.view.cache(type).deletedByUs(object)
                }
            } catch let error as StatusError where error.isNotFound {
                self.view.cache(type).deletedByUs(object)
            }
        case .event(let note): self.events.record(note)
        }
    }

    private func wrote(_ type: ResourceType, _ answer: KubeObject) {
        // Removing the last finalizer of an object that is being deleted removes the object; the answer is its last state.
        if answer.isBeingDeleted, answer.finalizers.isEmpty, type != .pods, type != .namespaces {
            self.view.cache(type).deletedByUs(answer)
        } else {
            self.view.cache(type).updated(answer)
        }
    }
}

/// Runs one controller: queue, retries and the order of its start.
package struct ControllerLoop: Sendable {
    package let controller: any Controller
    package let context: ControllerContext

    package init(_ controller: any Controller, _ context: ControllerContext) {
        self.controller = controller
        self.context = context
    }

    /// The first retry after a failure, doubled up to ``retryMax``.
    private static let retryMin = Duration.milliseconds(5)
    private static let retryMax = Duration.seconds(30)

    /// Returns when cancelled.
    package func run() async {
        let queue = WorkQueue()
        for concern in self.controller.concerns {
            self.context.view.cache(concern.type).observe { old, new in
                for object in [old, new] {
                    if let object { for key in concern.keys(object) { queue.add(key) } }
                }
            }
        }
        for concern in self.controller.concerns { await self.context.view.cache(concern.type).synced() }
        let failures = Failures()
        await queue.run(workers: self.controller.workers) { key in
            do {
                let delay = try await self.controller.reconcile(key)
                failures.forget(key)
                return delay
            } catch {
                if Task.isCancelled { return nil }
                let count = failures.count(key)
                let isRace = (error as? StatusError).map { $0.code == 409 || $0.isNotFound } ?? false
                // Losing a race against another writer is normal once or twice.
                if !isRace || count > 5 {
                    self.context.log.warning("\(self.controller.name): \(key): \(error)")
                }
                return min(Self.retryMin * (1 << min(count, 13)), Self.retryMax)
            }
        }
    }

    private final class Failures: Sendable {
        private let counts = Mutex<[ObjectKey: Int]>([:])
        func forget(_ key: ObjectKey) { self.counts.withLock { $0[key] = nil } }
        /// How often it failed before.
        func count(_ key: ObjectKey) -> Int {
            self.counts.withLock { counts in
                defer { counts[key, default: 0] += 1 }
                return counts[key] ?? 0
            }
        }
    }
}
