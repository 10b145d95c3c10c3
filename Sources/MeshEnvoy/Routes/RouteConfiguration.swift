package import MeshModel
internal import MeshProto
package import MeshRoutes

/// What becomes of the requests to one port of a service: its routes in the order in which Envoy has to ask them.
///
/// Envoy takes the first that matches; the Gateway API takes the most specific. ``RouteOrder`` makes the one out of the
/// other. Routes of a client's namespace stand before the others, each with the question who asks.
package struct ServedRoutes {
    package private(set) var resource: EnvoyResource
    package private(set) var problems: [EnvoyProblem]
    /// Ports of services that the routes lead to.
    package private(set) var destinations: Set<EnvoyDestination>
    /// Filters that the chain needs because of the routes.
    private(set) var hasCORS = false
    private(set) var hasSessions = false

    /// - Parameter balancing: of a destination's service.
    package init(
        _ destination: EnvoyDestination, _ rules: ServiceRules,
        balancing: @escaping (NamespacedName) -> BackendBalancing.Choice
    ) {
        var builder = RouteBuilder(destination, balancing: balancing)
        let attached = rules.routes.filter { $0.port == nil || $0.port == destination.port }
        for namespace in Set(attached.compactMap(\.clientNamespace)).sorted() {
            builder.add(attached.filter { $0.clientNamespace == namespace }, from: namespace)
        }
        builder.add(attached.filter { $0.clientNamespace == nil }, from: nil)
        let configuration = EnvoyRouteConfiguration.with { configuration in
            configuration.name = destination.chain("http")
            configuration.mostSpecificHeaderMutationsWins = true
            configuration.virtualHosts = [
                .with {
                    $0.name = destination.chain("http")
                    $0.domains = ["*"]
                    $0.routes = builder.routes
                }
            ]
        }
        self.resource = EnvoyResource(configuration.name, configuration)
        self.problems = builder.problems
        self.destinations = builder.destinations
        (self.hasCORS, self.hasSessions) = (builder.hasCORS, builder.hasSessions)
    }

    /// Whether clients that do not speak HTTP have to stay out: routes would be gone round.
    static func isHTTPOnly(_ rules: ServiceRules, port: UInt16) -> Bool {
        rules.routes.contains { $0.port == nil || $0.port == port }
    }
}

/// Collects the routes of one port.
struct RouteBuilder {
    private(set) var routes: [EnvoyRoute] = []
    private(set) var problems: [EnvoyProblem] = []
    private(set) var destinations: Set<EnvoyDestination>
    private(set) var hasCORS = false
    private(set) var hasSessions = false
    let destination: EnvoyDestination
    let balancing: (NamespacedName) -> BackendBalancing.Choice

    init(_ destination: EnvoyDestination, balancing: @escaping (NamespacedName) -> BackendBalancing.Choice) {
        self.destination = destination
        self.balancing = balancing
        self.destinations = [destination]
    }

    /// - Parameter namespace: of the clients for which these routes count alone; nil: of all others.
    mutating func add(_ attached: [HTTPRoute], from namespace: String?) {
        let order = RouteOrder(attached)
        self.problems += order.problems
        for candidate in order.candidates {
            for var route in self.routes(of: candidate) {
                if let namespace { route.match.filterState.append(.client(namespace)) }
                self.routes.append(route)
            }
        }
        // Nothing attached: the service itself is the backend. Something attached, and nothing matches: 404, which is
        // Envoy's own answer where the list ends.
        if attached.isEmpty {
            self.routes.append(self.standard())
        } else if let namespace {
            self.routes.append(
                .with {
                    $0.match.prefix = "/"
                    $0.match.filterState = [.client(namespace)]
                    $0.directResponse.status = 404
                })
        }
    }

    private func standard() -> EnvoyRoute {
        .with {
            $0.name = "default"
            $0.match.prefix = "/"
            $0.route.cluster = self.destination.name
            $0.route.timeout = .of(seconds: 0)
            $0.route.retryPolicy = .unseen
            if let hash = self.balancing(self.destination.service).hash { $0.route.hashPolicy = [hash] }
        }
    }

    /// One route as a rule, two where the answer depends on how the client wrote the host.
    private mutating func routes(of candidate: RouteOrder.Candidate) -> [EnvoyRoute] {
        let translation = RuleTranslation(candidate, self.destination, balancing: self.balancing)
        self.problems += translation.problems
        self.destinations.formUnion(translation.destinations)
        self.hasCORS = self.hasCORS || translation.hasCORS
        self.hasSessions = self.hasSessions || translation.hasSession
        return translation.routes
    }
}

extension EnvoyFilterStateMatcher {
    /// A client of this namespace.
    static func client(_ namespace: String) -> EnvoyFilterStateMatcher {
        .with {
            $0.key = EnvoyNames.principal
            $0.stringMatch = .regex("spiffe://[^/]+/ns/\(RegexText.literal(namespace))/sa/.+")
        }
    }
}

extension BackendBalancing.Choice {
    /// Nil: endpoints are chosen without looking at the request.
    var hash: EnvoyRouteAction.Hash? {
        switch self {
        case .leastRequest, .roundRobin, .random: nil
        case .hashHeader(let name): .with { $0.header.headerName = name }
        case .hashSource: .with { $0.connectionProperties.sourceIp = true }
        case .hashQuery(let name): .with { $0.queryParameter.name = name }
        case .hashCookie(let name, let path, let lifetime):
            .with { hash in
                hash.cookie = .with {
                    $0.name = name
                    $0.path = path
                    // Zero: until the client's session ends. Without any, Envoy would not make the cookie.
                    $0.ttl = (lifetime ?? .zero).proto
                }
            }
        }
    }
}
