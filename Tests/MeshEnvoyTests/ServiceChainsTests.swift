import MeshEnvoy
import MeshModel
import MeshProto
import MeshRoutes
import SwiftProtobuf
import Testing

@Suite("Listeners as Envoy is told them")
struct ServiceChainsTests {
    private static let settings = EnvoySettings(trustDomains: ["cluster.local", "old.example"], network: "n")

    private static func service(_ ports: [(UInt16, ServicePort.AppProtocol)]) -> Service {
        var service = Service(name: "echo", namespace: "shop", hostname: ServedRoutesTests.service.name)
        service.addresses = [
            NetworkAddress(network: "n", address: IPAddress("10.96.0.1")!),
            NetworkAddress(network: "elsewhere", address: IPAddress("10.96.0.2")!),
        ]
        service.ports = ports.map { ServicePort(port: $0.0, targetPort: 0, appProtocol: $0.1) }
        return service
    }

    private static func chains(
        _ ports: [(UInt16, ServicePort.AppProtocol)], _ change: (inout ServiceRules) -> Void = { _ in }
    ) -> ServiceChains {
        var rules = ServiceRules(key: ServedRoutesTests.service)
        change(&rules)
        return ServiceChains(
            Self.service(ports), rules, WaypointRules(key: NamespacedName(namespace: "shop", name: "w")), [:],
            Self.settings)
    }

    private static func listener(_ chains: ServiceChains) throws -> EnvoyListener {
        try EnvoyListener(serializedBytes: MainListener.listener([("shop/echo", chains)]).bytes)
    }

    private static func filters(_ chains: ServiceChains) throws -> [[String]] {
        try Self.listener(chains).filterChains.map { $0.filters.map { String($0.name.split(separator: ".").last!) } }
    }

