import MeshHTTP
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshRoutes
import Testing

private typealias Source = RequestPolicy.Source
private typealias Operation = RequestPolicy.Operation

private func source(_ change: (inout Source) -> Void) -> Source {
    var source = Source()
    change(&source)
    return source
}

private func operation(_ change: (inout Operation) -> Void) -> Operation {
    var operation = Operation()
    change(&operation)
    return operation
}

private func rule(
    from: [Source] = [], to: [Operation] = [], when: [RequestPolicy.Condition] = []
) -> RequestPolicy.Rule {
    var rule = RequestPolicy.Rule()
    (rule.from, rule.to, rule.when) = (from, to, when)
    return rule
}

private func policy(_ action: RequestPolicy.Action, _ rules: RequestPolicy.Rule...) -> RequestPolicy {
    RequestPolicy(key: NamespacedName(namespace: "shop", name: "p"), action: action, rules: rules)
}

private func policy(
    _ action: RequestPolicy.Action, _ name: String, isDryRun: Bool = false, _ rules: RequestPolicy.Rule...
) -> RequestPolicy {
    RequestPolicy(
        key: NamespacedName(namespace: "shop", name: name), action: action, rules: rules, isDryRun: isDryRun)
}

private func gate(_ policies: RequestPolicy..., trustDomains: [String] = ["cluster.local", "old.domain"]) -> RequestGate
{
    var gate = TrafficGate()
    gate.policies = policies
    return RequestGate([gate], trustDomains: trustDomains)
}

private func peer(
    _ identity: String? = "spiffe://cluster.local/ns/front/sa/web", source: String = "10.0.0.1", port: UInt16 = 80,
    serverName: String = ""
) -> PeerFacts {
    PeerFacts(
        ConnectionFacts(
            identity: identity.map { try! WorkloadIdentity(spiffe: $0) }, source: IPAddress(source)!,
            destination: IPEndpoint(address: IPAddress("10.96.0.10")!, port: port)), serverName: serverName)
}

private let token = VerifiedToken(
    principal: "iss/alice", audiences: ["shop", "bank"], presenter: "app",
    claims: .object([
        "groups": .list([.text("a"), .text("b")]), "role": .text("admin"), "n": .object(["x": .text("1")]),
        "e": .text(""),
    ]))

extension RequestGate {
    fileprivate func verdict(
        _ head: RequestHead = request(), from facts: PeerFacts = peer(), remote: String = "192.0.2.1",
        token: TokenOutcome = .none
    ) -> GateVerdict {
        self.decide(head, from: facts, remote: IPAddress(remote)!, token: token, now: 0).verdict
    }

    fileprivate func passes(
        _ head: RequestHead = request(), from facts: PeerFacts = peer(), remote: String = "192.0.2.1",
        token: TokenOutcome = .none
    ) -> Bool {
        if case .permit = self.verdict(head, from: facts, remote: remote, token: token) { true } else { false }
    }

    fileprivate func passesStream(from facts: PeerFacts = peer()) -> Bool {
        if case .permit = self.decideStream(from: facts, now: 0).verdict { true } else { false }
    }
}

@Suite("Policies of requests")
struct RequestGateTests {
    // MARK: Verdicts

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

    // MARK: Sources

