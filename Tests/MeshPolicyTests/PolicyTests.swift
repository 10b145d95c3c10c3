import MeshIdentity
import MeshModel
import MeshPolicy
import Testing

typealias Match = AuthorizationPolicy.Match

func identity(_ namespace: String = "n", _ account: String = "a", domain: String = "td") -> WorkloadIdentity {
    WorkloadIdentity(trustDomain: domain, namespace: namespace, serviceAccount: account)
}

func facts(
    _ identity: WorkloadIdentity? = nil, from source: String = "10.0.0.1", to destination: String = "10.0.0.2:80"
) -> ConnectionFacts {
    ConnectionFacts(identity: identity, source: IPAddress(source)!, destination: IPEndpoint(destination)!)
}

func match(_ fill: (inout Match) -> Void) -> Match {
    var match = Match()
    fill(&match)
    return match
}

func policy(
    _ name: String, _ action: AuthorizationPolicy.Action = .allow, namespace: String = "n",
    scope: AuthorizationPolicy.Scope = .namespace, dryRun: Bool = false, rules: [AuthorizationPolicy.Rule]
) -> AuthorizationPolicy {
    AuthorizationPolicy(
        key: NamespacedName(namespace: namespace, name: name), scope: scope, action: action, rules: rules,
        isDryRun: dryRun)
}

func rule(_ matches: Match...) -> AuthorizationPolicy.Rule { .init(clauses: matches.map { .init(matches: [$0]) }) }

let anybody = AuthorizationPolicy.Rule(clauses: [])

/// Whether the one policy, an ALLOW policy, lets the connection in.
func allows(_ rules: [AuthorizationPolicy.Rule], _ facts: ConnectionFacts) -> Bool {
    if case .permit = PolicySet([policy("p", rules: rules)]).decide(facts, namespace: "n", named: []) { return true }
    return false
}

func allows(_ match: Match, _ facts: ConnectionFacts) -> Bool { allows([rule(match)], facts) }

@Suite("A policy's structure")
struct PolicyStructureTests {
    @Test("R1: no rules match never, no clauses and no matches always, an empty match never")
    func empties() {
        #expect(!allows([], facts()))
        #expect(allows([anybody], facts()))
        #expect(allows([.init(clauses: [.init(matches: [])])], facts()))
        #expect(!allows(Match(), facts()))
    }

    @Test("R2: clauses are AND-ed, matches OR-ed, and the network plays no part")
    func clauses() {
        let namespaces = AuthorizationPolicy.Clause(matches: [
            match { $0.namespaces = [.exact("a")] }, match { $0.namespaces = [.exact("b")] },
        ])
        let port = AuthorizationPolicy.Clause(matches: [match { $0.destinationPorts = [80] }])
        let rules = [AuthorizationPolicy.Rule(clauses: [namespaces, port])]
        #expect(allows(rules, facts(identity("a"))))
        #expect(allows(rules, facts(identity("b"))))
        #expect(!allows(rules, facts(identity("c"))))
        #expect(!allows(rules, facts(identity("a"), to: "10.0.0.2:81")))
    }

    @Test("R3: one of two rules is enough")
    func rules() {
        let rules = [rule(match { $0.namespaces = [.exact("a")] }), rule(match { $0.destinationPorts = [81] })]
        #expect(allows(rules, facts(identity("a"))))
        #expect(allows(rules, facts(to: "10.0.0.2:81")))
        #expect(!allows(rules, facts()))
    }

    @Test("attributes of one match are AND-ed")
    func attributes() {
        let both = match {
            $0.namespaces = [.exact("a")]
            $0.notDestinationPorts = [81]
        }
        #expect(allows(both, facts(identity("a"))))
        #expect(!allows(both, facts(identity("a"), to: "10.0.0.2:81")))
        #expect(!allows(both, facts(identity("b"))))
    }
}

@Suite("A match")
struct PolicyMatchTests {
    /// Peers, and whether they are the one in question.
    private typealias Peers = [(WorkloadIdentity?, Bool)]

