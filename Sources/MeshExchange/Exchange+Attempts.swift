internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes

// Attempts at endpoints: choosing, waiting for a connection, trying again.

extension Exchange {
    /// Between two attempts at least, unless the route says something else.
    static let backoffDefault = Duration.milliseconds(25)
    static let backoffDoublingsMax = 6

    func tryNext() {
        guard let plan, self.phase == .attempting else { return }
        self.backoff = nil
        guard let endpoint = self.choose(plan) else {
            self.report.flags.insert(.noHealthyUpstream)
            if self.report.upstreamFailure == nil {
                self.report.upstreamFailure = plan.backend.reasonForNone
            }
            return self.answer(
                LocalAnswer(503, "no healthy upstream", flags: .noHealthyUpstream, details: "no_healthy_upstream"))
        }
        self.report.attempts += 1
        self.report.ends.endpoint = endpoint.reportedWorkload
        self.report.ends.upstream = endpoint.key.host == nil ? endpoint.key.address : nil
        self.report.ends.upstreamIdentity = nil
        let attempt = Attempt(
            exchange: self, endpoint: endpoint, of: plan.backend, beganNanoseconds: self.now)
        self.attempt = attempt
        if let limit = plan.timeouts.backendRequest { self.armAttemptTimer(limit) }
        self.server.pool.request(attempt, isHTTP2: self.usesHTTP2(plan))
    }

    private func choose(_ plan: ForwardPlan) -> UpstreamEndpoint? {
        if let pinned = plan.pinned, self.tried.isEmpty,
            let endpoint = plan.backend.endpoints.first(where: { $0.hash == pinned })
        {
            return endpoint
        }
        return plan.backend.choose(self.server.book, excluding: self.tried, hash: plan.hash, at: self.now)
    }

    /// As the port's owner said; else as the client speaks.
    private func usesHTTP2(_ plan: ForwardPlan) -> Bool {
        switch plan.backend.appProtocol {
        case .http2, .grpc: true
        // HTTP/1 cannot carry a call of gRPC.
        case .http11: self.report.isGRPC
        default: self.report.version == .http2
        }
    }

    private func armAttemptTimer(_ limit: Duration) {
        let timer = LoopTimer(loop: self.server.loop) { [unowned self] in
            guard let attempt = self.attempt else { return }
            self.server.book.failed(attempt.endpoint.key, .connection, of: attempt.backend, at: self.now)
            self.report.upstreamFailure = "no response within \(limit), the route's time for one attempt"
            self.report.flags.insert(.upstreamTimeout)
            if self.responseBegun { return self.breakOff() }
            if self.mayRetry(isUntouched: false, status: nil) { return self.retry() }
            self.answer(
                LocalAnswer(504, "upstream request timeout", flags: .upstreamTimeout, details: "response_timeout"))
        }
        self.attemptTimer = timer
        timer.arm(after: limit)
    }

    func dropAttempt() {
        self.backoff?.cancel()
        self.backoff = nil
        self.attemptTimer?.cancel()
        self.attemptTimer = nil
        if self.holdsRetry {
            self.holdsRetry = false
            self.server.retriesUnderWay -= 1
        }
        let attempt = self.attempt
        self.attempt = nil
        attempt?.cancel()
    }

    // MARK: Trying again

    /// A failure before the response: is there another attempt?
    ///
    /// What the endpoint has not looked at may always go elsewhere; else only where the route says so, within the budget.
    func mayRetry(isUntouched: Bool, status: Int?) -> Bool {
        guard let plan, !self.responseBegun, self.keepsBody else { return false }
        if let status, plan.retry?.codes.contains(status) != true { return false }
        if plan.retry == nil {
            // One more, elsewhere, when nobody has seen the request: as connections of the node proxy do.
            return isUntouched && self.report.attempts < ExchangeServer.untouchedAttemptsMax
        }
        guard self.retriesLeft > 0 else {
            self.report.flags.insert(.retriesExhausted)
            return false
        }
        let budget = max(
            Int(plan.backend.retriesMin),
            self.server.exchangesUnderWay * Int(plan.backend.retryBudgetPercent) / 100)
        guard self.server.retriesUnderWay < budget else {
            self.report.flags.insert(.upstreamOverflow)
            return false
        }
        return true
    }

    func retry() {
        guard let plan else { return }
        if let attempt { self.tried.append(attempt.endpoint.key) }
        self.dropAttempt()
        if plan.retry != nil {
            self.retriesLeft -= 1
            self.holdsRetry = true
            self.server.retriesUnderWay += 1
        }
        let base = plan.retry?.backoff ?? Self.backoffDefault
        let doublings = min(max(0, self.report.attempts - 1), Self.backoffDoublingsMax)
        let timer = LoopTimer(loop: self.server.loop) { [unowned self] in self.tryNext() }
        self.backoff = timer
        // Spread over the upper half, so that clients that failed together do not come back together.
        let full = base * (1 << doublings)
        timer.arm(after: full / 2 + full / 2 * Int(self.server.book.random() % 256) / 256)
    }

