internal import MeshModel
internal import MeshProto
internal import MeshRoutes
internal import SwiftProtobuf

/// One match of one rule with what the rule does: filters, backends, timeouts, retries, sessions.
struct RuleTranslation {
    private(set) var routes: [EnvoyRoute] = []
    private(set) var problems: [EnvoyProblem] = []
    private(set) var destinations: Set<EnvoyDestination> = []
    private(set) var hasCORS = false
    private(set) var hasSession = false
    private let candidate: RouteOrder.Candidate
    private let destination: EnvoyDestination
    private let balancing: (NamespacedName) -> BackendBalancing.Choice

    init(
        _ candidate: RouteOrder.Candidate, _ destination: EnvoyDestination,
        balancing: @escaping (NamespacedName) -> BackendBalancing.Choice
    ) {
        self.candidate = candidate
        self.destination = destination
        self.balancing = balancing
        let (filters, backends) = self.resolved()
        var route = EnvoyRoute()
        route.name = self.name
        route.match = candidate.match
        for case .cors(let policy) in filters { self.share(policy, &route) }
        for case .redirect(let redirect) in filters {
            route.apply(response: HeaderFold(filters.responseChanges))
            self.routes = RedirectTranslation.routes(
                redirect, on: route, servicePort: destination.port, prefix: candidate.prefix)
            return
        }
        self.forward(&route, filters, backends)
        self.routes = [route]
    }

    private var name: String { "\(self.candidate.route.name)/\(self.candidate.rule.name ?? "\(self.candidate.index)")" }

    // MARK: Backends

    private struct ChosenBackend {
        var destination: RouteDestination
        var weight: UInt32
        /// All that concern it, the rule's first.
        var filters: [HTTPFilter]
    }

    /// What Envoy can do for a whole route and not for one of its backends is the route's where there is only one backend;
    /// else the backend's share of the requests is answered with 500, for no filter may be left out.
    private mutating func resolved() -> (filters: [HTTPFilter], backends: [ChosenBackend]) {
        let rule = self.candidate.rule
        let alive = rule.backends.filter { $0.weight > 0 }
        if alive.count == 1, let only = alive.first {
            let filters = rule.filters + only.filters
            return (filters, [.init(destination: only.destination, weight: 1, filters: filters)])
        }
        var backends: [ChosenBackend] = []
        for backend in alive {
            var chosen = ChosenBackend(
                destination: backend.destination, weight: backend.weight, filters: rule.filters + backend.filters)
            if let filter = backend.filters.first(where: { !$0.canBeOfOneBackend }) {
                let text = "Envoy cannot do a \(filter.word) for one of several backends; its requests get 500"
                self.problems.append(EnvoyProblem("route \(self.name)", text))
                chosen.destination = .invalid(reason: text)
            }
            backends.append(chosen)
        }
        return (rule.filters, backends)
    }

    private mutating func forward(_ route: inout EnvoyRoute, _ filters: [HTTPFilter], _ backends: [ChosenBackend]) {
        let sum = backends.reduce(UInt64(0)) { $0 + UInt64($1.weight) }
        guard sum > 0 else {
            route.directResponse.status = 500
            return
        }
        guard sum <= UInt64(UInt32.max) else {
            self.problems.append(EnvoyProblem("route \(self.name)", "weights of \(sum) in all are too many"))
            route.directResponse.status = 500
            return
        }
        var action = EnvoyRouteAction()
        // Of backends that are not there, as the standard wants.
        action.clusterNotFoundResponseCode = .internalServerError
        if backends.count == 1, let only = backends.first {
            action.cluster = self.cluster(only.destination)
            route.apply(request: HeaderFold(only.filters.requestChanges))
            route.apply(response: HeaderFold(only.filters.responseChanges))
        } else {
            for backend in backends { action.weightedClusters.clusters.append(self.weight(backend)) }
        }
        self.rewrite(filters, &action)
        self.limit(&action)
        for case .mirror(let mirror) in filters { self.mirror(mirror, &action) }
        self.hash(backends, &action)
        if let session = self.candidate.rule.session { self.persist(session, &route) }
        route.route = action
    }

    private mutating func cluster(_ destination: RouteDestination) -> String {
        switch destination {
        case .service(let service, let port):
            let found = EnvoyDestination(service, port: port)
            self.destinations.insert(found)
            return found.name
        // No cluster has such a name.
        case .invalid: return "invalid"
        }
    }

    private mutating func weight(_ backend: ChosenBackend) -> EnvoyWeightedCluster.Weight {
        var weight = EnvoyWeightedCluster.Weight()
        weight.name = self.cluster(backend.destination)
        weight.weight = Google_Protobuf_UInt32Value(backend.weight)
        let request = HeaderFold(backend.filters.requestChanges)
        let response = HeaderFold(backend.filters.responseChanges)
        weight.requestHeadersToAdd = request.added
        weight.requestHeadersToRemove = request.removed
        weight.responseHeadersToAdd = response.added
        weight.responseHeadersToRemove = response.removed
        if let host = request.host ?? backend.filters.rewrittenHost { weight.hostRewriteLiteral = host }
        return weight
    }

    private func hash(_ backends: [ChosenBackend], _ action: inout EnvoyRouteAction) {
        for backend in backends {
            guard case .service(let service, _) = backend.destination, let hash = self.balancing(service).hash,
                !action.hashPolicy.contains(hash)
            else { continue }
            action.hashPolicy.append(hash)
        }
    }

