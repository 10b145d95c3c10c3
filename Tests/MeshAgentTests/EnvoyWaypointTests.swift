import MeshModel
import MeshRoutes
import MeshTestSupport
import MeshXDS
import Testing

@Suite(
    "Envoy as a waypoint", .serialized, .timeLimit(.minutes(5)),
    .enabled(if: Envoy.path != nil, "SKIPPED: NO ENVOY. Run scripts/prepare.sh, or set ENVOY_BIN to an Envoy program."))
struct EnvoyWaypointTests {
    private static func rules(_ routes: [HTTPRule]) -> ServiceRules {
        var rules = ServiceRules(key: EnvoyWorld.key)
        rules.routes = [
            HTTPRoute(
                name: NamespacedName(namespace: "shop", name: "routes"), kind: .http, port: nil, rules: routes)
        ]
        return rules
    }

    private static func rule(
        _ path: HTTPMatch.Path, to backends: [HTTPBackend], _ change: (inout HTTPRule) -> Void = { _ in }
    ) -> HTTPRule {
        var rule = HTTPRule()
        var match = HTTPMatch()
        match.path = path
        rule.matches = [match]
        rule.backends = backends
        change(&rule)
        return rule
    }

    private static func backend(_ name: String, weight: UInt32 = 1, _ filters: [HTTPFilter] = []) -> HTTPBackend {
        HTTPBackend(destination: EnvoyWorld.destination(name), weight: weight, filters: filters)
    }

