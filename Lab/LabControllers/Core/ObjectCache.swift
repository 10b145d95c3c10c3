package import KubeAPI
internal import Synchronization

/// The last known state of all objects of one type, fed by an informer and by our own writes.
///
/// Own writes enter at once, so that a controller that reconciles again before the watch has caught up does not do its
/// work twice (it would create a second pod). Whichever of the two is newer by resource version wins.
package final class ObjectCache: Sendable {
    /// A second way to find objects, besides their key.
    package struct Index: Sendable {
        package let name: String
        package let values: @Sendable (KubeObject) -> [String]
        package init(_ name: String, _ values: @escaping @Sendable (KubeObject) -> [String]) {
            self.name = name
            self.values = values
        }
    }
    /// Old and new state; nil before the first and after the last. Called outside the lock, so two changes of one object
    /// may be told in either order: an observer takes them as a hint to look.
    package typealias Observer = @Sendable (KubeObject?, KubeObject?) -> Void

    private struct State {
        var objects: [ObjectKey: KubeObject] = [:]
        var byNamespace: [String: Set<ObjectKey>] = [:]
        var indexes: [String: [String: Set<ObjectKey>]] = [:]
        /// Uids that we deleted and whose deletion the watch has not told yet.
        var removed: Set<String> = []
        var observers: [Observer] = []
        var isSynced = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())
    private let indexes: [Index]

    package init(indexes: [Index] = []) { self.indexes = indexes }

    // MARK: Reading

    package func get(_ key: ObjectKey) -> KubeObject? { self.state.withLock { $0.objects[key] } }

    /// In key order.
    package func list(namespace: String? = nil) -> [KubeObject] {
        let found = self.state.withLock { state in
            if let namespace {
                (state.byNamespace[namespace] ?? []).compactMap { state.objects[$0] }
            } else {
                Array(state.objects.values)
            }
        }
        return Self.sorted(found)
    }

    /// The objects with this value in the index, in key order.
    package func list(_ index: String, _ value: String) -> [KubeObject] {
        let found = self.state.withLock { state in
            (state.indexes[index]?[value] ?? []).compactMap { state.objects[$0] }
        }
        return Self.sorted(found)
    }

    package func count(_ index: String, _ value: String) -> Int {
        self.state.withLock { $0.indexes[index]?[value]?.count ?? 0 }
    }

    private static func sorted(_ objects: [KubeObject]) -> [KubeObject] {
        objects.sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
    }

    /// Tells the observer everything that exists, and every change from now on.
    package func observe(_ observer: @escaping Observer) {
        let existing = self.state.withLock { state in
            state.observers.append(observer)
            return Array(state.objects.values)
        }
        for object in existing { observer(nil, object) }
    }

    /// Returns when the first list has arrived, or the task is cancelled.
    package func synced() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isReady = self.state.withLock { state in
                    if state.isSynced || Task.isCancelled { return true }
                    state.waiting.append(continuation)
                    return false
                }
                if isReady { continuation.resume() }
            }
        } onCancel: {
            self.wake()
        }
    }

    private func wake() {
        let waiting = self.state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    // MARK: Changes

    /// A new or newer state, from the watch or from the answer to a write.
    package func updated(_ object: KubeObject) {
        let key = ObjectKey(object)
        let told: (KubeObject?, [Observer])? = self.state.withLock { state in
            guard !state.removed.contains(object.uid) else { return nil }
            let old = state.objects[key]
            if let old, Self.isNewer(old, than: object) { return nil }
            if let old, old.resourceVersion == object.resourceVersion, old.uid == object.uid { return nil }
            self.put(object, key, &state)
            return (old, state.observers)
        }
        if let told { for observer in told.1 { observer(told.0, object) } }
    }

    /// Gone, as the watch says.
    package func deleted(_ object: KubeObject) { self.remove(object, awaitingWatch: false) }

    /// Gone, as the answer to our own DELETE says; older news of it that is still on its way will be ignored.
    package func deletedByUs(_ object: KubeObject) { self.remove(object, awaitingWatch: true) }

    private func remove(_ object: KubeObject, awaitingWatch: Bool) {
        let key = ObjectKey(object)
        let told: (KubeObject, [Observer])? = self.state.withLock { state in
            if awaitingWatch {
                state.removed.insert(object.uid)
            } else {
                state.removed.remove(object.uid)
            }
            guard let old = state.objects[key], old.uid == object.uid else { return nil }
            self.put(nil, key, &state)
            return (old, state.observers)
        }
        if let told { for observer in told.1 { observer(told.0, nil) } }
    }

    /// Everything that exists.
    package func replaceAll(_ objects: [KubeObject]) {
        let told: [(KubeObject?, KubeObject?)] = self.state.withLock { state in
            var told: [(KubeObject?, KubeObject?)] = []
            state.removed = []
            var gone = Set(state.objects.keys)
            for object in objects {
                let key = ObjectKey(object)
                gone.remove(key)
                let old = state.objects[key]
                if let old, old.uid == object.uid,
                    old.resourceVersion == object.resourceVersion || Self.isNewer(old, than: object)
                {
                    continue
                }
                self.put(object, key, &state)
                told.append((old, object))
            }
            for key in gone {
                told.append((state.objects[key], nil))
                self.put(nil, key, &state)
            }
            state.isSynced = true
            return told
        }
        let observers = self.state.withLock { $0.observers }
        for (old, new) in told { for observer in observers { observer(old, new) } }
        self.wake()
    }

    private func put(_ object: KubeObject?, _ key: ObjectKey, _ state: inout State) {
        if let old = state.objects[key] {
            for index in self.indexes {
                for value in index.values(old) {
                    state.indexes[index.name]?[value]?.remove(key)
                    if state.indexes[index.name]?[value]?.isEmpty == true { state.indexes[index.name]?[value] = nil }
                }
            }
        }
        state.objects[key] = object
        if let object {
            state.byNamespace[key.namespace, default: []].insert(key)
            for index in self.indexes {
                for value in index.values(object) {
                    state.indexes[index.name, default: [:]][value, default: []].insert(key)
                }
            }
        } else {
            state.byNamespace[key.namespace]?.remove(key)
            if state.byNamespace[key.namespace]?.isEmpty == true { state.byNamespace[key.namespace] = nil }
        }
    }

    /// Resource versions are opaque in general; those of one store are counted up, and the lab has one store.
    private static func isNewer(_ a: KubeObject, than b: KubeObject) -> Bool {
        guard let a = UInt64(a.resourceVersion), let b = UInt64(b.resourceVersion) else { return false }
        return a > b
    }
}
