import MeshModel
import MeshProto
import MeshRoutes
import MeshXDS
import SwiftProtobuf
import Testing

@Suite("A waypoint's rules on the wire")
struct RulesConversionTests {
    static let service = NamespacedName(namespace: "shop", name: "cart.shop.svc.cluster.local")

    /// Everything that there is, once.
    static let full: ServiceRules = {
        var rules = ServiceRules(key: service)
        rules.routes = [
            HTTPRoute(
                name: NamespacedName(namespace: "shop", name: "r"), kind: .http, port: 80, clientNamespace: "team",
                rules: [rule]),
            HTTPRoute(
                name: NamespacedName(namespace: "shop", name: "g"), kind: .grpc, port: nil, rules: [HTTPRule()]),
        ]
        rules.streams = [
            StreamRoute(
                name: NamespacedName(namespace: "shop", name: "s"), port: 443, clientNamespace: "team",
                serverNames: ["a.example", "*.b.example"], isTLS: true,
                backends: [StreamBackend(destination: .service(service, port: 443), weight: 0)])
        ]
        rules.gate = gate
        rules.balancing.choice = .hashCookie(name: "c", path: "/", lifetime: .seconds(60))
        rules.balancing.retryBudgetPercent = 0
        rules.balancing.retriesMin = 0
        rules.balancing.ejection.failures = 0
        rules.balancing.ejection.gatewayFailures = 3
        rules.balancing.ejection.time = .milliseconds(1500)
        rules.balancing.ejection.percentMax = 10
        rules.balancing.requestsMax = 0
        rules.balancing.streamsMax = 9
        var telemetry = WaypointTelemetry()
        telemetry.isAccessLogEnabled = false
        telemetry.tracePercent = 12.5
        telemetry.traceCollector = "http://otel.monitoring:4318/v1/traces"
        telemetry.accessLog = AccessLogStyle(.json, format: "{\"a\": \"%DURATION%\"}")
        rules.telemetry = telemetry
        return rules
    }()

    static let rule: HTTPRule = {
        var rule = HTTPRule()
        rule.name = "named"
        var match = HTTPMatch()
        match.path = .grpc(service: .regex("a.*"), method: .exact("M"))
        match.method = "GET"
        match.headers = [FieldMatch(name: "x-a", value: .exact("1")), FieldMatch(name: "x-b", value: .regex("2+"))]
        match.query = [FieldMatch(name: "Q", value: .exact(""))]
        rule.matches = [match]
        for path: HTTPMatch.Path in [.exact("/e"), .prefix("/p"), .regex("/r.*"), .grpc(service: nil, method: nil)] {
            var other = HTTPMatch()
            other.path = path
            rule.matches.append(other)
        }
        var change = HeaderChange()
        change.set = [.init(name: "s", value: "1")]
        change.add = [.init(name: "a", value: "2")]
        change.remove = ["r"]
        var redirect = RequestRedirect(status: 308)
        redirect.scheme = "https"
        redirect.hostname = "h"
        redirect.path = .full("/x")
        redirect.port = 8443
        var cors = CORSPolicy()
        cors.allowOrigins = ["https://*.example"]
        cors.allowMethods = ["GET"]
        cors.allowHeaders = ["x"]
        cors.exposeHeaders = ["y"]
        cors.allowCredentials = true
        cors.maxAgeSeconds = 7
        let elsewhere = NamespacedName(namespace: "b", name: "b.b.svc")
        rule.filters = [
            .requestHeaders(change), .responseHeaders(change), .redirect(redirect), .cors(cors),
            .rewrite(URLRewrite(hostname: "w", path: .prefix("/y"))), .rewrite(URLRewrite()),
            .mirror(RequestMirror(destination: .service(elsewhere, port: 1), numerator: 1, denominator: 1000)),
        ]
        rule.backends = [
            HTTPBackend(destination: .service(elsewhere, port: 8080), weight: 9, filters: [.requestHeaders(change)]),
            HTTPBackend(destination: .invalid(reason: "no such"), weight: 0),
        ]
        rule.timeouts.request = .milliseconds(1500)
        rule.timeouts.backendRequest = .seconds(1)
        rule.retry = RetryPolicy(codes: [500, 503], attempts: 3, backoff: .milliseconds(5))
        rule.session = SessionPersistence(
            name: "s", kind: .header, absoluteTimeout: .seconds(3600), idleTimeout: .seconds(60),
            isPermanentCookie: true)
        return rule
    }()

