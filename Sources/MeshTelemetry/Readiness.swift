internal import Synchronization

/// What still keeps the process from being ready, by name.
public final class Readiness: Sendable {
    private let tasks = Mutex<Set<String>>([])

    /// - Parameter pending: what has to be done first.
    public init(pending: [String] = []) { self.tasks.withLock { $0 = Set(pending) } }

    public func block(on task: String) { self.tasks.withLock { _ = $0.insert(task) } }
    public func done(_ task: String) { self.tasks.withLock { _ = $0.remove(task) } }

    public func set(_ task: String, isDone: Bool) { isDone ? self.done(task) : self.block(on: task) }

    /// Sorted; empty means ready.
    public var pending: [String] { self.tasks.withLock { $0.sorted() } }
    public var isReady: Bool { self.tasks.withLock { $0.isEmpty } }
}
