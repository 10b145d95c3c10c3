internal import MeshModel
internal import MeshProto
internal import MeshRoutes
internal import SwiftProtobuf

/// Who may pass, as filters: of requests, and of streams that carry none. Asked in the order of ``RequestGate``: what cannot
/// be enforced, tokens, AUDIT and what is on trial, DENY, ALLOW, rates.
///
/// A policy that cannot be compiled closes the gate: nothing passes.
struct GateTranslation {
    /// What tokens have to be; asks nothing without rules.
    private(set) var tokens = EnvoyJWTAuthentication()
    /// What is asked of requests, in this order.
    private(set) var policies: [(stage: PolicyStage, filter: PolicyFilter)] = []
    /// Of requests, behind everything else.
    private(set) var rates: [EnvoyHTTPFilter] = []
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
        if !tokens.isEmpty { self.tokens = EnvoyJWTAuthentication(tokens) }
        self.policies = requests.filters(proof)
        self.admission = StreamAdmission(allow: streams.allow, deny: streams.deny, trustDomains)
        self.streams += streams.filters(proof).map { EnvoyFilter(EnvoyNames.networkRBAC, $0.filter.network(chain)) }
        for limit in gates.flatMap(\.rateLimits) {
            self.rates.append(EnvoyHTTPFilter(EnvoyNames.rateLimit, EnvoyLocalRateLimit(limit)))
            self.streams.append(EnvoyFilter(EnvoyNames.networkRateLimit, EnvoyNetworkRateLimit(limit)))
        }
    }

    private mutating func close(_ reason: String, _ chain: String) {
        // Its status already says so, as for our own waypoints.
        self.problems.append(EnvoyProblem(chain, "everything is refused: \(reason)"))
        self.policies = [(.allow, .nobody)]
        self.streams = [EnvoyFilter(EnvoyNames.networkRBAC, PolicyFilter.nobody.network(chain))]
    }

    /// All of it, where each filter has its place for as long as it has something to ask.
    var requests: [EnvoyHTTPFilter] {
        (self.tokens.rules.isEmpty ? [] : [EnvoyHTTPFilter(EnvoyNames.tokens, self.tokens)])
            + self.policies.map { EnvoyHTTPFilter(EnvoyNames.httpRBAC, $0.filter.http) } + self.rates
    }
}

/// What a policy does to what it is for, in the order in which it is asked.
enum PolicyStage: String, CaseIterable {
    case audit
    case trialDeny = "dry_run_deny"
    case trialAllow = "dry_run_allow"
    case deny, allow

    /// Before what is noted in the filter's metadata; nil: it is done, and not only noted.
    var notePrefix: String? {
        switch self {
        case .audit, .trialDeny, .trialAllow: "\(self.rawValue)_"
        case .deny, .allow: nil
        }
    }
}

/// One RBAC filter of either kind.
struct PolicyFilter {
    /// Lets nothing through.
    static let nobody = PolicyFilter(rules: .with { $0.action = .allow })

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

    /// Of those stages that have policies.
    func filters(_ proof: PeerProof) -> [(stage: PolicyStage, filter: PolicyFilter)] {
        let translation = PolicyTranslation(proof: proof)
        return PolicyStage.allCases.compactMap { stage in
            let (policies, action) = self.policies(stage)
            if policies.isEmpty { return nil }
            let rules = translation.rules(policies, action)
            return (stage, stage.notePrefix.map { PolicyFilter(shadow: (rules, $0)) } ?? PolicyFilter(rules: rules))
        }
    }

    private func policies(_ stage: PolicyStage) -> ([CompiledPolicy], EnvoyRBAC.Action) {
        switch stage {
        case .audit: (self.audit, .deny)
        case .trialDeny: (self.trialDeny, .deny)
        case .trialAllow: (self.trialAllow, .allow)
        case .deny: (self.deny, .deny)
        case .allow: (self.allow, .allow)
        }
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
