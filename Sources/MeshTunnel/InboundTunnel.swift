internal import MeshHTTP
internal import MeshIdentity
internal import MeshLoop
internal import MeshModel

/// A connection at the HBONE port, from accept until the mesh knows which identity the pod proves.
///
/// The peer's first bytes wait in the kernel: nothing is read before.
final class TunnelArrival: MeshWaiter {
    private let arrival: Arrival
    private let local: IPEndpoint?
    private let worker: TunnelWorker
    private let whenDone: @Sendable () -> Void
    private var ticket: WaitingRoom.Ticket?

    init(_ arrival: Arrival, worker: TunnelWorker, whenDone: @escaping @Sendable () -> Void) {
        self.arrival = arrival
        self.local = Sockets.localEndpoint(of: arrival.descriptor)
        self.worker = worker
        self.whenDone = whenDone
    }

    var pod: EnrolledPod { self.arrival.handle.pod }

    private var unknown: RefusalReason {
        RefusalReason(
            .connect,
            "pod \(self.pod.namespace)/\(self.pod.name) is not known to the mesh yet; is the control plane connected?",
            kind: .unknownPod)
    }

    /// The first question, and every later one.
    func meshChanged() {
        guard let local else {
            return self.refuse(RefusalReason(.connect, "the connection was gone before it was served"))
        }
        guard let identity = self.worker.view.identity(of: self.pod) else {
            if self.ticket != nil { return }
            self.ticket = self.worker.room.enter(self, for: self.worker.configuration.knowledgeTimeout)
            if self.ticket == nil { self.refuse(TunnelWorker.roomFull(self.unknown)) }
            return
        }
        if let ticket { self.worker.room.leave(ticket) }
        TunnelConnection(
            accepted: self.arrival.descriptor, worker: self.worker, handle: self.arrival.handle,
            peer: self.arrival.peer, local: local, ownIdentity: identity, release: self.whenDone
        ).start()
    }

    func gaveUp(_ end: WaitingRoom.End) {
        switch end {
        case .tooLong: self.refuse(self.unknown)
        case .ending(let error): self.refuse(error.refusal)
        }
    }

    private func refuse(_ reason: RefusalReason) {
        Sockets.resetOnClose(self.arrival.descriptor)
        Sockets.closeDescriptor(self.arrival.descriptor)
        self.whenDone()
        self.worker.shared.observer.refusedEarly(
            direction: .inbound, source: self.arrival.peer, destination: self.local, reason)
    }
}

/// A CONNECT of an inbound tunnel, until it is judged and its target dialled. The stream may end at any time.
final class StreamAdmission: MeshWaiter {
    private let stream: TunnelStream
    private let proxied: ProxiedConnection
    private let question: InboundQuestion
    private let authority: String
    private var ticket: WaitingRoom.Ticket?
    private var lastAnswer: (status: Int, reason: RefusalReason)?

    init(_ stream: TunnelStream, _ proxied: ProxiedConnection, _ question: InboundQuestion, authority: String) {
        self.stream = stream
        self.proxied = proxied
        self.question = question
        self.authority = authority
    }

    private var tunnel: TunnelConnection { self.stream.tunnel }
    private var worker: TunnelWorker { self.stream.tunnel.worker }
    var pod: EnrolledPod { self.question.pod }

