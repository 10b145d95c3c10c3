import MeshIdentity
import MeshModel

extension AuthorizationPolicy {
    func matches(_ facts: ConnectionFacts) -> Bool {
        self.rules.contains { rule in rule.clauses.allSatisfy { $0.matches(facts) } }
    }
}

extension AuthorizationPolicy.Clause {
    func matches(_ facts: ConnectionFacts) -> Bool {
        self.matches.isEmpty || self.matches.contains { $0.matches(facts) }
    }
}

extension AuthorizationPolicy.Match {
    private var isEmpty: Bool { self == Self() }

    func matches(_ facts: ConnectionFacts) -> Bool {
        if self.isEmpty { return false }
        let identity = facts.identity
        return Self.agree(self.namespaces, self.notNamespaces) { $0.matches(identity?.namespace ?? "") }
            && Self.agree(self.principals, self.notPrincipals) { match in
                identity.map { match.matches($0.principal) } ?? false
            }
            && Self.agree(self.serviceAccounts, self.notServiceAccounts) { match in
                identity?.namespace == match.namespace && identity?.serviceAccount == match.serviceAccount
            }
            && Self.agree(self.sourceIPs, self.notSourceIPs) { $0.contains(facts.source) }
            && Self.agree(self.destinationIPs, self.notDestinationIPs) { $0.contains(facts.destination.address) }
            && Self.agree(self.destinationPorts, self.notDestinationPorts) { $0 == facts.destination.port }
    }

    /// Any positive value (an empty list asks nothing) and no negative one.
    private static func agree<Value>(_ wanted: [Value], _ unwanted: [Value], _ test: (Value) -> Bool) -> Bool {
        (wanted.isEmpty || wanted.contains(where: test)) && !unwanted.contains(where: test)
    }
}

extension AuthorizationPolicy.StringMatch {
    /// The empty string matches nothing, not even `exact("")`: it stands for "no identity".
    func matches(_ value: String) -> Bool {
        if value.isEmpty { return false }
        switch self {
        // Bytes, not characters: texts that only look alike are different names.
        case .exact(let text): return value.utf8.elementsEqual(text.utf8)
        case .prefix(let text): return value.utf8.starts(with: text.utf8)
        case .suffix(let text): return value.utf8.reversed().starts(with: text.utf8.reversed())
        case .presence: return true
        }
    }
}
