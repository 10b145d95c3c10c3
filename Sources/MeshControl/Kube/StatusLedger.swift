import KubeAPI
import KubeClient
import Logging
import Synchronization

/// What objects' statuses shall say, what they say as far as it is ours, and which objects to look at again. Common to
/// everybody who writes statuses: writing happens in ``run(_:)``, which only the leader runs, and only what differs is
/// written.
///
/// - `Kind`: of object. `Wanted`: what somebody decided. `Stored`: our part of what the cluster has.
final class StatusLedger<Kind: Hashable & Sendable, Wanted: Sendable, Stored: Equatable & Sendable>: Sendable {
    struct Target: Hashable, Sendable {
        var kind: Kind
        /// `<namespace>/<name>`, or a name.
        var key: String

        /// Nil as namespace: the kind has none.
        var parts: (namespace: String?, name: String) {
            let parts = self.key.split(separator: "/", maxSplits: 1).map(String.init)
            return parts.count == 2 ? (parts[0], parts[1]) : (nil, self.key)
        }
    }

    /// Makes the cluster say what is wanted.
    /// - Returns: our part of what it says now; nil: it said so already.
    typealias Write =
        @Sendable (_ target: Target, _ stored: Stored?, _ wanted: Wanted?) async throws -> (Stored?)?

    private static var attemptsMax: Int { 5 }

    private struct State {
        var wanted: [Target: Wanted] = [:]
        /// Objects without any part of ours are not listed.
        var stored: [Target: Stored] = [:]
        /// At most one entry for each object.
        var dirty: Set<Target> = []
        var isReady: Bool
        var wake: AsyncStream<Void>.Continuation?

        mutating func mark(_ target: Target) {
            self.dirty.insert(target)
            self.wake?.yield()
        }

        mutating func observed(_ target: Target, _ stored: Stored?, exists: Bool) {
            self.stored[target] = stored
            if !exists { self.wanted[target] = nil }
            if stored != nil || self.wanted[target] != nil { self.mark(target) }
        }
    }

    private let ours: @Sendable (KubeObject, Kind) -> Stored?
    private let writersMax: Int
    private let logger: Logger
    /// Behind a lock and not an actor's: what is told in an order has to arrive in that order.
    private let state: Mutex<State>

    /// - Parameters:
    ///   - isReady: see ``becomeReady()``.
    ///   - writersMax: objects that are written at a time.
    ///   - ours: our part of what an object says; nil: it has none.
    init(
        isReady: Bool, writersMax: Int = 1, logger: Logger, ours: @escaping @Sendable (KubeObject, Kind) -> Stored?
    ) {
        self.ours = ours
        self.writersMax = writersMax
        self.logger = logger
        self.state = Mutex(State(isReady: isReady))
    }

    /// What is wanted has been told for every object. Before, what nobody wants is only not wanted *yet*.
    func becomeReady() {
        self.state.withLock { state in
            state.isReady = true
            state.wake?.yield()
        }
    }

    /// - Parameter owns: whether an object is ours to write; others are as good as not there.
    func observed(_ kind: Kind, _ event: InformerEvent, owns: (KubeObject) -> Bool = { _ in true }) {
        self.state.withLock { state in
            func tell(_ object: KubeObject, exists: Bool) {
                let exists = exists && owns(object)
                state.observed(
                    Target(kind: kind, key: object.key), exists ? self.ours(object, kind) : nil, exists: exists)
            }
            switch event {
            case .snapshot(let all):
                let mine = all.filter(owns)
                let present = Set(mine.map(\.key))
                for target in Set(state.stored.keys).union(state.wanted.keys)
                where target.kind == kind && !present.contains(target.key) {
                    state.stored[target] = nil
                    state.wanted[target] = nil
                }
                for object in mine { tell(object, exists: true) }
            case .updated(let object): tell(object, exists: true)
            case .deleted(let object): tell(object, exists: false)
            }
        }
    }

    func want(_ kind: Kind, _ key: String, _ wanted: Wanted?) {
        let target = Target(kind: kind, key: key)
        self.state.withLock { state in
            state.wanted[target] = wanted
            state.mark(target)
        }
    }

    /// Writes what differs, as it comes to differ, until the task is cancelled.
    func run(_ write: @escaping Write) async {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.state.withLock { state in
            state.wake = wake
            // A new leader looks at everything once.
            state.dirty.formUnion(state.wanted.keys)
            state.dirty.formUnion(state.stored.keys)
        }
        defer { self.state.withLock { $0.wake = nil } }
        wake.yield()
        for await _ in signals {
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<self.writersMax {
                    group.addTask {
                        while !Task.isCancelled, let target = self.next() { await self.settle(target, write) }
                    }
                }
            }
        }
    }

    private func next() -> Target? { self.state.withLock { $0.isReady ? $0.dirty.popFirst() : nil } }

    private func settle(_ target: Target, _ write: Write) async {
        for attempt in 1...Self.attemptsMax {
            let (stored, wanted) = self.state.withLock { ($0.stored[target], $0.wanted[target]) }
            do {
                guard let written = try await write(target, stored, wanted) else { return }
                self.state.withLock { state in
                    // What the watch brought meanwhile is newer.
                    if state.stored[target] == stored { state.stored[target] = written }
                }
                return
            } catch let error as StatusError where error.isNotFound {
                return
            } catch {
                if attempt == Self.attemptsMax || Task.isCancelled {
                    self.logger.warning(
                        "cannot write the status",
                        metadata: ["object": "\(target.kind) \(target.key)", "why": "\(error)"])
                    return
                }
                try? await Task.sleep(for: .milliseconds(200 * attempt))
            }
        }
    }
}