    @Test("R4: namespaces are those of the identity; plaintext has none")
    func namespaces() {
        let wanted = match { $0.namespaces = [.exact("a")] }
        let unwanted = match { $0.notNamespaces = [.exact("a")] }
        for (peer, isIn) in [(nil, false), (identity("a"), true), (identity("b"), false)] as Peers {
            #expect(allows(wanted, facts(peer)) == isIn)
            #expect(allows(unwanted, facts(peer)) == !isIn)
        }
    }

    @Test("R5: principals are whole identities; plaintext is nobody")
    func principals() {
        let wanted = match { $0.principals = [.exact("td/ns/n/sa/a")] }
        let unwanted = match { $0.notPrincipals = [.exact("td/ns/n/sa/a")] }
        for (peer, isIn) in [
            (nil, false), (identity(), true), (identity("n", "b"), false), (identity(domain: "other"), false),
        ] as Peers {
            #expect(allows(wanted, facts(peer)) == isIn)
            #expect(allows(unwanted, facts(peer)) == !isIn)
        }
    }

    @Test("R6: a principal with the scheme matches nobody")
    func scheme() {
        for value in [AuthorizationPolicy.StringMatch.exact("spiffe://td/ns/n/sa/a"), .prefix("spiffe://")] {
            #expect(!allows(match { $0.principals = [value] }, facts(identity())))
        }
    }

    @Test("R7: service accounts ignore the trust domain; plaintext has none")
    func serviceAccounts() {
        let account = AuthorizationPolicy.ServiceAccountMatch(namespace: "n", serviceAccount: "a")
        let wanted = match { $0.serviceAccounts = [account] }
        let unwanted = match { $0.notServiceAccounts = [account] }
        for (peer, isIn) in [
            (nil, false), (identity(), true), (identity(domain: "other"), true), (identity("m"), false),
            (identity("n", "b"), false),
        ] as Peers {
            #expect(allows(wanted, facts(peer)) == isIn)
            #expect(allows(unwanted, facts(peer)) == !isIn)
        }
    }

    @Test("R8: blocks cover their range")
    func blocks() {
        let range = match { $0.destinationIPs = [CIDR("10.0.0.0/24")!] }
        #expect(allows(range, facts(to: "10.0.0.255:1")))
        #expect(!allows(range, facts(to: "10.0.1.0:1")))
        let single = match { $0.sourceIPs = [CIDR("10.0.0.1/32")!] }
        #expect(allows(single, facts()))
        #expect(!allows(single, facts(from: "10.0.0.2")))
        #expect(!allows(match { $0.notSourceIPs = [CIDR("10.0.0.0/8")!] }, facts()))
        #expect(allows(match { $0.notDestinationIPs = [CIDR("10.0.1.0/24")!] }, facts()))
    }

    @Test("R9: nothing matches the empty text, not even presence")
    func empty() {
        for value in [AuthorizationPolicy.StringMatch.exact(""), .prefix(""), .suffix(""), .presence] {
            #expect(!allows(match { $0.namespaces = [value] }, facts()))
        }
        #expect(allows(match { $0.namespaces = [.presence] }, facts(identity())))
        #expect(allows(match { $0.notPrincipals = [.presence] }, facts()))
        #expect(!allows(match { $0.notPrincipals = [.presence] }, facts(identity())))
    }

    @Test("prefixes and suffixes compare bytes")
    func prefixes() {
        #expect(allows(match { $0.principals = [.prefix("td/ns/n/")] }, facts(identity())))
        #expect(!allows(match { $0.principals = [.prefix("td/ns/m/")] }, facts(identity())))
        #expect(allows(match { $0.principals = [.suffix("/sa/a")] }, facts(identity())))
        #expect(!allows(match { $0.principals = [.suffix("/sa/b")] }, facts(identity())))
        #expect(!allows(match { $0.principals = [.prefix("td/ns/n/sa/a/longer")] }, facts(identity())))
        // The Kelvin sign is equal to K for Swift's texts, and is another account here.
        #expect(!allows(match { $0.principals = [.suffix("\u{212A}")] }, facts(identity("n", "K"))))
        #expect(!allows(match { $0.principals = [.exact("td/ns/n/sa/\u{212A}")] }, facts(identity("n", "K"))))
    }
}