    @Test("carries requests over HBONE, follows changes of its rules, and accepts every resource")
    func routes() async throws {
        let world = try await EnvoyWorld()
        world.publish()
        try await world.run {
            let client = try await world.client()
            let plain = try await HTTPText.get("127.0.0.1", client.port, "/a?b=c")
            #expect(plain.status == 200)
            #expect(["one", "two"].contains(plain.application))
            #expect(plain.seen.contains("GET /a?b=c HTTP/1.1") || plain.body.contains("GET /a?b=c HTTP/1.1"))

            let before = world.acknowledgedRoutes
            world.publish(Self.rules([Self.rule(.prefix("/"), to: [Self.backend("v2")])]))
            while try await HTTPText.get("127.0.0.1", client.port, "/").application != "two" {}
            // One worker has them; they are acknowledged when all have.
            while world.acknowledgedRoutes == before { try await Task.sleep(for: .milliseconds(10)) }
            for _ in 0..<5 { #expect(try await HTTPText.get("127.0.0.1", client.port, "/").application == "two") }

            for status in world.xds.clients {
                for type in status.types {
                    #expect(type.refusals == 0, "\(type.type): \(type.lastRefusal)")
                }
            }
            #expect(world.xds.clients.count == 1)
            await client.stop()
        }
    }

    private static func get(
        _ client: Envoy, _ path: String, _ headers: [String: String] = [:], method: String = "GET",
        authority: String = "echo"
    ) async throws -> HTTPText {
        try await HTTPText.get("127.0.0.1", client.port, path, headers, method: method, authority: authority)
    }

    private static func change(_ body: (inout HeaderChange) -> Void) -> HeaderChange {
        var change = HeaderChange()
        body(&change)
        return change
    }

    @Test("does every match and filter of an HTTPRoute")
    func filters() async throws {
        var redirect = RequestRedirect(status: 307)
        (redirect.scheme, redirect.path) = ("https", .prefix("/new"))
        var header = Self.rule(.prefix("/match"), to: [Self.backend("v2")])
        header.matches[0].headers = [FieldMatch(name: "x-color", value: .regex("blu[e]"))]
        header.matches[0].query = [FieldMatch(name: "q", value: .exact("1"))]
        header.matches[0].method = "POST"
        let world = try await EnvoyWorld()
        world.publish(
            Self.rules([
                header, Self.rule(.prefix("/match"), to: [Self.backend("v1")]),
                Self.rule(.regex("/re/[0-9]+"), to: [Self.backend("v1")]),
                Self.rule(.exact("/headers"), to: [Self.backend("v1")]) {
                    $0.filters = [
                        .requestHeaders(
                            Self.change {
                                $0.set = [.init(name: "x-set", value: "100%")]
                                $0.add = [.init(name: "x-add", value: "more")]
                                $0.remove = ["x-gone"]
                            }),
                        .responseHeaders(Self.change { $0.set = [.init(name: "x-answer", value: "changed")] }),
                    ]
                },
                Self.rule(.prefix("/old"), to: []) { $0.filters = [.redirect(redirect)] },
                Self.rule(.prefix("/strip"), to: [Self.backend("v2")]) {
                    $0.filters = [.rewrite(URLRewrite(hostname: "other.example", path: .prefix("/")))]
                },
                Self.rule(.prefix("/full"), to: [Self.backend("v2")]) {
                    $0.filters = [.rewrite(URLRewrite(path: .full("/all\\of it".replacing(" ", with: "%20"))))]
                },
                Self.rule(
                    .prefix("/split"),
                    to: [
                        Self.backend(
                            "v1", [.requestHeaders(Self.change { $0.set = [.init(name: "x-which", value: "one")] })]),
                        Self.backend(
                            "v2", [.requestHeaders(Self.change { $0.set = [.init(name: "x-which", value: "two")] })]),
                        Self.backend("v2", weight: 0),
                    ]),
                Self.rule(
                    .prefix("/missing"),
                    to: [HTTPBackend(destination: .invalid(reason: "nobody"))]),
                Self.rule(.prefix("/none"), to: []),
            ]))
        try await world.run {
            let client = try await world.client()
            let blue = ["x-color": "blue"]
            #expect(try await Self.get(client, "/match?q=1", blue, method: "POST").application == "two")
            #expect(try await Self.get(client, "/match/more?q=1", blue).application == "one")
            #expect(try await Self.get(client, "/match?q=2", blue, method: "POST").application == "one")
            #expect(try await Self.get(client, "/re/12").application == "one")
            #expect(try await Self.get(client, "/re/x").status == 404)
            #expect(try await Self.get(client, "/matchless").status == 404)

            let changed = try await Self.get(client, "/headers", ["x-gone": "1", "x-add": "some", "x-set": "old"])
            #expect(changed.seen.contains("x-set: 100%"))
            #expect(changed.body.contains("some") && changed.body.contains("more"))
            #expect(!changed.body.contains("x-gone"))
            #expect(changed.header("x-answer") == "changed")

            let moved = try await Self.get(client, "/old/page?a=b")
            #expect(moved.status == 307)
            #expect(moved.header("location") == "https://echo/new/page?a=b")
            let explicit = try await Self.get(client, "/old", authority: "echo:80")
            #expect(["https://echo/new", "https://echo:443/new"].contains(explicit.header("location")))

            let stripped = try await Self.get(client, "/strip/three?x=y")
            #expect(stripped.body.contains("GET /three?x=y HTTP/1.1"))
            #expect(stripped.seen.contains("host: other.example"))
            #expect(try await Self.get(client, "/strip").body.contains("GET / HTTP/1.1"))
            #expect(try await Self.get(client, "/full/x?y").body.contains(#"GET /all\of%20it?y HTTP/1.1"#))

            var seen: Set<String> = []
            while seen.count < 2 {
                let answer = try await Self.get(client, "/split")
                #expect(answer.seen.contains("x-which: \(answer.application)"))
                seen.insert(answer.application)
            }
            #expect(try await Self.get(client, "/missing").status == 500)
            #expect(try await Self.get(client, "/none").status == 500)
            await client.stop()
        }
    }

    private static func policy(
        _ action: RequestPolicy.Action, name: String = "p", _ change: (inout RequestPolicy.Rule) -> Void
    ) -> RequestPolicy {
        var rule = RequestPolicy.Rule()
        change(&rule)
        return RequestPolicy(key: NamespacedName(namespace: "shop", name: name), action: action, rules: [rule])
    }

    private static func operation(_ change: (inout RequestPolicy.Operation) -> Void) -> RequestPolicy.Operation {
        var operation = RequestPolicy.Operation()
        change(&operation)
        return operation
    }

    private static func source(_ change: (inout RequestPolicy.Source) -> Void) -> RequestPolicy.Source {
        var source = RequestPolicy.Source()
        change(&source)
        return source
    }

    @Test(
        "enforces policies: identities, addresses, paths, hosts, methods, headers; and what cannot be enforced closes")
    func policies() async throws {
        var rules = ServiceRules(key: EnvoyWorld.key)
        rules.gate.policies = [
            Self.policy(.deny, name: "1") {
                $0.to = [Self.operation { $0.paths = [.template("/secret/{*}/x"), .text(.prefix("/deny"))] }]
            },
            Self.policy(.deny, name: "2") {
                $0.to = [Self.operation { $0.methods = [.exact("DELETE")] }]
                $0.from = [Self.source { $0.namespaces = [.exact("shop")] }]
            },
            Self.policy(.deny, name: "3") { $0.to = [Self.operation { $0.hosts = [.exact("bad.example")] }] },
            Self.policy(.deny, name: "4") {
                $0.when = [
                    .init(attribute: .requestHeader("x-role"), values: [.text(.exact("guest"))])
                ]
            },
            Self.policy(.allow, name: "5") {
                $0.from = [Self.source { $0.principals = [.exact("cluster.local/ns/shop/sa/client")] }]
            },
            Self.policy(.allow, name: "6") {
                $0.from = [Self.source { $0.ipBlocks = [CIDR("127.0.0.0/8")!] }]
                $0.to = [Self.operation { $0.paths = [.text(.exact("/by-address"))] }]
            },
            Self.policy(.allow, name: "7") {
                $0.from = [Self.source { $0.remoteIPBlocks = [CIDR("203.0.113.0/24")!] }]
                $0.to = [Self.operation { $0.paths = [.text(.exact("/by-remote"))] }]
            },
        ]
        let first = rules
        let world = try await EnvoyWorld()
        world.publish(first)
        try await world.run {
            let friend = try await world.client()
            let stranger = try await world.client("stranger", "other")
            #expect(try await Self.get(friend, "/").status == 200)
            let refused = try await Self.get(stranger, "/")
            #expect(refused.status == 403)
            #expect(refused.body == "RBAC: access denied")
            #expect(try await Self.get(friend, "/deny/it").status == 403)
            #expect(try await Self.get(friend, "/a/../deny").status == 403, "the path is one before it is asked about")
            #expect(try await Self.get(friend, "/%64eny").status == 403)
            #expect(try await Self.get(friend, "/secret/a/x").status == 403)
            #expect(try await Self.get(friend, "/secret/a/b/x").status == 200)
            #expect(try await Self.get(friend, "/", method: "DELETE").status == 403)
            #expect(try await Self.get(friend, "/", authority: "BAD.example:80").status == 403)
            #expect(try await Self.get(friend, "/", ["x-role": "guest"]).status == 403)
            #expect(try await Self.get(friend, "/", ["x-role": "x,guest"]).status == 403)
            #expect(try await Self.get(friend, "/", ["x-role": "guests"]).status == 200)
            #expect(try await Self.get(stranger, "/by-address").status == 200)
            #expect(try await Self.get(stranger, "/by-remote").status == 403)
            #expect(try await Self.get(stranger, "/by-remote", ["x-forwarded-for": "203.0.113.9"]).status == 200)

            var closed = first
            closed.gate.closedBecause = "a test says so"
            world.publish(closed)
            while try await Self.get(friend, "/").status != 403 {}
            for type in world.xds.clients.flatMap(\.types) {
                #expect(type.refusals == 0, "\(type.type): \(type.lastRefusal)")
            }
            await friend.stop()
            await stranger.stop()
        }
    }

    @Test("lets nobody answer in a workload's place, and carries streams that are no HTTP")
    func identitiesAndStreams() async throws {
        let world = try await EnvoyWorld()
        world.publish()
        try await world.run {
            let client = try await world.client()
            let stream = try await world.client(port: EnvoyWorld.opaquePort)
            #expect(try await Self.get(client, "/").status == 200)
            let port = stream.port
            let raw = try await offThread {
                let socket = try BlockingSocket.connect(port: port)
                try socket.send("GET /raw HTTP/1.1\r\nhost: nobody\r\n\r\n".utf8)
                var text = ""
                while !text.contains("host: nobody") {
                    let more = try socket.receive()
                    if more.isEmpty { break }
                    text += String(decoding: more, as: UTF8.self)
                }
                return text
            }
            #expect(raw.contains("GET /raw HTTP/1.1\r\nhost: nobody"), "as it was sent: no proxy has looked into it")
            // The servers prove to be somebody else than the mesh says they are.
            world.publish(account: "somebody-else")
            while try await Self.get(client, "/").status == 200 {}
            #expect(try await Self.get(client, "/").status == 503)
            world.publish()
            while try await Self.get(client, "/").status != 200 {}
            await client.stop()
            await stream.stop()
        }
    }

    // HS256 over the key "a key of thirty-two octets, enough", made with Python's hmac.
    private static let keys =
        #"{"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": "YSBrZXkgb2YgdGhpcnR5LXR3byBvY3RldHMsIGVub3VnaA"}]}"#
    /// Of https://issuer.example/a: subject user/1, groups admin and staff, level 7, deep.er yes, scope "read write".
    private static let administrator =
        "eyJhbGciOiAiSFMyNTYiLCAia2lkIjogImsifQ.eyJpc3MiOiAiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZS9hIiwgInN1YiI6ICJ1c2VyLzEiLCAiZ3JvdXBzIjogWyJhZG1pbiIsICJzdGFmZiJdLCAibGV2ZWwiOiA3LCAiZGVlcCI6IHsiZXIiOiAieWVzIn0sICJzY29wZSI6ICJyZWFkIHdyaXRlIn0.nTXRjivxrx0YruBzcvoaeyEESvY_9WuHKlQToG4CUUE"
    /// Subject nobody, groups staff.
    private static let somebody =
        "eyJhbGciOiAiSFMyNTYiLCAia2lkIjogImsifQ.eyJpc3MiOiAiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZS9hIiwgInN1YiI6ICJub2JvZHkiLCAiZ3JvdXBzIjogWyJzdGFmZiJdfQ.2k_n2lfVCHukynCnl3Ocaw6nzP5ZFKCxgQOI0m_oxnw"

    @Test("verifies tokens, and asks what they say; without keys none is good")
    func tokens() async throws {
        var rules = ServiceRules(key: EnvoyWorld.key)
        var rule = TokenPolicy.Rule(issuer: "https://issuer.example/a")
        rule.keys = Self.keys
        rule.claimHeaders = [.init(header: "x-level", claim: "level")]
        rules.gate.tokens = [TokenPolicy(key: NamespacedName(namespace: "shop", name: "t"), rules: [rule])]
        func asked(_ path: String, _ change: (inout RequestPolicy.Rule) -> Void) -> RequestPolicy {
            Self.policy(.allow, name: path) {
                $0.to = [Self.operation { $0.paths = [.text(.exact("/\(path)"))] }]
                change(&$0)
            }
        }
        func claim(_ path: [String], _ value: String) -> RequestPolicy.Condition {
            .init(attribute: .requestClaim(path), values: [.text(.exact(value))])
        }
        rules.gate.policies = [
            asked("open") { _ in },
            asked("principal") {
                $0.from = [Self.source { $0.requestPrincipals = [.exact("https://issuer.example/a/user/1")] }]
            },
            asked("prefix") { $0.from = [Self.source { $0.requestPrincipals = [.prefix("https://issuer.example/")] }] },
            asked("list") { $0.when = [claim(["groups"], "admin")] },
            asked("number") { $0.when = [claim(["level"], "7")] },
            asked("deep") { $0.when = [claim(["deep", "er"], "yes")] },
            asked("word") { $0.when = [claim(["scope"], "write")] },
        ]
        let first = rules
        let world = try await EnvoyWorld()
        world.publish(first)
        try await world.run {
            let client = try await world.client()
            let (good, other) = (
                ["authorization": "Bearer \(Self.administrator)"], ["authorization": "Bearer \(Self.somebody)"]
            )
            #expect(try await Self.get(client, "/open").status == 200)
            let forged = ["authorization": "Bearer \(Self.administrator.dropLast(3))AAA"]
            #expect(try await Self.get(client, "/open", forged).status == 401)
            let seen = try await Self.get(client, "/open", good.merging(["x-level": "9"]) { $1 })
            #expect(seen.seen.contains("x-level: 7") && !seen.body.contains("x-level: 9"), "only a token may say it")
            #expect(!seen.body.contains("authorization"), "it is not passed on")
            for path in ["principal", "list", "number", "deep", "word"] {
                #expect(try await Self.get(client, "/\(path)").status == 403, "\(path)")
                #expect(try await Self.get(client, "/\(path)", good).status == 200, "\(path)")
                #expect(try await Self.get(client, "/\(path)", other).status == 403, "\(path)")
            }
            #expect(try await Self.get(client, "/prefix", other).status == 200)

            for keys in [nil, "{", #"{"keys":[{"kty":"EC"}, 7]}"#] {
                var keyless = first
                keyless.gate.tokens[0].rules[0].keys = keys
                world.publish(keyless)
                while try await Self.get(client, "/open", good).status != 401 {}
                world.publish(first)
                while try await Self.get(client, "/open", good).status != 200 {}
            }
            for type in world.xds.clients.flatMap(\.types) {
                #expect(type.refusals == 0, "\(type.type): \(type.lastRefusal)")
            }
            #expect(try await Self.get(client, "/open").status == 200)
            await client.stop()
        }
    }
}
