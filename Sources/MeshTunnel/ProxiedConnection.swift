internal import MeshIdentity
internal import MeshModel

/// Whoever moves a connection's bytes, or waits to: can be told to stop.
protocol Carrier: AnyObject {
    /// Ends the connection now, resetting what is open, and reports `error`.
    func abort(_ error: TunnelError)
}

/// One connection as the observer sees it: reported exactly once, either refused early or opened and closed.
///
///     pending ─refuse─▶ over
///     pending ─open─▶ opened ─end─▶ over
///
/// Lives on its worker's loop, which knows it from `open` to `end`.
final class ProxiedConnection {
    private enum State { case pending, opened, over }

    let direction: ConnectionRecord.Direction
    let pod: EnrolledPod
    let source: IPEndpoint
    /// Set before `open`, when known.
    var destination: IPEndpoint?
    private(set) var record: ConnectionRecord?
    /// Asked again when the mesh changes; nil for outbound connections. Kept apart, so that those do not pay for it, and
    /// without headers: they are for telemetry, never for policy, and take more memory than all the rest.
    var admission: InboundQuestion? {
        get { self.kept?.question }
        set { self.kept = newValue.map(Kept.init) }
    }

    private final class Kept {
        let question: InboundQuestion
        init(_ question: InboundQuestion) {
            var question = question
            if case .hbone(let authority, _) = question.via { question.via = .hbone(authority: authority, headers: []) }
            self.question = question
        }
    }

    private var kept: Kept?
    /// What outbound connections are counted for in the loop's book, until another is tried or the end.
    var endpoint: IPAddress? {
        didSet {
            if let oldValue { self.worker.book.ended(oldValue) }
            if let endpoint { self.worker.book.began(endpoint) }
        }
    }
    /// Policy cannot judge this live connection at the moment: who counts the time.
    var doubt: (any MeshWaiter)?
    /// The number of the view that was asked last.
    var viewAsked: UInt64 = 0
    /// Until the end, which breaks the cycle. Not weak: a weak reference makes every later retain and release of the
    /// carrier, once per frame, take the slow path of its side table.
    var carrier: (any Carrier)?

    /// Bytes to and from the client, for the observer.
    private(set) var sent: UInt64 = 0
    private(set) var received: UInt64 = 0
    private var reportedSent: UInt64 = 0
    private var reportedReceived: UInt64 = 0

    private var state = State.pending
    private var isAnnounced = false
    private unowned let worker: TunnelWorker

    init(
        worker: TunnelWorker, direction: ConnectionRecord.Direction, pod: EnrolledPod, source: IPEndpoint,
        destination: IPEndpoint?
    ) {
        self.worker = worker
        self.direction = direction
        self.pod = pod
        self.source = source
        self.destination = destination
    }

    deinit { assert(self.state != .opened, "a connection vanished without a report") }

    var isOpen: Bool { self.state == .opened }
    var isOver: Bool { self.state == .over }

    @inline(__always) func countSent(_ bytes: Int) { self.sent &+= UInt64(bytes) }
    @inline(__always) func countReceived(_ bytes: Int) { self.received &+= UInt64(bytes) }

    /// Decided: enough is known for a full record. Not `isAnnounced`: the labels are about to get better, and the
    /// observer hears of the connection with ``announce()``.
    func open(
        transport: ConnectionRecord.Transport, originalDestination: IPEndpoint, destination: IPEndpoint,
        authority: String?, peerIdentity: WorkloadIdentity?, labels: (any ConnectionLabels)?, isAnnounced: Bool = true
    ) {
        precondition(self.state == .pending, "opened twice")
        self.state = .opened
        let record = ConnectionRecord(
            id: self.worker.shared.nextConnectionID(), direction: self.direction, transport: transport, pod: self.pod,
            source: self.source, originalDestination: originalDestination, destination: destination,
            authority: authority, peerIdentity: peerIdentity, labels: labels,
            openedAtNanoseconds: self.worker.loop.now)
        self.record = record
        self.worker.entered(self, id: record.id)
        if isAnnounced { self.announce() }
    }

    func announce() {
        guard !self.isAnnounced, let record = self.record else { return }
        self.isAnnounced = true
        self.worker.shared.observer.opened(record)
    }

    /// Another endpoint is tried, or the peer has proven who it is.
    func update(_ change: (inout ConnectionRecord) -> Void) {
        guard var record = self.record else { return }
        change(&record)
        self.record = record
    }

    /// Refused before anything moved. With labels the view knew enough for a full record: opened and closed.
    func refuse(_ reason: RefusalReason) {
        defer { self.carrier = nil }
        switch self.state {
        case .pending:
            self.state = .over
            self.worker.shared.observer.refusedEarly(
                direction: self.direction, source: self.source, destination: self.destination, reason)
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
        self.endpoint = nil
        self.worker.left(record.id)
        let duration = self.worker.loop.now &- record.openedAtNanoseconds
        self.worker.shared.observer.closed(
            record,
            end: ConnectionEnd(
                flag: flag, error: error, sent: self.sent, received: self.received, durationNanoseconds: duration))
    }

    /// Tells the observer what moved since the last time.
    func reportProgress() {
        guard self.state == .opened, self.isAnnounced, let record = self.record else { return }
        let sent = self.sent &- self.reportedSent
        let received = self.received &- self.reportedReceived
        guard sent > 0 || received > 0 else { return }
        self.reportedSent = self.sent
        self.reportedReceived = self.received
        self.worker.shared.observer.moved(record, sent: sent, received: received)
    }
}
