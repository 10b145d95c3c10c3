package import MeshModel
internal import MeshProto
package import MeshRoutes
internal import SwiftProtobuf

/// What the waypoint does with connections to one service: a filter chain for each port and protocol, and how a
/// connection finds its chain.
package struct ServiceChains: Hashable, Sendable {
    /// Policies and rules that close something.
    package let problems: [EnvoyProblem]
    /// Ports of services that chains lead to, without those of HTTP routes.
    package private(set) var destinations: Set<EnvoyDestination> = []
    var chains: [EnvoyFilterChain] = []
    /// Of the waypoint's network.
    let ranges: [EnvoyCidrRange]
    /// By port.
    var ports: [UInt16: EnvoyMatcher.OnMatch] = [:]
    /// Ports whose connections have to be looked at for HTTP, and for TLS.
    var httpPorts: Set<UInt16> = []
    var tlsPorts: Set<UInt16> = []

    package init(
        _ service: Service, _ rules: ServiceRules, _ waypoint: WaypointRules, _ routes: [UInt16: ServedRoutes],
        _ settings: EnvoySettings
    ) {
        self.ranges =
            service.addresses.filter { $0.network == settings.network }.map { EnvoyCidrRange($0.address) }
            + service.blocks.filter { $0.network == settings.network }.map { EnvoyCidrRange($0.cidr) }
        let gates = [waypoint.gate, rules.gate]
        let isLogged = (rules.telemetry ?? waypoint.telemetry).isAccessLogEnabled
        let gate = GateTranslation(gates, trustDomains: settings.trustDomains, chain: service.key.description)
        self.problems = gate.problems
        for port in service.ports.sorted(by: { $0.port < $1.port }) {
            let own = EnvoyDestination(service.key, port: port.port)
            let builder = PortChains(own, port, rules, gate, routes[port.port], isLogged: isLogged)
            self.chains += builder.chains
            self.ports[port.port] = builder.match
            self.destinations.formUnion(builder.destinations)
            if builder.looksForHTTP { self.httpPorts.insert(port.port) }
            if builder.looksForTLS { self.tlsPorts.insert(port.port) }
        }
    }
}

/// The chains of one port.
private struct PortChains {
    private(set) var chains: [EnvoyFilterChain] = []
    private(set) var match = EnvoyMatcher.OnMatch()
    private(set) var destinations: Set<EnvoyDestination>
    private(set) var looksForHTTP = false
    private(set) var looksForTLS = false
    private let own: EnvoyDestination
    private let gate: GateTranslation
    private let isLogged: Bool
    /// Of streams.
    private let admission: StreamAdmission.Verdict

    init(
        _ own: EnvoyDestination, _ port: ServicePort, _ rules: ServiceRules, _ gate: GateTranslation,
        _ routes: ServedRoutes?, isLogged: Bool
    ) {
        (self.own, self.gate, self.isLogged) = (own, gate, isLogged)
        let verdict = gate.admission.verdict(port: own.port)
        // A match needs somebody: where nobody passes the filter says so.
        self.admission = verdict == .identities([]) ? .firstBytes : verdict
        self.destinations = [own]
        let streams = rules.streams.filter { $0.port == nil || $0.port == own.port }
        switch port.appProtocol {
        case .http11, .http2, .grpc: self.match = self.http(routes)
        case .unknown:
            if ServedRoutes.isHTTPOnly(rules, port: own.port) {
                // Nobody goes round the routes by speaking something else.
                self.match = self.http(routes)
            } else {
                self.looksForHTTP = true
                let http = self.http(routes)
                self.match = .protocols(
                    ["'http/1.0'", "'http/1.1'", "'h2c'"], http, else: self.streams(streams, mayBeTLS: true))
            }
        case .tcp: self.match = self.streams(streams, mayBeTLS: false)
        case .tls: self.match = self.streams(streams, mayBeTLS: true)
        }
    }

    // MARK: HTTP

    private mutating func http(_ routes: ServedRoutes?) -> EnvoyMatcher.OnMatch {
        let name = self.own.chain("http")
        var manager = EnvoyHTTPConnectionManager()
        manager.statPrefix = name
        manager.rds = .with {
            $0.routeConfigName = name
            $0.configSource = .sameStream
        }
        manager.useRemoteAddress = false
        // What is routed and what policies see is what the server sees.
        manager.normalizePath = true
        manager.pathWithEscapedSlashesAction = .keepUnchanged
        manager.serverHeaderTransformation = .passThrough
        manager.streamIdleTimeout = .of(seconds: 0)
        manager.preserveExternalRequestID = true
        manager.upgradeConfigs = [.with { $0.upgradeType = "websocket" }]
        manager.httpProtocolOptions = .with {
            $0.acceptHTTP10 = true
            $0.defaultHostForHTTP10 = self.own.service.name
        }
        manager.httpFilters = self.gate.requests
        if routes?.hasCORS == true {
            manager.httpFilters.append(
                .with {
                    $0.name = EnvoyNames.cors
                    $0.typedConfig = .standard("envoy.extensions.filters.http.cors.v3.Cors")
                })
        }
        if routes?.hasSessions == true {
            manager.httpFilters.append(EnvoyHTTPFilter(EnvoyNames.session, EnvoyStatefulSession()))
        }
        manager.httpFilters.append(
            EnvoyHTTPFilter(EnvoyNames.router, EnvoyRouter.with { $0.suppressEnvoyHeaders = true }))
        if self.isLogged { manager.accessLog = [.requests] }
        return self.chain(name, [EnvoyFilter(EnvoyNames.connectionManager, manager)])
    }

