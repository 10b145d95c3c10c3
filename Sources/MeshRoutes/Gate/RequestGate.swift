package import MeshModel

/// Whether a request, or a stream, may pass: ``TrafficGate``s compiled.
///
/// Asked in this order, and the first refusal counts: what cannot be enforced; tokens (``TokenChecking``, whose outcome
/// is an argument); AUDIT, which only notes; DENY; ALLOW, of which one must match where there are any; rate limits. DENY
/// and ALLOW of all gates count together, as if they were one: Istio evaluates policies that are attached to the service
/// and to its waypoint so.
package final class RequestGate: Sendable {
    /// Rules for token checking, in the order of the gates.
    package let tokens: [TokenPolicy]
    private let closedBecause: String?
    private let requests: Policies
    private let streams: Policies
    private let buckets: [RateBucket]

    private struct Policies: Sendable {
        var audit: [CompiledPolicy] = []
        var deny: [CompiledPolicy] = []
        var allow: [CompiledPolicy] = []
        var trial: [CompiledPolicy] = []

        init(_ policies: [RequestPolicy], _ compiler: PolicyCompiler) throws(PolicyProblem) {
            for policy in policies {
                let compiled = try compiler.compile(policy)
                switch policy.action {
                case _ where policy.isDryRun: self.trial.append(compiled)
                case .audit: self.audit.append(compiled)
                case .deny: self.deny.append(compiled)
                case .allow: self.allow.append(compiled)
                }
            }
        }

        init() {}
    }

    /// - Parameters:
    ///   - gates: the waypoint's and the service's.
    ///   - trustDomains: the mesh's own and its aliases.
    package init(_ gates: [TrafficGate], trustDomains: [String], buckets: RateBuckets = RateBuckets()) {
        self.tokens = gates.flatMap(\.tokens)
        self.buckets = gates.flatMap(\.rateLimits).map { buckets.bucket(for: $0) }
        var closed = gates.compactMap(\.closedBecause).first
        var requests = Policies()
        var streams = Policies()
        do throws(PolicyProblem) {
            let policies = gates.flatMap(\.policies)
            requests = try Policies(policies, PolicyCompiler(trustDomains: trustDomains, forStreams: false))
            streams = try Policies(policies, PolicyCompiler(trustDomains: trustDomains, forStreams: true))
        } catch {
            closed = closed ?? error.text
        }
        (self.closedBecause, self.requests, self.streams) = (closed, requests, streams)
    }

    /// Nothing is asked, everything passes: the usual case.
    package var isOpen: Bool {
        self.closedBecause == nil && self.tokens.isEmpty && self.buckets.isEmpty && self.requests.audit.isEmpty
            && self.requests.deny.isEmpty && self.requests.allow.isEmpty && self.requests.trial.isEmpty
    }

    /// - Parameters:
    ///   - request: with its path normalised (``PathNormalization``).
    ///   - remote: ``PeerFacts/remoteAddress(_:trustedProxies:)``.
    ///   - token: of the check that ``tokens`` asks for; ``TokenOutcome/none`` when they ask for none.
    ///   - now: of a clock that never goes back, in nanoseconds.
    package func decide(
        _ request: RequestHead, from peer: PeerFacts, remote: IPAddress, token: TokenOutcome = .none, now: UInt64
    ) -> GateDecision {
        if let reason = self.closedBecause { return GateDecision(verdict: .refuse(.closed(reason))) }
        var verified: VerifiedToken?
        switch token {
        case .none: break
        case .verified(let token): verified = token
        case .refused(let refusal): return GateDecision(verdict: .refuse(.badToken(refusal)))
        }
        return self.decide(
            GateQuestion(peer: peer, request: request, remote: remote, token: verified), self.requests, now)
    }

    /// A stream without requests: TCP, or TLS that passes through. Each one takes from the rate limits once.
    package func decideStream(from peer: PeerFacts, now: UInt64) -> GateDecision {
        if let reason = self.closedBecause { return GateDecision(verdict: .refuse(.closed(reason))) }
        return self.decide(
            GateQuestion(peer: peer, request: nil, remote: peer.connection.source, token: nil), self.streams, now)
    }

    private func decide(_ question: GateQuestion, _ policies: Policies, _ now: UInt64) -> GateDecision {
        var decision = GateDecision(verdict: .permit(by: nil))
        for policy in policies.audit {
            if let match = policy.match(question) {
                decision.audit = match
                break
            }
        }
        var denial: PolicyMatch?
        for policy in policies.deny {
            denial = policy.match(question)
            if denial != nil { break }
        }
        var allowance: PolicyMatch?
        if denial == nil {
            for policy in policies.allow {
                allowance = policy.match(question)
                if allowance != nil { break }
            }
        }
        if !policies.trial.isEmpty {
            self.decideTrial(question, policies, denial, allowance, &decision)
        }
        if let denial {
            decision.verdict = .refuse(.denied(denial))
        } else if allowance == nil, !policies.allow.isEmpty {
            decision.verdict = .refuse(.notAllowed)
        } else {
            decision.verdict = .permit(by: allowance)
            for bucket in self.buckets {
                guard let after = bucket.take(now: now) else { continue }
                decision.verdict = .refuse(.rateLimited(bucket.limit.key, after: after))
                break
            }
        }
        return decision
    }

    private func decideTrial(
        _ question: GateQuestion, _ policies: Policies, _ denial: PolicyMatch?, _ allowance: PolicyMatch?,
        _ decision: inout GateDecision
    ) {
        var isDenied = denial != nil
        var isAllowed = allowance != nil
        var hasAllow = !policies.allow.isEmpty
        for policy in policies.trial {
            hasAllow = hasAllow || policy.action == .allow
            guard let match = policy.match(question) else { continue }
            decision.dryRun.append(match)
            switch policy.action {
            case .allow: isAllowed = true
            case .deny: isDenied = true
            case .audit: break
            }
        }
        decision.dryRunRefuses = isDenied || hasAllow && !isAllowed
    }
}
