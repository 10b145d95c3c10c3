import MeshProto
import MeshRoutes

extension HTTPFilter {
    static func list(_ protos: [Martlet_Waypoint_HTTPFilter]) throws(Reason) -> [HTTPFilter] {
        try protos.bounded(RulesBounds.filtersMax, "filters").converted { filter throws(Reason) in
            try HTTPFilter(decoding: filter)
        }
    }

    init(decoding proto: Martlet_Waypoint_HTTPFilter) throws(Reason) {
        switch proto.kind {
        case .requestHeaders(let change): self = .requestHeaders(try HeaderChange(decoding: change))
        case .responseHeaders(let change): self = .responseHeaders(try HeaderChange(decoding: change))
        case .redirect(let redirect): self = .redirect(try RequestRedirect(decoding: redirect))
        case .rewrite(let rewrite):
            self = .rewrite(
                URLRewrite(
                    hostname: rewrite.hasHostname ? try decodeText(rewrite.hostname) : nil,
                    path: rewrite.hasPath ? try PathChange(decoding: rewrite.path) : nil))
        case .mirror(let mirror):
            guard mirror.denominator > 0 else { throw Reason("a mirror of parts of nothing") }
            self = .mirror(
                RequestMirror(
                    destination: try RouteDestination(decoding: mirror.destination), numerator: mirror.numerator,
                    denominator: mirror.denominator))
        case .cors(let cors): self = .cors(try CORSPolicy(decoding: cors))
        case nil: throw Reason("a filter unknown to this version")
        }
    }

    var proto: Martlet_Waypoint_HTTPFilter {
        .with {
            switch self {
            case .requestHeaders(let change): $0.requestHeaders = change.proto
            case .responseHeaders(let change): $0.responseHeaders = change.proto
            case .redirect(let redirect): $0.redirect = redirect.proto
            case .rewrite(let rewrite):
                $0.rewrite = .with {
                    if let hostname = rewrite.hostname { $0.hostname = hostname }
                    if let path = rewrite.path { $0.path = path.proto }
                }
            case .mirror(let mirror):
                $0.mirror = .with {
                    $0.destination = mirror.destination.proto
                    $0.numerator = mirror.numerator
                    $0.denominator = mirror.denominator
                }
            case .cors(let cors): $0.cors = cors.proto
            }
        }
    }
}

extension HeaderChange {
    init(decoding proto: Martlet_Waypoint_HeaderChange) throws(Reason) {
        self.init()
        self.set = try Self.fields(proto.set)
        self.add = try Self.fields(proto.add)
        self.remove = try decodeTexts(try proto.remove.bounded(RulesBounds.headersPerFilterMax, "headers"))
    }

    private static func fields(_ protos: [Martlet_Waypoint_Field]) throws(Reason) -> [Field] {
        try protos.bounded(RulesBounds.headersPerFilterMax, "headers").converted { field throws(Reason) in
            Field(name: try decodeText(field.name), value: try decodeText(field.value))
        }
    }

    var proto: Martlet_Waypoint_HeaderChange {
        .with {
            $0.set = self.set.map(\.proto)
            $0.add = self.add.map(\.proto)
            $0.remove = self.remove
        }
    }
}

extension HeaderChange.Field {
    var proto: Martlet_Waypoint_Field {
        .with {
            $0.name = self.name
            $0.value = self.value
        }
    }
}

extension PathChange {
    init(decoding proto: Martlet_Waypoint_PathChange) throws(Reason) {
        switch proto.kind {
        case .full(let text): self = .full(try decodeText(text))
        case .prefix(let text): self = .prefix(try decodeText(text))
        case nil: throw Reason("a change of the path without a kind")
        }
    }

    var proto: Martlet_Waypoint_PathChange {
        .with {
            switch self {
            case .full(let text): $0.full = text
            case .prefix(let text): $0.prefix = text
            }
        }
    }
}

extension RequestRedirect {
    init(decoding proto: Martlet_Waypoint_Redirect) throws(Reason) {
        guard [301, 302, 303, 307, 308].contains(proto.status) else {
            throw Reason("a redirect with status \(proto.status)")
        }
        self.init(status: Int(proto.status))
        self.scheme = proto.hasScheme ? try decodeText(proto.scheme) : nil
        self.hostname = proto.hasHostname ? try decodeText(proto.hostname) : nil
        self.path = proto.hasPath ? try PathChange(decoding: proto.path) : nil
        self.port = proto.hasPort ? try decodePort(proto.port) : nil
    }

    var proto: Martlet_Waypoint_Redirect {
        .with {
            if let scheme = self.scheme { $0.scheme = scheme }
            if let hostname = self.hostname { $0.hostname = hostname }
            if let path = self.path { $0.path = path.proto }
            if let port = self.port { $0.port = UInt32(port) }
            $0.status = UInt32(clamping: self.status)
        }
    }
}

extension CORSPolicy {
    init(decoding proto: Martlet_Waypoint_CORS) throws(Reason) {
        if !proto.unknownFields.data.isEmpty { throw Reason("a CORS policy with parts unknown to this version") }
        self.init()
        self.allowOrigins = try decodeTexts(proto.allowOrigins)
        self.allowMethods = try decodeTexts(proto.allowMethods)
        self.allowHeaders = try decodeTexts(proto.allowHeaders)
        self.exposeHeaders = try decodeTexts(proto.exposeHeaders)
        self.allowCredentials = proto.allowCredentials
        self.maxAgeSeconds = proto.maxAgeSeconds
    }

    var proto: Martlet_Waypoint_CORS {
        .with {
            $0.allowOrigins = self.allowOrigins
            $0.allowMethods = self.allowMethods
            $0.allowHeaders = self.allowHeaders
            $0.exposeHeaders = self.exposeHeaders
            $0.allowCredentials = self.allowCredentials
            $0.maxAgeSeconds = self.maxAgeSeconds
        }
    }
}
