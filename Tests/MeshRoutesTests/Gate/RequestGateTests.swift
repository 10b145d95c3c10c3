import MeshHTTP
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshRoutes
import Testing

@Suite("Policies of requests")
struct RequestGateTests {
    @Test("without policies everything passes")
    func open() {
        #expect(gate().isOpen)
        #expect(gate().verdict() == .permit(by: nil))
        #expect(gate().passesStream())
    }

    @Test("DENY wins; with ALLOW policies one must match")
    func order() {
        let allowGet = policy(.allow, "get", rule(to: [operation { $0.methods = [.exact("GET")] }]))
        let allowAll = policy(.allow, "all", rule())
        let denyAdmin = policy(
            .deny, "admin", rule(to: [operation { $0.methods = [.exact("PUT")] }]),
            rule(to: [operation { $0.paths = [.text(.prefix("/admin"))] }]))
        #expect(gate(allowGet).passes(request("/", "GET")))
        #expect(gate(allowGet).verdict(request("/", "POST")) == .refuse(.notAllowed))
        #expect(gate(allowGet, allowAll).passes(request("/", "POST")))
        guard case .refuse(.denied(let match)) = gate(allowAll, denyAdmin).verdict(request("/admin/x")) else {
            Issue.record("denied")
            return
        }
        #expect(match.description == "ns[shop]-policy[admin]-rule[1]")
        #expect(GateRefusal.denied(match).detail == "rbac_access_denied_matched_policy[ns[shop]-policy[admin]-rule[1]]")
        #expect(GateRefusal.notAllowed.detail == "rbac_access_denied_matched_policy[none]")
        #expect(GateRefusal.denied(match).status == 403)
        #expect(GateRefusal.denied(match).body == "RBAC: access denied")
        // An ALLOW policy without rules allows nothing; a DENY policy without rules denies nothing.
        #expect(!gate(policy(.allow)).passes())
        #expect(!gate(policy(.allow)).passesStream())
        #expect(gate(policy(.deny)).passes())
        // Attached to service and waypoint: as if they were one.
        var (first, second) = (TrafficGate(), TrafficGate())
        (first.policies, second.policies) = ([allowGet], [policy(.allow)])
        #expect(RequestGate([first, second], trustDomains: []).passes(request("/", "GET")))
    }

    @Test("what cannot be enforced refuses everything")
    func closed() {
        var closed = TrafficGate()
        closed.closedBecause = "CUSTOM policies need a provider"
        closed.policies = [policy(.allow, rule())]
        let gate1 = RequestGate([TrafficGate(), closed], trustDomains: [])
        #expect(gate1.verdict() == .refuse(.closed("CUSTOM policies need a provider")))
        #expect(!gate1.passesStream())
        #expect(!gate1.isOpen)
        let template = gate(policy(.deny, rule(to: [operation { $0.paths = [.template("/a/{*}b")] }])))
        #expect(!template.passes(request("/elsewhere")))
        let condition = gate(
            policy(.allow, rule(when: [.init(attribute: .sourceIP, values: [.text(.exact("10.0.0.1"))])])))
        guard case .refuse(.closed(let reason)) = condition.verdict() else {
            Issue.record("closed")
            return
        }
        #expect(reason.hasPrefix("policy shop/p, rule 0: "))
        #expect(!gate(policy(.allow, rule(when: [.init(attribute: .sourceIP)]))).passes())
    }

    @Test("AUDIT notes, and decides nothing")
    func audit() {
        let gate = gate(policy(.audit, rule(to: [operation { $0.methods = [.exact("GET")] }])))
        let decision = gate.decide(request(), from: peer(), remote: IPAddress("10.0.0.1")!, now: 0)
        #expect(decision.verdict == .permit(by: nil))
        #expect(decision.audit?.policy.name == "p")
        #expect(gate.decide(request("/", "PUT"), from: peer(), remote: IPAddress("10.0.0.1")!, now: 0).audit == nil)
    }

