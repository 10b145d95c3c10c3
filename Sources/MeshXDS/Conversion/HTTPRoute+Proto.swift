import MeshModel
import MeshProto
import MeshRoutes

extension HTTPRoute {
    /// A rule that cannot be read answers 500, to every request when its matches are what cannot be read; so does a
    /// route whose place cannot be read.
    static func decode(_ proto: Martlet_Waypoint_HTTPRoute, _ flaws: inout [String]) -> HTTPRoute {
        do throws(Reason) {
            if !proto.unknownFields.data.isEmpty { throw Reason("parts unknown to this version") }
            var route = HTTPRoute(
                name: try NamespacedName(decoding: proto.name), kind: try decodeEnum(proto.kind.rawValue, "route kind"),
                port: proto.hasPort ? try decodePort(proto.port) : nil,
                clientNamespace: proto.hasClientNamespace ? try decodeText(proto.clientNamespace) : nil, rules: [])
            for (index, rule) in try proto.rules.bounded(RulesBounds.rulesPerRouteMax, "rules").enumerated() {
                do throws(Reason) {
                    route.rules.append(try HTTPRule(decoding: rule))
                } catch {
                    flaws.append("route \(route.name), rule \(index): \(error.text)")
                    route.rules.append(HTTPRule.failing(rule, because: error.text))
                }
            }
            return route
        } catch {
            let name = NamespacedName(namespace: proto.name.namespace, name: proto.name.name)
            flaws.append("route \(name): \(error.text)")
            return HTTPRoute(
                name: name, kind: .http, port: nil,
                rules: [HTTPRule.failing(Martlet_Waypoint_HTTPRule(), because: error.text)])
        }
    }

    var proto: Martlet_Waypoint_HTTPRoute {
        .with {
            $0.name = self.name.rulesProto
            $0.kind = self.kind == .grpc ? .grpc : .http
            if let port = self.port { $0.port = UInt32(port) }
            if let namespace = self.clientNamespace { $0.clientNamespace = namespace }
            $0.rules = self.rules.map(\.proto)
        }
    }
}

extension HTTPRule {
    static func failing(_ proto: Martlet_Waypoint_HTTPRule, because reason: String) -> HTTPRule {
        var rule = HTTPRule()
        rule.matches = (try? Self.matches(proto)) ?? []
        rule.backends = [HTTPBackend(destination: .invalid(reason: reason))]
        return rule
    }

    private static func matches(_ proto: Martlet_Waypoint_HTTPRule) throws(Reason) -> [HTTPMatch] {
        try proto.matches.bounded(RulesBounds.matchesPerRuleMax, "matches").converted { match throws(Reason) in
            try HTTPMatch(decoding: match)
        }
    }

    init(decoding proto: Martlet_Waypoint_HTTPRule) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("parts unknown to this version") }
        self.init()
        self.name = proto.hasName ? try decodeText(proto.name) : nil
        self.matches = try Self.matches(proto)
        self.filters = try HTTPFilter.list(proto.filters)
        self.backends = try proto.backends.bounded(RulesBounds.backendsMax, "backends").converted {
            backend throws(Reason) in
            HTTPBackend(
                destination: try RouteDestination(decoding: backend.destination), weight: backend.weight,
                filters: try HTTPFilter.list(backend.filters))
        }
        if proto.hasRequestTimeoutUs {
            self.timeouts.request = try decodeDuration(proto.requestTimeoutUs, "a timeout")
        }
        if proto.hasBackendRequestTimeoutUs {
            self.timeouts.backendRequest = try decodeDuration(proto.backendRequestTimeoutUs, "a timeout")
        }
        if proto.hasRetry {
            self.retry = RetryPolicy(
                codes: try proto.retry.codes.bounded(RulesBounds.valuesMax, "codes").map(Int.init),
                attempts: Int(proto.retry.attempts),
                backoff: proto.retry.hasBackoffUs ? try decodeDuration(proto.retry.backoffUs, "a backoff") : nil)
        }
        if proto.hasSession { self.session = try SessionPersistence(decoding: proto.session) }
    }

    var proto: Martlet_Waypoint_HTTPRule {
        .with {
            if let name = self.name { $0.name = name }
            $0.matches = self.matches.map(\.proto)
            $0.filters = self.filters.map(\.proto)
            $0.backends = self.backends.map { backend in
                .with {
                    $0.destination = backend.destination.proto
                    $0.weight = backend.weight
                    $0.filters = backend.filters.map(\.proto)
                }
            }
            if let timeout = self.timeouts.request { $0.requestTimeoutUs = timeout.protoMicroseconds }
            if let timeout = self.timeouts.backendRequest { $0.backendRequestTimeoutUs = timeout.protoMicroseconds }
            if let retry = self.retry {
                $0.retry = .with {
                    $0.codes = retry.codes.compactMap { UInt32(exactly: $0) }
                    $0.attempts = UInt32(clamping: retry.attempts)
                    if let backoff = retry.backoff { $0.backoffUs = backoff.protoMicroseconds }
                }
            }
            if let session = self.session { $0.session = session.proto }
        }
    }
}

