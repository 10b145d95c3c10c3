internal import DequeModule
public import KubeAPI
internal import Synchronization

/// The cluster's memory: every object of every kind, under one strictly increasing revision.
///
/// All writes pass one lock. In the same critical section a write gets its revision, becomes visible to readers, and
/// is put into the queue of every watcher; registering a watcher happens under that lock too. So each watcher sees
/// every change after its start exactly once, in revision order. Nothing slow happens under the lock: admission and
/// encoding run outside, and a write says which revision it was computed from (compare and set).
///
/// Durability is a ``StoreLog`` behind it; without one the store is memory only.
public final class ObjectStore: Sendable {
    /// Changes kept per kind for watchers that come back; older start points are answered with 410 Expired.
    static let eventsKeptMax = 10_000

    /// What a write expects to find. Anything else is a ``WriteConflict``.
    public enum Expectation: Hashable, Sendable { case absent, revision(UInt64) }

    /// Somebody else wrote first: read again and decide anew.
    public struct WriteConflict: Error { public let current: StoredObject? }

    /// The start point of a watch is no longer (or not yet) known.
    public enum WatchError: Error, Hashable {
        case expired(from: UInt64, oldest: UInt64)
        case future(from: UInt64, current: UInt64)
    }

    public struct Change: Sendable {
        public let revision: UInt64
        /// The new state; of a deletion the last state, carrying the revision of the deletion.
        public let object: StoredObject
        /// Nil for a creation.
        public let previous: StoredObject?
        public let isDeletion: Bool
    }

    /// What a watcher is told, always under the store's lock: it must only enqueue.
    public enum Signal: Sendable {
        /// What existed when the watch started; first, and only when asked for.
        case initial([StoredObject], revision: UInt64)
        case change(Change)
        /// Every change up to this revision has been delivered.
        case progress(UInt64)
    }

    struct Watcher {
        let namespace, name: String?
        let deliver: @Sendable (Signal) -> Void
    }

    struct Shelf {
        /// Sorted by key; a snapshot is a reference to this array.
        var objects: [StoredObject] = []
        var events: Deque<Change> = []
        /// Watches may start at this revision or later.
        var floor: UInt64
        var watchers: [UInt64: Watcher] = [:]

        /// The index of the key, or where it would be inserted.
        func find(_ key: ObjectKey) -> (index: Int, found: Bool) {
            var low = 0
            var high = self.objects.count
            while low < high {
                let middle = (low + high) / 2
                if self.objects[middle].key < key { low = middle + 1 } else { high = middle }
            }
            return (low, low < self.objects.count && self.objects[low].key == key)
        }
    }

    struct State {
        var revision: UInt64
        /// Watches from before this process started are expired: the rings began empty.
        let startRevision: UInt64
        var shelves: [String: Shelf] = [:]
        var nextWatcher: UInt64 = 1

        func shelf(_ storage: String) -> Shelf { self.shelves[storage] ?? Shelf(floor: self.startRevision) }
    }

    private let state: Mutex<State>
    private let log: StoreLog?

    /// - Parameter path: The SQLite file that keeps the objects; nil keeps them in memory only.
    public init(path: String? = nil) throws {
        guard let path else {
            self.log = nil
            self.state = Mutex(State(revision: 1, startRevision: 1))
            return
        }
        let log = try StoreLog(path: path)
        let (objects, last) = try log.load()
        // A crash can lose the unsynced tail of the log; the gap keeps its revisions from being given out again.
        let start = last == 0 ? 1 : last + 1000
        var state = State(revision: start, startRevision: start)
        for (storage, rows) in Dictionary(grouping: objects, by: \.storage) {
            var shelf = Shelf(floor: start)
            shelf.objects = rows.map(\.object).sorted { $0.key < $1.key }
            state.shelves[storage] = shelf
        }
        self.log = log
        self.state = Mutex(state)
    }

    public var revision: UInt64 { self.state.withLock { $0.revision } }

    public func get(_ storage: String, _ key: ObjectKey) -> StoredObject? {
        self.state.withLock { state in
            guard let shelf = state.shelves[storage] else { return nil }
            let (index, found) = shelf.find(key)
            return found ? shelf.objects[index] : nil
        }
    }

    /// All objects of a kind in key order, and the revision at which they were all there is.
    public func snapshot(_ storage: String, namespace: String? = nil) -> (objects: [StoredObject], revision: UInt64) {
        let (objects, revision) = self.state.withLock { ($0.shelf(storage).objects, $0.revision) }
        guard let namespace else { return (objects, revision) }
        return (Self.slice(objects, namespace), revision)
    }

