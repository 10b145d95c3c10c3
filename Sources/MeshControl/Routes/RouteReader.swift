import KubeAPI
import MeshModel
import MeshRoutes

/// Rules of a route as the API has them → rules as a waypoint follows them.
///
/// - A reference that leads nowhere answers its share of the requests with 500.
/// - A rule with a filter that we cannot do answers all its requests with 500: no filter may be skipped.
/// - A rule that says otherwise what we cannot read is left out, and the status says so.
struct RouteReader {
    let view: RouteView
    let resolve: (JSONValue) -> Result<RouteDestination, BackendFailure>
    private(set) var findings = RouteFindings()

    /// What cannot be read.
    struct Unreadable: Error {
        var text: String
        init(_ text: String) { self.text = text }
    }

    init(_ view: RouteView, resolve: @escaping (JSONValue) -> Result<RouteDestination, BackendFailure>) {
        self.view = view
        self.resolve = resolve
        self.findings.ruleCount = view.rules.count
    }

    static func resolved(
        _ view: RouteView, resolve: @escaping (JSONValue) -> Result<RouteDestination, BackendFailure>
    ) -> ResolvedRoute {
        var reader = RouteReader(view, resolve: resolve)
        let content: ResolvedRoute.Content =
            switch view.kind {
            case .http, .grpc: .http(reader.httpRules())
            case .tls, .tcp: .stream(serverNames: view.kind == .tls ? view.hostnames : [], reader.streamBackends())
            }
        return ResolvedRoute(kind: view.kind, key: view.key, content: content, findings: reader.findings)
    }

    private mutating func httpRules() -> [HTTPRule] {
        var rules: [HTTPRule] = []
        for (index, json) in self.view.rules.enumerated() {
            do throws(Unreadable) {
                rules.append(try self.rule(json, index))
            } catch {
                self.findings.dropped.append("Dropped Rule(s) \(index): \(error.text)")
            }
        }
        return rules
    }

    private mutating func rule(_ json: JSONValue, _ index: Int) throws(Unreadable) -> HTTPRule {
        var rule = HTTPRule()
        rule.name = json["name"]?.string
        for match in json["matches"]?.array ?? [] {
            rule.matches.append(self.view.kind == .grpc ? try Self.grpcMatch(match) : try Self.httpMatch(match))
        }
        rule.timeouts = try Self.timeouts(json["timeouts"])
        rule.retry = try Self.retry(json["retry"])
        rule.session = try self.session(json["sessionPersistence"], index)
        for reference in json["backendRefs"]?.array ?? [] {
            rule.backends.append(try self.backend(reference, "rule \(index)"))
        }
        switch try self.filters(json["filters"], "rule \(index)") {
        case .success(let filters): rule.filters = filters
        case .failure(let problem):
            rule.backends = [HTTPBackend(destination: .invalid(reason: problem.text))]
        }
        if rule.filters.contains(where: \.isRedirect), rule.filters.contains(where: \.isRewrite) {
            throw Unreadable("RequestRedirect and URLRewrite cannot go together")
        }
        return rule
    }

    private mutating func backend(_ reference: JSONValue, _ place: String) throws(Unreadable) -> HTTPBackend {
        let weight = try Self.weight(reference)
        let destination = self.destination(reference, place)
        switch try self.filters(reference["filters"], "a backend of \(place)") {
        case .success(let filters): return HTTPBackend(destination: destination, weight: weight, filters: filters)
        case .failure(let problem):
            return HTTPBackend(destination: .invalid(reason: problem.text), weight: weight)
        }
    }

    private static func weight(_ reference: JSONValue) throws(Unreadable) -> UInt32 {
        guard let value = reference["weight"], !value.isNull else { return 1 }
        guard let weight = value.int, (0...1_000_000).contains(weight) else { throw Unreadable("weight \(value)") }
        return UInt32(weight)
    }

    private mutating func destination(_ reference: JSONValue, _ place: String) -> RouteDestination {
        switch self.resolve(reference) {
        case .success(let destination): return destination
        case .failure(let failure):
            self.findings.note(failure.reason, "\(place): \(failure.message)")
            return .invalid(reason: failure.message)
        }
    }

    private mutating func streamBackends() -> [StreamBackend] {
        for index in self.view.rules.indices.dropFirst() {
            self.findings.dropped.append(
                "Dropped Rule(s) \(index): nothing tells the connections of one rule from those of another")
        }
        var backends: [StreamBackend] = []
        for reference in self.view.rules.first?["backendRefs"]?.array ?? [] {
            do throws(Unreadable) {
                let weight = try Self.weight(reference)
                backends.append(StreamBackend(destination: self.destination(reference, "rule 0"), weight: weight))
            } catch {
                self.findings.dropped.append("Dropped Rule(s) 0: \(error.text)")
                return []
            }
        }
        return backends
    }

    struct FilterProblem: Error { var text: String }

    private mutating func filters(
        _ json: JSONValue?, _ place: String
    ) throws(Unreadable) -> Result<[HTTPFilter], FilterProblem> {
        var filters: [HTTPFilter] = []
        for filter in json?.array ?? [] {
            let type = filter["type"]?.string ?? ""
            if type == "RequestMirror" {
                let mirror = filter["requestMirror"] ?? [:]
                // A mirror that leads nowhere is reported and copies nothing.
                let destination = self.destination(mirror["backendRef"] ?? [:], "the mirror of \(place)")
                if case .service = destination {
                    filters.append(.mirror(try FilterReader.mirror(mirror, destination)))
                }
            } else if let read = try FilterReader.filter(type, filter, self.view.kind) {
                filters.append(read)
            } else {
                let text = "\(place): there is no filter \(type.isEmpty ? "without type" : type)"
                self.findings.note(.invalidFilter, text + "; its requests are answered with 500")
                return .failure(FilterProblem(text: text))
            }
        }
        return .success(filters)
    }
}

