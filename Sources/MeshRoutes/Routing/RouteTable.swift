import MeshHTTP

/// All routes of one service's port, compiled: which rule serves a request?
///
/// HTTPRoutes, in the order of the Gateway API (HTTPRouteRule.matches): an exact path; the longest prefix; a method;
/// most headers; most query parameters; the older route; its name; the earlier rule. What the standard leaves open:
/// regular expressions come after every prefix except `/`, longer patterns first; were `/` before them, every route with
/// a default rule would shut them out.
///
/// GRPCRoutes (GRPCRouteRule.matches): the longest service; the longest method; most headers; then as above. An exact
/// text comes before a pattern, a pattern before nothing. They see gRPC requests only.
///
/// When both kinds are attached to a port, GRPCRoutes count and HTTPRoutes are ignored (GEP-1294, "Route types").
///
/// A request without a match is answered with 404 (gRPC: UNIMPLEMENTED), except when the table is empty: then the
/// service itself is its backend.
package struct RouteTable: Sendable {
    package static let empty = RouteTable([], port: 0)

    /// What cannot be used, for the log.
    package let problems: [RouteProblem]
    package let isEmpty: Bool
    /// Of the routes that count.
    package let kind: HTTPRoute.Kind

    private var exact = ByteIndex()
    private var exactBuckets: [RouteBucket] = []
    private var prefixes = ByteIndex()
    private var prefixBuckets: [RouteBucket] = []
    private var prefixBytes: [Int] = []
    /// The next shorter prefix that is a prefix of this one too, or -1.
    private var prefixParents: [Int32] = []
    /// Patterns: nothing finds them but asking.
    private let patterns: RouteBucket
    private let root: RouteBucket

    /// - Parameters:
    ///   - routes: of a service, oldest first (see ``HTTPRoute/rules``).
    ///   - port: of the service.
    package init(_ routes: [HTTPRoute], port: UInt16) {
        let attached = routes.filter { $0.port == nil || $0.port == port }
        let kind: HTTPRoute.Kind = attached.contains { $0.kind == .grpc } ? .grpc : .http
        self.kind = kind
        self.isEmpty = attached.isEmpty
        var builder = RouteTableBuilder()
        for route in attached where route.kind == kind { builder.add(route) }
        self.problems = builder.problems
        self.patterns = RouteBucket(builder.patterns)
        self.root = RouteBucket(builder.root)
        self.exact = builder.exact
        self.exactBuckets = builder.exactCandidates.map(RouteBucket.init)
        self.prefixes = builder.prefixes
        self.prefixBuckets = builder.prefixCandidates.map(RouteBucket.init)
        self.prefixBytes = builder.prefixTexts.map(\.count)
        self.prefixParents = builder.prefixTexts.map { text in
            var bytes = text
            while let slash = bytes.lastIndex(of: UInt8(ascii: "/")), slash > 0 {
                bytes.removeSubrange(slash...)
                if let parent = builder.prefixes.find(bytes[...]) { return Int32(parent) }
            }
            return -1
        }
    }

    /// - Parameters:
    ///   - request: with its path normalised (``PathNormalization``).
    ///   - isGRPC: its content type is `application/grpc` or begins with `application/grpc+` or `application/grpc;`.
    package func match(_ request: RequestHead, isGRPC: Bool) -> MatchedRule? {
        if self.kind == .grpc, !isGRPC { return nil }
        let target = request.path.utf8.span
        var hash = RunningHash()
        var at = 0
        var longest: Int32 = -1
        let hasPrefixes = !self.prefixes.isEmpty
        while at < target.count {
            let byte = target[at]
            if byte == UInt8(ascii: "?") { break }
            if hasPrefixes, byte == UInt8(ascii: "/"), at > 0, at <= self.prefixes.keyBytesMax,
                let found = self.prefixes.find(hash.value, target, count: at)
            {
                longest = Int32(found)
            }
            hash.add(byte)
            at += 1
        }
        if hasPrefixes, at <= self.prefixes.keyBytesMax, let found = self.prefixes.find(hash.value, target, count: at) {
            longest = Int32(found)
        }
        if at <= self.exact.keyBytesMax, !self.exact.isEmpty,
            let found = self.exact.find(hash.value, target, count: at),
            let rule = self.exactBuckets[found].first(request, target, pathBytes: at)
        {
            return MatchedRule(rule: rule, prefixBytes: nil)
        }
        while longest >= 0 {
            if let rule = self.prefixBuckets[Int(longest)].first(request, target, pathBytes: at) {
                return MatchedRule(
                    rule: rule, prefixBytes: self.kind == .http ? self.prefixBytes[Int(longest)] : nil)
            }
            longest = self.prefixParents[Int(longest)]
        }
        if let rule = self.patterns.first(request, target, pathBytes: at) {
            return MatchedRule(rule: rule, prefixBytes: nil)
        }
        return self.root.first(request, target, pathBytes: at).map { MatchedRule(rule: $0, prefixBytes: 0) }
    }
}

