import MeshEnvoy
import MeshIdentity
import MeshModel
import MeshProto
import MeshRoutes
import SwiftProtobuf
import Testing

@Suite("What sidecars are told about services")
struct SidecarOutboundTests {
    static let mesh = EnvoySettings(trustDomains: ["cluster.local"])
    static let settings = SidecarSettings(Self.mesh)

    static func service(
        _ name: String, _ ports: [(UInt16, ServicePort.AppProtocol)] = [(80, .http11)], address: String? = "10.96.0.1",
        namespace: String = "shop"
    ) -> Service {
        var service = Service(name: name, namespace: namespace, hostname: "\(name).\(namespace).svc.cluster.local")
        service.addresses = address.flatMap { IPAddress($0) }.map { [NetworkAddress(network: "", address: $0)] } ?? []
        service.ports = ports.map { ServicePort(port: $0.0, targetPort: 8080, appProtocol: $0.1) }
        return service
    }

    static func workload(
        _ name: String, _ address: String, account: String = "server", tunnels: Bool = false
    ) -> Workload {
        var workload = Workload(uid: "Kubernetes//Pod/shop/\(name)")
        (workload.name, workload.namespace, workload.serviceAccount) = (name, "shop", account)
        workload.addresses = [IPAddress(address)!]
        workload.tunnelProtocol = tunnels ? .hbone : .none
        return workload
    }

    private static func destination(
        _ service: Service, _ backends: [SidecarDestination.Backend], waypoint: [SidecarDestination.Hop]? = nil
    ) -> SidecarDestination {
        SidecarDestination(service, backends, waypoint: waypoint, BackendBalancing(), Self.mesh)
    }

    private static func cluster(_ destination: SidecarDestination) throws -> EnvoyCluster {
        try EnvoyCluster(
            serializedBytes: #require(destination.resources.first { $0.type.hasSuffix(".Cluster") }).bytes)
    }

    /// `<address> <metadata>` of each endpoint.
    private static func endpoints(_ destination: SidecarDestination) throws -> [String] {
        let resource = try #require(destination.resources.first { $0.type.hasSuffix("ClusterLoadAssignment") })
        let assignment = try EnvoyClusterLoadAssignment(serializedBytes: resource.bytes)
        return assignment.endpoints.flatMap(\.lbEndpoints).map { endpoint in
            let address = endpoint.endpoint.address
            let text =
                address.envoyInternalAddress.serverListenerName.isEmpty
                ? "\(address.socketAddress.address):\(address.socketAddress.portValue)"
                : "\(address.envoyInternalAddress.serverListenerName) \(address.envoyInternalAddress.endpointID)"
            let metadata = endpoint.metadata.filterMetadata.sorted { $0.key < $1.key }.flatMap { _, fields in
                fields.fields.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.stringValue)" }
            }
            return ([text] + metadata).joined(separator: " ")
        }
    }

