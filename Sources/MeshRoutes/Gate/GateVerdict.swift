package import MeshModel

/// Which rule of which policy matched.
package struct PolicyMatch: Hashable, Sendable, CustomStringConvertible {
    package let policy: NamespacedName
    /// From 0, in the order of the object.
    package let rule: Int
    package let action: RequestPolicy.Action

    package init(policy: NamespacedName, rule: Int, action: RequestPolicy.Action) {
        self.policy = policy
        self.rule = rule
        self.action = action
    }

    /// As Istio names rules, so that searches in logs keep working.
    package var description: String {
        "ns[\(self.policy.namespace)]-policy[\(self.policy.name)]-rule[\(self.rule)]"
    }
}

package enum GateRefusal: Hashable, Sendable {
    /// A policy cannot be enforced; why.
    case closed(String)
    case badToken(TokenRefusal)
    case denied(PolicyMatch)
    /// ALLOW policies exist and none matched.
    case notAllowed
    /// Come again after so many nanoseconds.
    case rateLimited(NamespacedName, after: UInt64)

    package var status: Int {
        switch self {
        case .closed, .denied, .notAllowed: 403
        case .badToken(let refusal): refusal.status
        case .rateLimited: 429
        }
    }

    /// The body of the answer, as Istio's users know it: it tells the client nothing about the policy.
    package var body: String {
        switch self {
        case .closed, .denied, .notAllowed: "RBAC: access denied"
        case .badToken(let refusal): refusal.description
        case .rateLimited: "local_rate_limited"
        }
    }

    /// For the access log, without spaces.
    package var detail: String {
        switch self {
        case .closed(let reason): "policy_not_enforceable[\(Self.unspaced(reason))]"
        case .badToken(let refusal): "jwt_authn_access_denied{\(Self.unspaced(refusal.description))}"
        case .denied(let match): "rbac_access_denied_matched_policy[\(match)]"
        case .notAllowed: "rbac_access_denied_matched_policy[none]"
        case .rateLimited(let key, _): "local_rate_limited[\(key)]"
        }
    }

    /// For a `retry-after` field; whole seconds, at least 1.
    package var retryAfterSeconds: UInt64? {
        if case .rateLimited(_, let nanoseconds) = self, nanoseconds < .max {
            nanoseconds / 1_000_000_000 + 1
        } else {
            nil
        }
    }

    private static func unspaced(_ text: String) -> String { String(text.map { $0 == " " ? "_" : $0 }) }
}

package enum GateVerdict: Hashable, Sendable {
    /// With the ALLOW policy that matched; nil when there is none.
    case permit(by: PolicyMatch?)
    case refuse(GateRefusal)
}

package struct GateDecision: Hashable, Sendable {
    package var verdict: GateVerdict
    /// The first AUDIT policy that matched.
    package var audit: PolicyMatch?
    /// Policies on trial that matched.
    package var dryRun: [PolicyMatch] = []
    /// Were they enforced beside the others, this would be the verdict; nil when none is on trial.
    package var dryRunRefuses: Bool?

    package init(verdict: GateVerdict) { self.verdict = verdict }

    /// What AUDIT policies and those on trial say of a request that passes, for the access log; nil: nothing.
    package var note: String? {
        var notes = self.audit.map { ["rbac_audit_matched_policy[\($0)]"] } ?? []
        if self.dryRunRefuses == true {
            notes.append("rbac_dry_run_denied[\(self.dryRun.map(\.description).joined(separator: ","))]")
        }
        return notes.isEmpty ? nil : notes.joined(separator: ",")
    }
}