extension HTTPFilter {
    fileprivate var isRedirect: Bool { if case .redirect = self { true } else { false } }
    fileprivate var isRewrite: Bool { if case .rewrite = self { true } else { false } }
}

// Matches and what a rule says beside them.
extension RouteReader {
    private static func httpMatch(_ json: JSONValue) throws(Unreadable) -> HTTPMatch {
        var match = HTTPMatch()
        let path = json["path"]
        let value = path?["value"]?.string ?? "/"
        switch path?["type"]?.string ?? "PathPrefix" {
        case "Exact": match.path = .exact(value)
        case "PathPrefix": match.path = .prefix(value)
        case "RegularExpression": match.path = .regex(try Self.pattern(value))
        case let other: throw Unreadable("path match of type \(other)")
        }
        match.method = json["method"]?.string
        match.headers = try Self.fields(json["headers"], lowercased: true)
        match.query = try Self.fields(json["queryParams"], lowercased: false)
        return match
    }

    private static func grpcMatch(_ json: JSONValue) throws(Unreadable) -> HTTPMatch {
        var match = HTTPMatch()
        if let method = json["method"], method.object != nil {
            func part(_ name: String) throws(Unreadable) -> TextMatch? {
                guard let text = method[name]?.string, !text.isEmpty else { return nil }
                return try Self.text(text, method["type"]?.string, "the \(name)")
            }
            match.path = .grpc(service: try part("service"), method: try part("method"))
        } else {
            match.path = .grpc(service: nil, method: nil)
        }
        match.headers = try Self.fields(json["headers"], lowercased: true)
        return match
    }

    /// Of several with one name the first counts, as the standard says.
    private static func fields(_ json: JSONValue?, lowercased: Bool) throws(Unreadable) -> [FieldMatch] {
        var fields: [FieldMatch] = []
        for field in json?.array ?? [] {
            let written = field["name"]?.string ?? ""
            let name = lowercased ? written.lowercased() : written
            guard !name.isEmpty else { throw Unreadable("a match without a name") }
            let match = try Self.text(field["value"]?.string ?? "", field["type"]?.string, name)
            if !fields.contains(where: { $0.name == name }) { fields.append(FieldMatch(name: name, value: match)) }
        }
        return fields
    }

    private static func text(_ value: String, _ type: String?, _ what: String) throws(Unreadable) -> TextMatch {
        switch type ?? "Exact" {
        case "Exact": return .exact(value)
        case "RegularExpression": return .regex(try Self.pattern(value))
        case let other: throw Unreadable("match of type \(other) for \(what)")
        }
    }

    /// As it is, if a waypoint can use it.
    private static func pattern(_ text: String) throws(Unreadable) -> String {
        do throws(RegexError) {
            _ = try BoundedRegex(text)
            return text
        } catch {
            throw Unreadable("the regular expression \(text): \(error)")
        }
    }

    private static func timeouts(_ json: JSONValue?) throws(Unreadable) -> RouteTimeouts {
        var timeouts = RouteTimeouts()
        timeouts.request = try Self.duration(json?["request"], "timeout")
        timeouts.backendRequest = try Self.duration(json?["backendRequest"], "timeout")
        return timeouts
    }

    /// Zero means none.
    private static func duration(_ json: JSONValue?, _ what: String) throws(Unreadable) -> Duration? {
        guard let json, !json.isNull else { return nil }
        guard let duration = json.string.flatMap(GatewayDuration.parse) else { throw Unreadable("\(what) \(json)") }
        return duration == .zero ? nil : duration
    }

    private static func retry(_ json: JSONValue?) throws(Unreadable) -> RetryPolicy? {
        guard let json, json.object != nil else { return nil }
        var codes: [Int] = []
        for code in json["codes"]?.array ?? [] {
            guard let number = code.int, (400...599).contains(number) else { throw Unreadable("retry code \(code)") }
            codes.append(Int(number))
        }
        let attempts = json["attempts"]?.int ?? 1
        guard (0...1000).contains(attempts) else { throw Unreadable("\(attempts) attempts") }
        return RetryPolicy(
            codes: codes, attempts: Int(attempts), backoff: try Self.duration(json["backoff"], "backoff"))
    }

    private func session(_ json: JSONValue?, _ index: Int) throws(Unreadable) -> SessionPersistence? {
        guard let json, json.object != nil else { return nil }
        let kind: SessionPersistence.Kind
        switch json["type"]?.string ?? "Cookie" {
        case "Cookie": kind = .cookie
        case "Header": kind = .header
        case let other: throw Unreadable("session persistence of type \(other)")
        }
        let lifetime = json.at("cookieConfig", "lifetimeType")?.string ?? "Session"
        guard ["Session", "Permanent"].contains(lifetime) else { throw Unreadable("cookie lifetime \(lifetime)") }
        let absolute = try Self.duration(json["absoluteTimeout"], "session timeout")
        if lifetime == "Permanent", absolute == nil { throw Unreadable("a permanent cookie needs an absoluteTimeout") }
        let written = json["sessionName"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        // One for each rule, so that the sessions of two rules do not overwrite each other.
        let name = written ?? "\(kind == .header ? "x-" : "")session-\(self.view.key.name)-\(index)"
        return SessionPersistence(
            name: kind == .header ? name.lowercased() : name, kind: kind, absoluteTimeout: absolute,
            idleTimeout: try Self.duration(json["idleTimeout"], "session timeout"),
            isPermanentCookie: lifetime == "Permanent")
    }
}