    @Test(
        "principals, in every trust domain of the mesh",
        arguments: [
            (.exact("cluster.local/ns/front/sa/web"), "spiffe://cluster.local/ns/front/sa/web", true),
            (.exact("cluster.local/ns/front/sa/web"), "spiffe://old.domain/ns/front/sa/web", true),
            (.exact("old.domain/ns/front/sa/web"), "spiffe://cluster.local/ns/front/sa/web", true),
            (.prefix("old.domain/ns/front/"), "spiffe://cluster.local/ns/front/sa/web", true),
            (.exact("cluster.local/ns/front/sa/web"), "spiffe://foreign/ns/front/sa/web", false),
            (.exact("foreign/ns/front/sa/web"), "spiffe://cluster.local/ns/front/sa/web", false),
            (.suffix("/sa/web"), "spiffe://foreign/ns/front/sa/web", true),
            (.exact("cluster.local/ns/front/sa/webs"), "spiffe://cluster.local/ns/front/sa/web", false),
            (.presence, "spiffe://foreign/ns/front/sa/web", true), (.presence, nil, false), (.prefix(""), nil, false),
        ] as [(RequestPolicy.StringMatch, String?, Bool)])
    func principals(match: RequestPolicy.StringMatch, identity: String?, wanted: Bool) {
        let facts = peer(identity)
        #expect(gate(policy(.allow, rule(from: [source { $0.principals = [match] }]))).passes(from: facts) == wanted)
        #expect(gate(policy(.deny, rule(from: [source { $0.notPrincipals = [match] }]))).passes(from: facts) == wanted)
        let condition = RequestPolicy.Condition(attribute: .sourcePrincipal, values: [.text(match)])
        #expect(gate(policy(.allow, rule(when: [condition]))).passes(from: facts) == wanted)
        #expect(gate(policy(.allow, rule(when: [condition]))).passesStream(from: facts) == wanted)
    }

    /// A rule that asks one thing of a request which `yes` has and `no` has not, positively and negatively, as ALLOW and
    /// as DENY.
    private func check(
        _ positive: RequestPolicy.Rule, _ negative: RequestPolicy.Rule, yes: (RequestGate) -> Bool,
        no: (RequestGate) -> Bool
    ) {
        #expect(yes(gate(policy(.allow, positive))) && !no(gate(policy(.allow, positive))))
        #expect(!yes(gate(policy(.allow, negative))) && no(gate(policy(.allow, negative))))
        #expect(!yes(gate(policy(.deny, positive))) && no(gate(policy(.deny, positive))))
        #expect(yes(gate(policy(.deny, negative))) && !no(gate(policy(.deny, negative))))
    }

    private func check(
        from change: (inout Source, Bool) -> Void, yes: @escaping (RequestGate) -> Bool,
        no: @escaping (RequestGate) -> Bool
    ) {
        self.check(
            rule(from: [source { change(&$0, true) }]), rule(from: [source { change(&$0, false) }]), yes: yes, no: no)
    }

    private func check(
        to change: (inout Operation, Bool) -> Void, yes: @escaping (RequestGate) -> Bool,
        no: @escaping (RequestGate) -> Bool
    ) {
        self.check(
            rule(to: [operation { change(&$0, true) }]), rule(to: [operation { change(&$0, false) }]), yes: yes, no: no)
    }

    private func check(
        _ attribute: RequestPolicy.Attribute, _ value: RequestPolicy.ConditionValue,
        yes: @escaping (RequestGate) -> Bool, no: @escaping (RequestGate) -> Bool
    ) {
        self.check(
            rule(when: [.init(attribute: attribute, values: [value])]),
            rule(when: [.init(attribute: attribute, notValues: [value])]), yes: yes, no: no)
    }