    static let gate: TrafficGate = {
        var gate = TrafficGate()
        let text: [RequestPolicy.StringMatch] = [.exact("a"), .prefix("b"), .suffix("c"), .presence]
        var source = RequestPolicy.Source()
        (source.principals, source.notPrincipals) = (text, text)
        (source.requestPrincipals, source.notRequestPrincipals) = (text, text)
        (source.namespaces, source.notNamespaces) = (text, text)
        source.serviceAccounts = [.init(namespace: "n", serviceAccount: "a")]
        source.notServiceAccounts = [.init(namespace: "n", serviceAccount: "b")]
        (source.trustDomains, source.notTrustDomains) = (text, text)
        source.ipBlocks = [CIDR("10.0.0.0/8")!]
        source.notIPBlocks = [CIDR("2001:db8::/32")!]
        source.remoteIPBlocks = [CIDR("192.0.2.1")!]
        source.notRemoteIPBlocks = [CIDR("198.51.100.0/24")!]
        var operation = RequestPolicy.Operation()
        (operation.hosts, operation.notHosts) = (text, text)
        (operation.ports, operation.notPorts) = ([80], [81])
        (operation.methods, operation.notMethods) = (text, text)
        operation.paths = [.template("/a/{*}"), .text(.prefix("/"))]
        operation.notPaths = [.text(.exact("/x"))]
        var rule = RequestPolicy.Rule()
        rule.from = [source]
        rule.to = [operation]
        rule.when = [
            .init(attribute: .requestHeader("x-a"), values: [.text(.presence)], notValues: [.text(.exact("z"))]),
            .init(attribute: .requestClaim(["a", "b"]), values: [.text(.exact("1"))]),
            .init(attribute: .sourceIP, values: [.block(CIDR("10.1.0.0/16")!)]),
            .init(attribute: .destinationPort, values: [.port(80)]),
            .init(
                attribute: .sourceServiceAccount,
                values: [.serviceAccount(.init(namespace: "n", serviceAccount: "a"))]),
        ]
        let plain: [RequestPolicy.Attribute] = [
            .remoteIP, .sourceNamespace, .sourceTrustDomain, .sourcePrincipal, .requestPrincipal, .requestAudiences,
            .requestPresenter, .destinationIP, .serverName,
        ]
        rule.when += plain.map { .init(attribute: $0, notValues: [.text(.exact("q"))]) }
        gate.policies = [
            RequestPolicy(key: .init(namespace: "n", name: "deny"), action: .deny, rules: [rule], isDryRun: true),
            RequestPolicy(key: .init(namespace: "n", name: "audit"), action: .audit, rules: []),
            RequestPolicy(key: .init(namespace: "n", name: "allow"), action: .allow, rules: [.init()]),
        ]
        var token = TokenPolicy.Rule(issuer: "https://i")
        token.audiences = ["a"]
        token.keys = #"{"keys":[]}"#
        token.headers = [.init(name: "authorization", prefix: "Bearer ")]
        token.parameters = ["t"]
        token.cookies = ["c"]
        token.forwardsToken = true
        token.payloadHeader = "x-p"
        token.claimHeaders = [.init(header: "x-s", claim: "sub")]
        token.spaceDelimitedClaims = ["roles"]
        gate.tokens = [
            TokenPolicy(key: .init(namespace: "n", name: "t"), rules: [token, TokenPolicy.Rule(issuer: "other")])
        ]
        gate.rateLimits = [
            RateLimit(key: .init(namespace: "n", name: "l"), requests: 5, interval: .milliseconds(250), burst: 9)
        ]
        return gate
    }()

    static func sent(_ change: (inout Martlet_Waypoint_ServiceRules) -> Void) throws -> DecodedRules<ServiceRules> {
        var message = Self.full.proto
        change(&message)
        let bytes: [UInt8] = try message.serializedBytes()
        return try ServiceRules.decode(
            try Martlet_Waypoint_ServiceRules(serializedBytes: bytes), name: Self.service.description)
    }

    @Test("a service's rules survive the way there and back")
    func roundTrip() throws {
        let decoded = try Self.sent { _ in }
        #expect(decoded.rules == Self.full)
        #expect(decoded.flaws.isEmpty)
    }

    @Test("every choice of endpoints survives, and what is left out is the default")
    func balancing() throws {
        let choices: [BackendBalancing.Choice] = [
            .leastRequest, .roundRobin, .random, .hashSource, .hashHeader("x"), .hashQuery("q"),
            .hashCookie(name: "c", path: "", lifetime: nil),
        ]
        for choice in choices {
            var rules = ServiceRules(key: Self.service)
            rules.balancing.choice = choice
            #expect(try ServiceRules.decode(rules.proto, name: Self.service.description).rules == rules)
        }
    }

    @Test("a waypoint's own rules survive", arguments: [WaypointRules.TrafficType.service, .workload, .all, .none])
    func waypoint(traffic: WaypointRules.TrafficType) throws {
        var rules = WaypointRules(key: NamespacedName(namespace: "n", name: "w"), trafficType: traffic)
        rules.gate = Self.gate
        rules.gate.closedBecause = "CUSTOM"
        rules.telemetry.traceCollector = "http://c:1/"
        let decoded = try WaypointRules.decode(rules.proto, name: "n/w")
        #expect(decoded.rules == rules)
        #expect(decoded.flaws.isEmpty)
    }