    /// The first question, and every later one.
    func meshChanged() {
        guard !self.stream.isClosed else { return self.leaveRoom() }
        self.proxied.viewAsked = self.worker.viewNumber
        switch self.worker.view.admitInbound(self.question) {
        case .wait(let status, let reason):
            self.lastAnswer = (status, reason)
            if self.ticket != nil { return }
            self.ticket = self.worker.room.enter(self, for: self.worker.configuration.knowledgeTimeout)
            if self.ticket == nil { self.refuse(503, TunnelWorker.roomFull(reason)) }
        case .refuse(let status, let reason, let labels):
            if let labels { self.open(to: self.question.local, labels) }
            self.refuse(status, reason)
        case .serve(_, let target, let labels):
            self.leaveRoom()
            guard let server = self.worker.server else {
                return self.refuse(
                    503, RefusalReason(.connect, "this proxy serves no streams itself", kind: .unknownService))
            }
            self.proxied.isAdmitted = true
            self.open(to: self.question.local, labels)
            let pipe = PipeEnd(loop: self.worker.loop)
            self.stream.dial(pipe)
            server.serve(
                ServedStream(
                    pipe: pipe, target: target, source: self.question.source, identity: self.question.identity,
                    dialer: TunnelDialer(worker: self.worker, handle: self.tunnel.handle)))
            if !self.stream.isClosed { self.stream.appConnected(pipe) }
        case .admit(let permit, let target, let responseHeaders, let labels, let preamble):
            self.leaveRoom()
            guard !self.tunnel.handle.ports.contains(target.port) else {
                return self.refuse(503, TunnelError.selfCall(target).refusal)
            }
            self.proxied.isAdmitted = true
            self.open(to: target, labels)
            do {
                self.stream.responseHeaders = responseHeaders
                self.stream.preamble = preamble
                self.stream.dial(
                    try self.worker.dial(permit, self.tunnel.handle, to: target, from: self.question.source.address))
            } catch {
                self.stream.dialFailed(.dialFailed(target, "\(error)"))
            }
        }
    }

    private func open(to target: IPEndpoint, _ labels: any ConnectionLabels) {
        self.proxied.open(
            transport: .hbone, destination: target, authority: self.authority, peer: self.tunnel.proof, labels: labels)
    }

    private func refuse(_ status: Int, _ reason: RefusalReason) {
        self.leaveRoom()
        self.stream.refuse(status: status) { $0.refuse(reason) }
    }

    private func leaveRoom() {
        if let ticket { self.worker.room.leave(ticket) }
        self.ticket = nil
    }

    func gaveUp(_ end: WaitingRoom.End) {
        self.ticket = nil
        guard !self.stream.isClosed else { return }
        switch end {
        case .tooLong: if let lastAnswer { self.refuse(lastAnswer.status, lastAnswer.reason) }
        case .ending(let error): self.refuse(503, error.refusal)
        }
    }
}

extension TunnelConnection {
    /// A new inbound stream: judged, and its target dialled.
    func accept(
        _ id: HTTP2StreamID, _ fields: HTTP2HeaderList, _ endStream: Bool
    ) throws(HTTP2ConnectionError) {
        guard let local else { preconditionFailure("a dialled tunnel accepts no streams") }
        let stream = TunnelStream(tunnel: self, id: id)
        let proxied = ProxiedConnection(
            worker: self.worker, direction: .inbound, handle: self.handle, source: self.peer, destination: local)
        self.streams[id] = stream
        stream.proxied = proxied
        proxied.carrier = stream
        self.worker.shared.counters.streams.add(1, ordering: .relaxed)

        let request: HTTP2ConnectRequest
        do { request = try HTTP2ConnectRequest(validating: fields) } catch {
            let reason = RefusalReason(.none, "\(error)", kind: .badRequest)
            switch error {
            case .notConnect, .badAuthority: stream.refuse(status: 400) { $0.refuse(reason) }
            default:
                proxied.refuse(RefusalReason(.none, "malformed request: \(error)", kind: .badRequest))
                try self.broke(HTTP2StreamError(id, .malformed(error)))
            }
            return
        }
        let headers = (0..<request.fields.count).compactMap { index -> (name: String, value: String)? in
            let name = request.fields.name(index)
            return name.hasPrefix(":") ? nil : (name, request.fields.value(index))
        }
        let question = InboundQuestion(
            pod: self.handle.pod, source: self.peer, local: local, identity: self.peerIdentity,
            via: .hbone(authority: request.authority, headers: headers))
        StreamAdmission(stream, proxied, question, authority: request.authority).meshChanged()
        if endStream, !stream.isClosed { stream.peerEnded() }
    }
}
