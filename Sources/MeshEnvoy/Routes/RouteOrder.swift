internal import MeshModel
internal import MeshProto
internal import MeshRoutes

/// Matches of routes in the order of the Gateway API, as ``RouteTable`` keeps it: exact paths; prefixes, the longest first;
/// patterns; what holds for every path. Within each: a method, more headers, more parameters, what was there earlier.
struct RouteOrder {
    struct Candidate {
        let route: HTTPRoute
        /// Of the rule in its route.
        let index: Int
        let rule: HTTPRule
        let match: EnvoyRouteMatch
        /// What a prefix match matched, without a slash at its end; nil: it was no prefix.
        let prefix: String?
    }

    private(set) var candidates: [Candidate] = []
    private(set) var problems: [EnvoyProblem] = []

    /// Smaller comes first.
    private struct Rank: Comparable {
        /// 0: exact; 1: prefix; 2: pattern; 3: everything.
        var tier: Int
        /// The greater ones of these come first: a prefix' or a pattern's length, the rank of a gRPC service, of its method,
        /// whether there is a method, how many headers, how many parameters.
        var weights: [Int]
        var order: Int

        static func < (left: Rank, right: Rank) -> Bool {
            if left.tier != right.tier { return left.tier < right.tier }
            for (mine, theirs) in zip(left.weights, right.weights) where mine != theirs { return mine > theirs }
            return left.order < right.order
        }
    }

    init(_ attached: [HTTPRoute]) {
        let isGRPC = attached.contains { $0.kind == .grpc }
        var ranked: [(rank: Rank, candidate: Candidate)] = []
        for route in attached where (route.kind == .grpc) == isGRPC {
            for (index, rule) in route.rules.enumerated() {
                for match in rule.matches.isEmpty ? [HTTPMatch()] : rule.matches {
                    let order = ranked.count
                    guard MatchTranslation.canBeUsed(match) else {
                        self.problems.append(
                            EnvoyProblem("route \(route.name), rule \(index)", "a match cannot be used"))
                        continue
                    }
                    let translated = MatchTranslation(match, isGRPC: isGRPC)
                    ranked.append(
                        (
                            Rank(tier: translated.tier, weights: translated.weights, order: order),
                            Candidate(
                                route: route, index: index, rule: rule, match: translated.match,
                                prefix: translated.prefix)
                        ))
                }
            }
        }
        self.candidates = ranked.sorted { $0.rank < $1.rank }.map(\.candidate)
    }
}

/// One match of a rule, and where it stands among others.
struct MatchTranslation {
    private(set) var match = EnvoyRouteMatch()
    private(set) var tier = 3
    private(set) var weights: [Int]
    private(set) var prefix: String?

    /// The same patterns that our own engine takes, so that a match is left out by both or by none.
    static func canBeUsed(_ match: HTTPMatch) -> Bool {
        func isUsable(_ text: TextMatch?) -> Bool {
            if case .regex(let pattern) = text { (try? BoundedRegex(pattern)) != nil } else { true }
        }
        let path =
            switch match.path {
            case .exact, .prefix: true
            case .regex(let pattern): isUsable(.regex(pattern))
            case .grpc(let service, let method): isUsable(service) && isUsable(method)
            }
        return path && (match.headers + match.query).allSatisfy { isUsable($0.value) }
    }

    init(_ match: HTTPMatch, isGRPC: Bool) {
        let headers = Self.firstOfEachName(match.headers, lowercased: true)
        let query = isGRPC ? [] : Self.firstOfEachName(match.query, lowercased: false)
        self.weights = [0, 0, match.method != nil && !isGRPC ? 1 : 0, headers.count, query.count]
        self.match.headers = headers.map { field in
            .with {
                $0.name = field.name == "host" ? ":authority" : field.name
                $0.stringMatch = .text(field.value)
            }
        }
        self.match.queryParameters = query.map { field in
            .with {
                $0.name = field.name
                $0.stringMatch = .text(field.value)
            }
        }
        if isGRPC {
            self.match.grpc = .init()
        } else if let method = match.method {
            self.match.headers.append(
                .with {
                    $0.name = ":method"
                    $0.stringMatch = .exact(method)
                })
        }
        self.setPath(match.path, isGRPC: isGRPC)
    }

    private static func firstOfEachName(_ fields: [FieldMatch], lowercased: Bool) -> [FieldMatch] {
        var kept: [FieldMatch] = []
        for var field in fields {
            if lowercased { field.name = field.name.lowercased() }
            if !kept.contains(where: { $0.name == field.name }) { kept.append(field) }
        }
        return kept
    }

    private mutating func setPath(_ path: HTTPMatch.Path, isGRPC: Bool) {
        switch path {
        case .prefix where isGRPC:
            // The default of a GRPCRoute's match.
            (self.tier, self.match.prefix) = (2, "/")
        case .exact(let text): self.set(exact: PathNormalization.canonicalEscapes(text))
        case .prefix(let text):
            var text = PathNormalization.canonicalEscapes(text)
            if text.hasSuffix("/") { text.removeLast() }
            self.set(prefix: text)
        case .regex(let pattern):
            (self.tier, self.weights[0]) = (2, pattern.utf8.count)
            self.match.safeRegex.regex = pattern
        case .grpc(let service, let method): self.set(service, method)
        }
    }

    private mutating func set(exact path: String) {
        self.tier = 0
        if path.contains("%") { self.match.safeRegex.regex = RegexText.path(path) } else { self.match.path = path }
    }

    private mutating func set(prefix path: String) {
        self.prefix = path
        if path.isEmpty {
            self.match.prefix = "/"
            return
        }
        (self.tier, self.weights[0]) = (1, path.utf8.count)
        // By whole segments.
        if path.contains("%") {
            self.match.safeRegex.regex = "\(RegexText.path(path))(?:/.*)?"
        } else {
            self.match.pathSeparatedPrefix = path
        }
    }

    private mutating func set(_ service: TextMatch?, _ method: TextMatch?) {
        switch (service, method) {
        case (.exact(let service), .exact(let method)):
            (self.tier, self.match.path) = (0, "/\(service)/\(method)")
        case (.exact(let service), nil):
            self.tier = 1
            self.match.prefix = "/\(service)/"
        case (.exact(let service), .regex):
            self.tier = 1
            self.match.safeRegex.regex = "/\(RegexText.literal(service))/\(Self.segment(method))"
        case (nil, nil):
            self.tier = 2
            self.match.prefix = "/"
        default:
            self.tier = 2
            self.match.safeRegex.regex = "/\(Self.segment(service))/\(Self.segment(method))"
        }
        self.weights[0] = Self.rank(service)
        self.weights[1] = Self.rank(method)
    }

    private static func segment(_ text: TextMatch?) -> String {
        switch text {
        case .exact(let text): RegexText.literal(text)
        case .regex(let pattern): "(?:\(pattern))"
        case nil: "[^/]+"
        }
    }

    private static func rank(_ text: TextMatch?) -> Int {
        switch text {
        case .exact(let text): 1 + text.utf8.count
        case .regex: 1
        case nil: 0
        }
    }
}

extension EnvoyStringMatcher {
    static func text(_ match: TextMatch) -> Self {
        switch match {
        case .exact(let text): .exact(text)
        case .regex(let pattern): .regex(pattern)
        }
    }
}
