import KubeAPI
import MeshControl
import MeshModel
import MeshRoutes
import Testing

@Suite("Policies at a waypoint")
struct GateTests {
    static let service: JSONValue = [["kind": "Service", "name": "s"]]
    static let gateway: JSONValue = [["group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "w"]]

    static func policy(_ action: String?, _ rules: JSONValue, targets: JSONValue = service) -> KubeObject {
        var spec: JSONValue = ["targetRefs": targets, "rules": rules]
        if let action { spec["action"] = .string(action) }
        return Make.policy("p", spec)
    }
    static func read(_ action: String?, _ rules: JSONValue) -> (policy: RequestPolicy?, mesh: Mesh) {
        let mesh = Mesh.withWaypoint()
        mesh.set(Self.policy(action, rules))
        return (mesh.rules()?.gate.policies.first, mesh)
    }
    static func accepted(_ mesh: Mesh) -> StatusCondition? {
        mesh.index.policyStatuses["ns1/p"]?.conditions.first { $0.type == "WaypointAccepted" }
    }

    @Test("all that an AuthorizationPolicy can say")
    func everything() throws {
        let (policy, mesh) = Self.read(
            nil,
            [
                [
                    "from": [
                        [
                            "source": [
                                "principals": ["cluster.local/ns/a/sa/b", "*"], "notPrincipals": ["x*"],
                                "requestPrincipals": ["i/*"], "notRequestPrincipals": ["*/s"], "namespaces": ["a"],
                                "notNamespaces": ["b"], "serviceAccounts": ["sa", "n/sa"],
                                "notServiceAccounts": ["n/x"], "trustDomains": ["cluster.local"],
                                "notTrustDomains": ["other"], "ipBlocks": ["10.0.0.0/8"],
                                "notIpBlocks": ["10.1.0.0/16"], "remoteIpBlocks": ["1.2.3.4"],
                                "notRemoteIpBlocks": ["1.2.3.5"],
                            ]
                        ]
                    ],
                    "to": [
                        [
                            "operation": [
                                "hosts": ["a.example"], "notHosts": ["*.b"], "ports": ["80"], "notPorts": ["81"],
                                "methods": ["GET"], "notMethods": ["PUT"], "paths": ["/a/{*}/{**}/b", "/p*"],
                                "notPaths": ["*/q"],
                            ]
                        ]
                    ],
                    "when": [
                        ["key": "request.headers[X-A]", "values": ["1"]],
                        ["key": "request.auth.claims[a][b]", "notValues": ["2"]],
                        ["key": "source.serviceAccount", "values": ["sa"]],
                        ["key": "destination.port", "values": ["80"]],
                        ["key": "remote.ip", "values": ["1.2.3.0/24"]],
                        ["key": "connection.sni", "values": ["*.x"]],
                    ],
                ]
            ])
        let rule = try #require(policy?.rules.first)
        var source = RequestPolicy.Source()
        source.principals = [.exact("cluster.local/ns/a/sa/b"), .presence]
        source.notPrincipals = [.prefix("x")]
        source.requestPrincipals = [.prefix("i/")]
        source.notRequestPrincipals = [.suffix("/s")]
        source.namespaces = [.exact("a")]
        source.notNamespaces = [.exact("b")]
        source.serviceAccounts = [
            .init(namespace: "ns1", serviceAccount: "sa"), .init(namespace: "n", serviceAccount: "sa"),
        ]
        source.notServiceAccounts = [.init(namespace: "n", serviceAccount: "x")]
        source.trustDomains = [.exact("cluster.local")]
        source.notTrustDomains = [.exact("other")]
        source.ipBlocks = [CIDR("10.0.0.0/8")!]
        source.notIPBlocks = [CIDR("10.1.0.0/16")!]
        source.remoteIPBlocks = [CIDR("1.2.3.4")!]
        source.notRemoteIPBlocks = [CIDR("1.2.3.5")!]
        #expect(rule.from == [source])
        var operation = RequestPolicy.Operation()
        operation.hosts = [.exact("a.example")]
        operation.notHosts = [.suffix(".b")]
        operation.ports = [80]
        operation.notPorts = [81]
        operation.methods = [.exact("GET")]
        operation.notMethods = [.exact("PUT")]
        operation.paths = [.template("/a/{*}/{**}/b"), .text(.prefix("/p"))]
        operation.notPaths = [.text(.suffix("/q"))]
        #expect(rule.to == [operation])
        #expect(
            rule.when.map(\.attribute) == [
                .requestHeader("x-a"), .requestClaim(["a", "b"]), .sourceServiceAccount, .destinationPort, .remoteIP,
                .serverName,
            ])
        #expect(rule.when[1].notValues == [.text(.exact("2"))])
        #expect(rule.when[3].values == [.port(80)])
        #expect(Self.accepted(mesh)?.isTrue == true && Self.accepted(mesh)?.message == "bound to ns1/w")
    }

    @Test("the mesh's own trust domain goes by all its names")
    func trustDomains() {
        let mesh = Mesh.withWaypoint()
        mesh.configure {
            $0.trustDomain = "new"
            $0.trustDomainAliases = ["old"]
        }
        mesh.set(
            Self.policy(
                "ALLOW",
                [["from": [["source": ["principals": ["cluster.local/ns/a/sa/b"], "trustDomains": ["old"]]]]]]))
        let source = mesh.rules()?.gate.policies.first?.rules.first?.from.first
        #expect(source?.principals == [.exact("new/ns/a/sa/b"), .exact("old/ns/a/sa/b")])
        #expect(source?.trustDomains == [.exact("new"), .exact("old")])
    }

    @Test("a value that cannot be read allows nothing in an ALLOW and matches everything in a DENY")
    func unreadable() {
        let bad: [JSONValue] = [
            ["to": [["operation": ["ports": ["http"]]]]], ["from": [["source": ["ipBlocks": ["10.0.0/8"]]]]],
            ["when": [["key": "experimental.envoy.filters.x", "values": ["1"]]]], ["from": [["source": [:]]]],
            ["to": [["operation": ["paths": ["/a/{**}/{*}"]]]]], ["to": [["operation": ["paths": ["/{*}x"]]]]],
            ["when": [["key": "request.headers", "values": ["1"]]]], ["to": [["operation": ["future": ["1"]]]]],
        ]
        for json in bad {
            let (allow, mesh) = Self.read("ALLOW", [json])
            #expect(allow?.rules == [], "\(json)")
            #expect(Self.accepted(mesh)?.isTrue == false && Self.accepted(mesh)?.reason == "Invalid")
            #expect(Self.read("DENY", [json]).policy?.rules == [RequestPolicy.Rule()], "\(json)")
        }
        // What is readable in a list stays in an ALLOW; an exception that is unreadable excepts less in a DENY.
        let list: JSONValue = [["to": [["operation": ["ports": ["80", "x"]]]]]]
        #expect(Self.read("ALLOW", list).policy?.rules.first?.to.first?.ports == [80])
        let exceptions: JSONValue = [["to": [["operation": ["methods": ["GET"], "notPorts": ["80", "x"]]]]]]
        #expect(Self.read("DENY", exceptions).policy?.rules.first?.to.first?.notPorts == [80])
        #expect(Self.read("ALLOW", exceptions).policy?.rules == [])
    }

    @Test("an ALLOW without rules allows nothing, and a rule without anything is for everybody")
    func empty() {
        #expect(Self.read("ALLOW", []).policy?.rules == [])
        #expect(Self.read("AUDIT", [[:]]).policy?.rules == [RequestPolicy.Rule()])
        #expect(Self.read("AUDIT", [[:]]).policy?.action == .audit)
    }

    @Test("an action that a waypoint cannot do closes the gate, and the status says so", arguments: ["CUSTOM", "NEW"])
    func custom(action: String) {
        let (_, mesh) = Self.read(action, [[:]])
        #expect(mesh.rules()?.gate.closedBecause?.contains(action) == true)
        #expect(Self.accepted(mesh)?.isTrue == false && Self.accepted(mesh)?.reason == "UnsupportedValue")
        #expect(Self.accepted(mesh)?.message.contains("refused") == true)
        mesh.set(Self.policy("DENY", [[:]]))
        #expect(mesh.rules()?.gate.closedBecause == nil)
    }

    @Test("64: targets: Service, ServiceEntry, Gateway, GatewayClass; each policy only where it belongs")
    func targets() {
        let mesh = Mesh.withWaypoint()
        let waypoint = { mesh.index.waypointRules["ns1/w"]?.gate.policies.map(\.key.description) }
        mesh.set(Self.policy("DENY", [[:]], targets: Self.gateway))
        #expect(waypoint() == ["ns1/p"] && mesh.rules()?.gate.policies == [])
        mesh.set(
            Make.policy(
                "c", namespace: "istio-system",
                [
                    "targetRefs": [
                        ["group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint"]
                    ],
                    "action": "DENY", "rules": [[:]],
                ]))
        #expect(waypoint() == ["istio-system/c", "ns1/p"])
        mesh.configure { $0.rootNamespace = "elsewhere" }
        #expect(waypoint() == ["ns1/p"], "a class is the root namespace's to attach to")
        mesh.set(Make.policy("o", namespace: "ns2", ["targetRefs": Self.gateway, "rules": [[:]]]))
        #expect(waypoint() == ["ns1/p"], "another namespace's policy is not this Gateway's")
        mesh.set(Make.policy("n", ["rules": [[:]]]), Make.policy("l", ["selector": ["matchLabels": ["app": "a"]]]))
        #expect(waypoint() == ["ns1/p"] && mesh.rules()?.gate.policies == [], "selectors are the node proxy's")
        mesh.set(
            Make.entry("e", labels: WaypointTests.use),
            Self.policy(
                "DENY", [[:]], targets: [["group": "networking.istio.io", "kind": "ServiceEntry", "name": "e"]]))
        #expect(mesh.rules("ns1/a.example")?.gate.policies.map(\.key.name) == ["p"])
        #expect(waypoint() == [])
    }

    @Test("tokens: keys inline, from an address, by discovery")
    func tokens() {
        let mesh = Mesh.withWaypoint()
        let keys = #"{"keys":[]}"#
        func authentication(_ rules: JSONValue) -> KubeObject {
            KubeObject(
                .requestAuthentications, namespace: "ns1", name: "j",
                ["spec": ["targetRefs": Self.service, "jwtRules": rules]])
        }
        mesh.set(
            authentication([
                [
                    "issuer": "inline", "jwks": .string(keys), "audiences": ["a"], "forwardOriginalToken": true,
                    "fromHeaders": [["name": "X-T", "prefix": "T "]], "fromCookies": ["c"],
                    "outputPayloadToHeader": "X-P", "outputClaimToHeaders": [["header": "X-S", "claim": "sub"]],
                    "spaceDelimitedClaims": ["r"],
                ],
                ["issuer": "address", "jwksUri": "http://keys/", "timeout": "2s"], ["issuer": "https://found"],
                ["issuer": "broken", "jwks": "no"], ["issuer": "nowhere"],
            ]))
        let rules = { mesh.rules()?.gate.tokens.first?.rules ?? [] }
        var inline = TokenPolicy.Rule(issuer: "inline")
        inline.keys = keys
        inline.audiences = ["a"]
        inline.headers = [.init(name: "x-t", prefix: "T ")]
        inline.parameters = []
        inline.cookies = ["c"]
        inline.forwardsToken = true
        inline.payloadHeader = "x-p"
        inline.claimHeaders = [.init(header: "x-s", claim: "sub")]
        inline.spaceDelimitedClaims = ["r"]
        #expect(rules().first == inline)
        #expect(rules().dropFirst().map(\.keys) == [nil, nil, nil, nil])
        #expect(rules().last?.headers == [.init(name: "authorization", prefix: "Bearer ")])
        let wanted = mesh.index.keySources.all
        #expect(wanted.keys.sorted() == ["jwks|http://keys/", "oidc|https://found"])
        #expect(wanted["jwks|http://keys/"]?.timeout == .seconds(2))
        let status = { mesh.index.requestAuthenticationStatuses["ns1/j"]?.conditions.first }
        #expect(status()?.isTrue == false && status()?.message.contains("broken") == true)
        mesh.index.keySets.set("jwks|http://keys/", keys)
        mesh.index.settle()
        #expect(rules().map(\.keys) == [keys, keys, nil, nil, nil])
        mesh.set(authentication([["issuer": "address", "jwksUri": "http://keys/"]]))
        #expect(status()?.isTrue == true && status()?.message == "bound to ns1/w")
        mesh.set(authentication([["issuer": ""]]))
        #expect(mesh.rules()?.gate.closedBecause?.contains("no issuer") == true)
    }

    @Test("rate limits")
    func rates() {
        let mesh = Mesh.withWaypoint()
        func limit(_ spec: [String: JSONValue]) -> KubeObject {
            KubeObject(
                .rateLimits, namespace: "ns1", name: "l",
                ["spec": .object(["targetRefs": Self.service].merging(spec) { $1 })])
        }
        mesh.set(limit(["requests": 10, "interval": "1m", "burst": 3]))
        let key = NamespacedName(namespace: "ns1", name: "l")
        #expect(
            mesh.rules()?.gate.rateLimits == [RateLimit(key: key, requests: 10, interval: .seconds(60), burst: 3)])
        #expect(mesh.index.rateLimitStatuses["ns1/l"]?.conditions.first?.isTrue == true)
        mesh.set(limit(["requests": 10]))
        #expect(
            mesh.rules()?.gate.rateLimits == [RateLimit(key: key, requests: 10, interval: .seconds(1), burst: 10)])
        for bad: [String: JSONValue] in [
            ["requests": 0], ["requests": 1, "interval": "soon"], ["requests": 1, "burst": 0],
        ] {
            mesh.set(limit(bad))
            #expect(mesh.rules()?.gate.closedBecause != nil)
            #expect(mesh.index.rateLimitStatuses["ns1/l"]?.conditions.first?.isTrue == false)
        }
    }

    @Test("how endpoints are chosen, and what of a DestinationRule is not followed")
    func balancing() {
        let mesh = Mesh.withWaypoint()
        func rule(_ policy: JSONValue, host: String = "s", namespace: String = "ns1") -> KubeObject {
            KubeObject(
                .destinationRules, namespace: namespace, name: "d",
                ["spec": ["host": .string(host), "trafficPolicy": policy]])
        }
        let choice = { mesh.rules()?.balancing.choice }
        let cases: [(JSONValue, BackendBalancing.Choice)] = [
            (["simple": "ROUND_ROBIN"], .roundRobin), (["simple": "RANDOM"], .random),
            (["simple": "LEAST_CONN"], .leastRequest),
            (["consistentHash": ["httpHeaderName": "X-U"]], .hashHeader("x-u")),
            (["consistentHash": ["useSourceIp": true]], .hashSource),
            (["consistentHash": ["httpQueryParameterName": "q"]], .hashQuery("q")),
            (
                ["consistentHash": ["httpCookie": ["name": "c", "path": "/", "ttl": "60s"]]],
                .hashCookie(name: "c", path: "/", lifetime: .seconds(60))
            ),
            (
                ["consistentHash": ["httpCookie": ["name": "c", "ttl": "0s"]]],
                .hashCookie(name: "c", path: "", lifetime: nil)
            ),
        ]
        for (json, expected) in cases {
            mesh.set(rule(["loadBalancer": json]))
            #expect(choice() == expected)
        }
        mesh.set(
            rule([
                "loadBalancer": ["simple": "PASSTHROUGH"], "tls": ["mode": "SIMPLE"],
                "retryBudget": ["percent": 12.4, "minRetryConcurrency": 7],
            ]))
        #expect(choice() == .leastRequest)
        #expect(mesh.rules()?.balancing.retryBudgetPercent == 12 && mesh.rules()?.balancing.retriesMin == 7)
        let status = mesh.index.destinationRuleStatuses["ns1/d"]?.conditions.first
        #expect(status?.reason == "UnsupportedValue")
        #expect(
            status?.message.contains("PASSTHROUGH") == true && status?.message.contains("trafficPolicy.tls") == true)
        // The service's own namespace says more than the mesh's root.
        mesh.set(
            rule(["loadBalancer": ["simple": "RANDOM"]], host: "s.ns1.svc.company.com", namespace: "istio-system"))
        #expect(mesh.rules()?.balancing.retriesMin == 7)
        mesh.set(
            KubeObject(
                .backendTrafficPolicies, namespace: "ns1", name: "b",
                [
                    "spec": [
                        "targetRefs": [["group": "", "kind": "Service", "name": "s"]],
                        "retryConstraint": [
                            "budget": ["percent": 30], "minRetryRate": ["count": 20, "interval": "10s"],
                        ],
                    ]
                ]))
        #expect(mesh.rules()?.balancing.retryBudgetPercent == 30 && mesh.rules()?.balancing.retriesMin == 2)
        #expect(mesh.index.backendTrafficPolicyStatuses["ns1/b"]?.conditions().first?.isTrue == true)
    }

    @Test("outlier detection and limits of requests are followed, and what of them is not is named")
    func ejection() {
        let mesh = Mesh.withWaypoint()
        func rule(_ policy: JSONValue) -> KubeObject {
            KubeObject(
                .destinationRules, namespace: "ns1", name: "d",
                ["spec": ["host": "s", "trafficPolicy": policy]])
        }
        #expect(mesh.rules()?.balancing == BackendBalancing())
        mesh.set(
            rule([
                "tls": ["mode": "ISTIO_MUTUAL"],
                "outlierDetection": [
                    "consecutive5xxErrors": 7, "consecutiveGatewayErrors": 2, "interval": "5s",
                    "baseEjectionTime": "1m", "maxEjectionPercent": 50,
                ], "connectionPool": ["http": ["http2MaxRequests": 100]],
            ]))
        var wanted = BackendBalancing()
        wanted.ejection.failures = 7
        wanted.ejection.gatewayFailures = 2
        wanted.ejection.time = .seconds(60)
        wanted.ejection.percentMax = 50
        wanted.requestsMax = 100
        #expect(mesh.rules()?.balancing == wanted)
        let status = { mesh.index.destinationRuleStatuses["ns1/d"]?.conditions.first }
        #expect(status()?.reason == "Accepted" && status()?.isTrue == true)
        mesh.set(
            rule([
                "outlierDetection": ["consecutive5xxErrors": 0, "minHealthPercent": 50],
                "connectionPool": ["tcp": ["maxConnections": 3, "connectTimeout": "1s"]],
            ]))
        #expect(mesh.rules()?.balancing.ejection.failures == 0)
        #expect(mesh.rules()?.balancing.ejection.percentMax == 10, "as Istio has it where nothing is said")
        #expect(mesh.rules()?.balancing.streamsMax == 3)
        #expect(status()?.reason == "UnsupportedValue")
        for part in ["outlierDetection.minHealthPercent", "tcp.connectTimeout", "tcp.maxConnections for HTTP"] {
            #expect(status()?.message.contains(part) == true)
        }
    }

    @Test("a VirtualService for a service with a waypoint is told that nothing follows it")
    func virtualService() {
        let mesh = Mesh.withWaypoint()
        func object(_ hosts: [String], gateways: [String]? = nil) -> KubeObject {
            var spec: JSONValue = ["hosts": JSONValue(hosts)]
            if let gateways { spec["gateways"] = JSONValue(gateways) }
            var object = KubeObject(.virtualServices, namespace: "ns1", name: "v", ["spec": spec])
            object.json.set(["metadata", "generation"], to: 2)
            return object
        }
        let status = { mesh.index.virtualServiceStatuses["ns1/v"] }
        mesh.set(object(["s"]))
        #expect(status()?.conditions.first?.isTrue == false && status()?.generation == 2)
        #expect(status()?.conditions.first?.message.contains("HTTPRoute") == true)
        mesh.set(object(["elsewhere.example", "s.ns1.svc.company.com"], gateways: ["mesh", "edge"]))
        #expect(status() != nil)
        mesh.set(object(["s"], gateways: ["edge"]))
        #expect(status() == nil, "for a gateway of somebody else")
        mesh.set(object(["t"]))
        #expect(status() == nil)
        mesh.set(object(["s"]), WaypointTests.service([:]))
        #expect(status() == nil, "without a waypoint nobody of ours looks at the service's requests")
    }

    @Test("telemetry: the narrowest that says something counts, section by section")
    func telemetry() throws {
        let mesh = Mesh.withWaypoint()
        mesh.configure { settings in
            settings =
                (try? settings.merging(
                    meshConfig: """
                        defaultProviders: {tracing: [otel]}
                        extensionProviders:
                        - name: otel
                          opentelemetry: {service: monitoring/otel.monitoring.svc, port: 4318, http: {path: /v1/traces}}
                        - name: grpc
                          opentelemetry: {service: otel, port: 4317}
                        """)) ?? settings
        }
        let telemetry = { mesh.index.waypointRules["ns1/w"]?.telemetry }
        #expect(telemetry()?.traceCollector == "http://otel.monitoring.svc:4318/v1/traces")
        #expect(telemetry()?.tracePercent == 1 && telemetry()?.isAccessLogEnabled == true)
        func object(_ name: String, _ namespace: String, _ spec: JSONValue) -> KubeObject {
            KubeObject(.telemetries, namespace: namespace, name: name, ["spec": spec])
        }
        mesh.set(object("root", "istio-system", ["tracing": [["randomSamplingPercentage": 50]]]))
        #expect(telemetry()?.tracePercent == 50)
        mesh.set(object("ns", "ns1", ["accessLogging": [["disabled": true]]]))
        #expect(telemetry()?.tracePercent == 50 && telemetry()?.isAccessLogEnabled == false)
        mesh.set(
            object("w", "ns1", ["targetRefs": Self.gateway, "tracing": [["providers": [["name": "grpc"]]]]]))
        #expect(telemetry()?.traceCollector == nil && telemetry()?.isAccessLogEnabled == false)
    }

    @Test("MeshConfig says how the access log is written, Telemetry with its providers says it for less")
    func accessLog() throws {
        let mesh = Mesh.withWaypoint()
        let base = mesh.index.settings[""] ?? MeshSettings()
        func configure(_ yaml: String) throws {
            let settings = try base.merging(meshConfig: yaml)
            mesh.configure { $0 = settings }
        }
        let telemetry = { mesh.index.waypointRules["ns1/w"]?.telemetry }
        #expect(telemetry()?.isAccessLogEnabled == true && telemetry()?.accessLog == nil)
        try configure("accessLogFile: \"\"")
        #expect(telemetry()?.isAccessLogEnabled == false)
        try configure("{accessLogFile: /dev/stdout, accessLogEncoding: JSON}")
        #expect(telemetry()?.isAccessLogEnabled == true && telemetry()?.accessLog == AccessLogStyle(.json))
        try configure(
            """
            accessLogFormat: "%RESPONSE_CODE%"
            extensionProviders:
            - name: labelled
              envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {code: "%RESPONSE_CODE%"}}}
            - name: plain
              envoyFileAccessLog: {path: /dev/stdout, logFormat: {text: "%DURATION%"}}
            """)
        #expect(telemetry()?.accessLog == AccessLogStyle(.text, format: "%RESPONSE_CODE%"))
        func object(_ providers: String...) -> KubeObject {
            KubeObject(
                .telemetries, namespace: "ns1", name: "t",
                [
                    "spec": [
                        "targetRefs": Self.gateway,
                        "accessLogging": [["providers": .array(providers.map { ["name": .string($0)] })]],
                    ]
                ])
        }
        mesh.set(object("labelled"))
        #expect(telemetry()?.accessLog == AccessLogStyle(.json, format: "{\"code\":\"%RESPONSE_CODE%\"}"))
        mesh.set(object("otel", "plain"))
        #expect(telemetry()?.accessLog == AccessLogStyle(.text, format: "%DURATION%"))
        mesh.set(object("envoy"))
        #expect(telemetry()?.accessLog == AccessLogStyle(.text, format: "%RESPONSE_CODE%"))
        #expect(throws: InvalidMeshConfig.self) { try base.merging(meshConfig: "accessLogEncoding: XML") }
    }

    @Test("who may call itself a waypoint: the Gateway's account, and what its pods run as")
    func accounts() {
        let mesh = Mesh.withWaypoint()
        #expect(mesh.index.waypointRunners["ns1/w"] == WaypointRunners(accounts: ["w"]))
        mesh.set(Make.pod("p", labels: ["gateway.networking.k8s.io/gateway-name": "w"]))
        #expect(mesh.index.waypointRunners["ns1/w"]?.accounts == ["w", "sa1"])
        mesh.set(Make.gateway("other", className: "nginx"))
        #expect(mesh.index.waypointRunners["ns1/other"] == nil, "not one of ours")
        mesh.set(Make.gateway("fresh", labels: ["istio.io/waypoint-for": "all"], addresses: nil))
        let fresh = mesh.index.waypointRunners["ns1/fresh"]
        #expect(fresh?.accounts == ["fresh"], "it has to start before it has an address")
        #expect(mesh.index.waypointRules["ns1/fresh"]?.trafficType == .all)
    }
}