    private static func slice(_ objects: [StoredObject], _ namespace: String) -> [StoredObject] {
        let shelf = Shelf(objects: objects, floor: 0)
        var end = shelf.find(ObjectKey(namespace: namespace, name: "")).index
        let start = end
        while end < objects.count, objects[end].key.namespace == namespace { end += 1 }
        return Array(objects[start..<end])
    }

    /// Creates, replaces or (nil `json`) deletes. The object gets the new revision as its `resourceVersion`.
    ///
    /// - Returns: The state as stored; of a deletion the last state with the revision of the deletion.
    @discardableResult
    public func write(
        _ storage: String, _ key: ObjectKey, expecting: Expectation, _ json: JSONValue?
    ) throws(WriteConflict) -> StoredObject {
        let result: Result<StoredObject, WriteConflict> = self.state.withLock { state in
            var shelf = state.shelves.removeValue(forKey: storage) ?? Shelf(floor: state.startRevision)
            defer { state.shelves[storage] = shelf }
            let (index, found) = shelf.find(key)
            let current = found ? shelf.objects[index] : nil
            switch expecting {
            case .absent where current != nil: return .failure(WriteConflict(current: current))
            case .revision(let wanted) where current?.revision != wanted:
                return .failure(WriteConflict(current: current))
            case .absent, .revision: break
            }
            state.revision += 1
            let revision = state.revision
            let stored: StoredObject
            if let json {
                stored = StoredObject(key: key, revision: revision, json: json)
                if found { shelf.objects[index] = stored } else { shelf.objects.insert(stored, at: index) }
            } else {
                guard let current else { return .failure(WriteConflict(current: nil)) }
                stored = StoredObject(key: key, revision: revision, json: current.json)
                shelf.objects.remove(at: index)
            }
            let change = Change(revision: revision, object: stored, previous: current, isDeletion: json == nil)
            if shelf.events.count == Self.eventsKeptMax {
                shelf.floor = shelf.events.removeFirst().revision
            }
            shelf.events.append(change)
            for watcher in shelf.watchers.values where Self.concerns(watcher, key) {
                watcher.deliver(.change(change))
            }
            // Still under the lock, so that the log receives rows in revision order.
            self.log?.append(
                StoreLog.Row(storage: storage, key: key, revision: revision, object: json == nil ? nil : stored))
            return .success(stored)
        }
        return try result.get()
    }

    /// Returns once everything up to the revision is in the database.
    public func persisted(_ revision: UInt64) async throws { try await self.log?.persisted(revision) }

    private static func concerns(_ watcher: Watcher, _ key: ObjectKey) -> Bool {
        if let namespace = watcher.namespace, namespace != key.namespace { return false }
        if let name = watcher.name, name != key.name { return false }
        return true
    }

    public struct Registration: Sendable {
        public let id: UInt64
        /// The store's revision when the watch started.
        public let revision: UInt64
    }

    /// Starts a watch. Changes after `from` (or after the snapshot, when nil) go to `deliver`, until ``unwatch(_:_:)``.
    ///
    /// - Parameters:
    ///   - wantsInitial: Whether to hand out what exists now; only without `from`.
    ///   - deliver: Called under the store's lock, in revision order. Must only enqueue.
    public func watch(
        _ storage: String, namespace: String?, name: String?, from: UInt64?, wantsInitial: Bool,
        deliver: @escaping @Sendable (Signal) -> Void
    ) throws(WatchError) -> Registration {
        let result: Result<Registration, WatchError> = self.state.withLock { state in
            var shelf = state.shelf(storage)
            let watcher = Watcher(namespace: namespace, name: name, deliver: deliver)
            if let from {
                if from > state.revision { return .failure(.future(from: from, current: state.revision)) }
                if from < shelf.floor { return .failure(.expired(from: from, oldest: shelf.floor)) }
                for change in shelf.events where change.revision > from {
                    if Self.concerns(watcher, change.object.key) { deliver(.change(change)) }
                }
            } else if wantsInitial {
                var initial = namespace.map { Self.slice(shelf.objects, $0) } ?? shelf.objects
                if let name { initial = initial.filter { $0.key.name == name } }
                deliver(.initial(initial, revision: state.revision))
            }
            let id = state.nextWatcher
            state.nextWatcher += 1
            shelf.watchers[id] = watcher
            state.shelves[storage] = shelf
            return .success(Registration(id: id, revision: state.revision))
        }
        return try result.get()
    }

    public func unwatch(_ storage: String, _ id: UInt64) {
        self.state.withLock { state in _ = state.shelves[storage]?.watchers.removeValue(forKey: id) }
    }

    /// Puts a progress mark into one watcher's queue, behind everything it was sent so far.
    public func markProgress(_ storage: String, _ id: UInt64) {
        self.state.withLock { state in
            state.shelves[storage]?.watchers[id]?.deliver(.progress(state.revision))
        }
    }
}