extension HTTPMatch {
    init(decoding proto: Martlet_Waypoint_HTTPMatch) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("a match with parts unknown to this version") }
        self.init()
        switch proto.path {
        case .exact(let text): self.path = .exact(try decodeText(text))
        case .prefix(let text): self.path = .prefix(try decodeText(text))
        case .regex(let text): self.path = .regex(try decodeText(text))
        case .grpc(let method):
            self.path = .grpc(
                service: method.hasService ? try TextMatch(decoding: method.service) : nil,
                method: method.hasMethod ? try TextMatch(decoding: method.method) : nil)
        case nil: throw Reason("a match without a path")
        }
        self.method = proto.hasMethod ? try decodeText(proto.method) : nil
        self.headers = try Self.fields(proto.headers)
        self.query = try Self.fields(proto.query)
    }

    private static func fields(_ protos: [Martlet_Waypoint_FieldMatch]) throws(Reason) -> [FieldMatch] {
        try protos.bounded(RulesBounds.fieldsPerMatchMax, "fields of a match").converted { field throws(Reason) in
            FieldMatch(name: try decodeText(field.name), value: try TextMatch(decoding: field.value))
        }
    }

    var proto: Martlet_Waypoint_HTTPMatch {
        .with {
            switch self.path {
            case .exact(let text): $0.exact = text
            case .prefix(let text): $0.prefix = text
            case .regex(let text): $0.regex = text
            case .grpc(let service, let method):
                $0.grpc = .with {
                    if let service { $0.service = service.proto }
                    if let method { $0.method = method.proto }
                }
            }
            if let method = self.method { $0.method = method }
            $0.headers = self.headers.map(\.proto)
            $0.query = self.query.map(\.proto)
        }
    }
}

extension TextMatch {
    init(decoding proto: Martlet_Waypoint_Text) throws(Reason) {
        switch proto.kind {
        case .exact(let text): self = .exact(try decodeText(text))
        case .regex(let text): self = .regex(try decodeText(text))
        case nil: throw Reason("a text match without a kind")
        }
    }

    var proto: Martlet_Waypoint_Text {
        .with {
            switch self {
            case .exact(let text): $0.exact = text
            case .regex(let text): $0.regex = text
            }
        }
    }
}

extension FieldMatch {
    var proto: Martlet_Waypoint_FieldMatch {
        .with {
            $0.name = self.name
            $0.value = self.value.proto
        }
    }
}

extension RouteDestination {
    init(decoding proto: Martlet_Waypoint_Destination) throws(Reason) {
        switch proto.kind {
        case .service(let service):
            self = .service(try NamespacedName(decoding: service.key), port: try decodePort(service.port))
        case .invalid(let reason): self = .invalid(reason: try decodeText(reason))
        case nil: throw Reason("a destination without a kind")
        }
    }

    var proto: Martlet_Waypoint_Destination {
        .with {
            switch self {
            case .service(let key, let port):
                $0.service = .with {
                    $0.key = key.rulesProto
                    $0.port = UInt32(port)
                }
            case .invalid(let reason): $0.invalid = reason
            }
        }
    }
}

extension SessionPersistence {
    init(decoding proto: Martlet_Waypoint_Session) throws(Reason) {
        self.init(
            name: try decodeText(proto.name), kind: try decodeEnum(proto.kind.rawValue, "kind of session"),
            absoluteTimeout: proto.hasAbsoluteTimeoutUs
                ? try decodeDuration(proto.absoluteTimeoutUs, "a session's timeout") : nil,
            idleTimeout: proto.hasIdleTimeoutUs ? try decodeDuration(proto.idleTimeoutUs, "a session's timeout") : nil,
            isPermanentCookie: proto.permanentCookie)
    }

    var proto: Martlet_Waypoint_Session {
        .with {
            $0.name = self.name
            $0.kind = self.kind == .header ? .header : .cookie
            if let timeout = self.absoluteTimeout { $0.absoluteTimeoutUs = timeout.protoMicroseconds }
            if let timeout = self.idleTimeout { $0.idleTimeoutUs = timeout.protoMicroseconds }
            $0.permanentCookie = self.isPermanentCookie
        }
    }
}

extension StreamRoute {
    static func decode(_ proto: Martlet_Waypoint_StreamRoute, _ flaws: inout [String]) -> StreamRoute {
        do throws(Reason) {
            if !proto.unknownFields.data.isEmpty { throw Reason("parts unknown to this version") }
            return StreamRoute(
                name: try NamespacedName(decoding: proto.name), port: proto.hasPort ? try decodePort(proto.port) : nil,
                clientNamespace: proto.hasClientNamespace ? try decodeText(proto.clientNamespace) : nil,
                serverNames: try decodeTexts(proto.serverNames), isTLS: proto.tls,
                backends: try proto.backends.bounded(RulesBounds.backendsMax, "backends").converted {
                    backend throws(Reason) in
                    StreamBackend(
                        destination: try RouteDestination(decoding: backend.destination), weight: backend.weight)
                })
        } catch {
            let name = NamespacedName(namespace: proto.name.namespace, name: proto.name.name)
            flaws.append("route \(name): \(error.text)")
            return StreamRoute(
                name: name, port: nil, isTLS: proto.tls,
                backends: [StreamBackend(destination: .invalid(reason: error.text))])
        }
    }

    var proto: Martlet_Waypoint_StreamRoute {
        .with {
            $0.name = self.name.rulesProto
            if let port = self.port { $0.port = UInt32(port) }
            if let namespace = self.clientNamespace { $0.clientNamespace = namespace }
            $0.serverNames = self.serverNames
            $0.tls = self.isTLS
            $0.backends = self.backends.map { backend in
                .with {
                    $0.destination = backend.destination.proto
                    $0.weight = backend.weight
                }
            }
        }
    }
}
