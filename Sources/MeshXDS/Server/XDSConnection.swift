import MeshProto
import Synchronization

/// The mailbox of one stream. Holds at most one request and one "there is a new snapshot".
final class XDSConnection: Sendable {
    enum Event: Sendable {
        case request(XDSSession.Request)
        case published
        case ended
    }

    let events: AsyncStream<Event>
    private let mailbox: AsyncStream<Event>.Continuation
    private let isSignalled = Mutex(false)
    private let shown = Mutex<XDSClientStatus?>(nil)

    init() {
        // Unbounded by type, bounded by use: requests wait for their predecessor, signals are merged.
        (self.events, self.mailbox) = AsyncStream.makeStream(of: Event.self)
    }

    func deliver(_ request: XDSSession.Request) { self.mailbox.yield(.request(request)) }

    func signal() {
        let isFirst = self.isSignalled.withLock { signalled in
            defer { signalled = true }
            return !signalled
        }
        if isFirst { self.mailbox.yield(.published) }
    }

    /// Before the snapshot is read, so that a later one signals again.
    func takeSignal() { self.isSignalled.withLock { $0 = false } }

    func end() { self.mailbox.yield(.ended) }

    var status: XDSClientStatus? { self.shown.withLock { $0 } }

    func show(_ session: ClientSession, peer: String, account: String) {
        guard let node = session.node else { return }
        let types = session.types.sorted { $0.key < $1.key }.map { type, state in
            XDSClientStatus.TypeStatus(
                type: type, isWildcard: state.isWildcard, sentNonce: state.sentNonce, ackedNonce: state.ackedNonce,
                sentRevision: state.sentRevision, ackedRevision: state.ackedRevision,
                resourcesSent: state.resourcesSent, refusals: state.refusals, lastRefusal: state.lastRefusal)
        }
        let status = XDSClientStatus(nodeID: node.id, peer: peer, account: account, types: types)
        self.shown.withLock { $0 = status }
    }
}
