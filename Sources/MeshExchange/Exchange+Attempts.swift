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
        if self.responseBegun {
            self.report.flags.insert(trouble.flag)
            return self.breakOff()
        }
        // Another endpoint of the same backend would take no larger head either.
        let isFinal = trouble.kind == .headTooLarge
        if !isFinal, self.mayRetry(isUntouched: trouble.isUntouched, status: nil) { return self.retry() }
        self.answer(trouble.answer)
    }
}
