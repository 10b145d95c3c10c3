internal import Crypto
internal import MeshHTTP
internal import MeshModel
internal import MeshRoutes
internal import MeshTokens

extension FuzzTarget {
    static let requests = [routes, regex, paths, jwt]

    /// Octets choose routes and requests out of few words, so that they meet; the compiled table must answer as the
    /// plain reading of the standard does.
    private static let routes = FuzzTarget("routes") { bytes in
        var words = Words(bytes: bytes[...])
        let routes = words.routes()
        let (table, slow) = (RouteTable(routes, port: 80), SlowRouteMatcher(routes, port: 80))
        while !words.bytes.isEmpty {
            let request = words.request()
            for isGRPC in [false, true] {
                let (found, wanted) = (table.match(request, isGRPC: isGRPC), slow.match(request, isGRPC: isGRPC))
                promise(
                    found?.rule.route == wanted?.route && found?.rule.index == wanted?.rule
                        && found?.prefixBytes == wanted?.prefixBytes,
                    "\(request.method) \(request.authority)\(request.path) \(request.fields): found"
                        + " \(String(describing: found?.rule.route)), wanted \(String(describing: wanted)) of \(routes)"
                )
            }
        }
    }

    private struct Words {
        var bytes: ArraySlice<UInt8>

        mutating func number(_ bound: Int) -> Int { Int(self.bytes.popFirst() ?? 0) % bound }
        mutating func one<Value>(_ values: [Value]) -> Value { values[self.number(values.count)] }

        mutating func path() -> String {
            var path = ""
            for _ in 0..<self.number(4) { path += "/" + self.one(["a", "b", "ab", "", "%2f"]) }
            return path + self.one(["", "/", "/"])
        }

        mutating func text() -> TextMatch {
            self.one([
                .exact("1"), .exact("2"), .exact("a"), .exact("1, 2"), .regex("a.*"), .regex("[0-9]"), .regex(".*"),
            ])
        }

        mutating func match(_ kind: HTTPRoute.Kind) -> HTTPMatch {
            var match = HTTPMatch()
            let choice = self.number(8)
            if kind == .grpc {
                if choice > 0 {
                    match.path = .grpc(
                        service: choice > 2 ? self.text() : nil, method: choice.isMultiple(of: 2) ? self.text() : nil)
                }
            } else {
                match.method = self.one([nil, nil, "GET", "POST"])
                switch choice {
                case 0...1: match.path = .exact("/" + self.path())
                case 2...5: match.path = .prefix(self.path())
                case 6: match.path = .regex(self.one(["/a.*", "/.*b", "/[ab]+/?", "/.*"]))
                default: break
                }
                if self.number(3) == 0 { match.query = [FieldMatch(name: self.one(["q", "r"]), value: self.text())] }
            }
            for _ in 0..<self.one([0, 0, 1, 2]) {
                match.headers.append(FieldMatch(name: self.one(["x", "Y", "host", "cookie"]), value: self.text()))
            }
            return match
        }

        mutating func routes() -> [HTTPRoute] {
            (0..<self.one([1, 2, 4, 12])).map { index in
                let kind: HTTPRoute.Kind = self.number(12) == 11 ? .grpc : .http
                let rules = (0...self.number(3)).map { _ in
                    var rule = HTTPRule()
                    rule.matches = (0..<self.number(3)).map { _ in self.match(kind) }
                    return rule
                }
                return HTTPRoute(
                    name: NamespacedName(namespace: "n", name: "\(index)"), kind: kind, port: self.one([nil, 80, 81]),
                    rules: rules)
            }
        }

        mutating func request() -> RequestHead {
            var fields = HTTP2HeaderList()
            for _ in 0..<self.number(4) {
                fields.append(self.one(["x", "y", "cookie"]), self.one(["1", "2", "a", ""]))
            }
            let query = self.one(["", "?", "?q=1", "?q=2&r=1", "?r=1&q=a&q=2", "?%71=%31", "?q=a+b&r", "?q"])
            return RequestHead(
                method: self.one(["GET", "POST", "PUT"]), scheme: "http", authority: self.one(["a", "1", "echo"]),
                path: "/" + self.path().dropFirst() + query, fields: fields)
        }
    }

