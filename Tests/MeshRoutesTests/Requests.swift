import MeshHTTP
import MeshModel
import MeshRoutes

/// Short words for the tables of these tests.
func request(
    _ path: String = "/", _ method: String = "GET", _ fields: HTTP2HeaderList = [:], authority: String = "echo",
    scheme: String = "http"
) -> RequestHead {
    RequestHead(method: method, scheme: scheme, authority: authority, path: path, fields: fields)
}

func match(
    _ path: HTTPMatch.Path = .prefix("/"), method: String? = nil, headers: [(String, String)] = [],
    query: [(String, String)] = []
) -> HTTPMatch {
    func tests(_ pairs: [(String, String)]) -> [FieldMatch] {
        // `~` in front: a pattern.
        pairs.map {
            FieldMatch(name: $0.0, value: $0.1.hasPrefix("~") ? .regex(String($0.1.dropFirst())) : .exact($0.1))
        }
    }
    var match = HTTPMatch()
    match.path = path
    match.method = method
    match.headers = tests(headers)
    match.query = tests(query)
    return match
}

func rule(_ name: String, _ matches: HTTPMatch...) -> HTTPRule {
    var rule = HTTPRule()
    rule.name = name
    rule.matches = matches
    return rule
}

func route(_ rules: HTTPRule...) -> HTTPRoute {
    HTTPRoute(name: NamespacedName(namespace: "mesh", name: "route"), kind: .http, port: nil, rules: rules)
}

func route(_ name: String, kind: HTTPRoute.Kind = .http, port: UInt16? = nil, _ rules: HTTPRule...) -> HTTPRoute {
    HTTPRoute(name: NamespacedName(namespace: "mesh", name: name), kind: kind, port: port, rules: rules)
}

/// Splitmix64: the same numbers with each run.
struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { self.state = seed }
    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var z = self.state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