    private static let hop = SidecarDestination.Hop(
        IPEndpoint(address: IPAddress("10.1.0.9")!, port: 15008),
        WorkloadIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "waypoint"))

    @Test("each kind of pod is reached in its own way")
    func endpoints() throws {
        let destination = Self.destination(
            Self.service("echo"),
            [
                .init(Self.workload("a", "10.1.0.1")),
                .init(Self.workload("b", "10.1.0.2", account: "sidecar"), hasSidecar: true),
                .init(Self.workload("c", "10.1.0.3", tunnels: true)),
                .init(Self.workload("d", "10.1.0.4", tunnels: true), waypoint: [Self.hop]),
                .init(Self.workload("e", "10.1.0.5", tunnels: true), waypoint: []),
            ])
        #expect(
            try Self.endpoints(destination) == [
                "10.1.0.1:8080", "10.1.0.2:8080 tlsMode=istio",
                "connect_originate|spiffe://cluster.local/ns/shop/sa/server 10.1.0.3:8080 local=10.1.0.3:8080 tunnel=http",
                "connect_originate|spiffe://cluster.local/ns/shop/sa/waypoint 10.1.0.4:8080 local=10.1.0.4:8080 "
                    + "waypoint=10.1.0.9:15008 tunnel=http",
            ], "whose waypoint is not there is not reached")
        #expect(destination.identities.count == 2)
        let matches = try Self.cluster(destination).transportSocketMatches
        #expect(matches.map(\.name) == ["hbone", "tlsMode-istio", "plaintext"])
        let tls = try EnvoyUpstreamTLS(serializedBytes: matches[1].transportSocket.typedConfig.value)
        #expect(tls.sni == "outbound_.80_._.echo.shop.svc.cluster.local")
        #expect(tls.commonTlsContext.alpnProtocols == ["istio-http/1.1", "istio", "http/1.1"])
        let peers = tls.commonTlsContext.combinedValidationContext.defaultValidationContext.matchTypedSubjectAltNames
        #expect(peers.map(\.matcher.exact) == ["spiffe://cluster.local/ns/shop/sa/sidecar"])
    }

    @Test("a service behind a waypoint is reached through it, and by nobody when it is not there")
    func waypoints() throws {
        let backends = [SidecarDestination.Backend(Self.workload("a", "10.1.0.1"), hasSidecar: true)]
        let bound = Self.destination(Self.service("echo"), backends, waypoint: [Self.hop])
        #expect(
            try Self.endpoints(bound) == [
                "connect_originate|spiffe://cluster.local/ns/shop/sa/waypoint 10.96.0.1:80 local=10.96.0.1:80 "
                    + "waypoint=10.1.0.9:15008 tunnel=http"
            ])
        #expect(try Self.cluster(bound).transportSocketMatches.map(\.name) == ["hbone", "plaintext"])
        #expect(try Self.endpoints(Self.destination(Self.service("echo"), backends, waypoint: [])).isEmpty)
        let headless = Self.destination(Self.service("echo", address: nil), backends, waypoint: [])
        #expect(
            try Self.endpoints(headless) == ["10.1.0.1:8080 address=10.1.0.1 tlsMode=istio"],
            "its pods' addresses are not the service's waypoint's business")
        #expect(try Self.cluster(headless).lbSubsetConfig.subsetSelectors.map(\.keys) == [["address"]])
    }

    @Test(
        "connections that may lie in tunnels are renewed before a node proxy's drain ends, others live as long as they like"
    )
    func renewal() throws {
        func seconds(_ backends: [SidecarDestination.Backend], waypoint: [SidecarDestination.Hop]? = nil) throws
            -> Int64
        {
            let cluster = try Self.cluster(Self.destination(Self.service("echo"), backends, waypoint: waypoint))
            let http = try EnvoyHTTPUpstream(
                serializedBytes: #require(
                    cluster.typedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
                ).value)
            return http.commonHTTPProtocolOptions.maxConnectionDuration.seconds
        }
        let tunnelled = Self.workload("a", "10.1.0.1", tunnels: true)
        var unhealthy = tunnelled
        unhealthy.isHealthy = false
        #expect(try seconds([.init(Self.workload("a", "10.1.0.1"))]) == 0)
        #expect(try seconds([.init(tunnelled, hasSidecar: true)]) == 0)
        #expect(try seconds([.init(tunnelled)]) == 10)
        #expect(try seconds([.init(unhealthy)]) == 10, "a restart changes no cluster")
        #expect(try seconds([.init(Self.workload("a", "10.1.0.1"), waypoint: [Self.hop])]) == 10)
        #expect(try seconds([], waypoint: [Self.hop]) == 10)
    }

    @Test("names that only Envoy can resolve, and hosts that are reached as they are")
    func external() throws {
        var entry = Service(name: "entry", namespace: "shop", hostname: "api.example")
        entry.ports = [ServicePort(port: 443, targetPort: 443, appProtocol: .tls)]
        var named = Workload(uid: "entry")
        named.hostname = "api.example"
        named.services = [entry.key: entry.ports]
        let resolved = try Self.cluster(Self.destination(entry, [.init(named)]))
        #expect(resolved.type == .strictDns && resolved.name == "outbound|443||api.example~shop")
        #expect(
            resolved.loadAssignment.endpoints[0].lbEndpoints[0].endpoint.address.socketAddress.address == "api.example")
        entry.loadBalancing.mode = .passthrough
        let direct = try Self.cluster(Self.destination(entry, [.init(named)]))
        #expect(direct.type == .originalDst && direct.transportSocketMatches.isEmpty)
    }

    private static func target(_ service: Service, _ routes: [HTTPRoute] = []) -> RequestTarget {
        RequestTarget(service, port: 80, routes: routes, Self.mesh)
    }

    private static func configuration(_ resource: EnvoyResource) throws -> EnvoyRouteConfiguration {
        try EnvoyRouteConfiguration(serializedBytes: resource.bytes)
    }

    @Test("the host of a request leads to its service, by every name that its client may use, once")
    func routes() throws {
        var entry = Service(name: "e", namespace: "x", hostname: "echo.shop")
        entry.ports = [ServicePort(port: 80, targetPort: 80, appProtocol: .http11)]
        let targets = [
            Self.target(entry), Self.target(Self.service("echo")),
            Self.target(Self.service("b", address: "10.96.0.2", namespace: "c")),
        ]
        func text(_ namespace: String) throws -> [String] {
            try Self.configuration(
                OutboundRoutes.port(80, from: namespace, targets, Self.settings) { _ in .leastRequest }.resource
            ).virtualHosts.map { "\($0.name) \($0.domains.joined(separator: ","))" }
        }
        #expect(
            try text("other") == [
                "b.c.svc.cluster.local:80 b.c.svc.cluster.local,b.c.svc,b.c,10.96.0.2",
                "echo.shop.svc.cluster.local:80 echo.shop.svc.cluster.local,echo.shop.svc,echo.shop,10.96.0.1",
                "allow_any *",
            ], "of two with one name the cluster's own wins")
        #expect(try text("shop")[1].hasSuffix("10.96.0.1,echo"))
    }

    @Test("servers are told who asks, and which attempt it is; the world outside is not")
    func headers() throws {
        let all = OutboundRoutes.port(80, from: "a", [Self.target(Self.service("echo"))], Self.settings) { _ in
            .leastRequest
        }
        let hosts = try Self.configuration(all.resource).virtualHosts
        #expect(hosts[0].includeRequestAttemptCount)
        #expect(
            hosts[0].requestHeadersToAdd.map(\.header.key) == ["x-envoy-peer-metadata-id", "x-envoy-peer-metadata"])
        #expect(hosts[1].requestHeadersToAdd.isEmpty && hosts[1].routes[0].route.cluster == "PassthroughCluster")
        var closed = Self.settings
        closed.allowsUnknown = false
        let some = OutboundRoutes.port(80, from: "a", [], closed) { _ in .leastRequest }
        #expect(try Self.configuration(some.resource).virtualHosts[0].routes[0].directResponse.status == 502)
    }

    @Test("a client's namespace with routes of its own has only these")
    func consumers() throws {
        let routes = [
            ServedRoutesTests.route([ServedRoutesTests.rule([.exact("/all")])]),
            ServedRoutesTests.route([ServedRoutesTests.rule([.exact("/own")])], name: "own", client: "a"),
        ]
        let target = Self.target(Self.service("echo"), routes)
        func paths(_ namespace: String) throws -> [String] {
            try Self.configuration(OutboundRoutes.service(target, from: namespace) { _ in .leastRequest }.resource)
                .virtualHosts[0].routes.map(\.match.path)
        }
        #expect(try paths("a") == ["/own"])
        #expect(try paths("b") == ["/all"])
        #expect(target.consumers == ["a"])
    }

    private static func listener(_ resource: EnvoyResource) throws -> EnvoyListener {
        try EnvoyListener(serializedBytes: resource.bytes)
    }

    @Test("listeners: everything is redirected to one, which hands on to those that nobody connects to")
    func listeners() throws {
        let capture = try Self.listener(OutboundListeners.capture(Self.settings))
        #expect(capture.useOriginalDst.value && capture.address.socketAddress.portValue == 15001)
        #expect(capture.filterChains.map(\.filterChainMatch.destinationPort.value) == [15001, 0])
        let shared = try Self.listener(
            OutboundListeners.port(
                80, hasRequests: true,
                names: [
                    .init(serverName: "a.example", destination: EnvoyDestination(ServedRoutesTests.service, port: 80))
                ],
                Self.settings))
        #expect(shared.name == "0.0.0.0_80" && shared.hasBindToPort && !shared.bindToPort.value)
        #expect(shared.filterChains.map(\.filterChainMatch.serverNames) == [[], ["a.example"]])
        #expect(shared.defaultFilterChain.name == "PassthroughCluster")
        let service = Self.service("echo", [(80, .http11), (90, .tcp), (100, .unknown)])
        func kind(_ port: Int, waypoint: Bool, routes: Bool = false) -> OutboundListeners.Kind {
            OutboundListeners.kind(service.distinctPorts[port], hasWaypoint: waypoint, hasRoutes: routes)
        }
        #expect(kind(0, waypoint: false) == .shared)
        #expect(kind(0, waypoint: true) == .either, "what is no HTTP goes to the waypoint, too")
        #expect(kind(1, waypoint: true) == .streams)
        #expect(kind(2, waypoint: false) == .either)
        #expect(kind(2, waypoint: false, routes: true) == .requests)
        let either = try Self.listener(
            OutboundListeners.service(service, service.distinctPorts[2], .either, Self.settings)[0])
        #expect(either.name == "10.96.0.1_100")
        #expect(either.listenerFilters.map(\.name) == ["envoy.filters.listener.http_inspector"])
        let proxy = try EnvoyTCPProxy(serializedBytes: either.defaultFilterChain.filters[0].typedConfig.value)
        #expect(proxy.cluster == "outbound|100||echo.shop.svc.cluster.local")
    }

    @Test("ports that TCP and UDP share are one, and servers that speak first are not waited for")
    func ports() {
        let service = Self.service("dns", [(53, .unknown), (53, .tcp), (3306, .unknown), (9090, .unknown)])
        #expect(service.distinctPorts.map(\.appProtocol) == [.tcp, .tcp, .unknown])
    }
}

