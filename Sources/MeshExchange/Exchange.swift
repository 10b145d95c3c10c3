internal import MeshHTTP
internal import MeshLoop
internal import MeshModel
internal import MeshRoutes

/// One request and its response, from the head of the one to the end of the other.
///
///     planned ─answer─▶ responding ─▶ over
///     planned ─forward─▶ attempting ─head─▶ relaying ─both ended─▶ over
///                         ▲      │ failed, may be tried again
///                         └──────┘                       any of them ─client left, deadline─▶ over
///
/// Body bytes go from one side's input to the other side's queue and are kept nowhere else, but for what a retry may need.
/// The attempts: `+Attempts`; the response: `+Response`; switches of protocols: `+Switch`.
final class Exchange {
    /// Of a request's body, kept for another attempt; a longer one is tried once.
    static let retryBytesMax = 64 << 10
    /// Of heads before the response's own that are passed on; more are dropped.
    static let informationalMax = 16

    enum Phase { case planned, attempting, relaying, over }

    let server: ExchangeServer
    let origin: RequestOrigin
    var report: ExchangeReport
    /// Until the end, which breaks the cycle.
    var client: (any ClientStream)?
    var phase = Phase.planned
    /// The client's request goes on behind its head.
    private(set) var requestHasBody: Bool
    private(set) var requestEnded: Bool
    private var requestTrailers = HTTP2HeaderList()

    var plan: ForwardPlan?
    // The attempt under way: waits for a connection, or has one.
    var attempt: Attempt?
    var tried: [UpstreamKey] = []
    /// Among the backend's requests under way.
    private var place: BackendPlaces.Place?
    var retriesLeft = 0
    var holdsRetry = false
    var backoff: LoopTimer?
    var attemptTimer: LoopTimer?
    var requestTimer: LoopTimer?
    /// What came of the body and may be needed again, or has nowhere to go yet.
    var kept: [UInt8] = []
    /// `kept` is all that came of it. Without that there is no other attempt.
    private(set) var keepsBody = true
    /// The request asks for another protocol: what comes behind its head waits for the answer.
    private let asksForSwitch: Bool
    var informed = 0
    var mirrors: [MirrorAttempt] = []
    private var requestMessages = GRPCMessageCounter()
    var responseMessages = GRPCMessageCounter()

    var responseBegun = false
    var responseEnded = false
    /// After 101: what follows has no messages.
    var isSwitched = false

    init(
        server: ExchangeServer, client: any ClientStream, origin: RequestOrigin, report: ExchangeReport,
        hasBody: Bool, asksForSwitch: Bool = false
    ) {
        self.server = server
        self.client = client
        self.origin = origin
        self.report = report
        self.requestHasBody = hasBody && !asksForSwitch
        self.requestEnded = !hasBody && !asksForSwitch
        self.asksForSwitch = asksForSwitch
        server.entered(self)
    }

    var now: UInt64 { self.server.loop.now }

