import MeshHTTP
import MeshModel
import MeshRoutes
import Testing

/// ``RouteTable`` against ``SlowRouteMatcher``, over routes and requests made of few words, so that they meet often.
@Suite("Route matching, fast and slow")
struct RouteDifferentialTests {
    private struct Maker {
        var numbers: SeededNumbers

        mutating func one<Value>(_ values: [Value]) -> Value { values.randomElement(using: &self.numbers)! }
        mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self.numbers) < percent }

        mutating func path() -> String {
            let segments = (0..<Int.random(in: 0...3, using: &self.numbers)).map { _ in
                self.one(["a", "b", "ab", "", "%2F"])
            }
            return "/" + segments.joined(separator: "/") + (self.chance(20) ? "/" : "")
        }

        mutating func text(_ values: [String]) -> TextMatch {
            self.chance(20) ? .regex(self.one(["a.*", "[0-9]+", ".*", "(1|2)"])) : .exact(self.one(values))
        }

        mutating func match(_ kind: HTTPRoute.Kind) -> HTTPMatch {
            var match = HTTPMatch()
            if kind == .grpc {
                if self.chance(90) {
                    match.path = .grpc(
                        service: self.chance(80) ? self.text(["a", "b", "ab"]) : nil,
                        method: self.chance(60) ? self.text(["a", "b"]) : nil)
                }
            } else {
                switch Int.random(in: 0..<10, using: &self.numbers) {
                case 0...2: match.path = .exact(self.path())
                case 3...7: match.path = .prefix(self.path())
                case 8: match.path = .regex(self.one(["/a.*", "/.*b", "/[ab]+/?", "/.*"]))
                default: break
                }
                if self.chance(25) { match.method = self.one(["GET", "POST"]) }
                for _ in 0..<(self.chance(30) ? Int.random(in: 1...2, using: &self.numbers) : 0) {
                    match.query.append(FieldMatch(name: self.one(["q", "r"]), value: self.text(["1", "2", "a b"])))
                }
            }
            for _ in 0..<(self.chance(50) ? Int.random(in: 1...2, using: &self.numbers) : 0) {
                match.headers.append(
                    FieldMatch(
                        name: self.one(["x", "y", "host", "cookie"]), value: self.text(["1", "2", "1, 2", "a"])))
            }
            return match
        }

        mutating func routes() -> [HTTPRoute] {
            let count = self.one([1, 2, 5, 20])
            return (0..<count).map { index in
                let kind: HTTPRoute.Kind = self.chance(8) ? .grpc : .http
                let rules = (0..<Int.random(in: 1...3, using: &self.numbers)).map { _ in
                    var rule = HTTPRule()
                    rule.matches = (0..<self.one([0, 1, 1, 2, 4])).map { _ in self.match(kind) }
                    return rule
                }
                return HTTPRoute(
                    name: NamespacedName(namespace: "n", name: "r\(index)"), kind: kind,
                    port: self.one([nil, nil, 80, 81]), rules: rules)
            }
        }

        mutating func request() -> RequestHead {
            var fields = HTTP2HeaderList()
            for _ in 0..<Int.random(in: 0...3, using: &self.numbers) {
                fields.append(self.one(["x", "y", "cookie", "z"]), self.one(["1", "2", "a", "abc", ""]))
            }
            let query = self.one(["", "", "?", "?q=1", "?q=2&r=1", "?r=a+b&q=1&q=2", "?q=%31", "?q=a%20b&r"])
            return RequestHead(
                method: self.one(["GET", "POST", "PUT"]), scheme: "http", authority: self.one(["a", "1", "echo"]),
                path: self.path() + query, fields: fields)
        }
    }

    @Test("give the same answer", arguments: 0..<40 as Range<UInt64>)
    func same(seed: UInt64) {
        var maker = Maker(numbers: SeededNumbers(seed))
        let routes = maker.routes()
        let (table, slow) = (RouteTable(routes, port: 80), SlowRouteMatcher(routes, port: 80))
        for _ in 0..<50 {
            let request = maker.request()
            let isGRPC = maker.chance(50)
            let (found, wanted) = (table.match(request, isGRPC: isGRPC), slow.match(request, isGRPC: isGRPC))
            #expect(
                found?.rule.route == wanted?.route && found?.rule.index == wanted?.rule
                    && found?.prefixBytes == wanted?.prefixBytes,
                "\(request.method) \(request.authority)\(request.path) \(request.fields) of \(routes)")
        }
    }
}