@Suite("What sidecars are told about their own pod")
struct SidecarInboundTests {
    private static func listener(
        _ ports: [InboundListener.Port], _ tls: InboundTLS, tunnelled: [IPAddress] = [],
        _ gate: TrafficGate = TrafficGate()
    ) throws -> (listener: EnvoyListener, names: [String], inside: EnvoyListener?) {
        let inbound = InboundListener(
            "shop/a", ports: ports, tls: tls, tunnelled: tunnelled, gate, SidecarOutboundTests.settings)
        let listeners = try inbound.resources.filter { $0.type.hasSuffix(".Listener") }
            .map { try EnvoyListener(serializedBytes: $0.bytes) }
        return (
            try #require(listeners.first { $0.name == "virtualInbound" }), inbound.resources.map(\.name).sorted(),
            listeners.first { $0.name == "main_internal" }
        )
    }

    /// `<port> <transport> <protocols> -> <last filter>` of each chain.
    private static func text(_ listener: EnvoyListener) -> [String] {
        listener.filterChains.map { chain in
            let match = chain.filterChainMatch
            let tls = chain.hasTransportSocket ? " mutual" : ""
            return
                "\(match.destinationPort.value) \(match.transportProtocol) \(match.applicationProtocols.count)\(tls) "
                + (chain.filters.last?.name.split(separator: ".").last.map(String.init) ?? "")
        }
    }