    func start(_ port: (any ServedPort)?) {
        if !self.requestHasBody { self.report.requestNanoseconds = 0 }
        guard let port else {
            return self.answer(
                LocalAnswer(404, flags: .noRoute, details: "the service that was asked for is not served here"))
        }
        switch port.plan(self.report.request, self.origin) {
        case .answer(let answer): self.answer(answer)
        case .forward(let plan):
            self.plan = plan
            self.report.route = plan.route
            self.report.trace = plan.trace
            self.report.details = plan.note
            if plan.backend.service != self.report.ends.service { self.report.ends.backend = plan.backend.service }
            guard let place = plan.backend.requests.take() else {
                return self.answer(
                    LocalAnswer(
                        503, "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                        flags: .upstreamOverflow, details: "overflow", route: plan.route))
            }
            self.place = place
            self.retriesLeft = plan.retry?.attempts ?? 0
            if !self.requestHasBody, let limit = plan.timeouts.request { self.armRequestTimer(limit) }
            for mirror in plan.mirrors {
                let copy = MirrorAttempt(server: self.server, mirror, origin: self.origin, hasBody: self.requestHasBody)
                self.mirrors.append(copy)
                copy.start()
            }
            self.phase = .attempting
            self.tryNext()
        }
    }

    private func armRequestTimer(_ limit: Duration) {
        let timer = LoopTimer(loop: self.server.loop) { [unowned self] in
            self.timedOut("the route's timeout of \(limit)")
        }
        self.requestTimer = timer
        timer.arm(after: limit)
    }

    func timedOut(_ what: String) {
        self.report.flags.insert(.upstreamTimeout)
        self.report.upstreamFailure = "no complete response within \(what)"
        self.dropAttempt()
        guard !self.responseBegun else { return self.breakOff() }
        self.answer(LocalAnswer(504, "upstream request timeout", flags: .upstreamTimeout, details: "response_timeout"))
    }

    // MARK: The client's request

    /// - Parameter isLast: as ``ClientStream/send(_:isLast:)``.
    /// - Returns: whether more may come at once; else the client's ``ClientStream/wantsMore()`` says when.
    func receivedBody(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool {
        self.report.requestBytes += UInt64(bytes.count)
        if self.report.isGRPC { self.report.requestMessages += self.requestMessages.count(bytes) }
        guard self.phase != .over else { return true }
        if self.asksForSwitch, !self.isSwitched {
            self.kept.append(contentsOf: bytes)
            return self.kept.count <= Self.retryBytesMax
        }
        guard self.isSwitched || !self.responseEnded else { return true }
        for mirror in self.mirrors { mirror.send(bytes, isLast: isLast) }
        if let stream = self.attempt?.stream {
            self.keep(bytes)
            stream.send(bytes, isLast: isLast)
            return !stream.isFull
        }
        // Nowhere to go yet.
        self.kept.append(contentsOf: bytes)
        return self.kept.count <= Self.retryBytesMax
    }

    /// For another attempt, as long as there can be one and it is not too much.
    private func keep(_ bytes: UnsafeRawBufferPointer) {
        guard self.keepsBody else { return }
        if self.responseBegun || self.kept.count + bytes.count > Self.retryBytesMax { return self.dropKept() }
        self.kept.append(contentsOf: bytes)
    }

    private func dropKept() {
        self.keepsBody = false
        self.kept = []
    }

    func requestFinished(_ trailers: HTTP2HeaderList) {
        guard !self.requestEnded else { return }
        self.requestEnded = true
        self.requestTrailers = trailers
        guard self.phase != .over else { return }
        if self.asksForSwitch { return self.isSwitched ? self.switchedRequestFinished() : () }
        self.report.requestNanoseconds = self.now &- self.report.startedNanoseconds
        if let limit = self.plan?.timeouts.request { self.armRequestTimer(limit) }
        for mirror in self.mirrors { mirror.finish(trailers) }
        self.attempt?.stream?.finish(trailers)
    }

    /// What was refused for ``ClientStream/isFull`` may be sent.
    func clientDrained() { self.attempt?.stream?.wantsMore() }

    /// What the client sent behind its head is no HTTP.
    func clientBroke(_ status: Int, _ details: String) {
        guard self.phase != .over else { return }
        self.report.flags.insert(.clientProtocolError)
        self.report.details = details
        self.dropAttempt()
        guard !self.responseBegun else { return self.breakOff() }
        self.answer(LocalAnswer(status, details + "\n", flags: .clientProtocolError, details: details))
    }

    /// The client reset its stream or its connection is gone.
    func clientLeft(_ flags: ExchangeFlags = .clientEnd, details: String? = nil) {
        guard self.phase != .over else { return }
        self.report.flags.formUnion(flags)
        if let details { self.report.details = details }
        self.client = nil
        self.dropAttempt()
        self.finish()
    }

    // MARK: To the endpoint

    /// The attempt has its stream: everything that came so far goes there.
    func sendRequest(on stream: any UpstreamStream) {
        guard let plan else { return }
        stream.request(plan.request, hasBody: self.requestHasBody)
        guard self.requestHasBody else { return }
        let kept = self.kept
        let isLast = self.requestEnded && self.requestTrailers.isEmpty
        if !kept.isEmpty { kept.withUnsafeBytes { stream.send($0, isLast: isLast) } }
        if kept.count > Self.retryBytesMax { self.dropKept() }
        if self.requestEnded {
            stream.finish(self.requestTrailers)
        } else if !stream.isFull {
            self.client?.wantsMore()
        }
    }

    // MARK: The end

    /// The response cannot be completed.
    func breakOff() {
        guard self.phase != .over else { return }
        self.client?.abort()
        self.finish()
    }

    /// Both are over: told once.
    func finish() {
        guard self.phase != .over else { return }
        self.phase = .over
        self.place?.giveBack()
        self.place = nil
        self.requestTimer?.cancel()
        self.requestTimer = nil
        self.dropAttempt()
        if self.requestHasBody, !self.requestEnded { for mirror in self.mirrors { mirror.cancel() } }
        self.mirrors = []
        self.kept = []
        let client = self.client
        self.client = nil
        self.report.durationNanoseconds = self.now &- self.report.startedNanoseconds
        self.server.left(self)
        self.server.observer.finished(self.report)
        client?.exchangeEnded()
    }
}