    /// A pattern, a NUL, texts: with and without a table the answers are the same, and building one is bounded.
    private static let regex = FuzzTarget(
        "regex",
        tokens: [
            "(", ")", "|", "*", "+", "?", "{2}", "{1,3}", "{0,}", "[a-c]", "[^/]", "\\d", "\\w", "\\S", ".", "^", "$",
            "(?i)", "(?:", "(?P<n>", "[[:alpha:]]", "\\x41", "\\Q", "\\E", "a", "b",
        ], bytes: [[0]]
    ) { bytes in
        let parts = bytes.prefix(512).split(separator: 0, omittingEmptySubsequences: false)
        guard let first = parts.first,
            let regex = try? BoundedRegex(String(decoding: first, as: UTF8.self))
        else { return }
        guard regex.isTabled else { return }
        for text in parts {
            promise(
                regex.matches(text.span) == regex.matchesByThreads(text.span),
                "\(regex) and \(Array(text)): the table and the threads differ")
        }
    }

    /// A request target: what is normalised is normal, stays a target, and shows policies no dots.
    private static let paths = FuzzTarget(
        "paths", tokens: ["/", "..", ".", "%2e", "%2F", "%5c", "\\", "?", "//", "%00", "%", "#", "a"]
    ) { bytes in
        let target = "/" + String(decoding: bytes.filter { $0 > 0x20 && $0 < 0x7F }, as: UTF8.self)
        for form in [PathNormalization.base, .mergeSlashes, .decodeAndMergeSlashes] {
            guard let once = try? form.normalized(target) else { continue }
            promise((try? form.normalized(once)) == once, "\(target) became \(once), which is not normal")
            promise(once.utf8.first == UInt8(ascii: "/"), "\(target) became \(once)")
            promise(RequestPath.query(once) == RequestPath.query(target), "the query of \(target) changed: \(once)")
            for segment in RequestPath.path(once).split(separator: "/") {
                let plain = segment.lowercased()
                promise(!["..", ".", "%2e", "%2e%2e", ".%2e", "%2e."].contains(plain), "\(target) became \(once)")
            }
            if form != .base { promise(!RequestPath.path(once).contains("//"), "\(target) became \(once)") }
        }
    }

    private static let checker = {
        var rule = TokenPolicy.Rule(issuer: "me")
        rule.keys =
            #"{"keys":[{"kty":"oct","kid":"k","k":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"},"#
            + #"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","#
            + #""y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"e"}]}"#
        rule.cookies = ["t"]
        rule.claimHeaders = [TokenPolicy.ClaimHeader(header: "x-claim", claim: "a.b")]
        return TokenChecker([TokenPolicy(key: NamespacedName(namespace: "n", name: "t"), rules: [rule])])
    }()

    /// The first octet says where the token is and whether we sign it; the rest is a token, or header, NUL and payload of
    /// one. Without the key nothing is ever verified, and no field comes out that could end a field.
    private static let jwt = FuzzTarget(
        "jwt",
        tokens: [
            #"{"alg":"HS256","kid":"k"}"#, #"{"alg":"none"}"#, #"{"alg":"ES256"}"#, #"{"iss":"me"}"#, #""exp":1"#,
            #""aud":["a"]"#, #""a":{"b":"c"}"#, ".", "eyJhbGciOiJIUzI1NiJ9", #"\r\n"#, "\"", ",", ":", "{", "}",
        ], bytes: [[0], [1], [2], [3]]
    ) { bytes in
        guard let first = bytes.first else { return }
        var token = String(decoding: bytes.dropFirst(), as: UTF8.self)
        let isSigned = first & 4 != 0
        if isSigned {
            let parts = bytes.dropFirst().split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
            let signed = Base64URL.encode(parts[0]) + "." + Base64URL.encode(parts.count > 1 ? parts[1] : [])
            let code = HMAC<SHA256>.authenticationCode(
                for: Array(signed.utf8), using: SymmetricKey(data: [UInt8](repeating: 7, count: 32)))
            token = signed + "." + Base64URL.encode(Array(code))
        }
        var request = RequestHead(
            method: "GET", scheme: "http", authority: "a", path: "/", fields: ["x-claim": "forged"])
        switch first & 3 {
        case 0: request.fields.append("authorization", "Bearer \(token)")
        case 1: request.fields.append("cookie", "a=b; t=\(token)")
        default: request.path = "/?x=y&access_token=\(token)"
        }
        var memory = TokenMemory()
        let outcome = Self.checker.check(&request, unixSeconds: 1_800_000_000, memory: &memory)
        if case .verified = outcome { promise(isSigned, "verified without a signature: \(token)") }
        for index in 0..<request.fields.count where request.fields.hasName(index, "x-claim") {
            promise(request.fields.value(index) != "forged", "a client wrote a field of ours")
            promise(!request.fields.valueBytes(index).contains { $0 < 32 }, "a control character in a field")
        }
    }
}
