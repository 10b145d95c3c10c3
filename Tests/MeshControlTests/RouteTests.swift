import KubeAPI
import MeshControl
import MeshModel
import MeshRoutes
import Testing

/// A service `s` with a waypoint `w`, both in ns1.
extension Mesh {
    static func withWaypoint() -> Mesh {
        let mesh = Mesh()
        mesh.set(
            KubeObject(
                .gatewayClasses, name: "istio-waypoint",
                ["spec": ["controllerName": .string(GatewayClassView.waypointController)]]))
        mesh.set(Make.gateway("w"), WaypointTests.service(WaypointTests.use))
        return mesh
    }

    static let served = "ns1/s.ns1.svc.company.com"
    func rules(_ key: String = Mesh.served) -> ServiceRules? { self.index.serviceRules[key]?.rules }
    func httpRule(_ index: Int = 0) -> HTTPRule? {
        guard let rules = self.rules()?.routes.first?.rules, rules.indices.contains(index) else { return nil }
        return rules[index]
    }
    func status(_ route: String, _ kind: RouteKind = .http, place: Int = 0) -> [String: StatusCondition] {
        let conditions = self.index.routeStatuses[kind]?["ns1/\(route)"]?.conditions(place) ?? []
        return Dictionary(conditions.map { ($0.type, $0) }, uniquingKeysWith: { $1 })
    }
}

@Suite("Routes of the Gateway API, as a waypoint gets them")
struct RouteTests {
    static func backend(_ name: String = "s", _ more: [String: JSONValue] = [:]) -> JSONValue {
        .object(["name": .string(name), "port": 80].merging(more) { $1 })
    }
    static let plain: JSONValue = [["backendRefs": [backend()]]]
    static let here = RouteDestination.service(NamespacedName(Mesh.served)!, port: 80)

    @Test("a service with a waypoint has rules, also without a route; one without a waypoint has none")
    func bound() {
        let mesh = Mesh.withWaypoint()
        #expect(mesh.index.serviceRules.all.keys.sorted() == [Mesh.served])
        #expect(mesh.rules() == ServiceRules(key: NamespacedName(Mesh.served)!))
        #expect(mesh.index.serviceRules[Mesh.served]?.waypoints == [NamespacedName(namespace: "ns1", name: "w")])
        mesh.set(Make.service("t", ip: "10.0.0.2"))
        #expect(mesh.index.serviceRules.count == 1)
        mesh.set(WaypointTests.service([:]))
        #expect(mesh.index.serviceRules.count == 0)
    }