    @Test("PERMISSIVE takes both, STRICT the mesh's TLS only, DISABLE leaves TLS to the application")
    func modes() throws {
        let http = InboundListener.Port(8080, .http11)
        let (permissive, names, _) = try Self.listener([http], InboundTLS(.permissive))
        #expect(
            names == [
                "InboundPassthroughCluster", "envoy.filters.http.jwt_authn", "inbound|8080||", "inbound|8080||",
                "virtualInbound",
            ])
        #expect(
            Self.text(permissive).prefix(4) == [
                "15006  0 tcp_proxy", "8080 tls 5 mutual http_connection_manager",
                "8080 raw_buffer 0 http_connection_manager", "8080 tls 0 tcp_proxy",
            ])
        let strict = try Self.listener([http], InboundTLS(.strict, ports: [9000: .disable])).listener
        #expect(
            Self.text(strict) == [
                "15006  0 tcp_proxy", "8080 tls 0 mutual http_connection_manager",
                "9000 raw_buffer 3 http_connection_manager", "9000 raw_buffer 0 tcp_proxy", "9000 tls 0 tcp_proxy",
                "0 tls 3 mutual http_connection_manager", "0 tls 0 mutual tcp_proxy",
            ])
        let plain = try Self.listener([.init(5432, .tcp)], InboundTLS(.disable)).listener
        #expect(Self.text(plain)[1] == "5432 raw_buffer 0 tcp_proxy")
        #expect(
            plain.listenerFilters[1].filterDisabled.destinationPortRange.start == 5432, "its server may speak first")
    }

    @Test("policies ask the connection's own certificate, before the application")
    func policies() throws {
        var rule = RequestPolicy.Rule()
        rule.from = [.init()]
        rule.from[0].principals = [.exact("cluster.local/ns/a/sa/b")]
        var gate = TrafficGate()
        gate.policies = [
            RequestPolicy(key: NamespacedName(namespace: "shop", name: "p"), action: .allow, rules: [rule])
        ]
        let (listener, _, inside) = try Self.listener(
            [.init(5432, .tcp)], InboundTLS(.strict), tunnelled: [IPAddress("10.1.0.1")!], gate)
        let filters = listener.filterChains[1].filters
        #expect(filters.map { $0.name.split(separator: ".").last! } == ["rbac", "tcp_proxy"])
        func principal(_ filter: EnvoyFilter) throws -> EnvoyPrincipal {
            try #require(
                EnvoyNetworkRBAC(serializedBytes: filter.typedConfig.value).rules.policies.values.first?.principals[0])
        }
        #expect(try principal(filters[0]).authenticated.principalName.exact == "spiffe://cluster.local/ns/a/sa/b")
        let tls = try EnvoyDownstreamTLS(
            serializedBytes: listener.filterChains[1].transportSocket.typedConfig.value)
        let peers = tls.commonTlsContext.combinedValidationContext.defaultValidationContext
        #expect(
            peers.matchTypedSubjectAltNames.map(\.matcher.exact) == ["spiffe://cluster.local/ns/a/sa/b"],
            "others are told nothing, also by a server that speaks first")
        let tunnel = try #require(inside)
        #expect(
            try principal(tunnel.filterChains[0].filters[0]).filterState.stringMatch.exact
                == "spiffe://cluster.local/ns/a/sa/b")
        let ranges = try EnvoyIPMatcher(
            serializedBytes: tunnel.filterChainMatcher.matcherTree.customMatch.typedConfig.value)
        #expect(ranges.rangeMatchers.map { $0.ranges.map(\.addressPrefix) } == [["10.1.0.1"]], "nowhere else")
        let port = try #require(ranges.rangeMatchers[0].onMatch.matcher.matcherTree.exactMatchMap.map["5432"])
        #expect(
            port.matcher.matcherList.matchers.map(\.predicate.singlePredicate.valueMatch.exact) == [
                "spiffe://cluster.local/ns/a/sa/b"
            ])
        #expect(!port.matcher.hasOnNoMatch)
    }

    // MARK: Requests

    private static func policy(
        _ name: String, _ action: RequestPolicy.Action, dryRun: Bool = false, path: String = "/a"
    ) -> RequestPolicy {
        var rule = RequestPolicy.Rule()
        rule.to = [.init()]
        rule.to[0].paths = [.text(.exact(path))]
        return RequestPolicy(
            key: NamespacedName(namespace: "shop", name: name), action: action, rules: [rule], isDryRun: dryRun)
    }

    private static func inbound(
        _ policies: [RequestPolicy], tokens: [TokenPolicy] = [], closed: String? = nil, tls: InboundTLS = InboundTLS()
    ) -> [EnvoyResource] {
        var gate = TrafficGate()
        (gate.policies, gate.tokens, gate.closedBecause) = (policies, tokens, closed)
        return InboundListener(
            "shop/a", ports: [.init(8080, .http11)], tls: tls, tunnelled: [IPAddress("10.1.0.1")!], gate,
            SidecarOutboundTests.settings
        ).resources
    }

    /// What routes of this name ask, by the end of the place's name.
    private static func asked(_ resources: [EnvoyResource], _ name: String = "inbound|8080||") throws
        -> [String: EnvoyHTTPRBACPerRoute]
    {
        let found = try #require(resources.first { $0.name == name && $0.type.hasSuffix(".RouteConfiguration") })
        let route = try EnvoyRouteConfiguration(serializedBytes: found.bytes).virtualHosts[0].routes[0]
        return Dictionary(
            uniqueKeysWithValues: try route.typedPerFilterConfig.map { name, config in
                #expect(config.typeURL == "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute")
                return (
                    String(name.split(separator: ".").last ?? ""),
                    try EnvoyHTTPRBACPerRoute(serializedBytes: config.value)
                )
            })
    }

    @Test(
        "requests are judged at places that are always there, tokens first; who finds nothing written there does not pass"
    )
    func places() throws {
        for resources in [Self.inbound([]), Self.inbound([Self.policy("p", .deny)])] {
            let managers = try resources.filter { $0.type.hasSuffix(".Listener") }
                .flatMap { try EnvoyListener(serializedBytes: $0.bytes).filterChains }
                .filter { $0.name != "default" }.flatMap(\.filters)
                .filter { $0.name == "envoy.filters.network.http_connection_manager" }
                .map { try EnvoyHTTPConnectionManager(serializedBytes: $0.typedConfig.value) }
            #expect(managers.count == 6, "mutual TLS and plaintext, the port and all others; and both out of tunnels")
            for manager in managers {
                #expect(
                    manager.httpFilters.map(\.name) == [
                        "envoy.filters.http.jwt_authn", "envoy.filters.http.rbac.audit",
                        "envoy.filters.http.rbac.dry_run_deny", "envoy.filters.http.rbac.dry_run_allow",
                        "envoy.filters.http.rbac.deny", "envoy.filters.http.rbac.allow", "envoy.filters.http.router",
                    ])
                #expect(manager.httpFilters[0].configDiscovery.configSource.configSourceSpecifier == .ads(.init()))
                let closed = try manager.httpFilters[1...5].map {
                    try EnvoyHTTPRBAC(serializedBytes: $0.typedConfig.value).hasRules
                }
                #expect(closed == [false, false, false, false, true])
            }
            #expect(
                Set(managers.map(\.rds.routeConfigName))
                    == Set(resources.filter { $0.type.hasSuffix(".RouteConfiguration") }.map(\.name)))
        }
    }

    @Test(
        "what is asked comes with the routes, each kind at its place; a policy that cannot be done leaves nobody through"
    )
    func routes() throws {
        let nothing = try Self.asked(Self.inbound([]))
        #expect(nothing.keys.sorted() == ["allow"] && nothing["allow"]?.hasRbac == false)
        let all = try Self.asked(
            Self.inbound([
                Self.policy("a", .allow), Self.policy("d", .deny), Self.policy("u", .audit),
                Self.policy("ta", .allow, dryRun: true), Self.policy("td", .deny, dryRun: true),
            ]))
        #expect(all.keys.sorted() == ["allow", "audit", "deny", "dry_run_allow", "dry_run_deny"])
        #expect(all["deny"]?.rbac.rules.action == .deny && all["allow"]?.rbac.rules.action == .allow)
        for note in ["audit", "dry_run_allow", "dry_run_deny"] {
            let rbac = try #require(all[note]).rbac
            #expect(!rbac.hasRules && rbac.shadowRules.policies.count == 1)
            #expect(rbac.shadowRulesStatPrefix == "\(note)_")
        }
        let closed = try Self.asked(Self.inbound([Self.policy("d", .deny)], closed: "it cannot be done"))
        #expect(closed.keys.sorted() == ["allow"])
        #expect(closed["allow"]?.rbac.hasRules == true && closed["allow"]?.rbac.rules.policies.isEmpty == true)
        #expect(closed["allow"]?.rbac.rules.action == .allow)
    }

    @Test(
        "STRICT refuses requests without mutual TLS also where a connection is older, and nothing that came out of a tunnel"
    )
    func strictRoutes() throws {
        let resources = Self.inbound([Self.policy("d", .deny)], tls: InboundTLS(.strict))
        let deny = try #require(Self.asked(resources)["deny"]).rbac.rules
        #expect(deny.action == .deny && deny.policies.count == 2)
        let plain = try #require(deny.policies["no mutual TLS"])
        #expect(plain.permissions.map(\.any) == [true])
        #expect(plain.principals.map(\.notID.identifier) == [.authenticated(.init())])
        #expect(try Self.asked(resources, "InboundPassthroughCluster")["deny"]?.rbac.rules.policies.count == 2)
        #expect(try Self.asked(resources, "hbone/inbound|8080||")["deny"]?.rbac.rules.policies.count == 1)
        let one = Self.inbound([], tls: InboundTLS(.permissive, ports: [8080: .strict]))
        #expect(try Self.asked(one)["deny"] != nil)
        #expect(try Self.asked(one, "InboundPassthroughCluster")["deny"] == nil)
    }

    @Test("out of a tunnel the same is asked of whom the tunnel has proven")
    func tunnelledRoutes() throws {
        var rule = RequestPolicy.Rule()
        rule.from = [.init()]
        rule.from[0].principals = [.exact("cluster.local/ns/a/sa/b")]
        let resources = Self.inbound([
            RequestPolicy(key: NamespacedName(namespace: "shop", name: "p"), action: .allow, rules: [rule])
        ])
        func principal(_ name: String) throws -> EnvoyPrincipal {
            try #require(Self.asked(resources, name)["allow"]?.rbac.rules.policies.values.first?.principals[0])
        }
        let wanted = "spiffe://cluster.local/ns/a/sa/b"
        #expect(try principal("inbound|8080||").authenticated.principalName.exact == wanted)
        #expect(try principal("hbone/inbound|8080||").filterState.stringMatch.exact == wanted)
    }

    @Test(
        "a change that concerns requests only leaves the listeners as they are, and any change their chains for requests"
    )
    func changes() throws {
        func listeners(_ resources: [EnvoyResource]) -> [EnvoyResource] {
            resources.filter { $0.type.hasSuffix(".Listener") }
        }
        func chains(_ resources: [EnvoyResource], _ filter: String) throws -> [EnvoyFilterChain] {
            try listeners(resources).flatMap { try EnvoyListener(serializedBytes: $0.bytes).filterChains }
                .filter { $0.filters.last?.name == "envoy.filters.network.\(filter)" }
        }
        let none = Self.inbound([])
        let first = Self.inbound([Self.policy("p", .allow)])
        let second = Self.inbound([Self.policy("p", .allow, path: "/b")])
        #expect(listeners(first) == listeners(second))
        #expect(try Self.asked(first) != Self.asked(second))
        #expect(try chains(none, "http_connection_manager") == chains(first, "http_connection_manager"))
        #expect(try chains(none, "tcp_proxy") != chains(first, "tcp_proxy"), "of streams it allows none")
        let tokens = Self.inbound(
            [], tokens: [TokenPolicy(key: NamespacedName(namespace: "shop", name: "t"), rules: [.init(issuer: "i")])])
        #expect(Set(tokens).subtracting(none).map(\.name) == ["envoy.filters.http.jwt_authn"])
        let found = try #require(Set(tokens).subtracting(none).first)
        let config = try EnvoyExtension(serializedBytes: found.bytes)
        #expect(config.name == found.name, "by which Envoy asks for it")
        #expect(try EnvoyJWTAuthentication(serializedBytes: config.typedConfig.value).providers.count == 1)
    }

    @Test("where more than identities is asked, a server is not spoken to before its client has said something")
    func firstBytes() throws {
        func listener(_ action: RequestPolicy.Action, _ change: (inout RequestPolicy.Rule) -> Void) throws
            -> EnvoyListener
        {
            var rule = RequestPolicy.Rule()
            change(&rule)
            var gate = TrafficGate()
            gate.policies = [
                RequestPolicy(key: NamespacedName(namespace: "shop", name: "p"), action: action, rules: [rule])
            ]
            return try Self.listener([.init(5432, .tcp)], InboundTLS(.permissive), gate).listener
        }
        /// Of what is no TLS: where it leads, and whether it waits.
        func plain(_ listener: EnvoyListener) throws -> String {
            let chain = try #require(
                listener.filterChains.first {
                    $0.filterChainMatch.destinationPort.value == 5432
                        && $0.filterChainMatch.transportProtocol == "raw_buffer"
                })
            let proxy = try EnvoyTCPProxy(serializedBytes: #require(chain.filters.last).typedConfig.value)
            return "\(proxy.cluster) \(proxy.upstreamConnectMode)"
        }
        #expect(try plain(listener(.deny) { _ in }) == "inbound|5432|| onDownstreamData")
        #expect(try plain(listener(.allow) { _ in }) == "inbound|5432|| immediate")
        let identity: (inout RequestPolicy.Rule) -> Void = {
            $0.from = [.init()]
            $0.from[0].namespaces = [.exact("a")]
        }
        #expect(try plain(listener(.allow, identity)) == "BlackHoleCluster immediate", "it has no identity")
        #expect(
            try plain(
                listener(.allow) {
                    identity(&$0)
                    $0.from[0].ipBlocks = [CIDR("10.0.0.0/8")!]
                }) == "inbound|5432|| onDownstreamData")
        #expect(
            try plain(
                listener(.allow) {
                    $0.to = [.init()]
                    $0.to[0].ports = [5432]
                }) == "inbound|5432|| immediate")
        #expect(
            try plain(
                listener(.allow) {
                    $0.to = [.init()]
                    $0.to[0].ports = [80]
                }) == "BlackHoleCluster immediate")
    }

    @Test("who a sidecar is: a struct in base64, without labels that concern nobody")
    func peer() throws {
        let text = PeerMetadata.header(
            .init(
                cluster: "Kubernetes", name: "sleep-1", namespace: "foo", owner: "o", workload: "sleep",
                labels: ["app": "sleep", "pod-template-hash": "1"]))
        #expect(text.hasPrefix("Ch"))
        #expect(!text.contains("\n"))
    }
}
