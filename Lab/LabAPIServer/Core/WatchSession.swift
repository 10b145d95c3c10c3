internal import KubeAPI
internal import Synchronization

/// One watch: a bounded queue between the store and a reader.
///
/// A reader that falls more than ``queueMax`` changes behind finds its stream ended, and resumes from the last
/// version it saw.
struct WatchSession: Sendable {
    static let queueMax = 16_384
    /// Idle watchers learn the current revision this often.
    static let bookmarkInterval = Duration.seconds(60)

    enum Item: Sendable {
        case added(StoredObject), modified(StoredObject), deleted(StoredObject)
        /// `endsInitial` marks the end of the synthetic events of a WatchList.
        case bookmark(UInt64, endsInitial: Bool)
    }

    struct Start: Sendable {
        /// Nil starts now.
        var from: UInt64?
        /// Synthetic additions of what exists; only without `from`.
        var wantsInitial = true
        /// A bookmark after the synthetic additions.
        var marksInitialEnd = false
        var wantsBookmarks = false
        /// Nil for as long as the reader reads.
        var timeout: Duration?
    }

    let items: AsyncStream<Item>
    /// The store's revision when the watch started.
    let revision: UInt64

    /// - Throws: 410 when `from` is too old, 504 when it is in the future.
    init(
        _ store: ObjectStore, _ kind: ResourceKind, _ selection: ClusterAPI.Selection, _ start: Start
    ) throws(StatusError) {
        let (items, continuation) = AsyncStream.makeStream(
            of: Item.self, bufferingPolicy: .bufferingOldest(Self.queueMax))
        let storage = kind.storage
        let broken = Broken()
        @Sendable func enqueue(_ item: Item) {
            guard !broken.flag.withLock({ $0 }) else { return }
            if case .dropped = continuation.yield(item) {
                broken.flag.withLock { $0 = true }
                // Ending the stream calls back into the store, whose lock is held right now.
                Task { continuation.finish() }
            }
        }
        let registration: ObjectStore.Registration
        do {
            registration = try store.watch(
                storage, namespace: selection.namespace, name: selection.fields.name, from: start.from,
                wantsInitial: start.wantsInitial
            ) { signal in
                switch signal {
                case .initial(let objects, let revision):
                    for object in objects where selection.matches(object) { enqueue(.added(object)) }
                    if start.marksInitialEnd { enqueue(.bookmark(revision, endsInitial: true)) }
                case .change(let change):
                    if let item = Self.item(change, selection) { enqueue(item) }
                case .progress(let revision): enqueue(.bookmark(revision, endsInitial: false))
                }
            }
        } catch {
            switch error {
            case .expired(let from, let oldest): throw .expired(from, oldest)
            case .future(let from, let current): throw .tooLargeVersion(from, current)
            }
        }
        let timer = Task {
            var left = start.timeout
            while !Task.isCancelled {
                let step = left.map { min($0, Self.bookmarkInterval) } ?? Self.bookmarkInterval
                do { try await Task.sleep(for: step) } catch { return }
                if start.wantsBookmarks { store.markProgress(storage, registration.id) }
                if let rest = left {
                    left = rest - step
                    if rest <= step {
                        continuation.finish()
                        return
                    }
                }
            }
        }
        continuation.onTermination = { _ in
            timer.cancel()
            // Not here: this may run inside the cancellation of the reading task, which holds that task's lock, and the
            // store holds its own lock while it wakes the task with a change. Waiting for it would block both for ever.
            Task { store.unwatch(storage, registration.id) }
        }
        self.items = items
        self.revision = registration.revision
    }

    private final class Broken: Sendable {
        let flag = Mutex(false)
    }

    /// What a change is for a reader who only sees what the selection matches.
    private static func item(_ change: ObjectStore.Change, _ selection: ClusterAPI.Selection) -> Item? {
        let before = change.previous.map(selection.matches) ?? false
        if change.isDeletion { return before ? .deleted(change.object) : nil }
        switch (before, selection.matches(change.object)) {
        case (false, true): return .added(change.object)
        case (true, true): return .modified(change.object)
        case (true, false): return .deleted(change.object)
        case (false, false): return nil
        }
    }
}
