internal import MeshModel
internal import MeshProto
internal import MeshRoutes
internal import SwiftProtobuf

/// Who may pass, as filters: of requests, and of streams that carry none. Asked in the order of ``RequestGate``: what cannot
/// be enforced, tokens, AUDIT and what is on trial, DENY, ALLOW, rates.
///
/// A policy that cannot be compiled closes the gate: nothing passes.
struct GateTranslation {
    private(set) var requests: [EnvoyHTTPFilter] = []
    private(set) var streams: [EnvoyFilter] = []
    private(set) var problems: [EnvoyProblem] = []
    /// When it is known whether a stream may pass.
    private(set) var admission = StreamAdmission(closed: true)

    /// - Parameter gates: the waypoint's and the service's.
    init(_ gates: [TrafficGate], trustDomains: [String], chain: String, proof: PeerProof = .tunnel) {
        if let reason = gates.compactMap(\.closedBecause).first {
            self.close(reason, chain)
            return
        }
        var requests = PolicySet()
        var streams = PolicySet()
        do throws(PolicyProblem) {
            for policy in gates.flatMap(\.policies) {
                requests.add(try PolicyCompiler(trustDomains: trustDomains, forStreams: false).compile(policy))
                streams.add(try PolicyCompiler(trustDomains: trustDomains, forStreams: true).compile(policy))
            }
        } catch {
            self.close(error.text, chain)
            return
        }
        let tokens = gates.flatMap(\.tokens)
        if !tokens.isEmpty {
            self.requests.append(EnvoyHTTPFilter(EnvoyNames.tokens, EnvoyJWTAuthentication(tokens)))
        }
        self.requests += requests.filters(proof).map { EnvoyHTTPFilter(EnvoyNames.httpRBAC, $0.http) }
        self.admission = StreamAdmission(allow: streams.allow, deny: streams.deny, trustDomains)
        self.streams += streams.filters(proof).map { EnvoyFilter(EnvoyNames.networkRBAC, $0.network(chain)) }
        for limit in gates.flatMap(\.rateLimits) {
            self.requests.append(EnvoyHTTPFilter(EnvoyNames.rateLimit, EnvoyLocalRateLimit(limit)))
            self.streams.append(EnvoyFilter(EnvoyNames.networkRateLimit, EnvoyNetworkRateLimit(limit)))
        }
    }

    private mutating func close(_ reason: String, _ chain: String) {
        // Its status already says so, as for our own waypoints.
        self.problems.append(EnvoyProblem(chain, "everything is refused: \(reason)"))
        let nobody = PolicyFilter(rules: .with { $0.action = .allow })
        self.requests = [EnvoyHTTPFilter(EnvoyNames.httpRBAC, nobody.http)]
        self.streams = [EnvoyFilter(EnvoyNames.networkRBAC, nobody.network(chain))]
    }
}

/// One RBAC filter of either kind.
private struct PolicyFilter {
    var rules: EnvoyRBAC?
    /// Only noted, in the filter's metadata under `<prefix>shadow_effective_policy_id`.
    var shadow: (rules: EnvoyRBAC, prefix: String)?

    var http: EnvoyHTTPRBAC {
        .with {
            if let rules { $0.rules = rules }
            if let shadow { ($0.shadowRules, $0.shadowRulesStatPrefix) = shadow }
        }
    }

    func network(_ chain: String) -> EnvoyNetworkRBAC {
        .with {
            $0.statPrefix = chain
            if let rules { $0.rules = rules }
            if let shadow { ($0.shadowRules, $0.shadowRulesStatPrefix) = shadow }
        }
    }
}

/// Compiled policies, sorted by what they do.
private struct PolicySet {
    private var audit: [CompiledPolicy] = []
    private(set) var deny: [CompiledPolicy] = []
    private(set) var allow: [CompiledPolicy] = []
    private var trialDeny: [CompiledPolicy] = []
    private var trialAllow: [CompiledPolicy] = []

    mutating func add(_ policy: CompiledPolicy) {
        switch (policy.action, policy.isDryRun) {
        case (.audit, false): self.audit.append(policy)
        case (.deny, false): self.deny.append(policy)
        case (.allow, false): self.allow.append(policy)
        case (.deny, true): self.trialDeny.append(policy)
        case (.allow, true): self.trialAllow.append(policy)
        // It does nothing when it is not on trial, either.
        case (.audit, true): break
        }
    }

    func filters(_ proof: PeerProof) -> [PolicyFilter] {
        let translation = PolicyTranslation(proof: proof)
        var filters: [PolicyFilter] = []
        for (policies, action, prefix) in [
            (self.audit, EnvoyRBAC.Action.deny, "audit_"), (self.trialDeny, .deny, "dry_run_deny_"),
            (self.trialAllow, .allow, "dry_run_allow_"),
        ] where !policies.isEmpty {
            filters.append(PolicyFilter(shadow: (translation.rules(policies, action), prefix)))
        }
        if !self.deny.isEmpty { filters.append(PolicyFilter(rules: translation.rules(self.deny, .deny))) }
        if !self.allow.isEmpty { filters.append(PolicyFilter(rules: translation.rules(self.allow, .allow))) }
        return filters
    }
}

// MARK: - Rates

extension EnvoyTokenBucket {
    /// Envoy fills a bucket every 50 ms at most.
    private static let intervalMin = Duration.milliseconds(50)

    init(_ limit: RateLimit) {
        self.init()
        self.maxTokens = max(limit.burst, 1)
        let each = limit.requests > 0 ? limit.interval / Int(limit.requests) : limit.interval
        let atOnce = each > .zero && each < Self.intervalMin ? Int((Self.intervalMin / each).rounded(.up)) : 1
        self.tokensPerFill = Google_Protobuf_UInt32Value(UInt32(clamping: atOnce))
        self.fillInterval = max(each * atOnce, Self.intervalMin).proto
    }
}

extension EnvoyLocalRateLimit {
    init(_ limit: RateLimit) {
        self.init()
        self.statPrefix = limit.key.description
        self.tokenBucket = EnvoyTokenBucket(limit)
        let all = EnvoyRuntimeFraction.with {
            $0.defaultValue.numerator = 100
            $0.defaultValue.denominator = .hundred
        }
        (self.filterEnabled, self.filterEnforced) = (all, all)
    }
}

extension EnvoyNetworkRateLimit {
    init(_ limit: RateLimit) {
        self.init()
        self.statPrefix = limit.key.description
        self.tokenBucket = EnvoyTokenBucket(limit)
    }
}