    @Test("every attribute of a source")
    func sources() {
        let account = AuthorizationPolicy.ServiceAccountMatch(namespace: "front", serviceAccount: "web")
        let other = peer("spiffe://foreign/ns/back/sa/web", source: "10.1.0.1")
        for stranger in [other, peer(nil, source: "2001:db8::1")] {
            self.check(
                from: { $1 ? ($0.namespaces = [.exact("front")]) : ($0.notNamespaces = [.exact("front")]) },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            self.check(
                from: { $1 ? ($0.serviceAccounts = [account]) : ($0.notServiceAccounts = [account]) },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            self.check(
                from: {
                    $1 ? ($0.trustDomains = [.exact("old.domain")]) : ($0.notTrustDomains = [.exact("old.domain")])
                },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            let block = CIDR("10.0.0.0/16")!
            self.check(
                from: { $1 ? ($0.ipBlocks = [block]) : ($0.notIPBlocks = [block]) },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            self.check(.sourceIP, .block(block), yes: { $0.passesStream() }, no: { $0.passesStream(from: stranger) })
            self.check(
                .sourceNamespace, .text(.exact("front")), yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            self.check(
                .sourceServiceAccount, .serviceAccount(account), yes: { $0.passes() }, no: { $0.passes(from: stranger) }
            )
            self.check(
                .sourceTrustDomain, .text(.exact("cluster.local")), yes: { $0.passes() },
                no: { $0.passes(from: stranger) })
        }
        let clients = CIDR("192.0.2.0/24")!
        self.check(
            from: { $1 ? ($0.remoteIPBlocks = [clients]) : ($0.notRemoteIPBlocks = [clients]) },
            yes: { $0.passes() }, no: { $0.passes(remote: "198.51.100.1") })
        self.check(.remoteIP, .block(clients), yes: { $0.passes() }, no: { $0.passes(remote: "198.51.100.1") })
    }

    @Test("tokens: principals, audiences, presenters and claims")
    func tokens() {
        for outcome in [
            TokenOutcome.none,
            .verified(VerifiedToken(principal: "", audiences: [], presenter: "", claims: .object([:]))),
        ] {
            self.check(
                from: {
                    $1 ? ($0.requestPrincipals = [.prefix("iss/")]) : ($0.notRequestPrincipals = [.prefix("iss/")])
                },
                yes: { $0.passes(token: .verified(token)) }, no: { $0.passes(token: outcome) })
            for (attribute, value) in [
                (.requestPrincipal, .presence), (.requestAudiences, .exact("bank")), (.requestPresenter, .suffix("pp")),
                (.requestClaim(["groups"]), .exact("b")), (.requestClaim(["role"]), .prefix("adm")),
                (.requestClaim(["n", "x"]), .exact("1")), (.requestClaim(["role"]), .presence),
            ] as [(RequestPolicy.Attribute, RequestPolicy.StringMatch)] {
                self.check(
                    attribute, .text(value), yes: { $0.passes(token: .verified(token)) },
                    no: { $0.passes(token: outcome) })
            }
        }
        for path in [["n"], ["n", "y"], ["role", "x"], ["groups", "a"], ["e"]] {
            let condition = RequestPolicy.Condition(attribute: .requestClaim(path), values: [.text(.presence)])
            #expect(!gate(policy(.allow, rule(when: [condition]))).passes(token: .verified(token)))
        }
        let refused = gate(policy(.allow, rule())).verdict(token: .refused(.expired))
        #expect(refused == .refuse(.badToken(.expired)))
        #expect(GateRefusal.badToken(.expired).status == 401)
        #expect(GateRefusal.badToken(.expired).detail == "jwt_authn_access_denied{Jwt_is_expired}")
    }

    // MARK: Operations

    @Test("every attribute of an operation")
    func operations() {
        self.check(
            to: { $1 ? ($0.methods = [.exact("GET")]) : ($0.notMethods = [.exact("GET")]) },
            yes: { $0.passes() }, no: { $0.passes(request("/", "get")) })
        self.check(
            to: { $1 ? ($0.ports = [80, 81]) : ($0.notPorts = [80, 81]) },
            yes: { $0.passes() }, no: { $0.passes(from: peer(port: 8080)) })
        self.check(
            to: { $1 ? ($0.hosts = [.suffix(".Example.COM")]) : ($0.notHosts = [.suffix(".Example.COM")]) },
            yes: { $0.passes(request(authority: "WWW.example.com")) },
            no: { $0.passes(request(authority: "example.com")) })
        self.check(
            .destinationPort, .port(80), yes: { $0.passesStream() }, no: { $0.passesStream(from: peer(port: 81)) })
        self.check(
            .destinationIP, .block(CIDR("10.96.0.0/12")!), yes: { $0.passes() },
            no: {
                $0.passes(
                    from: PeerFacts(
                        ConnectionFacts(
                            identity: nil, source: IPAddress("1.1.1.1")!, destination: IPEndpoint("10.0.0.1:80")!)))
            })
        self.check(
            .serverName, .text(.prefix("web.")), yes: { $0.passesStream(from: peer(serverName: "web.shop")) },
            no: { $0.passesStream(from: peer(serverName: "db.shop")) })
        self.check(
            .requestHeader("X-Env"), .text(.prefix("pro")),
            yes: { $0.passes(request("/", "GET", ["x-env": "prod"])) },
            no: { $0.passes(request("/", "GET", ["x-env": "test"])) })
    }

    @Test(
        "paths",
        arguments: [
            (.text(.exact("/a")), ["/a", "/a?x=/b"], ["/a/", "/A", "/ab", "/"]),
            (.text(.prefix("/a/")), ["/a/", "/a/b"], ["/a", "/b?/a/"]),
            (.text(.suffix(".json")), ["/x.json", "/x.json?y"], ["/x?y.json"]),
            (.text(.presence), ["/"], []),
            (.text(.exact("/a%2fb")), ["/a%2Fb"], ["/a/b"]),
            (.template("/a/{*}/b"), ["/a/x/b", "/a/x.y/b?q"], ["/a//b", "/a/x/y/b", "/a/b", "/a/x/b/", "/b/x/b"]),
            (.template("/a/{**}"), ["/a/", "/a/x", "/a/x/y/"], ["/a", "/ab/x"]),
            (.template("/{**}/b/c"), ["/x/b/c", "//b/c", "/x/y/b/c"], ["/b/c", "/x/b/c/d", "/x/bb/c"]),
            (.template("/{*}/{*}"), ["/a/b"], ["/a", "/a/", "/a/b/c"]),
            (.template("/v1/{*}/x/{**}/end"), ["/v1/a/x/b/c/end"], ["/v1/a/x/end", "/v1/x/b/end"]),
        ] as [(RequestPolicy.PathPattern, [String], [String])])
    func paths(pattern: RequestPolicy.PathPattern, matching: [String], other: [String]) {
        let allow = gate(policy(.allow, rule(to: [operation { $0.paths = [pattern] }])))
        let deny = gate(policy(.deny, rule(to: [operation { $0.paths = [pattern] }])))
        let except = gate(policy(.allow, rule(to: [operation { $0.notPaths = [pattern] }])))
        for path in matching {
            #expect(
                allow.passes(request(path)) && !deny.passes(request(path)) && !except.passes(request(path)), "\(path)")
        }
        for path in other {
            #expect(
                !allow.passes(request(path)) && deny.passes(request(path)) && except.passes(request(path)), "\(path)")
        }
    }

    @Test(
        "are not got round by writing a path another way",
        arguments: [
            "/admin", "/%61dmin", "/x/../admin", "/./admin", "/x/%2e%2e/admin", "\\admin",
            "/admin?x", "/%2e/%61%64%6d%69%6e",
        ])
    func normalised(path: String) throws {
        let deny = gate(policy(.deny, rule(to: [operation { $0.paths = [.text(.exact("/admin"))] }])))
        let normal = try PathNormalization.base.normalized(path)
        #expect(!deny.passes(request(normal)), "\(normal)")
    }

    @Test("take the reading that refuses, where a request leaves one open")
    func readings() {
        let hosts: [RequestPolicy.StringMatch] = [.exact("a.com")]
        let deny = gate(policy(.deny, rule(to: [operation { $0.hosts = hosts }])))
        let allow = gate(policy(.allow, rule(to: [operation { $0.hosts = hosts }])))
        let except = gate(policy(.allow, rule(to: [operation { $0.notHosts = hosts }])))
        for authority in ["a.com:80", "a.com.", "A.com.:443"] {
            #expect(!deny.passes(request(authority: authority)))
            #expect(!allow.passes(request(authority: authority)))
            #expect(!except.passes(request(authority: authority)))
        }
        let twice = request("/", "GET", ["x": "good", "x": "bad"])
        func with(_ action: RequestPolicy.Action, values: [String] = [], notValues: [String] = []) -> Bool {
            let condition = RequestPolicy.Condition(
                attribute: .requestHeader("x"), values: values.map { .text(.exact($0)) },
                notValues: notValues.map { .text(.exact($0)) })
            return gate(policy(action, rule(when: [condition]))).passes(twice)
        }
        #expect(!with(.deny, values: ["bad"]))
        #expect(!with(.allow, values: ["good"]))
        #expect(!with(.allow, notValues: ["bad"]))
        #expect(!with(.deny, notValues: ["good"]))
        #expect(with(.allow, values: ["good, bad"]))
        // A field without value is there.
        let presence = RequestPolicy.Condition(attribute: .requestHeader("x"), values: [.text(.presence)])
        #expect(!gate(policy(.deny, rule(when: [presence]))).passes(request("/", "GET", ["x": ""])))
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

    // MARK: Streams

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

    @Test(
        "the client behind proxies",
        arguments: [
            ([:], 0, "10.0.0.1"), (["x-forwarded-for": "1.1.1.1"], 0, "1.1.1.1"),
            (["x-forwarded-for": "1.1.1.1, 2.2.2.2"], 0, "2.2.2.2"),
            (["x-forwarded-for": "1.1.1.1,2.2.2.2"], 1, "1.1.1.1"),
            (["x-forwarded-for": "1.1.1.1", "x-forwarded-for": "2.2.2.2"], 1, "1.1.1.1"),
            (["x-forwarded-for": "1.1.1.1"], 1, "10.0.0.1"), (["x-forwarded-for": "unknown"], 0, "10.0.0.1"),
            (["x-forwarded-for": "[2001:db8::1]:80"], 0, "2001:db8::1"), (["x-forwarded-for": ""], 0, "10.0.0.1"),
        ] as [(HTTP2HeaderList, Int, String)])
    func remoteAddress(fields: HTTP2HeaderList, trusted: Int, wanted: String) {
        #expect(peer().remoteAddress(fields, trustedProxies: trusted) == IPAddress(wanted))
    }
}

@Suite("Rate limits")
struct RateLimitTests {
    private func limit(_ requests: UInt32, per seconds: Int, burst: UInt32) -> RateLimit {
        RateLimit(
            key: NamespacedName(namespace: "shop", name: "calm"), requests: requests, interval: .seconds(seconds),
            burst: burst)
    }

    @Test("let a burst through, then their rate")
    func bucket() {
        let bucket = RateBucket(self.limit(10, per: 1, burst: 3))
        let start: UInt64 = 1_000_000_000_000
        for _ in 0..<3 { #expect(bucket.take(now: start) == nil) }
        #expect(bucket.take(now: start) == 100_000_000)
        #expect(bucket.take(now: start + 99_999_999) == 1)
        #expect(bucket.take(now: start + 100_000_000) == nil)
        #expect(bucket.take(now: start + 100_000_000) != nil)
        // Full again, and no fuller.
        for _ in 0..<3 { #expect(bucket.take(now: start * 2) == nil) }
        #expect(bucket.take(now: start * 2) != nil)
    }

    @Test("of nothing let nothing through")
    func zero() { #expect(RateBucket(self.limit(0, per: 1, burst: 5)).take(now: 5) != nil) }

    @Test("are the same for all gates that have them, while one is in use")
    func shared() {
        let buckets = RateBuckets()
        var traffic = TrafficGate()
        traffic.rateLimits = [self.limit(1, per: 60, burst: 1)]
        let first = RequestGate([traffic], trustDomains: [], buckets: buckets)
        let address = IPAddress("10.0.0.1")!
        #expect(first.decide(request(), from: peer(), remote: address, now: 7).verdict == .permit(by: nil))
        let second = RequestGate([traffic], trustDomains: [], buckets: buckets)
        let refused = second.decide(request(), from: peer(), remote: address, now: 7).verdict
        guard case .refuse(let refusal) = refused else {
            Issue.record("limited")
            return
        }
        #expect(refusal.status == 429)
        #expect(refusal.retryAfterSeconds == 61)
        #expect(refusal.detail == "local_rate_limited[shop/calm]")
        // What policy refuses takes nothing.
        var denied = traffic
        denied.policies = [policy(.deny, rule())]
        denied.rateLimits = [self.limit(1, per: 61, burst: 1)]
        let third = RequestGate([denied], trustDomains: [], buckets: buckets)
        guard case .refuse(.denied) = third.decide(request(), from: peer(), remote: address, now: 7).verdict else {
            Issue.record("denied")
            return
        }
        #expect(buckets.bucket(for: denied.rateLimits[0]).take(now: 7) == nil)
    }
}
