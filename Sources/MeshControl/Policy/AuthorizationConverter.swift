import KubeAPI
package import MeshModel

/// AuthorizationPolicy → what the node proxy enforces, and the truth about it for the object's status.
///
/// The node proxy sees connections, not requests. Whatever needs more than a connection's facts is left out in the
/// restrictive direction and reported: an ALLOW rule that needs it is dropped whole (nothing is allowed by a half
/// rule); of a DENY rule the layer-4 remainder stays. A value that cannot be read is treated the same way, except
/// that its DENY rule then denies everything: which connections it meant cannot be known.
package enum AuthorizationConverter {
    package struct Acceptance: Hashable, Sendable {
        package var isAccepted: Bool
        package var reason: String
        package var message: String
    }
    package struct Outcome: Hashable, Sendable {
        /// Nil: nothing goes to the node proxy.
        package var policy: AuthorizationPolicy?
        /// The condition `ZtunnelAccepted`; nil when the policy is not meant for the node proxy.
        package var acceptance: Acceptance?
    }

    package static func convert(_ view: PolicyView, _ settings: MeshSettings) -> Outcome {
        if view.hasTargets { return Outcome(policy: nil, acceptance: nil) }
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
        var unsupported: Set<String> = []
        var invalid: [String] = []
        for json in view.rules {
            var reader = RuleReader(namespace: view.namespace)
            let rule = reader.rule(json)
            unsupported.formUnion(reader.unsupported)
            invalid += reader.invalid
            switch action {
            case .allow:
                if reader.unsupported.isEmpty && reader.invalid.isEmpty { policy.rules.append(rule) }
            case .deny:
                policy.rules.append(reader.invalid.isEmpty ? rule : AuthorizationPolicy.Rule(clauses: []))
            }
        }
        return Outcome(policy: policy, acceptance: Self.acceptance(policy, unsupported, invalid))
    }

    private static func refused(_ message: String) -> Outcome {
        Outcome(
            policy: nil, acceptance: Acceptance(isAccepted: false, reason: "UnsupportedValue", message: message))
    }

    private static func acceptance(
        _ policy: AuthorizationPolicy, _ unsupported: Set<String>, _ invalid: [String]
    ) -> Acceptance {
        if !invalid.isEmpty {
            let effect =
                policy.action == .allow
                ? "Rules with such values are omitted" : "Rules with such values deny every connection in scope"
            return Acceptance(
                isAccepted: false, reason: "Invalid",
                message: "unreadable values (\(invalid.sorted().joined(separator: ", "))). \(effect)"
                    + " until they are corrected.")
        }
        if unsupported.isEmpty {
            return Acceptance(isAccepted: true, reason: "Accepted", message: "attached to ztunnel")
        }
        let start =
            "ztunnel does not support HTTP attributes (found: \(unsupported.sorted().joined(separator: ", "))). "
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
        return Acceptance(isAccepted: true, reason: "UnsupportedValue", message: start + effect)
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

/// Reads one element of `spec.rules`.
private struct RuleReader {
    let namespace: String
    /// Attributes that need more than a connection.
    var unsupported: Set<String> = []
    var invalid: [String] = []

    init(namespace: String) { self.namespace = namespace }

    mutating func rule(_ json: JSONValue) -> AuthorizationPolicy.Rule {
        var clauses: [AuthorizationPolicy.Clause] = []
        if let to = json["to"]?.array, !to.isEmpty {
            clauses.append(AuthorizationPolicy.Clause(matches: to.map { self.operation($0["operation"] ?? [:]) }))
        }
        if let from = json["from"]?.array, !from.isEmpty {
            clauses.append(AuthorizationPolicy.Clause(matches: from.map { self.source($0["source"] ?? [:]) }))
        }
        for condition in json["when"]?.array ?? [] {
            clauses.append(AuthorizationPolicy.Clause(matches: [self.condition(condition)]))
        }
        return AuthorizationPolicy.Rule(clauses: clauses)
    }

    private mutating func operation(_ json: JSONValue) -> AuthorizationPolicy.Match {
        var match = AuthorizationPolicy.Match()
        for (name, value) in json.object ?? [:] {
            let values = self.strings(value)
            if values.isEmpty { continue }
            switch name {
            case "ports": match.destinationPorts = self.ports(values)
            case "notPorts": match.notDestinationPorts = self.ports(values)
            default: self.unsupported.insert(name)
            }
        }
        return match
    }

    private mutating func source(_ json: JSONValue) -> AuthorizationPolicy.Match {
        var match = AuthorizationPolicy.Match()
        for (name, value) in json.object ?? [:] {
            let values = self.strings(value)
            if values.isEmpty { continue }
            switch name {
            case "principals": match.principals = values.map(Self.text)
            case "notPrincipals": match.notPrincipals = values.map(Self.text)
            case "namespaces": match.namespaces = values.map(Self.text)
            case "notNamespaces": match.notNamespaces = values.map(Self.text)
            case "serviceAccounts": match.serviceAccounts = values.map(self.account)
            case "notServiceAccounts": match.notServiceAccounts = values.map(self.account)
            case "ipBlocks": match.sourceIPs = self.blocks(values)
            case "notIpBlocks": match.notSourceIPs = self.blocks(values)
            default: self.unsupported.insert(name)
            }
        }
        return match
    }

    private mutating func condition(_ json: JSONValue) -> AuthorizationPolicy.Match {
        var match = AuthorizationPolicy.Match()
        let key = json["key"]?.string ?? ""
        let (values, others) = (self.strings(json["values"]), self.strings(json["notValues"]))
        switch key {
        case "source.ip":
            (match.sourceIPs, match.notSourceIPs) = (self.blocks(values), self.blocks(others))
        case "source.namespace":
            (match.namespaces, match.notNamespaces) = (values.map(Self.text), others.map(Self.text))
        case "source.principal":
            (match.principals, match.notPrincipals) = (values.map(Self.text), others.map(Self.text))
        case "destination.ip":
            (match.destinationIPs, match.notDestinationIPs) = (self.blocks(values), self.blocks(others))
        case "destination.port":
            (match.destinationPorts, match.notDestinationPorts) = (self.ports(values), self.ports(others))
        default: self.unsupported.insert(key)
        }
        return match
    }

    private func strings(_ value: JSONValue?) -> [String] { (value?.array ?? []).compactMap(\.string) }

    private static func text(_ value: String) -> AuthorizationPolicy.StringMatch {
        if value == "*" { return .presence }
        if value.hasPrefix("*") { return .suffix(String(value.dropFirst())) }
        if value.hasSuffix("*") { return .prefix(String(value.dropLast())) }
        return .exact(value)
    }

    private func account(_ value: String) -> AuthorizationPolicy.ServiceAccountMatch {
        let parts = value.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        return parts.count == 2
            ? .init(namespace: String(parts[0]), serviceAccount: String(parts[1]))
            : .init(namespace: self.namespace, serviceAccount: value)
    }

    private mutating func ports(_ values: [String]) -> [UInt16] {
        values.compactMap { value in
            guard let port = UInt16(value) else {
                self.invalid.append("port \(value)")
                return nil
            }
            return port
        }
    }

    private mutating func blocks(_ values: [String]) -> [CIDR] {
        values.compactMap { value in
            guard let block = CIDR(value) else {
                self.invalid.append("address \(value)")
                return nil
            }
            return block
        }
    }
}
