internal import Glibc
internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

/// A captured connection of an application, from accept to the answer of its CONNECT; then its stream or relay has it.
///
///     routing ─tunnel─▶ waiting for a tunnel ─open─▶ waiting for the answer ─200─▶ handed over
///      ▲  ▲ │                    │                          │
///      │  │ │     ┌──────────────┴──another endpoint────────┘
///      │  └─┼─────┘
///      │    ├─passthrough─▶ connecting ─connected─▶ handed over       any of them ─refused, failed─▶ closed
///      │    └─not known yet, host name─▶ waiting
///      └───mesh changed, name looked up────┘
///
/// Through a gateway the answer is awaited twice: from the gateway on the outer stream, see ``GatewayLeg``, and from
/// the workload behind it on the inner one.
final class OutboundConnection: AppSocketHandler, Carrier {
    /// Host names that one connection has looked up; a balanced service may draw another with each question.
    static let lookupsMax = 8

    let proxied: ProxiedConnection
    let worker: TunnelWorker
    let handle: PodHandle
    let destination: IPEndpoint
    /// Replaced while we wait for it to change; then our answers come from one view.
    var view: any MeshView
    var route: TunnelRoute?
    var app: AppSocket?
    var attempts: DialAttempts
    /// Why the last attempt failed: when the mesh has no other endpoint, it is what explains.
    var lastFailure: TunnelError?
    /// The tunnel that will open a stream for this connection; it lets go of us when it closes, and we of it.
    var awaited: TunnelConnection?
    /// On the way through a gateway, until that has answered.
    var leg: GatewayLeg?

    // While waiting.
    var ticket: WaitingRoom.Ticket?
    var waitReason: RefusalReason?
    var lookingUp: String?
    var hosts: [String: Result<[IPAddress], HostUnresolved>] = [:]

    init(
        app: AppSocket, worker: TunnelWorker, handle: PodHandle, source: IPEndpoint, destination: IPEndpoint
    ) {
        self.app = app
        self.worker = worker
        self.handle = handle
        self.view = worker.view
        self.destination = destination
        self.attempts = DialAttempts(attemptsMax: worker.configuration.dialAttemptsMax)
        self.proxied = ProxiedConnection(
            worker: worker, direction: .outbound, handle: handle, source: source, destination: destination)
    }

    func start() {
        self.proxied.carrier = self
        self.app?.handler = self
        self.decide()
    }

    /// Asks the mesh, for the first time or again.
    func decide() {
        let question = OutboundQuestion(
            pod: self.handle.pod, source: self.proxied.source, destination: self.destination,
            excluding: self.attempts.excluded, hosts: self.hosts, endpoints: self.worker.endpoints)
        switch self.view.routeOutbound(question) {
        case .wait(let reason): self.wait(because: reason)
        case .resolve(let host): self.lookUp(host)
        case .refuse(let reason, let labels): self.refuse(reason, labels)
        case .passthrough(let target, let labels):
            self.leaveRoom()
            guard !self.attempts.excluded.contains(target.address) else { return self.giveUp() }
            self.opened(.tcp, to: target, authority: nil, labels: labels)
            self.proxied.enterBook()
            self.passThrough(to: target)
        case .tunnel(let route):
            self.leaveRoom()
            guard !self.attempts.excluded.contains(route.peer.address) else { return self.giveUp() }
            self.opened(
                route.inner == nil ? .hbone : .doubleHBONE, to: route.peer, authority: route.authority,
                labels: route.labels)
            self.proxied.enterBook()
            self.route = route
            self.enterTunnel(route)
        }
    }

    private func opened(
        _ transport: ConnectionRecord.Transport, to destination: IPEndpoint, authority: String?,
        labels: any ConnectionLabels
    ) {
        if self.proxied.isOpen {
            self.proxied.goes(to: destination, by: transport, authority: authority, labels: labels)
        } else {
            // Who is behind a gateway is not known before its answer.
            self.proxied.open(
                transport: transport, destination: destination, authority: authority, peer: nil, labels: labels,
                isAnnounced: transport != .doubleHBONE)
        }
    }