    private mutating func chain(_ name: String, _ filters: [EnvoyFilter]) -> EnvoyMatcher.OnMatch {
        self.chains.append(
            .with {
                $0.name = name
                $0.filters = filters
            })
        return .chain(name)
    }

    // MARK: Streams

    /// TLSRoutes by server name, the most exact first; TCPRoutes; else the service itself, unless TLSRoutes are there and
    /// none is for this name. Only for whom policies may let through, as far as they ask for nothing but who it is.
    private mutating func streams(_ routes: [StreamRoute], mayBeTLS: Bool) -> EnvoyMatcher.OnMatch {
        let admitted = self.admitted(routes, mayBeTLS: mayBeTLS)
        guard case .identities(let identities) = self.admission else { return admitted }
        return .clients(identities, admitted)
    }

    private mutating func admitted(_ routes: [StreamRoute], mayBeTLS: Bool) -> EnvoyMatcher.OnMatch {
        var entries: [(rank: Int, entry: EnvoyMatcher.List.Entry)] = []
        let tls = routes.filter(\.isTLS)
        if mayBeTLS, !tls.isEmpty {
            self.looksForTLS = true
            for (index, route) in tls.enumerated() {
                let target = self.stream(route, "tls-\(index)")
                for name in route.serverNames.isEmpty ? [""] : route.serverNames {
                    let rank = name.isEmpty ? 0 : name.hasPrefix("*.") ? name.utf8.count : Int.max
                    entries.append((rank, .route(route, serverName: name, to: target)))
                }
            }
            // Of equal ones the earlier comes first: the order of equal elements has to stay.
            entries = entries.enumerated()
                .sorted { ($1.element.rank, $0.offset) < ($0.element.rank, $1.offset) }.map(\.element)
        }
        let tcp = routes.filter { !$0.isTLS }
        for (index, route) in tcp.enumerated() where route.clientNamespace != nil {
            entries.append((0, .route(route, serverName: nil, to: self.stream(route, "tcp-\(index)"))))
        }
        var rest: EnvoyMatcher.OnMatch?
        if let index = tcp.firstIndex(where: { $0.clientNamespace == nil }) {
            rest = self.stream(tcp[index], "tcp-\(index)")
        } else if tls.isEmpty {
            rest = self.tcpChain(self.own.chain("tcp"), [(self.own.name, 1)])
        }
        if entries.isEmpty, let rest { return rest }
        return .with { match in
            // Without a match there is no chain, and the connection ends.
            match.matcher = .with { matcher in
                matcher.matcherList.matchers = entries.map(\.entry)
                if let rest { matcher.onNoMatch = rest }
            }
        }
    }

    private mutating func stream(_ route: StreamRoute, _ suffix: String) -> EnvoyMatcher.OnMatch {
        var clusters: [(String, UInt32)] = []
        for backend in route.backends where backend.weight > 0 {
            switch backend.destination {
            case .service(let service, let port):
                let found = EnvoyDestination(service, port: port)
                self.destinations.insert(found)
                clusters.append((found.name, backend.weight))
            // Its share of the connections ends at a cluster that is not there.
            case .invalid: clusters.append(("invalid", backend.weight))
            }
        }
        return self.tcpChain("\(self.own.chain("tcp"))|\(suffix)", clusters)
    }

    private mutating func tcpChain(_ name: String, _ clusters: [(String, UInt32)]) -> EnvoyMatcher.OnMatch {
        var proxy = EnvoyTCPProxy()
        proxy.statPrefix = name
        if clusters.count == 1 {
            proxy.cluster = clusters[0].0
        } else if clusters.isEmpty {
            proxy.cluster = "invalid"
        } else {
            proxy.weightedClusters.clusters = clusters.map { cluster in
                .with {
                    $0.name = cluster.0
                    $0.weight = cluster.1
                }
            }
        }
        proxy.idleTimeout = .of(seconds: 0)
        if self.admission == .firstBytes { proxy.waitForFirstBytes() }
        if self.isLogged { proxy.accessLog = [.streams] }
        return self.chain(name, self.gate.streams + [EnvoyFilter(EnvoyNames.tcpProxy, proxy)])
    }
}
