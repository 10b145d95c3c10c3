import MeshEnvoy
import MeshModel
import MeshProto
import MeshRoutes
import SwiftProtobuf
import Testing

@Suite("Routes as Envoy is told them")
struct ServedRoutesTests {
    static let service = NamespacedName(namespace: "shop", name: "echo.shop.svc.cluster.local")

    static func route(
        _ rules: [HTTPRule], name: String = "r", kind: HTTPRoute.Kind = .http, client: String? = nil
    ) -> HTTPRoute {
        HTTPRoute(
            name: NamespacedName(namespace: "shop", name: name), kind: kind, port: nil, clientNamespace: client,
            rules: rules)
    }

    static func rule(_ paths: [HTTPMatch.Path], _ change: (inout HTTPRule) -> Void = { _ in }) -> HTTPRule {
        var rule = HTTPRule()
        rule.matches = paths.map { path in
            var match = HTTPMatch()
            match.path = path
            return match
        }
        rule.backends = [HTTPBackend(destination: .service(Self.service, port: 80))]
        change(&rule)
        return rule
    }

    static func served(_ routes: [HTTPRoute]) -> ServedRoutes {
        var rules = ServiceRules(key: Self.service)
        rules.routes = routes
        return ServedRoutes(EnvoyDestination(Self.service, port: 80), rules) { _ in .leastRequest }
    }

    static func routes(_ routes: [HTTPRoute]) throws -> [EnvoyRoute] {
        try EnvoyRouteConfiguration(serializedBytes: Self.served(routes).resource.bytes).virtualHosts[0].routes
    }

    private static func text(_ route: EnvoyRoute) -> String {
        let match = route.match
        let path =
            switch match.pathSpecifier {
            case .path(let path): "= \(path)"
            case .prefix(let prefix): "^ \(prefix)"
            case .pathSeparatedPrefix(let prefix): "/ \(prefix)"
            case .safeRegex(let pattern): "~ \(pattern.regex)"
            case .connectMatcher, nil: "?"
            }
        return
            ([path] + match.headers.map { "\($0.name)" } + match.queryParameters.map { "?\($0.name)" }
            + match.filterState.map { _ in "client" }).joined(separator: " ")
    }

