import MeshHTTP
import MeshModel
import MeshRoutes
import Testing

/// Cases after the Gateway API's text (HTTPRouteRule, HTTPPathMatch, HTTPHeaderMatch, HTTPQueryParamMatch,
/// GRPCRouteRule) and its conformance tests of the same names.
@Suite("Route matching")
struct RouteTableTests {
    private func name(
        _ routes: [HTTPRoute], _ request: RequestHead, isGRPC: Bool = false, port: UInt16 = 80
    ) -> String? {
        let slow = SlowRouteMatcher(routes, port: port).match(request, isGRPC: isGRPC)
        let found = RouteTable(routes, port: port).match(request, isGRPC: isGRPC)
        #expect(slow?.route == found?.rule.route && slow?.rule == found?.rule.index)
        return found?.rule.rule.name
    }

    @Test(
        "HTTPRouteMatching",
        arguments: [
            ("/", [:], "v1"), ("/example", [:], "v1"), ("/", ["version": "one"], "v1"), ("/v2", [:], "v2"),
            ("/v2/example", [:], "v2"), ("/", ["version": "two"], "v2"), ("/v2/", [:], "v2"),
            // By whole segments: not v2.
            ("/v2example", [:], "v1"), ("/foo/v2/example", [:], "v1"),
            ("/", ["version": "Two"], "v1"), ("/V2", [:], "v1"), ("/?/v2", [:], "v1"), ("/v2?x", [:], "v2"),
        ] as [(String, HTTP2HeaderList, String)])
    func matching(path: String, fields: HTTP2HeaderList, wanted: String) {
        let routes = [
            route(
                rule("v1", match(.prefix("/")), match(headers: [("version", "one")])),
                rule("v2", match(.prefix("/v2")), match(headers: [("Version", "two")])))
        ]
        #expect(self.name(routes, request(path, "GET", fields)) == wanted)
    }

    @Test(
        "HTTPRouteExactPathMatching",
        arguments: [
            ("/one", "1"), ("/two", "2"), ("/", nil), ("/one/example", nil), ("/one/", nil), ("/One", nil),
            ("/one?a", "1"),
        ] as [(String, String?)])
    func exactPath(path: String, wanted: String?) {
        let routes = [route(rule("1", match(.exact("/one"))), rule("2", match(.exact("/two"))))]
        #expect(self.name(routes, request(path)) == wanted)
    }

    @Test(
        "HTTPRoutePathMatchOrder",
        arguments: [
            ("/match/exact/one", "exact-1"), ("/match/exact", "exact"), ("/match", "match"),
            ("/match/prefix/one/any", "p1"),
            ("/match/prefix/any", "p2"), ("/match/any", "match"), ("/any", nil),
        ] as [(String, String?)])
    func pathOrder(path: String, wanted: String?) {
        let routes = [
            route(
                rule("match", match(.prefix("/match"))), rule("p2", match(.prefix("/match/prefix/"))),
                rule("p1", match(.prefix("/match/prefix/one"))), rule("exact-1", match(.exact("/match/exact/one"))),
                rule("exact", match(.exact("/match/exact"))))
        ]
        #expect(self.name(routes, request(path)) == wanted)
    }

    @Test(
        "HTTPRouteHeaderMatching",
        arguments: [
            (["version": "one"], "v1"), (["version": "two"], "v2"), (["version": "two", "color": "orange"], "v1"),
            (["color": "blue"], "v1"), (["color": "green"], "v1"), (["color": "red"], "v2"),
            (["color": "yellow"], "v2"),
            (["color": "purple"], nil), ([:], nil), (["version": ""], nil), (["version": "one", "version": "x"], nil),
        ] as [(HTTP2HeaderList, String?)])
    func headers(fields: HTTP2HeaderList, wanted: String?) {
        let routes = [
            route(
                rule("v1", match(headers: [("version", "one")])), rule("v2", match(headers: [("version", "two")])),
                rule("v1", match(headers: [("version", "two"), ("color", "orange")])),
                rule("v1", match(headers: [("color", "blue")]), match(headers: [("color", "green")])),
                rule("v2", match(headers: [("color", "red")]), match(headers: [("color", "yellow")])))
        ]
        #expect(self.name(routes, request("/", "GET", fields)) == wanted)
    }

    @Test(
        "HTTPRouteMethodMatching",
        arguments: [
            ("/", "POST", [:], "v1"), ("/", "GET", [:], "v2"), ("/", "HEAD", [:], nil), ("/", "post", [:], nil),
            // A longer path before the method, the method before headers.
            ("/path1", "GET", [:], "p1"), ("/path5", "PATCH", [:], "p5"), ("/path4", "DELETE", [:], "p4"),
            ("/", "PUT", ["version": "four"], "m"), ("/path5", "GET", ["version": "five"], "h"),
        ] as [(String, String, HTTP2HeaderList, String?)])
    func methods(path: String, method: String, fields: HTTP2HeaderList, wanted: String?) {
        let routes = [
            route(
                rule("v1", match(method: "POST")), rule("v2", match(method: "GET")),
                rule("p1", match(.prefix("/path1"), method: "GET")), rule("h2", match(headers: [("version", "four")])),
                rule("m", match(method: "PUT")), rule("p5", match(.prefix("/path5"), method: "PATCH")),
                rule("h", match(.prefix("/path5"), headers: [("version", "five")])),
                rule("p4", match(.prefix("/path4"))), rule("d", match(method: "DELETE")))
        ]
        #expect(self.name(routes, request(path, method, fields)) == wanted)
    }

