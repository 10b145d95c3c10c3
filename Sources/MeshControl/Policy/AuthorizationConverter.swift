import KubeAPI
package import MeshModel

/// AuthorizationPolicy → what the node proxy enforces, and the truth about it for the object's status.
///
/// The node proxy sees connections, not requests. Whatever needs more than a connection's facts is left out in the
/// restrictive direction and reported: an ALLOW rule that needs it is dropped whole (nothing is allowed by a half
/// rule); of a DENY rule the layer-4 remainder stays. What a value that cannot be read does is in ``RuleReader``.
package enum AuthorizationConverter {
    package struct Outcome: Hashable, Sendable {
        /// Nil: nothing goes to the node proxy.
        package var policy: AuthorizationPolicy?
        /// The condition `ZtunnelAccepted`; nil when the policy is not meant for the node proxy.
        package var condition: StatusCondition?
    }

    package static func convert(_ view: PolicyView, _ settings: MeshSettings) -> Outcome {
        if view.hasTargets { return Outcome(policy: nil, condition: nil) }
        let action: AuthorizationPolicy.Action
        switch view.action {
        case "ALLOW": action = .allow
        case "DENY": action = .deny
        default:
            return Self.refused("ztunnel does not support the \(view.action) action")
        }
        if view.isDryRun && !settings.allowsDryRun {
            return Self.refused(
                "policy \(view.key) is marked as dry-run, but dry-run support for ztunnel is not enabled")
        }
        var policy = AuthorizationPolicy(
            key: NamespacedName(namespace: view.namespace, name: view.name),
            scope: view.selector != nil
                ? .workloadSelector : view.namespace == settings.rootNamespace ? .global : .namespace,
            action: action, rules: [], isDryRun: view.isDryRun)
        var findings = Findings()
        for (number, json) in view.rules.enumerated() {
            var reader = RuleReader(
                namespace: view.namespace, action: action, trustDomains: TrustDomains(settings))
            let rule = reader.rule(json)
            if !reader.unsupported.isEmpty {
                findings.unsupported.formUnion(reader.unsupported)
                findings.unsupportedRules.append(number)
            }
            findings.invalid += reader.invalid.map { "rule \(number): \($0)" }
            if action == .allow && !reader.unsupported.isEmpty { continue }
            if let rule { policy.rules.append(rule) }
        }
        var condition = Self.condition(policy, findings)
        if let text = view.unreadableDryRun {
            condition.message +=
                " The annotation istio.io/dry-run is \"\(text)\", which is no boolean: the policy is enforced."
        }
        return Outcome(policy: policy, condition: condition)
    }

    private struct Findings {
        /// Attributes that need more than a connection, and the rules (counted from 0) that have them.
        var unsupported: Set<String> = []
        var unsupportedRules: [Int] = []
        var invalid: [String] = []
    }

    private static let conditionType = "ZtunnelAccepted"

    private static func refused(_ message: String) -> Outcome {
        Outcome(
            policy: nil,
            condition: StatusCondition(Self.conditionType, false, reason: "UnsupportedValue", message: message))
    }

    private static func condition(_ policy: AuthorizationPolicy, _ findings: Findings) -> StatusCondition {
        if !findings.invalid.isEmpty {
            let effect =
                policy.action == .allow
                ? "What they would have allowed is not allowed"
                : "They count as matching every connection, so more is denied than was meant,"
            return StatusCondition(
                Self.conditionType, false, reason: "Invalid",
                message: "unreadable values (\(findings.invalid.joined(separator: "; "))). \(effect)"
                    + " until they are corrected.")
        }
        if findings.unsupported.isEmpty {
            return StatusCondition(Self.conditionType, true, reason: "Accepted", message: "attached to ztunnel")
        }
        let start =
            "ztunnel does not support HTTP attributes (found: \(findings.unsupported.sorted().joined(separator: ", "))). "
            + "In ambient mode you must use a waypoint proxy to enforce HTTP rules. "
        let effect: String
        switch policy.action {
        case .allow:
            effect =
                "Within an ALLOW policy, rules matching HTTP attributes are omitted. "
                + "This will be more restrictive than requested."
        case .deny where policy.rules.contains(where: \.canMatch):
            effect =
                "Within a DENY policy, rules with HTTP attributes are enforced without them. "
                + "This will be more restrictive than requested."
        case .deny:
            effect =
                "No enforceable rules are left at the node proxy, so this policy has no effect there. "
                + "Use a waypoint with a targetRef."
        }
        let numbers = findings.unsupportedRules.map(String.init).joined(separator: ", ")
        return StatusCondition(
            Self.conditionType, true, reason: "UnsupportedValue",
            message: start + effect + " Rules concerned, counted from 0: \(numbers).")
    }
}

extension AuthorizationPolicy.Rule {
    /// Whether any connection can match: a match without attributes matches nothing.
    var canMatch: Bool {
        self.clauses.allSatisfy { clause in
            clause.matches.isEmpty || clause.matches.contains { $0 != AuthorizationPolicy.Match() }
        }
    }
}