    @Test("the most specific match comes first: exact, prefix by length, patterns, everything")
    func order() throws {
        var method = HTTPMatch()
        method.path = .prefix("/a")
        method.method = "GET"
        var header = HTTPMatch()
        header.path = .prefix("/a")
        header.headers = [FieldMatch(name: "X-A", value: .exact("1")), FieldMatch(name: "x-a", value: .exact("2"))]
        var query = HTTPMatch()
        query.path = .prefix("/a")
        query.query = [FieldMatch(name: "q", value: .exact("1"))]
        let routes = try Self.routes([
            Self.route([
                Self.rule([.prefix("/"), .regex("/r.*"), .prefix("/a"), .prefix("/a/b/"), .exact("/a")]),
                Self.rule([]) { $0.matches = [query, header, method] },
            ])
        ])
        #expect(
            routes.map(Self.text) == [
                "= /a", "/ /a/b", "/ /a :method", "/ /a x-a", "/ /a ?q", "/ /a", "~ /r.*", "^ /",
            ])
    }

    @Test("calls of gRPC: the whole method, its service, patterns, everything; and nothing else passes")
    func grpc() throws {
        let routes = try Self.routes([
            Self.route([Self.rule([.exact("/ignored")])], name: "http"),
            Self.route(
                [
                    Self.rule([
                        .grpc(service: nil, method: nil), .grpc(service: .regex("a.*"), method: .exact("M")),
                        .grpc(service: .exact("pkg.S"), method: nil),
                        .grpc(service: .exact("pkg.S"), method: .exact("M")),
                    ])
                ], kind: .grpc),
        ])
        #expect(routes.map(Self.text) == ["= /pkg.S/M", "^ /pkg.S/", "~ /(?:a.*)/M", "^ /"])
        #expect(routes.allSatisfy { $0.match.hasGrpc })
    }

    @Test("routes of a client's namespace come first, and are all that its clients see")
    func consumers() throws {
        let routes = try Self.routes([
            Self.route([Self.rule([.prefix("/p")])], name: "own"),
            Self.route([Self.rule([.prefix("/c")])], name: "theirs", client: "team.a"),
        ])
        #expect(routes.map(Self.text) == ["/ /c client", "^ / client", "/ /p"])
        #expect(routes[1].directResponse.status == 404)
        #expect(routes[0].match.filterState[0].stringMatch.safeRegex.regex == #"spiffe://[^/]+/ns/team\.a/sa/.+"#)
    }

    @Test("without routes the service is its own backend")
    func standard() throws {
        let routes = try Self.routes([])
        #expect(routes.map(Self.text) == ["^ /"])
        #expect(routes[0].route.cluster == "outbound|80||echo.shop.svc.cluster.local")
        #expect(routes[0].route.timeout.seconds == 0 && routes[0].route.hasTimeout, "Envoy's own 15 s are not wanted")
    }

    @Test("an escape in a path is the same in capitals and small letters")
    func escapes() throws {
        let routes = try Self.routes([Self.route([Self.rule([.exact("/a%2fb"), .prefix("/c%2Fd")])])])
        #expect(routes.map(Self.text) == ["~ /a(?i:%2F)b", "~ /c(?i:%2F)d(?:/.*)?"])
    }

    @Test("what Envoy cannot do for one of several backends is 500, and said; for the only one it is done")
    func backendFilters() throws {
        let mirror = HTTPFilter.mirror(RequestMirror(destination: .service(Self.service, port: 81)))
        let backend = HTTPBackend(destination: .service(Self.service, port: 80), filters: [mirror])
        let other = HTTPBackend(destination: .service(Self.service, port: 82))
        let several = Self.served([Self.route([Self.rule([.prefix("/")]) { $0.backends = [backend, other] }])])
        #expect(several.problems.map(\.place) == ["route shop/r/0"])
        let routes = try EnvoyRouteConfiguration(serializedBytes: several.resource.bytes).virtualHosts[0].routes
        #expect(routes[0].route.weightedClusters.clusters[0].name == "invalid")
        #expect(routes[0].route.clusterNotFoundResponseCode == .internalServerError)
        #expect(several.destinations.map(\.port).sorted() == [80, 82])
        let single = Self.served([Self.route([Self.rule([.prefix("/")]) { $0.backends = [backend] }])])
        #expect(single.problems.isEmpty && single.destinations.map(\.port).sorted() == [80, 81])
    }

    @Test("changes of headers one after the other are one change", arguments: [true, false])
    func headers(isAtBackend: Bool) throws {
        var first = HeaderChange()
        first.set = [.init(name: "a", value: "1"), .init(name: "host", value: "new.example")]
        first.add = [.init(name: "b", value: "50%"), .init(name: "connection", value: "close")]
        first.remove = ["c"]
        var second = HeaderChange()
        second.add = [.init(name: "a", value: "2"), .init(name: "c", value: "3")]
        second.remove = ["b"]
        let filters = [HTTPFilter.requestHeaders(first), .requestHeaders(second)]
        let route = try Self.routes([
            Self.route([
                Self.rule([.prefix("/")]) {
                    if isAtBackend { $0.backends[0].filters = filters } else { $0.filters = filters }
                }
            ])
        ])[0]
        #expect(
            route.requestHeadersToAdd.map { "\($0.header.key)=\($0.header.value) \($0.appendAction)" } == [
                "a=1 overwriteIfExistsOrAdd", "a=2 appendIfExistsOrAdd", "c=3 overwriteIfExistsOrAdd",
            ])
        #expect(route.requestHeadersToRemove == ["b"])
        #expect(route.route.hostRewriteLiteral == "new.example")
    }

    @Test("retries, timeouts and weights")
    func action() throws {
        let route = try Self.routes([
            Self.route([
                Self.rule([.prefix("/")]) {
                    $0.retry = RetryPolicy(codes: [503], attempts: 4, backoff: .milliseconds(100))
                    $0.timeouts.request = .seconds(10)
                    $0.timeouts.backendRequest = .milliseconds(2500)
                }
            ])
        ])[0].route
        #expect(route.retryPolicy.retriableStatusCodes == [503] && route.retryPolicy.numRetries.value == 4)
        #expect(route.retryPolicy.retryOn.split(separator: ",").contains("retriable-status-codes"))
        #expect(route.retryPolicy.perTryTimeout.nanos == 500_000_000 && route.timeout.seconds == 10)
    }

    @Test("equal rules give equal bytes, other rules others")
    func bytes() {
        let routes = [Self.route([Self.rule([.prefix("/a")])])]
        #expect(Self.served(routes).resource == Self.served(routes).resource)
        #expect(Self.served(routes).resource != Self.served([]).resource)
    }
}