    @Test("a port has the chains of what it may speak; only where that is open somebody looks")
    func protocols() throws {
        let listener = try Self.listener(Self.chains([(80, .http11), (90, .tcp), (100, .unknown)]))
        #expect(
            listener.filterChains.map { $0.name.split(separator: "|").prefix(3).joined(separator: " ") } == [
                "inbound-vip 80 http", "inbound-vip 90 tcp", "inbound-vip 100 http", "inbound-vip 100 tcp",
            ])
        #expect(
            listener.listenerFilters.map { $0.name.split(separator: ".").last! } == ["original_dst", "http_inspector"])
        let looked = listener.listenerFilters[1].filterDisabled.notMatch.destinationPortRange
        #expect(looked.start == 100 && looked.end == 101, "a server that speaks first on 90 waits for nobody")
    }

    @Test("a port of unknown protocol with routes takes HTTP only")
    func httpOnly() throws {
        let chains = Self.chains([(100, .unknown)]) {
            $0.routes = [ServedRoutesTests.route([ServedRoutesTests.rule([.prefix("/a")])])]
        }
        #expect(try Self.filters(chains) == [["http_connection_manager"]])
    }

    @Test("whom a policy of streams refuses hears nothing, also from a server that speaks first")
    func serverFirst() throws {
        /// What port 90 asks before it has a chain, and when its server is connected to.
        func port(_ action: RequestPolicy.Action, _ change: (inout RequestPolicy.Rule) -> Void) throws
            -> String
        {
            var rule = RequestPolicy.Rule()
            change(&rule)
            let chains = Self.chains([(90, .tcp)]) {
                $0.gate.policies = [
                    RequestPolicy(key: NamespacedName(namespace: "shop", name: "p"), action: action, rules: [rule])
                ]
            }
            let listener = try Self.listener(chains)
            let ranges = try EnvoyIPMatcher(
                serializedBytes: listener.filterChainMatcher.matcherTree.customMatch.typedConfig.value)
            let match = try #require(ranges.rangeMatchers[0].onMatch.matcher.matcherTree.exactMatchMap.map["90"])
            let last = try #require(listener.filterChains[0].filters.last)
            let identities = match.matcher.matcherList.matchers.map { $0.predicate.singlePredicate.valueMatch.exact }
            let proxy = try EnvoyTCPProxy(serializedBytes: last.typedConfig.value)
            return "\(identities.joined(separator: " ")) \(proxy.upstreamConnectMode)"
        }
        let identity: (inout RequestPolicy.Rule) -> Void = {
            $0.from = [.init()]
            $0.from[0].principals = [.exact("cluster.local/ns/a/sa/b")]
        }
        #expect(try port(.allow) { _ in } == " immediate")
        #expect(
            try port(.allow, identity)
                == "spiffe://cluster.local/ns/a/sa/b spiffe://old.example/ns/a/sa/b immediate", "and its alias")
        #expect(try port(.deny, identity) == " onDownstreamData")
        let otherPort = try port(.allow) {
            $0.to = [.init()]
            $0.to[0].ports = [80]
        }
        #expect(otherPort == " onDownstreamData", "nobody passes")
    }

    @Test("TLSRoutes lead by server name; without one for the name the connection ends")
    func serverNames() throws {
        func route(_ names: [String], tls: Bool, client: String? = nil) -> StreamRoute {
            StreamRoute(
                name: NamespacedName(namespace: "shop", name: "t"), port: nil, clientNamespace: client,
                serverNames: names, isTLS: tls,
                backends: [StreamBackend(destination: .service(ServedRoutesTests.service, port: 443))])
        }
        let chains = Self.chains([(443, .tls)]) {
            $0.streams = [route(["*.example"], tls: true), route(["a.example", "*.b.example"], tls: true)]
        }
        let listener = try Self.listener(chains)
        #expect(listener.listenerFilters.map(\.name).contains("envoy.filters.listener.tls_inspector"))
        let ranges = try EnvoyIPMatcher(
            serializedBytes: listener.filterChainMatcher.matcherTree.customMatch.typedConfig.value)
        let port = try #require(ranges.rangeMatchers[0].onMatch.matcher.matcherTree.exactMatchMap.map["443"])
        let texts = port.matcher.matcherList.matchers.map { $0.predicate.singlePredicate.valueMatch }
        #expect(
            texts.map { $0.exact.isEmpty ? $0.safeRegex.regex : $0.exact } == [
                "a.example", #".+\.b\.example"#, #".+\.example"#,
            ])
        #expect(!port.matcher.hasOnNoMatch)
    }

    @Test("policies stand before what they guard, in the order in which they are asked")
    func gates() throws {
        func policy(_ action: RequestPolicy.Action, dryRun: Bool = false) -> RequestPolicy {
            var rule = RequestPolicy.Rule()
            rule.from = [.init()]
            rule.from[0].principals = [.exact("cluster.local/ns/a/sa/b")]
            return RequestPolicy(
                key: NamespacedName(namespace: "shop", name: "\(action)"), action: action, rules: [rule],
                isDryRun: dryRun)
        }
        let chains = Self.chains([(80, .http11), (90, .tcp)]) {
            $0.gate.policies = [policy(.allow), policy(.deny), policy(.audit), policy(.deny, dryRun: true)]
            $0.gate.tokens = [
                TokenPolicy(key: NamespacedName(namespace: "shop", name: "t"), rules: [.init(issuer: "i")])
            ]
            $0.gate.rateLimits = [
                RateLimit(
                    key: NamespacedName(namespace: "shop", name: "l"), requests: 100, interval: .seconds(1), burst: 9)
            ]
        }
        #expect(try Self.filters(chains)[1] == ["rbac", "rbac", "rbac", "rbac", "local_ratelimit", "tcp_proxy"])
        let manager = try EnvoyHTTPConnectionManager(
            serializedBytes: try Self.listener(chains).filterChains[0].filters[0].typedConfig.value)
        #expect(
            manager.httpFilters.map { $0.name.split(separator: ".").last! } == [
                "jwt_authn", "rbac", "rbac", "rbac", "rbac", "local_ratelimit", "router",
            ])
        let rbac = try manager.httpFilters[1...4].map { try EnvoyHTTPRBAC(serializedBytes: $0.typedConfig.value) }
        #expect(
            rbac.map { $0.hasRules ? "\($0.rules.action)" : $0.shadowRulesStatPrefix } == [
                "audit_", "dry_run_deny_", "deny", "allow",
            ])
        let principal = try #require(rbac[3].rules.policies["ns[shop]-policy[allow]-rule[0]"]?.principals[0])
        #expect(
            principal.orIds.ids.map(\.filterState.stringMatch.exact) == [
                "spiffe://cluster.local/ns/a/sa/b", "spiffe://old.example/ns/a/sa/b",
            ], "an alias is the same")
        let bucket = try EnvoyLocalRateLimit(serializedBytes: manager.httpFilters[5].typedConfig.value).tokenBucket
        #expect(bucket.maxTokens == 9 && bucket.tokensPerFill.value == 5 && bucket.fillInterval.nanos == 50_000_000)
    }

    @Test("what cannot be enforced lets nothing through")
    func closed() throws {
        let chains = Self.chains([(80, .http11), (90, .tcp)]) { $0.gate.closedBecause = "why" }
        #expect(chains.problems.count == 1)
        let listener = try Self.listener(chains)
        let stream = try EnvoyNetworkRBAC(serializedBytes: listener.filterChains[1].filters[0].typedConfig.value)
        #expect(stream.rules.action == .allow && stream.rules.policies.isEmpty)
    }

    @Test("no services: nobody gets through")
    func nothing() throws {
        let listener = try EnvoyListener(serializedBytes: MainListener.listener([]).bytes)
        let stream = try EnvoyNetworkRBAC(serializedBytes: listener.filterChains[0].filters[0].typedConfig.value)
        #expect(stream.rules.action == .allow && stream.rules.policies.isEmpty)
    }

    @Test("an address of another network leads nowhere")
    func networks() throws {
        let matcher = try Self.listener(Self.chains([(80, .http11)])).filterChainMatcher.matcherTree.customMatch
        let ranges = try EnvoyIPMatcher(serializedBytes: matcher.typedConfig.value).rangeMatchers
        #expect(ranges.map { $0.ranges.map(\.addressPrefix) } == [["10.96.0.1"]])
    }
}