/// Sorts matches into the places where ``RouteTable`` looks for them.
struct RouteTableBuilder {
    private(set) var problems: [RouteProblem] = []
    private(set) var exact = ByteIndex()
    private(set) var exactCandidates: [[RouteCandidate]] = []
    private(set) var prefixes = ByteIndex()
    private(set) var prefixTexts: [[UInt8]] = []
    private(set) var prefixCandidates: [[RouteCandidate]] = []
    private(set) var patterns: [RouteCandidate] = []
    private(set) var root: [RouteCandidate] = []
    private var order = 0

    mutating func add(_ route: HTTPRoute) {
        for (index, rule) in route.rules.enumerated() {
            let shared = RouteRule(route: route.name, kind: route.kind, index: index, rule: rule)
            let matches = rule.matches.isEmpty ? [HTTPMatch()] : rule.matches
            for match in matches {
                self.order += 1
                do throws(RegexError) {
                    try self.add(match, shared)
                } catch {
                    self.problems.append(RouteProblem(route: route.name, rule: index, error: error))
                }
            }
        }
    }

    private mutating func add(_ match: HTTPMatch, _ rule: RouteRule) throws(RegexError) {
        let headers = try FieldTest.headers(match.headers)
        let query = rule.kind == .http ? try FieldTest.query(match.query) : []
        var precedence = RouteCandidate.Precedence(order: self.order)
        precedence.hasMethod = match.method == nil || rule.kind == .grpc ? 0 : 1
        precedence.headers = headers.count
        precedence.query = query.count
        let method = rule.kind == .http ? match.method.map { Array($0.utf8) } : nil
        func candidate(_ path: RouteCandidate.PathTest) -> RouteCandidate {
            RouteCandidate(
                rule: rule, precedence: precedence, path: path, method: method, headers: headers, query: query)
        }
        switch match.path {
        case .prefix where rule.kind == .grpc:
            // The default of a GRPCRoute's match: every request, and the last to be asked.
            self.patterns.append(candidate(.none))
        case .exact(let path):
            self.insert(candidate(.none), exact: Array(PathNormalization.canonicalEscapes(path).utf8))
        case .prefix(let path):
            var text = Array(PathNormalization.canonicalEscapes(path).utf8)
            if text.last == UInt8(ascii: "/") { text.removeLast() }
            self.insert(candidate(.none), prefix: text)
        case .regex(let pattern):
            precedence.first = pattern.utf8.count
            self.patterns.append(candidate(.regex(try BoundedRegex(pattern))))
        case .grpc(let service, let method):
            precedence.first = Self.rank(service)
            precedence.second = Self.rank(method)
            let methodTest = try method.map { text throws(RegexError) in try TextTest(text) }
            if case .exact(let name) = service {
                if case .exact(let methodName) = method {
                    self.insert(candidate(.none), exact: Array("/\(name)/\(methodName)".utf8))
                } else {
                    self.insert(candidate(.grpc(service: nil, method: methodTest)), prefix: Array("/\(name)".utf8))
                }
            } else {
                let serviceTest = try service.map { text throws(RegexError) in try TextTest(text) }
                self.patterns.append(candidate(.grpc(service: serviceTest, method: methodTest)))
            }
        }
    }

    private static func rank(_ text: TextMatch?) -> Int {
        switch text {
        case .exact(let text): 1 + text.utf8.count
        case .regex: 1
        case nil: 0
        }
    }

    private mutating func insert(_ candidate: RouteCandidate, exact path: [UInt8]) {
        let number = self.exact.insert(path)
        if number == self.exactCandidates.count { self.exactCandidates.append([]) }
        self.exactCandidates[number].append(candidate)
    }

    private mutating func insert(_ candidate: RouteCandidate, prefix path: [UInt8]) {
        if path.isEmpty {
            self.root.append(candidate)
            return
        }
        let number = self.prefixes.insert(path)
        if number == self.prefixCandidates.count {
            self.prefixCandidates.append([])
            self.prefixTexts.append(path)
        }
        self.prefixCandidates[number].append(candidate)
    }
}