    /// The attempt failed before its response, or in the middle of it.
    func failed(_ trouble: UpstreamTrouble) {
        guard self.phase == .attempting || self.phase == .relaying else { return }
        self.report.upstreamFailure = trouble.text
        let flag: ExchangeFlags =
            switch trouble.kind {
            case .unresolved: .noHealthyUpstream
            case .connect: .upstreamConnectionFailure
            case .ended: .upstreamConnectionEnd
            case .reset, .refused: .upstreamReset
            case .protocolError: .upstreamProtocolError
            case .overflow: .upstreamOverflow
            }
        if self.responseBegun {
            self.report.flags.insert(flag)
            return self.breakOff()
        }
        if self.mayRetry(isUntouched: trouble.isUntouched, status: nil) { return self.retry() }
        self.report.flags.insert(flag)
        let (status, text) =
            switch trouble.kind {
            case .unresolved: (503, "no healthy upstream")
            case .connect:
                (503, "upstream connect error or disconnect/reset before headers. reset reason: connection failure")
            case .protocolError:
                (502, "upstream connect error or disconnect/reset before headers. reset reason: protocol error")
            case .overflow: (503, "upstream connect error or disconnect/reset before headers. reset reason: overflow")
            case .ended, .reset, .refused:
                (503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination")
            }
        let details =
            trouble.kind == .unresolved ? "no_healthy_upstream" : "upstream_reset_before_response_started"
        self.answer(LocalAnswer(status, text, flags: flag, details: details))
    }
}

/// One attempt: waits for a connection to its endpoint, then has a stream there.
final class Attempt: UpstreamStreamOwner {
    let exchange: any AttemptOwner
    let endpoint: UpstreamEndpoint
    let backend: Backend
    let beganNanoseconds: UInt64
    private(set) var stream: (any UpstreamStream)?
    private(set) var isOver = false
    private var isSwitched = false
    /// Waits in the pool; see ``UpstreamPool``.
    var isWaiting = false
    private var isCounted = false

    init(exchange: any AttemptOwner, endpoint: UpstreamEndpoint, of backend: Backend, beganNanoseconds: UInt64) {
        self.exchange = exchange
        self.endpoint = endpoint
        self.backend = backend
        self.beganNanoseconds = beganNanoseconds
        exchange.server.book.began(endpoint.key)
        self.isCounted = true
    }

    /// The pool has a stream for us.
    func connected(_ stream: any UpstreamStream) {
        guard !self.isOver else { return stream.cancel() }
        self.isWaiting = false
        self.stream = stream
        self.exchange.attemptConnected(self, stream)
    }

    private func end() {
        self.isOver = true
        self.isWaiting = false
        self.stream = nil
        guard self.isCounted else { return }
        self.isCounted = false
        self.exchange.server.book.ended(self.endpoint.key)
    }

    func cancel() {
        guard !self.isOver else { return }
        let stream = self.stream
        let wasWaiting = self.isWaiting
        self.end()
        if wasWaiting { self.exchange.server.pool.gaveUp(self) }
        stream?.cancel()
    }

    // MARK: From the stream

    func attemptInformed(_ head: ResponseHead) { if !self.isOver { self.exchange.attemptInformed(head) } }

    func attemptResponded(_ head: ResponseHead, hasBody: Bool) {
        guard !self.isOver else { return }
        let server = self.exchange.server
        if head.status >= 500 {
            server.book.failed(self.endpoint.key, .status(head.status), of: self.backend, at: server.loop.now)
        } else {
            server.book.answered(self.endpoint.key, after: server.loop.now &- self.beganNanoseconds)
        }
        // Without a body nothing more comes from the stream.
        if !hasBody { self.end() }
        self.exchange.attemptResponded(self, head, hasBody: hasBody)
    }

    func attemptSwitchedProtocol(_ head: ResponseHead) {
        guard !self.isOver else { return }
        self.isSwitched = true
        self.exchange.attemptSwitchedProtocol(head)
    }

    func attemptReceived(_ bytes: UnsafeRawBufferPointer) -> Bool {
        self.isOver ? true : self.exchange.attemptReceived(bytes)
    }

    func attemptFinished(_ trailers: HTTP2HeaderList) {
        guard !self.isOver else { return }
        if !self.isSwitched { self.end() }
        self.exchange.attemptFinished(trailers)
    }

    func attemptDrained() { if !self.isOver { self.exchange.attemptDrained() } }

    func attemptFailed(_ trouble: UpstreamTrouble) {
        guard !self.isOver else { return }
        self.end()
        let server = self.exchange.server
        if trouble.kind == .connect || trouble.kind == .unresolved || !trouble.isUntouched {
            server.book.failed(self.endpoint.key, .connection, of: self.backend, at: server.loop.now)
        }
        self.exchange.attemptFailed(self, trouble)
    }
}

/// Whose attempt it is: an exchange, or a mirror that nobody waits for.
protocol AttemptOwner: AnyObject {
    var server: ExchangeServer { get }
    func attemptConnected(_ attempt: Attempt, _ stream: any UpstreamStream)
    func attemptInformed(_ head: ResponseHead)
    func attemptResponded(_ attempt: Attempt, _ head: ResponseHead, hasBody: Bool)
    func attemptSwitchedProtocol(_ head: ResponseHead)
    func attemptReceived(_ bytes: UnsafeRawBufferPointer) -> Bool
    func attemptFinished(_ trailers: HTTP2HeaderList)
    func attemptDrained()
    func attemptFailed(_ attempt: Attempt, _ trouble: UpstreamTrouble)
}