    func refuse(_ reason: RefusalReason, _ labels: (any ConnectionLabels)?) {
        self.leaveRoom()
        if self.lastFailure != nil { return self.giveUp() }
        if let labels, !self.proxied.isOpen {
            self.opened(.tcp, to: self.destination, authority: nil, labels: labels)
        }
        self.closeApp()
        self.proxied.refuse(reason)
    }

    /// There is no other endpoint: the last failure is the end.
    private func giveUp() {
        self.closeApp()
        self.proxied.end(self.lastFailure)
    }

    /// An attempt failed before a byte of the application has left.
    func failed(at peer: IPAddress, _ error: TunnelError, isStale: Bool) {
        guard self.app != nil else { return }
        if !isStale, error.blamesEndpoint, let time = self.worker.book.failed(peer) {
            self.worker.shared.observer.ejected(peer, for: time, because: "\(error)")
        }
        self.lastFailure = error
        let mayTryAgain = self.attempts.failed(at: peer, error, isStale: isStale)
        guard mayTryAgain, !self.handle.isRemoved else { return self.giveUp() }
        self.decide()
    }

    // MARK: While waiting

    func appConnected(_ socket: AppSocket) {}
    func appReadable(_ socket: AppSocket) {}
    func appWritable(_ socket: AppSocket) {}
    func appTurn(_ socket: AppSocket) {}

    func appFailed(_ socket: AppSocket, code: CInt) { self.abort(.clientReset(SystemError.text(code))) }

    func abort(_ error: TunnelError) {
        guard self.app != nil else { return }
        self.leaveRoom()
        self.awaited?.abandon(self)
        self.awaited = nil
        let leg = self.leg
        self.leg = nil
        self.closeApp()
        leg?.cancel(error)
        self.proxied.end(error)
    }

    /// With a reset: an application must not take a refusal for an empty answer.
    private func closeApp() {
        self.app?.end(reset: true)
        self.app = nil
    }
}

// MARK: - Waiting for the mesh, and for names

extension OutboundConnection: MeshWaiter {
    var pod: EnrolledPod { self.handle.pod }

    private func wait(because reason: RefusalReason) {
        if self.lastFailure != nil { return self.refuse(reason, nil) }
        self.waitReason = reason
        if self.ticket != nil { return }
        self.ticket = self.worker.room.enter(self, for: self.worker.configuration.knowledgeTimeout)
        if self.ticket == nil { self.refuse(TunnelWorker.roomFull(reason), nil) }
    }

    private func lookUp(_ host: String) {
        self.leaveRoom()
        if let known = self.worker.hosts.known(host), self.hosts.count < Self.lookupsMax, self.hosts[host] == nil {
            self.hosts[host] = known
            return self.decide()
        }
        let limit = self.worker.configuration.lookupTimeout
        let reason = RefusalReason(
            .connect,
            "no resolved addresses: the host name \(host) was not looked up within \(limit); does the "
                + "node's name server answer?", kind: .noAddress)
        guard self.hosts.count < Self.lookupsMax, self.hosts[host] == nil else {
            return self.refuse(
                RefusalReason(
                    .connect, "no resolved addresses: \(self.hosts.count) host names were looked up in vain",
                    kind: .noAddress), nil)
        }
        guard let ticket = self.worker.room.enter(self, for: limit) else {
            return self.refuse(TunnelWorker.roomFull(reason), nil)
        }
        self.ticket = ticket
        self.waitReason = reason
        self.lookingUp = host
        self.worker.hosts.get(host) { [self] answer in
            guard self.app != nil, self.lookingUp == host else { return }
            self.leaveRoom()
            self.hosts[host] = answer
            self.decide()
        }
    }

    func leaveRoom() {
        if let ticket { self.worker.room.leave(ticket) }
        self.ticket = nil
        self.lookingUp = nil
    }

    func meshChanged() {
        guard self.lookingUp == nil else { return }
        self.view = self.worker.view
        self.decide()
    }

    func gaveUp(_ end: WaitingRoom.End) {
        self.ticket = nil
        self.lookingUp = nil
        switch end {
        case .ending(let error): self.abort(error)
        case .tooLong: if let waitReason { self.refuse(waitReason, nil) }
        }
    }
}