    // MARK: Filters of the whole route

    private func rewrite(_ filters: [HTTPFilter], _ action: inout EnvoyRouteAction) {
        for case .rewrite(let rewrite) in filters {
            if let path = rewrite.path, let change = path.substitution(prefix: self.candidate.prefix) {
                action.regexRewrite = change
            }
        }
        let single = HeaderFold(filters.requestChanges).host ?? filters.rewrittenHost
        if let single { action.hostRewriteLiteral = single }
    }

    private mutating func mirror(_ mirror: RequestMirror, _ action: inout EnvoyRouteAction) {
        guard case .service = mirror.destination else { return }
        action.requestMirrorPolicies.append(
            .with {
                $0.cluster = self.cluster(mirror.destination)
                $0.runtimeFraction.defaultValue = mirror.fraction
                $0.disableShadowHostSuffixAppend = true
            })
    }

    private mutating func share(_ policy: CORSPolicy, _ route: inout EnvoyRoute) {
        self.hasCORS = true
        route.typedPerFilterConfig[EnvoyNames.cors] = EnvoyCORS(policy).packed
    }

    private mutating func persist(_ session: SessionPersistence, _ route: inout EnvoyRoute) {
        self.hasSession = true
        route.typedPerFilterConfig[EnvoyNames.session] = EnvoyStatefulSessionPerRoute(session).packed
        if session.idleTimeout != nil || session.absoluteTimeout != nil && !session.isPermanentCookie {
            self.problems.append(
                EnvoyProblem("route \(self.name)", "Envoy does not end a session after a time; it lasts longer"))
        }
    }

    // MARK: Time

    private func limit(_ action: inout EnvoyRouteAction) {
        let (timeouts, retry) = (self.candidate.rule.timeouts, self.candidate.rule.retry)
        guard let retry else {
            action.timeout = (timeouts.request ?? .zero).proto
            action.retryPolicy = .unseen
            if let attempt = timeouts.backendRequest { action.retryPolicy.perTryTimeout = attempt.proto }
            return
        }
        action.timeout = (timeouts.request ?? .zero).proto
        action.retryPolicy = .with { policy in
            policy.retryOn = "connect-failure,refused-stream,reset"
            if !retry.codes.isEmpty { policy.retryOn += ",retriable-status-codes" }
            policy.retriableStatusCodes = retry.codes.map { UInt32($0) }
            policy.numRetries = Google_Protobuf_UInt32Value(UInt32(retry.attempts))
            if let attempt = timeouts.backendRequest {
                policy.perTryTimeout = attempt.proto
                // A try that took too long is one that failed.
            }
            let base = retry.backoff ?? .milliseconds(25)
            policy.retryBackOff.baseInterval = base.proto
            policy.retryBackOff.maxInterval = (base * 64).proto
            policy.spread()
        }
    }
}

extension EnvoyRetryPolicy {
    /// Without a word in the route: elsewhere once more or twice, when no endpoint has seen the request.
    static var unseen: EnvoyRetryPolicy {
        .with {
            $0.retryOn = "connect-failure,refused-stream,reset-before-request"
            $0.numRetries = 2
            $0.spread()
        }
    }

    /// Not at the endpoint that has just failed, if there is another.
    fileprivate mutating func spread() {
        self.hostSelectionRetryMaxAttempts = 5
        self.retryHostPredicate = [
            .with {
                $0.name = "envoy.retry_host_predicates.previous_hosts"
                $0.typedConfig = .standard(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
            }
        ]
    }
}

extension HTTPFilter {
    fileprivate var canBeOfOneBackend: Bool {
        switch self {
        case .requestHeaders, .responseHeaders: true
        case .rewrite(let rewrite): rewrite.path == nil
        case .redirect, .mirror, .cors: false
        }
    }

    fileprivate var word: String {
        switch self {
        case .requestHeaders: "RequestHeaderModifier"
        case .responseHeaders: "ResponseHeaderModifier"
        case .rewrite: "URLRewrite of the path"
        case .redirect: "RequestRedirect"
        case .mirror: "RequestMirror"
        case .cors: "CORS"
        }
    }
}

extension [HTTPFilter] {
    fileprivate var requestChanges: [HeaderChange] {
        self.compactMap { if case .requestHeaders(let change) = $0 { change } else { nil } }
    }

    fileprivate var responseChanges: [HeaderChange] {
        self.compactMap { if case .responseHeaders(let change) = $0 { change } else { nil } }
    }

    fileprivate var rewrittenHost: String? {
        self.lazy.compactMap { if case .rewrite(let rewrite) = $0 { rewrite.hostname } else { nil } }.first
    }
}

extension RequestMirror {
    /// Envoy knows three denominators; any other is brought to a million.
    fileprivate var fraction: EnvoyFractionalPercent {
        .with {
            switch self.denominator {
            case 100: ($0.numerator, $0.denominator) = (self.numerator, .hundred)
            case 10_000: ($0.numerator, $0.denominator) = (self.numerator, .tenThousand)
            case 0: $0.numerator = 0
            default:
                let parts = UInt64(self.numerator) * 1_000_000 / UInt64(self.denominator)
                ($0.numerator, $0.denominator) = (UInt32(clamping: parts), .million)
            }
        }
    }
}