    @Test("45: both the primary and the canary waypoint get a service's rules")
    func canary() {
        let mesh = Mesh.withWaypoint()
        mesh.set(
            Make.gateway("c"),
            WaypointTests.service(WaypointTests.use.merging(["istio.io/use-waypoint-canary": "c"]) { $1 }))
        #expect(
            mesh.index.serviceRules[Mesh.served]?.waypoints.map(\.description).sorted() == ["ns1/c", "ns1/w"])
    }

    @Test("91: a parent without a waypoint: accepted, and told that nothing follows; a missing one: not accepted")
    func parents() {
        let mesh = Mesh.withWaypoint()
        mesh.set(WaypointTests.service([:]), Make.route("r", Self.plain))
        #expect(mesh.status("r")["Accepted"]?.isTrue == true)
        #expect(mesh.status("r")["ResolvedWaypoints"]?.isTrue == false)
        #expect(mesh.status("r")["ResolvedWaypoints"]?.message.contains("istio.io/use-waypoint") == true)
        #expect(mesh.index.routeStatuses[.http]?["ns1/r"]?.generation == 4)
        mesh.set(WaypointTests.service(WaypointTests.use))
        #expect(mesh.status("r")["ResolvedWaypoints"]?.isTrue == true)
        #expect(mesh.rules()?.routes.map(\.name.name) == ["r"])
        mesh.set(Make.route("r", parents: [["group": "", "kind": "Service", "name": "x"]], Self.plain))
        #expect(mesh.status("r")["Accepted"]?.isTrue == false)
        #expect(mesh.status("r")["Accepted"]?.reason == "NoMatchingParent")
        #expect(mesh.rules()?.routes.isEmpty == true)
    }

    @Test("several parents each have an entry; a port or a section must exist")
    func severalParents() {
        let mesh = Mesh.withWaypoint()
        func parent(_ more: [String: JSONValue]) -> JSONValue {
            .object(["group": "", "kind": "Service", "name": "s"].merging(more) { $1 })
        }
        mesh.set(
            Make.route(
                "r",
                parents: [
                    parent(["port": 80]), parent(["port": 81]), parent(["sectionName": "http"]),
                    parent(["sectionName": "no"]), ["name": "gw"],
                ], Self.plain))
        #expect(mesh.index.routeStatuses[.http]?["ns1/r"]?.places.count == 4, "a Gateway of others is theirs")
        #expect((0..<4).map { mesh.status("r", place: $0)["Accepted"]?.isTrue } == [true, false, true, false])
        #expect(mesh.rules()?.routes.map(\.port) == [80], "attached once, however often it is named")
        mesh.set(Make.route("r", parents: [["name": "w"]], Self.plain))
        #expect(mesh.status("r")["Accepted"]?.reason == "NotAllowedByListeners")
    }

    @Test("92: a backend of another namespace needs no ReferenceGrant in a mesh")
    func crossNamespace() {
        let mesh = Mesh.withWaypoint()
        mesh.set(
            Make.service("b", namespace: "ns2", ip: "10.0.0.9"),
            Make.route("r", [["backendRefs": [Self.backend("b", ["namespace": "ns2"])]]]))
        #expect(mesh.status("r")["ResolvedRefs"]?.isTrue == true)
        #expect(
            mesh.httpRule()?.backends.map(\.destination) == [
                .service(NamespacedName("ns2/b.ns2.svc.company.com")!, port: 80)
            ])
    }

    @Test("what leads nowhere answers its share with 500, and comes to life with its object")
    func missing() {
        let mesh = Mesh.withWaypoint()
        mesh.set(
            Make.route(
                "r",
                [
                    [
                        "backendRefs": [
                            Self.backend("late", ["weight": 9]), Self.backend("s", ["port": 81]),
                            Self.backend("s", ["kind": "Secret"]), ["name": "s"],
                            Self.backend("a.example", ["group": "networking.istio.io", "kind": "Hostname"]),
                        ]
                    ]
                ]))
        func invalid() -> [Bool] {
            (mesh.httpRule()?.backends ?? []).map { if case .invalid = $0.destination { true } else { false } }
        }
        #expect(invalid() == [true, true, true, true, true])
        #expect(mesh.httpRule()?.backends.map(\.weight) == [9, 1, 1, 1, 1])
        let refs = mesh.status("r")["ResolvedRefs"]
        #expect(refs?.isTrue == false && refs?.reason == "BackendNotFound")
        #expect(refs?.message.contains("no port 81") == true && refs?.message.contains("Secret") == true)
        #expect(mesh.status("r")["Accepted"]?.isTrue == true)
        let changed = mesh.set(Make.service("late", ip: "10.0.0.8"), Make.entry("e"))
        #expect(changed.contains("rules \(Mesh.served)"))
        #expect(invalid() == [false, true, true, true, false])
        mesh.set(
            Make.route(
                "r",
                [["backendRefs": [Self.backend("e", ["group": "networking.istio.io", "kind": "ServiceEntry"])]]]))
        #expect(
            mesh.httpRule()?.backends.first?.destination == .service(NamespacedName("ns1/a.example")!, port: 80))
        #expect(mesh.status("r")["ResolvedRefs"]?.isTrue == true)
    }

    @Test("producer routes are for everybody, consumer routes for their own namespace, the waypoint's for everybody")
    func personas() {
        let mesh = Mesh.withWaypoint()
        let parent: JSONValue = [["group": "", "kind": "Service", "name": "s", "namespace": "ns1"]]
        mesh.set(
            Make.route("b", createdAt: "2026-01-02T00:00:00Z", Self.plain), Make.route("c", Self.plain),
            Make.route("a", namespace: "team", parents: parent, Self.plain))
        #expect(mesh.rules()?.routes.map(\.name.name) == ["c", "a", "b"], "oldest first, then by name")
        #expect(mesh.rules()?.routes.map(\.clientNamespace) == [nil, "team", nil])
        mesh.set(
            Make.gateway("w", namespace: "infra", from: ["from": "All"]),
            WaypointTests.service(WaypointTests.use.merging(["istio.io/use-waypoint-namespace": "infra"]) { $1 }),
            Make.route("d", namespace: "infra", parents: parent, Self.plain))
        #expect(mesh.rules()?.routes.first { $0.name.name == "d" }?.clientNamespace == .some(nil))
    }

    @Test("of several kinds at one port the most specific has it, and the others are told")
    func kinds() {
        let mesh = Mesh.withWaypoint()
        mesh.set(
            WaypointTests.labelled(
                Make.service(
                    "s", ports: [["name": "a", "port": 80], ["name": "b", "port": 81]]), WaypointTests.use),
            Make.route("t", kind: .tcpRoutes, Self.plain), Make.route("h", Self.plain),
            Make.route(
                "g", kind: .grpcRoutes, parents: [["group": "", "kind": "Service", "name": "s", "port": 81]], Self.plain
            ))
        #expect(mesh.rules()?.routes.map { "\($0.name.name) \($0.port ?? 0)" } == ["g 81", "h 80"])
        #expect(mesh.rules()?.streams.isEmpty == true)
        #expect(mesh.status("t", .tcp)["Accepted"]?.reason == "Conflicted")
        #expect(mesh.status("h")["Accepted"]?.isTrue == true)
        mesh.remove(Make.route("h", Self.plain))
        #expect(mesh.rules()?.streams.map(\.port) == [80])
        #expect(mesh.status("t", .tcp)["Accepted"]?.isTrue == true)
        #expect(mesh.index.routeStatuses[.http]?["ns1/h"] == nil)
    }

    @Test(
        "a port that declares something else than the route is for stays as it is, and the route's status says so",
        arguments: [
            ("tcp", RouteKind.http, false), ("tcp", .grpc, false), ("tcp", .tls, false), ("tcp", .tcp, true),
            ("https", .http, false), ("tls", .grpc, false), ("tls", .tls, true), ("tls", .tcp, true),
            ("http", .http, true), ("http", .grpc, true), ("http", .tls, false), ("http", .tcp, false),
            ("http2", .tcp, false), ("grpc", .http, true), ("grpc-web", .http, true), ("", .http, true),
            ("", .tcp, true), ("redis", .tls, true),
        ])
    func declared(name: String, kind: RouteKind, isForce: Bool) {
        let mesh = Mesh.withWaypoint()
        let type: ResourceType =
            switch kind {
            case .http: .httpRoutes
            case .grpc: .grpcRoutes
            case .tls: .tlsRoutes
            case .tcp: .tcpRoutes
            }
        mesh.set(
            WaypointTests.labelled(
                Make.service("s", ports: [["name": .string(name), "port": 80]]), WaypointTests.use),
            Make.route("r", kind: type, Self.plain))
        let accepted = mesh.status("r", kind)["Accepted"]
        #expect(accepted?.isTrue == isForce)
        #expect(accepted?.reason == (isForce ? "Accepted" : "UnsupportedProtocol"))
        #expect(accepted?.message.contains("port 80 is declared as") == !isForce)
        #expect((mesh.rules()?.routes.count ?? 0) + (mesh.rules()?.streams.count ?? 0) == (isForce ? 1 : 0))
    }

    @Test("a route for all ports is in force at those that it is for, and the others are named")
    func partlyDeclared() {
        let mesh = Mesh.withWaypoint()
        let ports: JSONValue = [
            ["name": "http", "port": 80], ["name": "db", "port": 5432, "appProtocol": "tcp"],
        ]
        mesh.set(
            WaypointTests.labelled(Make.service("s", ports: ports), WaypointTests.use), Make.route("h", Self.plain),
            Make.route("t", kind: .tcpRoutes, Self.plain))
        #expect(mesh.rules()?.routes.map(\.port) == [nil], "nobody looks for requests at the other one")
        #expect(mesh.rules()?.streams.map(\.port) == [5432], "the kinds do not compete for a port that one is not for")
        #expect(mesh.status("h")["Accepted"]?.isTrue == true)
        #expect(mesh.status("h")["Accepted"]?.message.contains("port 5432 is declared as tcp") == true)
        #expect(mesh.status("t", .tcp)["Accepted"]?.message.contains("port 80 is declared as http") == true)
        mesh.set(
            Make.route("h", parents: [["group": "", "kind": "Service", "name": "s", "sectionName": "db"]], Self.plain))
        #expect(mesh.status("h")["Accepted"]?.reason == "UnsupportedProtocol")
        mesh.set(WaypointTests.labelled(Make.service("s", ports: [["port": 5432]]), WaypointTests.use))
        mesh.set(
            Make.route("h", parents: [["group": "", "kind": "Service", "name": "s", "port": 5432]], Self.plain))
        #expect(mesh.status("h")["Accepted"]?.isTrue == true, "what declares nothing is looked at")
    }

    @Test("TLS by server name, TCP by nothing")
    func streams() {
        let mesh = Mesh.withWaypoint()
        mesh.set(
            WaypointTests.labelled(Make.service("s", ports: [["name": "https", "port": 80]]), WaypointTests.use),
            Make.route("t", kind: .tlsRoutes, hostnames: ["a.example", "*.b.example"], Self.plain))
        let route = mesh.rules()?.streams.first
        #expect(route?.isTLS == true && route?.serverNames == ["a.example", "*.b.example"])
        #expect(route?.backends == [StreamBackend(destination: Self.here, weight: 1)])
    }

    @Test("99: policies and routes of a service are in its own rules only, also at a waypoint of another namespace")
    func ownRulesOnly() {
        let mesh = Mesh.withWaypoint()
        mesh.set(WaypointTests.labelled(Make.service("t", ip: "10.0.0.2"), WaypointTests.use))
        mesh.set(
            KubeObject(
                .requestAuthentications, namespace: "ns1", name: "j",
                [
                    "spec": [
                        "targetRefs": [["kind": "Service", "name": "s"]],
                        "jwtRules": [["issuer": "i", "jwks": "{\"keys\":[]}"]],
                    ]
                ]),
            KubeObject(
                .telemetries, namespace: "ns1", name: "quiet",
                [
                    "spec": [
                        "targetRefs": [["kind": "Service", "name": "s"]], "accessLogging": [["disabled": true]],
                    ]
                ]))
        #expect(mesh.rules()?.gate.tokens.map(\.key.name) == ["j"])
        #expect(mesh.rules()?.telemetry?.isAccessLogEnabled == false)
        #expect(mesh.rules("ns1/t.ns1.svc.company.com")?.gate == TrafficGate())
        #expect(mesh.rules("ns1/t.ns1.svc.company.com")?.telemetry == nil)
    }

    @Test("a change of one route changes its own service's rules and nothing else")
    func narrow() {
        let mesh = Mesh.withWaypoint()
        mesh.set(WaypointTests.labelled(Make.service("t", ip: "10.0.0.2"), WaypointTests.use))
        mesh.set(Make.route("r", Self.plain))
        #expect(mesh.set(Make.route("r", [["backendRefs": [Self.backend("t")]]])) == ["rules \(Mesh.served)"])
        #expect(mesh.set(Make.route("r", [["backendRefs": [Self.backend("t")]]])).isEmpty)
        #expect(mesh.set(Make.pod("p")).filter { $0.hasPrefix("rules") }.isEmpty)
    }
}

