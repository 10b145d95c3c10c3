internal import KubeAPI
internal import KubeClient
internal import Logging
internal import Synchronization

/// Deletes what no owner wants any more, and performs foreground and orphaning deletion.
///
/// Owners and dependents are found by uid through the caches of all types. Before anything is deleted because its owner
/// is missing, the API server is asked for that owner: a cache may lag behind.
package struct GarbageCollector: Sendable {
    static let component = "garbage-collector-controller"
    private static let foreground = "foregroundDeletion"
    private static let orphan = "orphan"

    private let context: ControllerContext
    private let catalogue: ResourceCatalogue

    package init(_ context: ControllerContext, _ catalogue: ResourceCatalogue) {
        self.context = context
        self.catalogue = catalogue
    }

    /// Follows all types, also those that come later; returns when cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            var followed: Set<ResourceType> = []
            let (changes, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
            self.context.view.cache(.customResourceDefinitions).observe { _, _ in continuation.yield(()) }
            continuation.yield(())
            for await _ in changes {
                // Events have no owners and no dependents.
                for type in await self.catalogue.all() where type != .events && followed.insert(type).inserted {
                    let gone = Gone()
                    // Registered before the loop's own observer, so a key is never looked at before its uid is known.
                    self.context.view.cache(type).observe { old, new in
                        if let old, old.uid != new?.uid { gone.add(old) }
                    }
                    group.addTask { await ControllerLoop(TypeCollector(self, type, gone), self.context).run() }
                }
            }
        }
    }

    /// Uids of objects that went, until their dependents have been looked at. Keys are not enough: an object may have
    /// been made again under the same name.
    private final class Gone: Sendable {
        private let uids = Mutex<[ObjectKey: Set<String>]>([:])
        func add(_ object: KubeObject) {
            self.uids.withLock { _ = $0[ObjectKey(object), default: []].insert(object.uid) }
        }
        func take(_ key: ObjectKey) -> Set<String> { self.uids.withLock { $0.removeValue(forKey: key) ?? [] } }
        func putBack(_ key: ObjectKey, _ uids: Set<String>) {
            self.uids.withLock { $0[key, default: []].formUnion(uids) }
        }
    }

    /// The collector of one type: keys are objects of that type, or where they were.
    private struct TypeCollector: Controller {
        let collector: GarbageCollector
        let type: ResourceType
        let gone: Gone
        init(_ collector: GarbageCollector, _ type: ResourceType, _ gone: Gone) {
            self.collector = collector
            self.type = type
            self.gone = gone
        }
        var name: String { GarbageCollector.component }
        var concerns: [Concern] {
            let collector = self.collector
            return [
                Concern(self.type) { object in
                    // Whose dependent it was may be waiting for it.
                    if object.isBeingDeleted || !object.ownerReferences.isEmpty { return [ObjectKey(object)] }
                    return collector.hasDependents(object.uid) ? [ObjectKey(object)] : []
                }
            ]
        }
        func reconcile(_ key: ObjectKey) async throws -> Duration? {
            let gone = self.gone.take(key)
            do {
                for uid in gone { try await self.collector.examineDependents(ofGone: uid) }
            } catch {
                self.gone.putBack(key, gone)
                throw error
            }
            guard let object = self.collector.context.view.cache(self.type).get(key) else { return nil }
            return try await self.collector.examine(object, self.type)
        }
    }

    private func dependents(_ uid: String) -> [(ResourceType, KubeObject)] {
        let view = self.context.view
        return view.types.flatMap { type in
            view.cache(type).list(ClusterView.By.owner, uid).map { (type, $0) }
        }
    }
    private func hasDependents(_ uid: String) -> Bool {
        let view = self.context.view
        return view.types.contains { view.cache($0).count(ClusterView.By.owner, uid) > 0 }
    }

    /// Foreground deletion waits for dependents that block it; their end is seen by their own collectors, which look
    /// at their owners. This is the net below that.
    private static let waitForDependents = Duration.milliseconds(100)

    private func examine(_ object: KubeObject, _ type: ResourceType) async throws -> Duration? {
        if object.isBeingDeleted {
            if object.finalizers.contains(Self.orphan) { return try await self.orphanDependents(of: object, type) }
            if object.finalizers.contains(Self.foreground) { return try await self.deleteDependents(of: object, type) }
            return nil
        }
        return try await self.checkOwners(of: object, type)
    }

    private func orphanDependents(of owner: KubeObject, _ type: ResourceType) async throws -> Duration? {
        for (dependentType, dependent) in self.dependents(owner.uid) {
            try await self.context.perform([
                .replace(dependentType, Self.without(owners: [owner.uid], dependent))
            ])
        }
        try await self.context.perform([.replace(type, Self.without(finalizer: Self.orphan, owner))])
        return nil
    }

    private func deleteDependents(of owner: KubeObject, _ type: ResourceType) async throws -> Duration? {
        let dependents = self.dependents(owner.uid)
        for (dependentType, dependent) in dependents where !dependent.isBeingDeleted {
            let isWanted = dependent.ownerReferences.contains { reference in
                reference["uid"]?.string != owner.uid && !self.isGoing(reference["uid"]?.string ?? "")
            }
            if isWanted {
                try await self.context.perform([
                    .replace(dependentType, Self.without(owners: [owner.uid], dependent))
                ])
            } else {
                // A dependent with dependents of its own passes the order on.
                let propagation: DeleteOptions.Propagation =
                    self.hasDependents(dependent.uid) ? .foreground : .background
                try await self.context.perform([.delete(dependentType, dependent, propagation)])
            }
        }
        let isBlocked = self.dependents(owner.uid).contains { _, dependent in
            dependent.ownerReferences.contains {
                $0["uid"]?.string == owner.uid && $0["blockOwnerDeletion"]?.bool == true
            }
        }
        if isBlocked { return Self.waitForDependents }
        try await self.context.perform([.replace(type, Self.without(finalizer: Self.foreground, owner))])
        return nil
    }

    private func isGoing(_ uid: String) -> Bool {
        let view = self.context.view
        let known = view.types.lazy.compactMap { view.cache($0).list(ClusterView.By.uid, uid).first }.first
        return known.map { $0.isBeingDeleted && $0.finalizers.contains(Self.foreground) } ?? true
    }

    private enum OwnerState { case alive, missing, waiting }

    private func checkOwners(of object: KubeObject, _ type: ResourceType) async throws -> Duration? {
        guard !object.ownerReferences.isEmpty else { return nil }
        var states: [(String, OwnerState)] = []
        for reference in object.ownerReferences {
            states.append(
                (reference["uid"]?.string ?? "", try await self.state(of: reference, namespace: object.namespace)))
        }
        let missing = Set(states.filter { $0.1 == .missing }.map(\.0))
        if states.contains(where: { $0.1 == .alive }) {
            if !missing.isEmpty {
                try await self.context.perform([.replace(type, Self.without(owners: missing, object))])
            }
        } else if states.contains(where: { $0.1 == .waiting }) {
            // The owner's own collector deletes us.
        } else {
            let propagation: DeleteOptions.Propagation =
                object.finalizers.contains(Self.orphan) ? .orphan : .background
            try await self.context.perform([.delete(type, object, propagation)])
        }
        return nil
    }

    private func state(of reference: JSONValue, namespace: String) async throws -> OwnerState {
        let uid = reference["uid"]?.string ?? ""
        let view = self.context.view
        for type in view.types {
            if let owner = view.cache(type).list(ClusterView.By.uid, uid).first {
                // A namespaced owner owns only in its own namespace.
                if !owner.namespace.isEmpty, owner.namespace != namespace { return .missing }
                return owner.isBeingDeleted && owner.finalizers.contains(Self.foreground) ? .waiting : .alive
            }
        }
        guard let type = await self.type(of: reference) else {
            // An unknown kind may be one that is not defined yet; nothing is deleted on a guess.
            return .alive
        }
        let owner = try await self.context.cluster.find(
            type, namespace: type.isNamespaced ? namespace : nil, name: reference["name"]?.string ?? "")
        return owner?.uid == uid ? .alive : .missing
    }

    /// The type of a reference: the version may differ from the one we follow.
    private func type(of reference: JSONValue) async -> ResourceType? {
        let apiVersion = reference["apiVersion"]?.string ?? ""
        let group = apiVersion.contains("/") ? String(apiVersion.split(separator: "/")[0]) : ""
        return await self.catalogue.all().first { $0.group == group && $0.kind == reference["kind"]?.string }
    }

    private func examineDependents(ofGone uid: String) async throws {
        for (type, dependent) in self.dependents(uid) where !dependent.isBeingDeleted {
            _ = try await self.checkOwners(of: dependent, type)
        }
    }

    private static func without(owners: Set<String>, _ object: KubeObject) -> KubeObject {
        var changed = object
        let left = object.ownerReferences.filter { !owners.contains($0["uid"]?.string ?? "") }
        changed.set("metadata", "ownerReferences", to: left.isEmpty ? nil : .array(left))
        return changed
    }

    private static func without(finalizer: String, _ object: KubeObject) -> KubeObject {
        var changed = object
        let left = object.finalizers.filter { $0 != finalizer }
        changed.set("metadata", "finalizers", to: left.isEmpty ? nil : JSONValue(left))
        return changed
    }
}
