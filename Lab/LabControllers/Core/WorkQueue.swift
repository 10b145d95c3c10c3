internal import Synchronization

/// Keys that need a look. A key waits at most once, and two workers never hold the same key.
///
/// Its size is bounded by the number of objects that exist.
package final class WorkQueue: Sendable {
    private struct State {
        var waiting: Set<ObjectKey> = []
        var active: Set<ObjectKey> = []
        /// Changed while a worker held it.
        var again: Set<ObjectKey> = []
        var delayed: [ObjectKey: ContinuousClock.Instant] = [:]
    }
    private let state = Mutex(State())
    private let keys: AsyncStream<ObjectKey>
    private let continuation: AsyncStream<ObjectKey>.Continuation

    package init() { (self.keys, self.continuation) = AsyncStream.makeStream() }

    package func add(_ key: ObjectKey) {
        let isNew = self.state.withLock { state in
            if state.active.contains(key) {
                state.again.insert(key)
                return false
            }
            return state.waiting.insert(key).inserted
        }
        if isNew { self.continuation.yield(key) }
    }

    /// Hands each key to `work`, at most `workers` at a time, until cancelled. What `work` returns is the time after
    /// which it wants to see the key again even if nothing changes.
    package func run(workers: Int, _ work: @escaping @Sendable (ObjectKey) async -> Duration?) async {
        let (slots, freed) = AsyncStream.makeStream(of: Void.self)
        for _ in 0..<workers { freed.yield(()) }
        await withDiscardingTaskGroup { group in
            var slots = slots.makeAsyncIterator()
            for await key in self.keys {
                guard await slots.next() != nil else { return }
                self.state.withLock { state in
                    state.waiting.remove(key)
                    state.active.insert(key)
                }
                group.addTask {
                    let delay = await work(key)
                    self.finished(key)
                    freed.yield(())
                    if let delay { await self.add(key, after: delay) }
                }
            }
        }
    }

    private func finished(_ key: ObjectKey) {
        let isAgain = self.state.withLock { state in
            state.active.remove(key)
            return state.again.remove(key) != nil && state.waiting.insert(key).inserted
        }
        if isAgain { self.continuation.yield(key) }
    }

    private func add(_ key: ObjectKey, after delay: Duration) async {
        let due = ContinuousClock.now + delay
        let isFirst = self.state.withLock { state in
            if let planned = state.delayed[key], planned <= due { return false }
            state.delayed[key] = due
            return true
        }
        guard isFirst, (try? await Task.sleep(until: due, clock: .continuous)) != nil else { return }
        self.state.withLock { state in
            if state.delayed[key] == due { state.delayed[key] = nil }
        }
        self.add(key)
    }
}
