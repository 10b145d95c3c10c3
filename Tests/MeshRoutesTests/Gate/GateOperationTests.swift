import MeshHTTP
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshRoutes
import Testing

@Suite("What is asked, to policies of requests")
struct GateOperationTests {
    @Test("every attribute of an operation")
    func operations() {
        check(
            to: { $1 ? ($0.methods = [.exact("GET")]) : ($0.notMethods = [.exact("GET")]) },
            yes: { $0.passes() }, no: { $0.passes(request("/", "get")) })
        check(
            to: { $1 ? ($0.ports = [80, 81]) : ($0.notPorts = [80, 81]) },
            yes: { $0.passes() }, no: { $0.passes(from: peer(port: 8080)) })
        check(
            to: { $1 ? ($0.hosts = [.suffix(".Example.COM")]) : ($0.notHosts = [.suffix(".Example.COM")]) },
            yes: { $0.passes(request(authority: "WWW.example.com")) },
            no: { $0.passes(request(authority: "example.com")) })
        check(
            .destinationPort, .port(80), yes: { $0.passesStream() }, no: { $0.passesStream(from: peer(port: 81)) })
        check(
            .destinationIP, .block(CIDR("10.96.0.0/12")!), yes: { $0.passes() },
            no: {
                $0.passes(
                    from: PeerFacts(
                        ConnectionFacts(
                            identity: nil, source: IPAddress("1.1.1.1")!, destination: IPEndpoint("10.0.0.1:80")!)))
            })
        check(
            .serverName, .text(.prefix("web.")), yes: { $0.passesStream(from: peer(serverName: "web.shop")) },
            no: { $0.passesStream(from: peer(serverName: "db.shop")) })
        check(
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
}