    @Test(
        "HTTPRouteQueryParamMatching",
        arguments: [
            ("/?animal=whale", "v1"), ("/?animal=dolphin", "v2"), ("/?animal=whale&otherparam=irrelevant", "v1"),
            ("/?animal=dolphin&color=yellow", "v3"), ("/?color=blue", "v3"), ("/?animal=Whale", nil),
            ("/?animal=dog", nil),
            ("/", nil), ("/?animal", nil), ("/?animal=cat&animal=whale", nil), ("/?animal=%77hale", "v1"),
            ("/?%61nimal=whale", "v1"), ("/?x=a+b%2Bc", "v4"), ("/?x=a%20b+c", nil), ("/?x=%zz&animal=whale", "v1"),
            ("/?animals=whale", nil), ("/?a&animal=whale#", "v1b"),
        ] as [(String, String?)])
    func query(path: String, wanted: String?) {
        let routes = [
            route(
                rule("v1", match(query: [("animal", "whale")])), rule("v2", match(query: [("animal", "dolphin")])),
                rule(
                    "v3", match(query: [("animal", "dolphin"), ("color", "yellow")]), match(query: [("color", "blue")])),
                rule("v4", match(query: [("x", "a b+c")])), rule("v1b", match(query: [("animal", "~whale#?")])))
        ]
        #expect(self.name(routes, request(path)) == wanted)
    }

    @Test("counts only the first of several matches for one name")
    func repeatedMatches() {
        let routes = [
            route(
                rule("a", match(headers: [("x", "1"), ("X", "2")], query: [("q", "1"), ("q", "2")])),
                rule("b", match(headers: [("y", "1")], query: [("q", "1"), ("z", "1")])))
        ]
        #expect(self.name(routes, request("/?q=1", "GET", ["x": "1"])) == "a")
        #expect(self.name(routes, request("/?q=1&z=1", "GET", ["x": "1", "y": "1"])) == "b")
    }

    @Test("joins a repeated header, and cookies as cookies")
    func repeatedFields() {
        let routes = [
            route(rule("a", match(headers: [("x", "1, 2")])), rule("c", match(headers: [("cookie", "~.*b=2; c=3")])))
        ]
        #expect(self.name(routes, request("/", "GET", ["x": "1", "y": "0", "x": "2"])) == "a")
        #expect(self.name(routes, request("/", "GET", ["x": "1"])) == nil)
        #expect(self.name(routes, request("/", "GET", ["cookie": "a=1; b=2", "cookie": "c=3"])) == "c")
    }

    @Test("finds a host header in the authority")
    func hostHeader() {
        let routes = [route(rule("a", match(headers: [("Host", "echo:80")])))]
        #expect(self.name(routes, request(authority: "echo:80")) == "a")
        #expect(self.name(routes, request(authority: "echo")) == nil)
    }

    @Test("asks patterns after prefixes, before the root; longer patterns first")
    func patterns() {
        let routes = [
            route(
                rule("root", match(.prefix("/"), method: "GET")), rule("short", match(.regex("/a.*"))),
                rule("long", match(.regex("/a[0-9]+"))), rule("prefix", match(.prefix("/a1/b"))),
                rule("host", match(.regex("/h"), headers: [("x", "~[ab]+")])))
        ]
        #expect(self.name(routes, request("/a1")) == "long")
        #expect(self.name(routes, request("/ab?x")) == "short")
        #expect(self.name(routes, request("/a1/b")) == "prefix")
        #expect(self.name(routes, request("/b")) == "root")
        #expect(self.name(routes, request("/h", "GET", ["x": "ab"])) == "host")
        #expect(self.name(routes, request("/h", "GET", ["x": "abc"])) == "root")
        #expect(self.name(routes, request("*", "OPTIONS")) == nil)
    }

    @Test("prefers more headers, then more parameters, then the older route, then the earlier rule")
    func ties() {
        let routes = [
            route("old", rule("1", match(.prefix("/p"))), rule("2", match(.prefix("/p/")))),
            route(
                "new", rule("3", match(.prefix("/p"))), rule("4", match(.prefix("/p"), query: [("a", "1")])),
                rule("5", match(.prefix("/p"), headers: [("h", "1")])),
                rule("6", match(.prefix("/p"), headers: [("h", "1")], query: [("b", "1")]))),
        ]
        #expect(self.name(routes, request("/p")) == "1")
        #expect(self.name(routes, request("/p?a=1")) == "4")
        #expect(self.name(routes, request("/p?a=1", "GET", ["h": "1"])) == "5")
        #expect(self.name(routes, request("/p?a=1&b=1", "GET", ["h": "1"])) == "6")
    }