@Suite("A decision")
struct PolicyDecisionTests {
    private func denial(_ verdict: Verdict) -> Denial? {
        if case .deny(let denial) = verdict { return denial }
        return nil
    }

    @Test("R10: DENY wins over ALLOW")
    func denyWins() {
        let set = PolicySet([policy("yes", rules: [anybody]), policy("no", .deny, rules: [anybody])])
        let denial = self.denial(set.decide(facts(), namespace: "n", named: []))
        #expect(denial == .explicit(by: NamespacedName(namespace: "n", name: "no")))
        #expect(denial?.description == "explicitly denied by: n/no")
    }

    @Test("R11: without a policy everything passes")
    func none() {
        let set = PolicySet([policy("elsewhere", namespace: "m", rules: [])])
        guard case .permit(let permit) = set.decide(facts(), namespace: "n", named: []) else {
            Issue.record("refused without a policy")
            return
        }
        #expect(permit.allowedBy == nil)
        #expect(permit.facts == facts())
    }

    @Test("R12: with ALLOW policies, one has to match")
    func notAllowed() {
        let set = PolicySet([policy("p", rules: [rule(match { $0.namespaces = [.exact("x")] })])])
        #expect(
            self.denial(set.decide(facts(identity()), namespace: "n", named: []))?.description
                .hasPrefix("allow policies exist, but none allowed") == true)
        guard case .permit(let permit) = set.decide(facts(identity("x")), namespace: "n", named: []) else {
            Issue.record("refused what a policy allows")
            return
        }
        #expect(permit.allowedBy == NamespacedName(namespace: "n", name: "p"))
    }

    @Test("R13: dry-run policies are reported and change nothing")
    func dryRun() {
        let set = PolicySet([
            policy("a", .deny, dryRun: true, rules: [anybody]), policy("b", dryRun: true, rules: [anybody]),
            policy("c", dryRun: true, rules: []),
        ])
        var reported: [String] = []
        let verdict = set.decide(facts(), namespace: "n", named: []) { reported.append($0.key.name) }
        #expect(self.denial(verdict) == nil)
        #expect(reported.sorted() == ["a", "b"])
    }

    @Test("applies global policies everywhere, namespace ones there, selector ones where they are named")
    func scopes() {
        let key = NamespacedName(namespace: "n", name: "s")
        let selector = PolicySet([policy("s", .deny, scope: .workloadSelector, rules: [anybody])])
        #expect(self.denial(selector.decide(facts(), namespace: "n", named: [])) == nil)
        #expect(self.denial(selector.decide(facts(), namespace: "n", named: [key])) == .explicit(by: key))
        #expect(self.denial(selector.decide(facts(), namespace: "other", named: [key])) == .explicit(by: key))
        let global = PolicySet([policy("g", .deny, namespace: "root", scope: .global, rules: [anybody])])
        #expect(self.denial(global.decide(facts(), namespace: "n", named: [])) != nil)
        let namespace = PolicySet([policy("p", .deny, rules: [anybody])])
        #expect(self.denial(namespace.decide(facts(), namespace: "m", named: [])) == nil)
    }

    @Test("refuses when a named policy is missing: it may be a DENY that is still on its way")
    func missing() {
        let key = NamespacedName(namespace: "n", name: "late")
        #expect(
            self.denial(PolicySet.empty.decide(facts(), namespace: "n", named: [key])) == .unknownPolicy(key))
        let allow = PolicySet([policy("p", rules: [anybody])])
        #expect(self.denial(allow.decide(facts(), namespace: "n", named: [key])) == .unknownPolicy(key))
    }

    @Test("S17: of two policies with one key only the later applies")
    func replaced() {
        let old = policy("p", .deny, rules: [anybody])
        let new = policy("p", .deny, scope: .workloadSelector, rules: [anybody])
        let set = PolicySet([old, new])
        #expect(self.denial(set.decide(facts(), namespace: "n", named: [])) == nil)
        #expect(set.all.count == 1)
    }
}