@Suite("What a rule of a route comes to")
struct RouteRuleTests {
    static func rule(_ json: JSONValue, kind: ResourceType = .httpRoutes) -> (rule: HTTPRule?, mesh: Mesh) {
        let mesh = Mesh.withWaypoint()
        mesh.set(Make.route("r", kind: kind, [json]))
        return (mesh.httpRule(), mesh)
    }

    @Test("every match")
    func matches() {
        let rule = Self.rule([
            "name": "first",
            "matches": [
                [
                    "path": ["type": "Exact", "value": "/e"], "method": "GET",
                    "headers": [
                        ["name": "X-A", "value": "1"], ["name": "x-a", "value": "ignored"],
                        ["name": "b", "type": "RegularExpression", "value": "2+"],
                    ],
                    "queryParams": [["name": "Q", "value": "v"], ["name": "q", "value": "w"]],
                ],
                ["path": ["type": "RegularExpression", "value": "/r.*"]], [:],
            ],
        ]).rule
        #expect(rule?.name == "first")
        var exact = HTTPMatch()
        exact.path = .exact("/e")
        exact.method = "GET"
        exact.headers = [FieldMatch(name: "x-a", value: .exact("1")), FieldMatch(name: "b", value: .regex("2+"))]
        exact.query = [FieldMatch(name: "Q", value: .exact("v")), FieldMatch(name: "q", value: .exact("w"))]
        var regex = HTTPMatch()
        regex.path = .regex("/r.*")
        #expect(rule?.matches == [exact, regex, HTTPMatch()])
    }