    @Test(
        "says how long the prefix was that matched",
        arguments: [
            ("/a/b/c", 4), ("/a/b", 4), ("/x", 0), ("/e", nil), ("/r5", nil),
        ] as [(String, Int?)])
    func prefixBytes(path: String, wanted: Int?) {
        let table = RouteTable(
            [route(rule("a", match(.prefix("/a/b/")), match(.prefix("/")), match(.exact("/e")), match(.regex("/r."))))],
            port: 80)
        #expect(table.match(request(path), isGRPC: false)?.prefixBytes == wanted)
    }

    @Test("takes routes of its port")
    func ports() {
        let routes = [
            route("all", rule("all", match(.prefix("/all")))), route("80", port: 80, rule("80", match())),
            route("81", port: 81, rule("81", match())),
        ]
        #expect(self.name(routes, request("/"), port: 80) == "80")
        #expect(self.name(routes, request("/"), port: 81) == "81")
        #expect(self.name(routes, request("/all"), port: 82) == "all")
        #expect(self.name(routes, request("/"), port: 82) == nil)
        #expect(RouteTable([routes[1]], port: 82).isEmpty)
        #expect(!RouteTable(routes, port: 82).isEmpty)
        #expect(RouteTable.empty.isEmpty)
    }

    @Test("names a pattern that it cannot use, and uses the rest")
    func problems() {
        let table = RouteTable([route(rule("a", match(.regex("(")), match(.exact("/a"))))], port: 80)
        #expect(
            table.problems.map(\.description) == [
                "route mesh/route, rule 0: regular expression: a group without end at byte 0"
            ])
        #expect(table.match(request("/a"), isGRPC: false) != nil)
    }

    // MARK: gRPC

    private func grpc(_ service: TextMatch?, _ method: TextMatch?, headers: [(String, String)] = []) -> HTTPMatch {
        match(.grpc(service: service, method: method), headers: headers)
    }

    @Test(
        "GRPCExactMethodMatching and its kin",
        arguments: [
            ("/pkg.Echo/Get", [:], "get"), ("/pkg.Echo/Put", [:], "echo"), ("/pkg.Echo2/Get", [:], "method"),
            ("/other.Svc/Do", [:], "any"), ("/pkg.X/Do", [:], "pattern"), ("/pkg.Echo/List", [:], "list"),
            ("/other.Svc/Do", ["version": "two"], "header"), ("/pkg.Echo/Get", ["version": "two"], "get"),
            ("/noslash", [:], "default"), ("/a/b/c", [:], "default"),
        ] as [(String, HTTP2HeaderList, String)])
    func grpcMatching(path: String, fields: HTTP2HeaderList, wanted: String) {
        let routes = [
            route(
                "g", kind: .grpc, rule("any", self.grpc(nil, nil)), rule("echo", self.grpc(.exact("pkg.Echo"), nil)),
                rule("get", self.grpc(.exact("pkg.Echo"), .exact("Get"))),
                rule("method", self.grpc(nil, .exact("Get"))),
                rule("list", self.grpc(.exact("pkg.Echo"), .regex("L.*"))),
                rule("pattern", self.grpc(.regex("pkg\\..*"), .exact("Do"))),
                rule("header", self.grpc(nil, nil, headers: [("version", "two")])), rule("default"))
        ]
        #expect(self.name(routes, request(path, "POST", fields), isGRPC: true) == wanted)
    }

    @Test("GRPCRoutes see gRPC only, and HTTPRoutes beside them are ignored")
    func conflict() {
        let routes = [route("h", rule("http", match())), route("g", kind: .grpc, rule("grpc", self.grpc(nil, nil)))]
        #expect(self.name(routes, request("/a/b", "POST"), isGRPC: true) == "grpc")
        #expect(self.name(routes, request("/a/b", "POST"), isGRPC: false) == nil)
        // An HTTPRoute alone takes gRPC, which is HTTP.
        #expect(self.name([routes[0]], request("/a/b", "POST"), isGRPC: true) == "http")
    }

    // MARK: Many

    @Test("finds one header value among thousands as one among few")
    func manyHeaders() {
        let rules = (0..<3000).map { rule("\($0)", match(headers: [("tenant", "t\($0)")])) }
        var routes = [
            HTTPRoute(name: NamespacedName(namespace: "mesh", name: "r"), kind: .http, port: nil, rules: rules)
        ]
        routes.append(
            route("last", rule("twice", match(headers: [("tenant", "t7"), ("x", "1")])), rule("rest", match())))
        let table = RouteTable(routes, port: 80)
        func name(_ fields: HTTP2HeaderList) -> String? {
            table.match(request("/", "GET", fields), isGRPC: false)?.rule.rule.name
        }
        #expect(name(["tenant": "t2999"]) == "2999")
        #expect(name(["tenant": "t7"]) == "7")
        #expect(name(["tenant": "t7", "x": "1"]) == "twice")
        #expect(name(["tenant": "t3000"]) == "rest")
        #expect(name(["tenant": "t7", "tenant": "t8"]) == "rest")
    }
}
