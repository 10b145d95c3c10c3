import MeshHTTP
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshRoutes
import Testing

// What tests of the gate write policies and peers with.

func source(_ change: (inout RequestPolicy.Source) -> Void) -> RequestPolicy.Source {
    var source = RequestPolicy.Source()
    change(&source)
    return source
}

func operation(_ change: (inout RequestPolicy.Operation) -> Void) -> RequestPolicy.Operation {
    var operation = RequestPolicy.Operation()
    change(&operation)
    return operation
}

func rule(
    from: [RequestPolicy.Source] = [], to: [RequestPolicy.Operation] = [], when: [RequestPolicy.Condition] = []
) -> RequestPolicy.Rule {
    var rule = RequestPolicy.Rule()
    (rule.from, rule.to, rule.when) = (from, to, when)
    return rule
}

func policy(_ action: RequestPolicy.Action, _ rules: RequestPolicy.Rule...) -> RequestPolicy {
    RequestPolicy(key: NamespacedName(namespace: "shop", name: "p"), action: action, rules: rules)
}

func policy(
    _ action: RequestPolicy.Action, _ name: String, isDryRun: Bool = false, _ rules: RequestPolicy.Rule...
) -> RequestPolicy {
    RequestPolicy(
        key: NamespacedName(namespace: "shop", name: name), action: action, rules: rules, isDryRun: isDryRun)
}

func gate(_ policies: RequestPolicy..., trustDomains: [String] = ["cluster.local", "old.domain"]) -> RequestGate {
    var gate = TrafficGate()
    gate.policies = policies
    return RequestGate([gate], trustDomains: trustDomains)
}

func peer(
    _ identity: String? = "spiffe://cluster.local/ns/front/sa/web", source: String = "10.0.0.1", port: UInt16 = 80,
    serverName: String = ""
) -> PeerFacts {
    PeerFacts(
        ConnectionFacts(
            identity: identity.map { try! WorkloadIdentity(spiffe: $0) }, source: IPAddress(source)!,
            destination: IPEndpoint(address: IPAddress("10.96.0.10")!, port: port)), serverName: serverName)
}

let token = VerifiedToken(
    principal: "iss/alice", audiences: ["shop", "bank"], presenter: "app",
    claims: .object([
        "groups": .list([.text("a"), .text("b")]), "role": .text("admin"), "n": .object(["x": .text("1")]),
        "e": .text(""),
    ]))

extension RequestGate {
    func verdict(
        _ head: RequestHead = request(), from facts: PeerFacts = peer(), remote: String = "192.0.2.1",
        token: TokenOutcome = .none
    ) -> GateVerdict {
        self.decide(head, from: facts, remote: IPAddress(remote)!, token: token, now: 0).verdict
    }

    func passes(
        _ head: RequestHead = request(), from facts: PeerFacts = peer(), remote: String = "192.0.2.1",
        token: TokenOutcome = .none
    ) -> Bool {
        if case .permit = self.verdict(head, from: facts, remote: remote, token: token) { true } else { false }
    }

    func passesStream(from facts: PeerFacts = peer()) -> Bool {
        if case .permit = self.decideStream(from: facts, now: 0).verdict { true } else { false }
    }
}

/// A rule that asks one thing of a request which `yes` has and `no` has not, positively and negatively, as ALLOW and
/// as DENY.
func check(
    _ positive: RequestPolicy.Rule, _ negative: RequestPolicy.Rule, yes: (RequestGate) -> Bool,
    no: (RequestGate) -> Bool
) {
    #expect(yes(gate(policy(.allow, positive))) && !no(gate(policy(.allow, positive))))
    #expect(!yes(gate(policy(.allow, negative))) && no(gate(policy(.allow, negative))))
    #expect(!yes(gate(policy(.deny, positive))) && no(gate(policy(.deny, positive))))
    #expect(yes(gate(policy(.deny, negative))) && !no(gate(policy(.deny, negative))))
}

func check(
    from change: (inout RequestPolicy.Source, Bool) -> Void, yes: @escaping (RequestGate) -> Bool,
    no: @escaping (RequestGate) -> Bool
) {
    check(
        rule(from: [source { change(&$0, true) }]), rule(from: [source { change(&$0, false) }]), yes: yes, no: no)
}

func check(
    to change: (inout RequestPolicy.Operation, Bool) -> Void, yes: @escaping (RequestGate) -> Bool,
    no: @escaping (RequestGate) -> Bool
) {
    check(
        rule(to: [operation { change(&$0, true) }]), rule(to: [operation { change(&$0, false) }]), yes: yes, no: no)
}

func check(
    _ attribute: RequestPolicy.Attribute, _ value: RequestPolicy.ConditionValue,
    yes: @escaping (RequestGate) -> Bool, no: @escaping (RequestGate) -> Bool
) {
    check(
        rule(when: [.init(attribute: attribute, values: [value])]),
        rule(when: [.init(attribute: attribute, notValues: [value])]), yes: yes, no: no)
}
