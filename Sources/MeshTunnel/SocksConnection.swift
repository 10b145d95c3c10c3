internal import MeshLoop
internal import MeshModel

/// An application that asks for its destination by SOCKS5 instead of being captured: until it has asked, and a host name
/// has become an address. From there on it is any other outbound connection.
///
/// The answer "connected" is given before anything is dialled, as a captured connection is accepted before: what fails
/// later ends with a reset, and the access log says why.
final class SocksConnection: AppSocketHandler, MeshWaiter {
    private let arrival: Arrival
    private let worker: TunnelWorker
    private var app: AppSocket?
    private var handshake = SocksHandshake()
    private var ticket: WaitingRoom.Ticket?
    /// What is being looked up, with the port behind it.
    private var asked: (host: String, port: UInt16)?

    init(_ app: AppSocket, _ arrival: Arrival, worker: TunnelWorker) {
        self.app = app
        self.arrival = arrival
        self.worker = worker
    }

    var pod: EnrolledPod { self.arrival.handle.pod }

    func start() {
        self.app?.handler = self
        // A place in the room is a deadline, and an end when the pod leaves or the process ends.
        self.ticket = self.worker.room.enter(self, for: self.worker.configuration.handshakeTimeout)
        guard self.ticket != nil else {
            return self.refuse("\(WaitingRoom.waitersMax) connections wait already", kind: .shortage)
        }
        if let app, app.isReadable { self.read(app) }
    }

    // MARK: Reading

    func appReadable(_ socket: AppSocket) { self.read(socket) }
    func appConnected(_ socket: AppSocket) {}
    func appWritable(_ socket: AppSocket) {}
    func appTurn(_ socket: AppSocket) {}
    func appFailed(_ socket: AppSocket, code: CInt) {
        self.refuse("the application's connection broke: \(SystemError.text(code))")
    }

    private func read(_ socket: AppSocket) {
        while self.app != nil, self.asked == nil, self.handshake.wanted > 0 {
            let (result, bytes) = Sockets.read(socket.descriptor, bytesMax: self.handshake.wanted)
            switch result {
            case .moved: self.perform(self.handshake.receive(bytes))
            case .wouldBlock:
                socket.isReadable = false
                return
            case .ended: return self.refuse("the application left before it had asked")
            case .failed(let code): return self.appFailed(socket, code: code)
            }
        }
    }

    private func perform(_ step: SocksHandshake.Step) {
        switch step {
        case .readOn: break
        case .answer(let bytes): _ = self.send(bytes)
        case .connect(.address(let destination)): self.connect(to: destination)
        case .connect(.host(let host, let port)): self.lookUp(host, port)
        case .refuse(let answer, let reason): self.refuse(reason, kind: .badRequest, answer: answer)
        }
    }

    /// Some bytes into an empty buffer of the kernel: less than all means that the connection is broken.
    private func send(_ bytes: [UInt8]) -> Bool {
        guard let app else { return false }
        if Sockets.write(app.descriptor, bytes) == .moved(bytes.count) { return true }
        self.refuse("the application's connection broke before it was answered")
        return false
    }

    // MARK: Names

    /// What the mesh knows first, as the pod's own questions would be answered; then the resolver, with full names only:
    /// its search domains are not the pod's.
    private func lookUp(_ host: String, _ port: UInt16) {
        if let known = self.worker.view.addresses(of: host, for: self.pod) {
            return self.connect(toOneOf: known, host, port)
        }
        guard host.contains(".") else {
            return self.unreachable(host, "the mesh does not know it, and it is no full name")
        }
        self.asked = (host, port)
        self.worker.hosts.get(host) { [self] answer in
            guard self.app != nil, self.asked != nil else { return }
            switch answer {
            case .success(let addresses): self.connect(toOneOf: addresses, host, port)
            case .failure(let error): self.unreachable(host, error.description)
            }
        }
    }

    /// Any of them, of the family that the client uses when there is one.
    private func connect(toOneOf addresses: [IPAddress], _ host: String, _ port: UInt16) {
        let same = addresses.filter { $0.isV6 == self.arrival.peer.address.isV6 }
        guard let address = same.randomElement() ?? addresses.randomElement() else {
            return self.unreachable(host, "it has no addresses")
        }
        self.connect(to: IPEndpoint(address: address, port: port))
    }

    private func unreachable(_ host: String, _ reason: String) {
        self.refuse(
            "the host name \(host) leads nowhere: \(reason)", kind: .noAddress,
            answer: SocksHandshake.Reply.hostUnreachable.bytes)
    }

    // MARK: Ends

    private func connect(to destination: IPEndpoint) {
        if self.arrival.handle.ports.contains(destination.port), destination.address.isLoopback {
            return self.refuse(
                TunnelError.selfCall(destination).description, kind: .selfCall,
                answer: SocksHandshake.Reply.notAllowed.bytes)
        }
        guard self.send(SocksHandshake.Reply.succeeded.bytes), let app = self.leave() else { return }
        OutboundConnection(
            app: app, worker: self.worker, handle: self.arrival.handle, source: self.arrival.peer,
            destination: destination
        ).start()
    }

    private func refuse(_ reason: String, kind: RefusalReason.Kind = .other, answer: [UInt8] = []) {
        guard let app = self.leave() else { return }
        if !answer.isEmpty { _ = Sockets.write(app.descriptor, answer) }
        // With an answer the end is a FIN: a reset could overtake it.
        app.end(reset: answer.isEmpty)
        self.worker.shared.observer.refusedEarly(
            direction: .outbound, source: self.arrival.peer, destination: nil,
            RefusalReason(.connect, "SOCKS5: \(reason)", kind: kind))
    }

    /// Nothing reaches us any more.
    private func leave() -> AppSocket? {
        if let ticket { self.worker.room.leave(ticket) }
        self.ticket = nil
        self.asked = nil
        defer { self.app = nil }
        self.app?.handler = nil
        return self.app
    }

    func meshChanged() {}

    func gaveUp(_ end: WaitingRoom.End) {
        self.ticket = nil
        switch end {
        case .ending(let error): self.refuse(error.description, kind: .ending)
        case .tooLong:
            let limit = self.worker.configuration.handshakeTimeout
            self.refuse(
                self.asked.map { "the host name \($0.host) was not looked up within \(limit)" }
                    ?? "the application did not say within \(limit) where it wants to go")
        }
    }
}