    @Test("methods of gRPC")
    func grpc() {
        let rule = Self.rule(
            [
                "matches": [
                    ["method": ["service": "s.S", "method": "M"]],
                    ["method": ["type": "RegularExpression", "service": "s.*"]],
                    ["headers": [["name": "A", "value": "1"]]],
                ]
            ], kind: .grpcRoutes
        ).rule
        #expect(
            rule?.matches.map(\.path) == [
                .grpc(service: .exact("s.S"), method: .exact("M")), .grpc(service: .regex("s.*"), method: nil),
                .grpc(service: nil, method: nil),
            ])
        #expect(rule?.matches.last?.headers == [FieldMatch(name: "a", value: .exact("1"))])
    }

    @Test("every filter")
    func filters() {
        let change: JSONValue = [
            "set": [["name": "S", "value": "1"]], "add": [["name": "A", "value": "2"]], "remove": ["R"],
        ]
        let rule = Self.rule([
            "filters": [
                ["type": "RequestHeaderModifier", "requestHeaderModifier": change],
                ["type": "ResponseHeaderModifier", "responseHeaderModifier": change],
                [
                    "type": "URLRewrite",
                    "urlRewrite": [
                        "hostname": "h", "path": ["type": "ReplacePrefixMatch", "replacePrefixMatch": "/p"],
                    ],
                ],
                [
                    "type": "RequestMirror",
                    "requestMirror": [
                        "backendRef": ["name": "s", "port": 80], "fraction": ["numerator": 1, "denominator": 8],
                    ],
                ],
                ["type": "RequestMirror", "requestMirror": ["backendRef": ["name": "no", "port": 80]]],
                [
                    "type": "CORS",
                    "cors": [
                        "allowOrigins": ["https://a"], "allowMethods": ["GET"], "allowHeaders": ["x"],
                        "exposeHeaders": ["y"], "allowCredentials": true, "maxAge": 60,
                    ],
                ],
            ],
            "backendRefs": [
                [
                    "name": "s", "port": 80,
                    "filters": [["type": "RequestHeaderModifier", "requestHeaderModifier": change]],
                ]
            ],
        ])
        var headers = HeaderChange()
        headers.set = [.init(name: "s", value: "1")]
        headers.add = [.init(name: "a", value: "2")]
        headers.remove = ["r"]
        var cors = CORSPolicy()
        cors.allowOrigins = ["https://a"]
        cors.allowMethods = ["GET"]
        cors.allowHeaders = ["x"]
        cors.exposeHeaders = ["y"]
        cors.allowCredentials = true
        cors.maxAgeSeconds = 60
        #expect(
            rule.rule?.filters == [
                .requestHeaders(headers), .responseHeaders(headers),
                .rewrite(URLRewrite(hostname: "h", path: .prefix("/p"))),
                .mirror(RequestMirror(destination: RouteTests.here, numerator: 1, denominator: 8)), .cors(cors),
            ], "a mirror that leads nowhere copies nothing")
        #expect(rule.rule?.backends.first?.filters == [.requestHeaders(headers)])
        #expect(rule.mesh.status("r")["ResolvedRefs"]?.reason == "BackendNotFound")
    }

    @Test("redirects, and no backend needed")
    func redirect() {
        let rule = Self.rule([
            "filters": [
                [
                    "type": "RequestRedirect",
                    "requestRedirect": [
                        "scheme": "https", "hostname": "h", "port": 8443, "statusCode": 301,
                        "path": ["type": "ReplaceFullPath", "replaceFullPath": "/f"],
                    ],
                ]
            ]
        ]).rule
        var redirect = RequestRedirect(status: 301)
        redirect.scheme = "https"
        redirect.hostname = "h"
        redirect.port = 8443
        redirect.path = .full("/f")
        #expect(rule?.filters == [.redirect(redirect)])
        #expect(rule?.backends.isEmpty == true)
    }

    @Test(
        "a filter that we do not have fails its rule's requests, and the status names it",
        arguments: ["ExtensionRef", "ExternalAuth", "New"])
    func unknownFilter(type: String) {
        let (rule, mesh) = Self.rule(["filters": [["type": .string(type)]], "backendRefs": [RouteTests.backend()]])
        #expect(rule?.backends.count == 1)
        guard case .invalid(let reason)? = rule?.backends.first?.destination else {
            Issue.record("\(String(describing: rule))")
            return
        }
        #expect(reason.contains(type))
        #expect(mesh.status("r")["ResolvedRefs"]?.reason == "InvalidFilter")
        #expect(mesh.status("r")["ResolvedRefs"]?.message.contains(type) == true)
    }

    @Test("timeouts, retries, sessions")
    func extras() {
        let rule = Self.rule([
            "timeouts": ["request": "1m30s", "backendRequest": "250ms"],
            "retry": ["codes": [500, 503], "attempts": 4, "backoff": "10ms"],
            "sessionPersistence": [
                "sessionName": "S", "absoluteTimeout": "1h", "idleTimeout": "5m", "type": "Cookie",
                "cookieConfig": ["lifetimeType": "Permanent"],
            ], "backendRefs": [RouteTests.backend()],
        ]).rule
        #expect(rule?.timeouts.request == .seconds(90) && rule?.timeouts.backendRequest == .milliseconds(250))
        #expect(rule?.retry == RetryPolicy(codes: [500, 503], attempts: 4, backoff: .milliseconds(10)))
        #expect(
            rule?.session
                == SessionPersistence(
                    name: "S", absoluteTimeout: .seconds(3600), idleTimeout: .seconds(300), isPermanentCookie: true))
        #expect(Self.rule(["timeouts": ["request": "0s"]]).rule?.timeouts.request == nil)
    }

    @Test("a rule that cannot be read is left out, and the status says which; all of them: not accepted")
    func dropped() {
        let mesh = Mesh.withWaypoint()
        let bad: JSONValue = ["matches": [["path": ["type": "Fuzzy", "value": "/"]]]]
        let pattern: JSONValue = ["matches": [["path": ["type": "RegularExpression", "value": "/(a"]]]]
        let both: JSONValue = [
            "filters": [
                ["type": "RequestRedirect", "requestRedirect": [:]], ["type": "URLRewrite", "urlRewrite": [:]],
            ]
        ]
        mesh.set(
            Make.route(
                "r", [bad, ["backendRefs": [RouteTests.backend()]], both, ["timeouts": ["request": "1y"]], pattern]))
        #expect(mesh.rules()?.routes.first?.rules.count == 1)
        #expect(mesh.status("r")["Accepted"]?.isTrue == true)
        let partial = mesh.status("r")["PartiallyInvalid"]
        #expect(partial?.isTrue == true && partial?.message.hasPrefix("Dropped Rule(s) 0") == true)
        #expect(partial?.message.contains("Dropped Rule(s) 2") == true && partial?.message.contains("1y") == true)
        #expect(partial?.message.contains("/(a") == true)
        mesh.set(Make.route("r", [bad]))
        #expect(mesh.status("r")["Accepted"]?.reason == "UnsupportedValue")
    }
}