    @Test("policies on trial are reported, never enforced")
    func dryRun() {
        let deny = policy(.deny, "trial", isDryRun: true, rule(to: [operation { $0.methods = [.exact("PUT")] }]))
        let allow = policy(
            .allow, "only", isDryRun: true, rule(to: [operation { $0.methods = [.exact("GET"), .exact("PUT")] }]))
        func decide(_ method: String, _ policies: RequestPolicy...) -> GateDecision {
            var gate = TrafficGate()
            gate.policies = policies
            return RequestGate([gate], trustDomains: [])
                .decide(request("/", method), from: peer(), remote: IPAddress("10.0.0.1")!, now: 0)
        }
        let put = decide("PUT", deny, allow)
        #expect(put.verdict == .permit(by: nil))
        #expect(put.dryRun.map(\.policy.name) == ["trial", "only"])
        #expect(put.dryRunRefuses == true)
        #expect(decide("GET", deny, allow).dryRunRefuses == false)
        #expect(decide("POST", deny, allow).dryRunRefuses == true)
        #expect(decide("POST", deny).dryRunRefuses == false)
        #expect(decide("POST").dryRunRefuses == nil)
    }

    @Test("sources are AND operations AND conditions; lists are OR")
    func combination() {
        let gate = gate(
            policy(
                .allow,
                rule(
                    from: [source { $0.namespaces = [.exact("front")] }, source { $0.namespaces = [.exact("back")] }],
                    to: [
                        operation { ($0.methods, $0.ports) = ([.exact("GET")], [80]) },
                        operation { $0.methods = [.exact("PUT")] },
                    ],
                    when: [.init(attribute: .requestHeader("x"), values: [.text(.exact("1"))])])))
        let fields: HTTP2HeaderList = ["x": "1"]
        #expect(gate.passes(request("/", "GET", fields)))
        #expect(gate.passes(request("/", "PUT", fields), from: peer("spiffe://t/ns/back/sa/x", port: 81)))
        #expect(!gate.passes(request("/", "GET", fields), from: peer(port: 81)))
        #expect(!gate.passes(request("/", "GET", fields), from: peer("spiffe://t/ns/else/sa/x")))
        #expect(!gate.passes(request("/", "GET")))
    }

    @Test("of streams: ALLOW that asks for a request's attribute never matches, DENY forgets it")
    func streams() {
        let get = operation { $0.methods = [.exact("GET")] }
        let getOn81 = operation { ($0.methods, $0.ports) = ([.exact("GET")], [81]) }
        #expect(!gate(policy(.allow, rule(to: [get]))).passesStream())
        #expect(!gate(policy(.allow, rule(to: [operation { $0.notPaths = [.text(.exact("/x"))] }]))).passesStream())
        #expect(!gate(policy(.allow, rule(from: [source { $0.requestPrincipals = [.presence] }]))).passesStream())
        #expect(
            !gate(policy(.allow, rule(when: [.init(attribute: .requestHeader("x"), notValues: [.text(.presence)])])))
                .passesStream())
        // Another alternative may.
        #expect(gate(policy(.allow, rule(to: [get, operation { $0.ports = [80] }]))).passesStream())
        #expect(
            gate(policy(.allow, rule(to: [get]), rule(from: [source { $0.namespaces = [.exact("front")] }])))
                .passesStream())
        // What is left of DENY decides; nothing left denies all.
        #expect(!gate(policy(.deny, rule(to: [get]))).passesStream())
        #expect(gate(policy(.deny, rule(to: [getOn81]))).passesStream())
        #expect(!gate(policy(.deny, rule(to: [getOn81]))).passesStream(from: peer(port: 81)))
        #expect(
            gate(policy(.deny, rule(from: [source { $0.namespaces = [.exact("back")] }], to: [get]))).passesStream())
    }
}
