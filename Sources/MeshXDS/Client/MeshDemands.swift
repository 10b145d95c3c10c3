internal import Synchronization

/// Takes demands for single destinations from any thread to the client that follows the control plane.
///
/// Whoever demands does not wait here: it is told by the state that the answer has reached
/// (``MeshStateSink/demandsChanged(answered:forgotten:)``), and bounds its own patience.
public final class MeshDemands: Sendable {
    private struct State {
        var table = DemandTable()
        /// Of the stream that is open.
        var signal: AsyncStream<Void>.Continuation?
    }
    private let state = Mutex(State())

    public init() {}

    /// Returns at once. Demanding what was demanded already is nothing.
    public func demand(_ key: String) {
        let signal = self.state.withLock { state in
            state.table.demand(key)
            return state.signal
        }
        signal?.yield()
    }

    /// A stream opens: what it has to begin with, and a signal at once and whenever there is more to say. The last
    /// stream's signal ends.
    func open() -> (keys: [String], signals: AsyncStream<Void>) {
        let (signals, signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let (keys, old) = self.state.withLock { state in
            defer { state.signal = signal }
            return (state.table.startOver(), state.signal)
        }
        old?.finish()
        signal.yield()
        return (keys, signals)
    }

    func takeRequest() -> (subscribe: [String], unsubscribe: [String])? {
        self.state.withLock { $0.table.takeRequest() }
    }

    func answered(_ names: [String]) -> DemandTable.Change {
        let (change, signal) = self.state.withLock { ($0.table.answered(names), $0.signal) }
        if !change.forgotten.isEmpty { signal?.yield() }
        return change
    }
}
