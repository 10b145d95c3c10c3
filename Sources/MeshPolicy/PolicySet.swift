public import MeshModel

/// Every policy of one snapshot, indexed by how it applies. Immutable once built; a decision takes the policies
/// of the workload's namespace, the global ones, and those the workload names.
public struct PolicySet: Sendable {
    private let byKey: [NamespacedName: AuthorizationPolicy]
    private let byNamespace: [String: [AuthorizationPolicy]]
    private let global: [AuthorizationPolicy]

    public static let empty = PolicySet([])

    /// - Parameter policies: of two with one key the later counts.
    public init(_ policies: some Sequence<AuthorizationPolicy>) {
        var byKey: [NamespacedName: AuthorizationPolicy] = [:]
        for policy in policies { byKey[policy.key] = policy }
        var byNamespace: [String: [AuthorizationPolicy]] = [:]
        var global: [AuthorizationPolicy] = []
        for policy in byKey.values {
            switch policy.scope {
            case .global: global.append(policy)
            case .namespace: byNamespace[policy.key.namespace, default: []].append(policy)
            case .workloadSelector: break
            }
        }
        (self.byKey, self.byNamespace, self.global) = (byKey, byNamespace, global)
    }

    public subscript(key: NamespacedName) -> AuthorizationPolicy? { self.byKey[key] }
    public var all: some Collection<AuthorizationPolicy> { self.byKey.values }

    /// Decides one connection to a workload of `namespace` whose own policies are `named`.
    ///
    /// Order: an enforced DENY that matches refuses; with no enforced ALLOW everything else passes; otherwise one
    /// of the ALLOW policies has to match. A named policy that is missing refuses: better a connection too few
    /// than one past a DENY that is still on its way. Dry-run policies are reported, never enforced.
    public func decide(
        _ facts: ConnectionFacts, namespace: String, named: [NamespacedName],
        dryRun report: (AuthorizationPolicy) -> Void = { _ in }
    ) -> Verdict {
        var allow: [AuthorizationPolicy] = []
        var allowedBy: NamespacedName?
        func consider(_ policy: AuthorizationPolicy) -> Denial? {
            if policy.isDryRun {
                if policy.matches(facts) { report(policy) }
                return nil
            }
            switch policy.action {
            case .deny: return policy.matches(facts) ? .explicit(by: policy.key) : nil
            case .allow:
                allow.append(policy)
                if allowedBy == nil, policy.matches(facts) { allowedBy = policy.key }
                return nil
            }
        }
        for policy in self.global { if let denial = consider(policy) { return .deny(denial) } }
        for policy in self.byNamespace[namespace] ?? [] {
            if let denial = consider(policy) { return .deny(denial) }
        }
        var missing: NamespacedName?
        for key in named {
            guard let policy = self.byKey[key] else {
                missing = missing ?? key
                continue
            }
            // Namespace and global policies apply by themselves; naming one again changes nothing.
            guard policy.scope == .workloadSelector else { continue }
            if let denial = consider(policy) { return .deny(denial) }
        }
        if let missing { return .deny(.unknownPolicy(missing)) }
        if allow.isEmpty { return .permit(Permit(facts: facts, allowedBy: nil)) }
        if let allowedBy { return .permit(Permit(facts: facts, allowedBy: allowedBy)) }
        return .deny(.notAllowed(byAnyOf: allow.map(\.key).sorted { $0.description < $1.description }))
    }
}
