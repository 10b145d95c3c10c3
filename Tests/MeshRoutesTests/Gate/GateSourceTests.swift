import MeshHTTP
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshRoutes
import Testing

@Suite("Who asks, to policies of requests")
struct GateSourceTests {
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

    @Test("every attribute of a source")
    func sources() {
        let account = AuthorizationPolicy.ServiceAccountMatch(namespace: "front", serviceAccount: "web")
        let other = peer("spiffe://foreign/ns/back/sa/web", source: "10.1.0.1")
        for stranger in [other, peer(nil, source: "2001:db8::1")] {
            check(
                from: { $1 ? ($0.namespaces = [.exact("front")]) : ($0.notNamespaces = [.exact("front")]) },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            check(
                from: { $1 ? ($0.serviceAccounts = [account]) : ($0.notServiceAccounts = [account]) },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            check(
                from: {
                    $1 ? ($0.trustDomains = [.exact("old.domain")]) : ($0.notTrustDomains = [.exact("old.domain")])
                },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            let block = CIDR("10.0.0.0/16")!
            check(
                from: { $1 ? ($0.ipBlocks = [block]) : ($0.notIPBlocks = [block]) },
                yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            check(.sourceIP, .block(block), yes: { $0.passesStream() }, no: { $0.passesStream(from: stranger) })
            check(
                .sourceNamespace, .text(.exact("front")), yes: { $0.passes() }, no: { $0.passes(from: stranger) })
            check(
                .sourceServiceAccount, .serviceAccount(account), yes: { $0.passes() }, no: { $0.passes(from: stranger) }
            )
            check(
                .sourceTrustDomain, .text(.exact("cluster.local")), yes: { $0.passes() },
                no: { $0.passes(from: stranger) })
        }
        let clients = CIDR("192.0.2.0/24")!
        check(
            from: { $1 ? ($0.remoteIPBlocks = [clients]) : ($0.notRemoteIPBlocks = [clients]) },
            yes: { $0.passes() }, no: { $0.passes(remote: "198.51.100.1") })
        check(.remoteIP, .block(clients), yes: { $0.passes() }, no: { $0.passes(remote: "198.51.100.1") })
    }

    @Test("tokens: principals, audiences, presenters and claims")
    func tokens() {
        for outcome in [
            TokenOutcome.none,
            .verified(VerifiedToken(principal: "", audiences: [], presenter: "", claims: .object([:]))),
        ] {
            check(
                from: {
                    $1 ? ($0.requestPrincipals = [.prefix("iss/")]) : ($0.notRequestPrincipals = [.prefix("iss/")])
                },
                yes: { $0.passes(token: .verified(token)) }, no: { $0.passes(token: outcome) })
            for (attribute, value) in [
                (.requestPrincipal, .presence), (.requestAudiences, .exact("bank")), (.requestPresenter, .suffix("pp")),
                (.requestClaim(["groups"]), .exact("b")), (.requestClaim(["role"]), .prefix("adm")),
                (.requestClaim(["n", "x"]), .exact("1")), (.requestClaim(["role"]), .presence),
            ] as [(RequestPolicy.Attribute, RequestPolicy.StringMatch)] {
                check(
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
