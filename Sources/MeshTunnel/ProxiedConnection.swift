internal import MeshIdentity
internal import MeshModel

/// Whoever moves a connection's bytes, or waits to: can be told to stop.
protocol Carrier: AnyObject {
    /// Ends the connection now, resetting what is open, and reports `error`.
    func abort(_ error: TunnelError)
}

/// Who the other side of a tunnel has proven to be: one object for all connections in it.
final class ProvenPeer: Sendable {
    let identity: WorkloadIdentity
    init(_ identity: WorkloadIdentity) { self.identity = identity }
}

/// One connection as the observer sees it: reported exactly once, either refused early or opened and closed.
///
///     pending ─refuse─▶ over
///     pending ─open─▶ opened ─end─▶ over
///
/// Lives on its worker's loop, which knows it from `open` to `end`.
final class ProxiedConnection {
    private enum State { case pending, opened, over }

    // One of these rests with every idle connection: nothing is kept twice, and small fields lie in the room that
    // endpoints leave behind them. The record is made when the observer needs it.
    private unowned let worker: TunnelWorker
    private let handle: PodHandle
    /// Until the end, which breaks the cycle. Not weak: a weak reference makes every later retain and release of the
    /// carrier, once per frame, take the slow path of its side table.
    var carrier: (any Carrier)?
    var labels: (any ConnectionLabels)?
    /// The other side of the tunnel, when it has proven itself.
    var peer: ProvenPeer?
    private var authority: String?

    /// The client.
    let source: IPEndpoint
    private let direction: ConnectionRecord.Direction
    private var transport = ConnectionRecord.Transport.tcp
    private var state = State.pending
    private var isAnnounced = false
    private var isCountedInBook = false
    /// Policy has admitted it: it is asked again when the mesh changes.
    var isAdmitted = false

    /// Where the connection was going when it came to us.
    private let originalDestination: IPEndpoint
    /// The number of the view that was asked last.
    var viewAsked: UInt32 = 0

    /// What is dialled; known from `open` on.
    private(set) var destination: IPEndpoint

    /// 0 before `open`.
    private var id: UInt64 = 0
    private var openedAt: UInt64 = 0
    /// Policy cannot judge this live connection at the moment: who counts the time.
    var doubt: AnyObject?

    /// Bytes to and from the client, for the observer.
    private(set) var sent: UInt64 = 0
    private(set) var received: UInt64 = 0
    private var reportedSent: UInt64 = 0
    private var reportedReceived: UInt64 = 0

    /// - Parameter destination: where it was going when it came to us.
    init(
        worker: TunnelWorker, direction: ConnectionRecord.Direction, handle: PodHandle, source: IPEndpoint,
        destination: IPEndpoint
    ) {
        self.worker = worker
        self.direction = direction
        self.handle = handle
        self.source = source
        self.originalDestination = destination
        self.destination = destination
    }

    deinit { assert(self.state != .opened, "a connection vanished without a report") }

    var isOpen: Bool { self.state == .opened }
    var isOver: Bool { self.state == .over }

    @inline(__always) func countSent(_ bytes: Int) { self.sent &+= UInt64(bytes) }
    @inline(__always) func countReceived(_ bytes: Int) { self.received &+= UInt64(bytes) }

    var pod: EnrolledPod { self.handle.pod }

    /// What is reported of it; nil before `open`.
    private var record: ConnectionRecord? {
        guard self.id != 0 else { return nil }
        return ConnectionRecord(
            id: self.id, direction: self.direction, transport: self.transport, pod: self.pod, source: self.source,
            originalDestination: self.originalDestination, destination: self.destination, authority: self.authority,
            peerIdentity: self.peer?.identity, labels: self.labels, openedAtNanoseconds: self.openedAt)
    }

    /// What is asked again when the mesh changes; nil for what policy has not admitted. Without headers: they are for
    /// telemetry, never for policy.
    var admission: InboundQuestion? {
        guard self.isAdmitted else { return nil }
        return InboundQuestion(
            pod: self.pod, source: self.source, local: self.originalDestination, identity: self.peer?.identity,
            via: self.authority.map { .hbone(authority: $0, headers: []) }
                ?? .plaintext(originalDestination: self.originalDestination))
    }

    /// Decided: enough is known for a full record. Not `isAnnounced`: the labels are about to get better, and the
    /// observer hears of the connection with ``announce()``.
    func open(
        transport: ConnectionRecord.Transport, destination: IPEndpoint, authority: String?, peer: ProvenPeer?,
        labels: (any ConnectionLabels)?, isAnnounced: Bool = true
    ) {
        precondition(self.state == .pending, "opened twice")
        self.state = .opened
        self.id = self.worker.shared.nextConnectionID()
        self.openedAt = self.worker.loop.now
        self.peer = peer
        self.goes(to: destination, by: transport, authority: authority, labels: labels)
        self.worker.entered(self, id: self.id)
        if isAnnounced { self.announce() }
    }

    /// Another endpoint is tried.
    func goes(
        to destination: IPEndpoint, by transport: ConnectionRecord.Transport, authority: String?,
        labels: (any ConnectionLabels)?
    ) {
        self.leaveBook()
        self.destination = destination
        self.transport = transport
        self.authority = authority
        self.labels = labels
    }

    /// Counts the connection for its endpoint in the loop's book, until another is tried or the end.
    func enterBook() {
        self.leaveBook()
        self.isCountedInBook = true
        self.worker.book.began(self.destination.address)
    }

    private func leaveBook() {
        guard self.isCountedInBook else { return }
        self.isCountedInBook = false
        self.worker.book.ended(self.destination.address)
    }

    func announce() {
        guard !self.isAnnounced, let record = self.record else { return }
        self.isAnnounced = true
        self.worker.shared.observer.opened(record)
    }

    /// Refused before anything moved. With labels the view knew enough for a full record: opened and closed.
    func refuse(_ reason: RefusalReason) {
        defer { self.carrier = nil }
        switch self.state {
        case .pending:
            self.state = .over
            self.worker.shared.observer.refusedEarly(
                direction: self.direction, source: self.source, destination: self.originalDestination, reason)
        case .opened: self.end(flag: reason.flag, error: reason.text)
        case .over: break
        }
    }

    func end(_ error: TunnelError?) {
        if let error, self.state == .pending {
            self.refuse(error.refusal)
        } else {
            self.end(flag: error?.flag ?? .none, error: error?.description)
        }
    }

    /// The first end counts; later ones are consequences of it.
    private func end(flag: ResponseFlag, error: String?) {
        guard self.state == .opened, let record = self.record else { return }
        self.announce()
        self.state = .over
        self.carrier = nil
        self.doubt = nil
        self.leaveBook()
        self.worker.left(self.id)
        let duration = self.worker.loop.now &- self.openedAt
        self.worker.shared.observer.closed(
            record,
            end: ConnectionEnd(
                flag: flag, error: error, sent: self.sent, received: self.received, durationNanoseconds: duration))
    }

    /// Tells the observer what moved since the last time.
    func reportProgress() {
        guard self.state == .opened, self.isAnnounced else { return }
        let sent = self.sent &- self.reportedSent
        let received = self.received &- self.reportedReceived
        guard sent > 0 || received > 0, let record = self.record else { return }
        self.reportedSent = self.sent
        self.reportedReceived = self.received
        self.worker.shared.observer.moved(record, sent: sent, received: received)
    }
}
