internal import MeshLoop
internal import MeshModel

/// A captured plaintext connection, from accept until its target is dialled.
///
///     judging ─admitted─▶ handed over to a relay
///       ▲  └──not known yet──▶ waiting ─┐           either ─refused─▶ closed
///       └───────────mesh changed────────┘
final class InboundPlaintext: AppSocketHandler, Carrier, MeshWaiter {
    private let worker: TunnelWorker
    private let handle: PodHandle
    private let destination: IPEndpoint
    private let proxied: ProxiedConnection
    private let question: InboundQuestion
    private var app: AppSocket?
    private var ticket: WaitingRoom.Ticket?
    private var waitReason: RefusalReason?

    init(app: AppSocket, worker: TunnelWorker, handle: PodHandle, source: IPEndpoint, destination: IPEndpoint) {
        self.app = app
        self.worker = worker
        self.handle = handle
        self.destination = destination
        self.proxied = ProxiedConnection(
            worker: worker, direction: .inbound, handle: handle, source: source, destination: destination)
        self.question = InboundQuestion(
            pod: handle.pod, source: source, local: destination, identity: nil,
            via: .plaintext(originalDestination: destination))
    }

    var pod: EnrolledPod { self.handle.pod }

    func start() {
        self.proxied.carrier = self
        self.app?.handler = self
        self.judge()
    }

    private func judge() {
        self.proxied.viewAsked = self.worker.viewNumber
        switch self.worker.view.admitInbound(self.question) {
        case .wait(_, let reason):
            self.waitReason = reason
            if self.ticket != nil { return }
            self.ticket = self.worker.room.enter(self, for: self.worker.configuration.knowledgeTimeout)
            if self.ticket == nil { self.refuse(TunnelWorker.roomFull(reason)) }
        case .serve:
            self.refuse(RefusalReason(.connect, "served through HBONE only", kind: .unknownService))
        case .refuse(_, let reason, let labels):
            if let labels { self.open(to: self.destination, labels) }
            self.refuse(reason)
        case .admit(let permit, let target, _, let labels, _):
            self.leaveRoom()
            guard let app else { return }
            self.proxied.isAdmitted = true
            self.open(to: target, labels)
            self.app = nil
            do {
                let dialled = try self.worker.dial(
                    permit, self.handle, to: target, from: self.question.source.address)
                PlainRelay(client: app, target: dialled, targetAddress: target, proxied: self.proxied)
                    .start(self.worker)
            } catch {
                app.end(reset: true)
                self.proxied.end(.dialFailed(target, "\(error)"))
            }
        }
    }

    private func open(to target: IPEndpoint, _ labels: any ConnectionLabels) {
        self.proxied.open(
            transport: .tcp, destination: target, authority: nil, peer: nil, labels: labels)
    }

    private func refuse(_ reason: RefusalReason) {
        self.leaveRoom()
        self.app?.end(reset: true)
        self.app = nil
        self.proxied.refuse(reason)
    }

    private func leaveRoom() {
        if let ticket { self.worker.room.leave(ticket) }
        self.ticket = nil
    }

    // MARK: While waiting

    func meshChanged() { self.judge() }

    func gaveUp(_ end: WaitingRoom.End) {
        self.ticket = nil
        switch end {
        case .tooLong: if let waitReason { self.refuse(waitReason) }
        case .ending(let error): self.refuse(error.refusal)
        }
    }

    func abort(_ error: TunnelError) { self.refuse(error.refusal) }

    func appConnected(_ socket: AppSocket) {}
    func appReadable(_ socket: AppSocket) {}
    func appWritable(_ socket: AppSocket) {}
    func appTurn(_ socket: AppSocket) {}
    func appFailed(_ socket: AppSocket, code: CInt) {
        self.refuse(TunnelError.clientReset(SystemError.text(code)).refusal)
    }
}
