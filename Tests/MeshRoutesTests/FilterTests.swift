import MeshHTTP
import MeshModel
import MeshRoutes
import Testing

@Suite("Filters")
struct FilterTests {
    // MARK: Headers (HTTPRouteRequestHeaderModifier, HTTPRouteResponseHeaderModifier)

    private func change(
        set: [(String, String)] = [], add: [(String, String)] = [], remove: [String] = []
    ) -> HeaderChange {
        var change = HeaderChange()
        change.set = set.map { HeaderChange.Field(name: $0.0, value: $0.1) }
        change.add = add.map { HeaderChange.Field(name: $0.0, value: $0.1) }
        change.remove = remove
        return change
    }

    @Test("set replaces, add appends, remove comes last")
    func headers() {
        var head = request("/", "GET", ["x-set": "a", "x-add": "1", "x-set": "b", "x-gone": "g", "keep": "k"])
        self.change(
            set: [("x-set", "new"), ("x-fresh", "f")], add: [("x-add", "2"), ("x-more", "m")],
            remove: ["x-gone", "x-none"]
        ).apply(to: &head)
        #expect(
            head.fields == [
                "x-add": "1", "keep": "k", "x-set": "new", "x-fresh": "f", "x-add": "2", "x-more": "m",
            ])
        var both = request()
        self.change(set: [("x", "1")], add: [("x", "2")], remove: ["x"]).apply(to: &both)
        #expect(both.fields.isEmpty)
    }

    @Test("what carries a message is not changed; a request's host is its authority")
    func untouchableHeaders() {
        var head = request("/", "POST", ["content-length": "3"])
        self.change(
            set: [("content-length", "0"), ("transfer-encoding", "chunked"), ("host", "other"), (":path", "/x")],
            remove: ["content-length", "host"]
        ).apply(to: &head)
        #expect(head.fields == ["content-length": "3"])
        #expect(head.authority == "other")
        var response = ResponseHead(status: 200, fields: ["connection": "close", "server": "s"])
        self.change(remove: ["connection", "server"]).apply(to: &response)
        #expect(response.fields == ["connection": "close"])
    }

    // MARK: Paths

    /// The table of HTTPPathModifier.replacePrefixMatch, and what follows from it.
    @Test(
        "a prefix is replaced by whole segments",
        arguments: [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"), ("/foo/", "/foo", "/xyz", "/xyz/"), ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"), ("/foo", "/foo", "", "/"), ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar?a=/foo", "/foo", "/", "/bar?a=/foo"), ("/foo?a", "/foo", "/xyz", "/xyz?a"),
            ("/bar", "/", "/xyz", "/xyz/bar"), ("/", "/", "/xyz", "/xyz/"), ("/a", "/", "/", "/a"),
            ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
            // MeshHTTPRouteRewritePath
            ("/strip-prefix/three", "/strip-prefix", "/", "/three"), ("/strip-prefix", "/strip-prefix", "/", "/"),
            (
                "/prefix/rewrite-path-and-modify-headers/one", "/prefix/rewrite-path-and-modify-headers", "/prefix",
                "/prefix/one"
            ),
        ])
    func prefix(path: String, matched: String, replacement: String, wanted: String) {
        let table = RouteTable([route(rule("r", match(.prefix(matched))))], port: 80)
        let prefixBytes = table.match(request(path), isGRPC: false)?.prefixBytes
        #expect(prefixBytes != nil)
        var head = request(path)
        URLRewrite(path: .prefix(replacement)).apply(to: &head, prefixBytes: prefixBytes)
        #expect(head.path == wanted)
        #expect(head.authority == "echo")
    }

    @Test("a full path keeps the query; a host replaces the authority")
    func rewrite() {
        var head = request("/full/one/two?a=b", authority: "echo:8080")
        URLRewrite(hostname: "one.example.org", path: .full("/one")).apply(to: &head, prefixBytes: nil)
        #expect(head.path == "/one?a=b")
        #expect(head.authority == "one.example.org")
        // No prefix matched: nothing to replace.
        URLRewrite(path: .prefix("/x")).apply(to: &head, prefixBytes: nil)
        #expect(head.path == "/one?a=b")
    }

    // MARK: Redirects (MeshHTTPRouteRedirectHostAndStatus, -Path, -Port, MeshHTTPRouteSchemeRedirect)

    struct Redirect: Sendable {
        var scheme: String?
        var hostname: String?
        var path: PathChange?
        var port: UInt16?
        var status = 302
        var to: String
        var from = "/here?q=1"
        var authority = "echo"
        var servicePort: UInt16 = 80
        var requestScheme = "http"
    }

    static let redirects: [Redirect] = [
        Redirect(hostname: "example.org", to: "http://example.org/here?q=1"),
        Redirect(hostname: "example.org", status: 301, to: "http://example.org/here?q=1"),
        Redirect(path: .prefix("/replacement-prefix"), to: "http://echo/replacement-prefix/lemon", from: "/here/lemon"),
        Redirect(
            path: .full("/full-path-replacement"), to: "http://echo/full-path-replacement?q=1", from: "/here/lemon?q=1"),
        Redirect(hostname: "example.org", path: .prefix("/x"), status: 308, to: "http://example.org/x", from: "/here"),
        Redirect(port: 8083, to: "http://echo:8083/here?q=1"),
        Redirect(hostname: "example.org", port: 8083, status: 307, to: "http://example.org:8083/here?q=1"),
        Redirect(scheme: "https", to: "https://echo/here?q=1"),
        Redirect(scheme: "https", hostname: "example.org", status: 303, to: "https://example.org/here?q=1"),
        // Ports: the scheme's own when a scheme is given, else where the request came to; never what a scheme implies.
        Redirect(to: "http://echo:8080/here?q=1", authority: "echo:8080", servicePort: 8080),
        Redirect(hostname: "example.org", to: "http://example.org:8080/here?q=1", servicePort: 8080),
        Redirect(scheme: "https", to: "https://echo/here?q=1", authority: "echo:8080", servicePort: 8080),
        Redirect(scheme: "http", to: "http://echo/here?q=1", servicePort: 8080),
        Redirect(scheme: "http", port: 80, to: "http://echo/here?q=1", servicePort: 8080),
        Redirect(scheme: "https", port: 443, to: "https://echo/here?q=1"),
        Redirect(scheme: "https", port: 80, to: "https://echo:80/here?q=1"),
        Redirect(port: 443, to: "http://echo:443/here?q=1"),
        Redirect(to: "https://echo/here?q=1", servicePort: 443, requestScheme: "https"),
        Redirect(to: "http://[2001:db8::1]/here?q=1", authority: "[2001:db8::1]"),
        Redirect(to: "http://[2001:db8::1]/here?q=1", authority: "[2001:db8::1]:80"),
    ]

    @Test("a redirect says where to go", arguments: redirects.indices)
    func redirect(index: Int) {
        let wanted = Self.redirects[index]
        var redirect = RequestRedirect(status: wanted.status)
        (redirect.scheme, redirect.hostname, redirect.path, redirect.port) =
            (wanted.scheme, wanted.hostname, wanted.path, wanted.port)
        let response = redirect.answer(
            to: request(wanted.from, authority: wanted.authority, scheme: wanted.requestScheme),
            servicePort: wanted.servicePort, prefixBytes: "/here".utf8.count)
        #expect(response.status == wanted.status)
        #expect(response.fields == ["location": wanted.to, "content-length": "0"])
    }

    // MARK: Choices

    /// MeshTrafficSplit, HTTPRouteWeight: in proportion; zero never.
    @Test(
        "backends get their share",
        arguments: [
            [70, 30, 0], [1], [1, 1, 1], [0, 5], [UInt32.max, UInt32.max],
        ] as [[UInt32]])
    func weights(weights: [UInt32]) {
        let choice = WeightedChoice(weights)
        var counts = [Int](repeating: 0, count: weights.count)
        var numbers = SeededNumbers(1)
        for _ in 0..<20_000 { counts[choice.choose(numbers.next())!] += 1 }
        let total = weights.reduce(0.0) { $0 + Double($1) }
        for (count, weight) in zip(counts, weights) {
            let share = Double(count) / 20_000
            #expect(abs(share - Double(weight) / total) < 0.02)
            if weight == 0 { #expect(count == 0) }
        }
        #expect(choice.choose(0) != nil && choice.choose(.max) != nil)
    }

    /// HTTPRouteAllBackendsWeightZero.
    @Test("nothing is chosen where nothing has weight")
    func zeroWeights() {
        for weights in [[], [0], [0, 0]] as [[UInt32]] { #expect(WeightedChoice(weights).choose(1 << 63) == nil) }
    }

    @Test(
        "mirrors copy their fraction",
        arguments: [(0, 100), (50, 100), (100, 100), (1, 3), (5, 0)] as [(UInt32, UInt32)])
    func mirror(numerator: UInt32, denominator: UInt32) {
        let mirror = RequestMirror(destination: .invalid(reason: ""), numerator: numerator, denominator: denominator)
        var numbers = SeededNumbers(3)
        var count = 0
        for _ in 0..<10_000 where mirror.copies(numbers.next()) { count += 1 }
        let share = denominator == 0 ? 0 : Double(numerator) / Double(denominator)
        #expect(abs(Double(count) / 10_000 - share) < 0.03)
        if share == 0 || share == 1 { #expect(count == Int(share) * 10_000) }
    }
}

/// After HTTPCORSFilter's text and the conformance test HTTPRouteCORS.
@Suite("CORS")
struct CORSTests {
    private var policy: CORSPolicy {
        var policy = CORSPolicy()
        policy.allowOrigins = ["https://www.foo.com", "https://*.bar.com", "http://plain.org:8080"]
        policy.allowMethods = ["GET", "OPTIONS"]
        policy.allowHeaders = ["x-header-1", "x-header-2"]
        policy.exposeHeaders = ["x-header-3", "x-header-4"]
        policy.maxAgeSeconds = 3600
        policy.allowCredentials = true
        return policy
    }

    private var open: CORSPolicy {
        var policy = CORSPolicy()
        (policy.allowOrigins, policy.allowMethods, policy.allowHeaders, policy.exposeHeaders) = (
            ["*"], ["*"], ["*"], ["*"]
        )
        return policy
    }

    private func preflight(_ policy: CORSPolicy, _ fields: HTTP2HeaderList) -> ResponseHead? {
        if case .answer(let response) = policy.decide(request("/", "OPTIONS", fields)) { response } else { nil }
    }

    @Test(
        "a preflight of an allowed origin says what is allowed",
        arguments: [
            "https://www.foo.com", "https://www.bar.com", "https://xpto.www.bar.com", "https://www.foo.com:443",
            "http://plain.org:8080",
        ])
    func preflight(origin: String) {
        let response = self.preflight(
            self.policy,
            [
                "origin": origin, "access-control-request-method": "GET",
                "access-control-request-headers": "x-header-1, x-header-2",
            ])
        #expect(response?.status == 200)
        #expect(
            response?.fields == [
                "content-length": "0", "vary": "origin", "access-control-allow-origin": origin,
                "access-control-allow-credentials": "true", "access-control-allow-methods": "GET, OPTIONS",
                "access-control-allow-headers": "x-header-1, x-header-2",
                "access-control-expose-headers": "x-header-3, x-header-4", "access-control-max-age": "3600",
            ])
    }

    @Test(
        "another origin gets an answer that says nothing",
        arguments: [
            "https://foobar.com", "https://bar.com", "https://.bar.com", "http://www.foo.com",
            "https://www.foo.com:444",
            "https://www.foo.com.evil.org", "https://evil-bar.com", "null", "http://plain.org",
            "https://www.bar.com:8443",
        ])
    func otherOrigin(origin: String) {
        let response = self.preflight(self.policy, ["origin": origin, "access-control-request-method": "GET"])
        #expect(response?.fields == ["content-length": "0", "vary": "origin"])
        guard case .serve(let allowed) = self.policy.decide(request("/", "GET", ["origin": origin])) else {
            Issue.record("no preflight")
            return
        }
        #expect(allowed == nil)
    }

    @Test("`*` is itself without credentials, and what was asked for with them")
    func wildcards() {
        let fields: HTTP2HeaderList = [
            "origin": "https://foobar.com:12345", "access-control-request-method": "PUT",
            "access-control-request-headers": "a, b",
        ]
        #expect(
            self.preflight(self.open, fields)?.fields == [
                "content-length": "0", "vary": "origin", "access-control-allow-origin": "https://foobar.com:12345",
                "access-control-allow-methods": "*", "access-control-allow-headers": "*",
                "access-control-expose-headers": "*", "access-control-max-age": "5",
            ])
        var credentials = self.open
        credentials.allowCredentials = true
        #expect(
            self.preflight(credentials, fields)?.fields == [
                "content-length": "0", "vary": "origin", "access-control-allow-origin": "https://foobar.com:12345",
                "access-control-allow-credentials": "true", "access-control-allow-methods": "PUT",
                "access-control-allow-headers": "a, b", "access-control-max-age": "5",
            ])
        let short: HTTP2HeaderList = ["origin": "https://a.b", "access-control-request-method": "PUT"]
        #expect(self.preflight(credentials, short)?.fields.value(named: "access-control-allow-headers") == nil)
    }

    @Test("a simple request is served, and its response shared")
    func simple() {
        guard case .serve(let origin) = self.policy.decide(request("/", "GET", ["origin": "https://www.foo.com"]))
        else {
            Issue.record("no preflight")
            return
        }
        var response = ResponseHead(status: 200, fields: ["access-control-allow-origin": "*", "a": "b"])
        self.policy.apply(to: &response, origin: origin)
        #expect(
            response.fields == [
                "a": "b", "vary": "origin", "access-control-allow-origin": "https://www.foo.com",
                "access-control-allow-credentials": "true", "access-control-expose-headers": "x-header-3, x-header-4",
            ])
    }

    @Test("OPTIONS alone is no preflight, and without origin nothing is")
    func noPreflight() {
        #expect(self.preflight(self.policy, ["origin": "https://www.foo.com"]) == nil)
        #expect(self.preflight(self.policy, ["access-control-request-method": "GET"]) == nil)
        #expect(self.preflight(self.policy, [:]) == nil)
    }
}