    @Test("a policy that cannot be read closes the gate, whatever else is readable")
    func closed() throws {
        let changes: [(inout Martlet_Waypoint_Gate) -> Void] = [
            { $0.policies[0].action = .UNRECOGNIZED(9) },
            { $0.policies[0].rules[0].from[0].principals[0] = .init() },
            { $0.policies[0].rules[0].from[0].ipBlocks[0].length = 99 },
            { $0.policies[0].rules[0].from[0].ipBlocks[0].base = .init([1, 2, 3]) },
            { $0.policies[0].rules[0].to[0].ports = [70_000] },
            { $0.policies[0].rules[0].to[0].paths[0] = .init() },
            { $0.policies[0].rules[0].when[0].attribute = .unspecified },
            { $0.policies[0].rules[0].when[0].names = [] },
            { $0.policies[0].rules[0].when[0].values[0] = .init() },
            { $0.policies[0].key.name = "" },
            { $0.tokens[0].key.name = "" },
            { $0.tokens[0].rules[0].issuer = String(repeating: "x", count: RulesBounds.textBytesMax + 1) },
            { $0.tokens[0].rules[0].keys = String(repeating: "x", count: RulesBounds.keySetBytesMax + 1) },
            { $0.rateLimits[0].intervalUs = 0 },
            { $0.rateLimits[0].intervalUs = .max },
            { gate in gate.policies = .init(repeating: gate.policies[1], count: RulesBounds.policiesMax + 1) },
        ]
        for change in changes {
            let decoded = try Self.sent { change(&$0.gate) }
            #expect(decoded.rules.gate.closedBecause?.isEmpty == false)
            #expect(decoded.flaws.count == 1)
            #expect(decoded.rules.routes == Self.full.routes, "what can be read stays")
        }
    }

    @Test("a field that only a newer version knows closes what it stands in")
    func unknownFields() throws {
        // Field 100, a varint.
        let unknown: [UInt8] = [0xa0, 0x06, 0x01]
        let source = try Martlet_Waypoint_Source(serializedBytes: unknown)
        let inPolicy = try Self.sent { $0.gate.policies[0].rules[0].from = [source] }
        #expect(inPolicy.rules.gate.closedBecause != nil)
        let match = try Martlet_Waypoint_HTTPMatch(serializedBytes: unknown)
        let inMatch = try Self.sent { $0.routes[0].rules[0].matches = [match] }
        #expect(inMatch.rules.gate.closedBecause == nil)
        let rule = try #require(inMatch.rules.routes.first?.rules.first)
        #expect(rule.matches.isEmpty, "it might have been any request")
        guard case .invalid = rule.backends.first?.destination else {
            Issue.record("\(rule.backends)")
            return
        }
        let all = try Martlet_Waypoint_ServiceRules(serializedBytes: unknown)
        let whole = try Self.sent { $0.unknownFields = all.unknownFields }
        #expect(whole.rules.gate.closedBecause != nil)
    }

    @Test("a rule that cannot be read answers 500 where it applies, and the others stay")
    func rules() throws {
        let changes: [(inout Martlet_Waypoint_HTTPRule) -> Void] = [
            { $0.filters[0] = .init() },
            { $0.filters[2].redirect.status = 200 },
            { $0.filters[6].mirror.denominator = 0 },
            { $0.backends[0].destination = .init() },
            { $0.backends[0].destination.service.port = 0 },
            { $0.requestTimeoutUs = .max },
            { $0.session.kind = .UNRECOGNIZED(3) },
        ]
        for change in changes {
            let decoded = try Self.sent { change(&$0.routes[0].rules[0]) }
            #expect(decoded.flaws.count == 1)
            let rule = try #require(decoded.rules.routes.first?.rules.first)
            #expect(rule.matches == Self.rule.matches)
            #expect(rule.backends.count == 1)
            #expect(rule.filters.isEmpty)
            #expect(decoded.rules.routes[1] == Self.full.routes[1])
        }
        let stream = try Self.sent { $0.streams[0].port = 70_000 }
        #expect(stream.flaws.count == 1)
        #expect(stream.rules.streams[0].backends.count == 1)
    }

    @Test("rules of another service than the name says are nobody's")
    func names() {
        #expect(throws: RejectedResource.self) { try ServiceRules.decode(Self.full.proto, name: "shop/other") }
        #expect(throws: RejectedResource.self) { try ServiceRules.decode(Self.full.proto, name: "cart") }
    }

    @Test("what is no message at all closes the service, and the client refuses it by name")
    func garbage() {
        var known = KnownResources(.waypoint)
        let outcome = known.receive(
            .with {
                $0.typeURL = XDSType.serviceRules
                $0.resources = [
                    .with {
                        $0.name = Self.service.description
                        $0.version = "1"
                        $0.resource.value = .init([0xff, 0xff, 0xff])
                    }
                ]
            })
        guard case .services(let upserted, _)? = outcome.rules else {
            Issue.record("\(outcome)")
            return
        }
        #expect(upserted.map(\.key) == [Self.service])
        #expect(upserted.first?.gate.closedBecause != nil)
        #expect(outcome.rejected.map(\.name) == [Self.service.description])
    }
}
