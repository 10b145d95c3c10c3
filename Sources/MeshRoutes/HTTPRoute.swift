package import MeshModel

/// An HTTPRoute or GRPCRoute of the Gateway API that is attached to a service, as the waypoint gets it: references are
/// resolved, what the standard leaves to implementations is decided.
package struct HTTPRoute: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable { case http = 0, grpc }

    package var name: NamespacedName
    package var kind: Kind
    /// Of the service, from the parent reference; nil: every port.
    package var port: UInt16?
    /// Of a consumer route (GEP-1426): it counts for clients of this namespace only, and for them the routes of their
    /// namespace replace all others, as soon as there is one for the port. Nil: a producer route, for everybody else.
    package var clientNamespace: String?
    /// Rules in the order of the object. Routes themselves come oldest first, then by name: where two matches are
    /// equal the standard lets the first one win.
    package var rules: [HTTPRule]

    package init(
        name: NamespacedName, kind: Kind, port: UInt16?, clientNamespace: String? = nil, rules: [HTTPRule]
    ) {
        self.name = name
        self.kind = kind
        self.port = port
        self.clientNamespace = clientNamespace
        self.rules = rules
    }
}

package struct HTTPRule: Hashable, Sendable {
    package var name: String?
    /// Any of them; none: every request.
    package var matches: [HTTPMatch] = []
    package var filters: [HTTPFilter] = []
    /// By weight. None, without a redirect among the filters: 500, as the standard says.
    package var backends: [HTTPBackend] = []
    package var timeouts = RouteTimeouts()
    package var retry: RetryPolicy?
    package var session: SessionPersistence?

    package init() {}
}

/// All of it must match.
package struct HTTPMatch: Hashable, Sendable {
    package enum Path: Hashable, Sendable {
        case exact(String)
        /// By whole segments: `/a` matches `/a`, `/a/` and `/a/b`, not `/ab`.
        case prefix(String)
        case regex(String)
        /// A gRPC method; nil: any.
        case grpc(service: TextMatch?, method: TextMatch?)
    }

    package var path = Path.prefix("/")
    /// Compared exactly.
    package var method: String?
    package var headers: [FieldMatch] = []
    package var query: [FieldMatch] = []

    package init() {}
}

/// Regular expressions are RE2's and must match the whole text.
package enum TextMatch: Hashable, Sendable {
    case exact(String)
    case regex(String)
}

package struct FieldMatch: Hashable, Sendable {
    /// A header's name in lower case, or a query parameter's as it is.
    package var name: String
    package var value: TextMatch

    package init(name: String, value: TextMatch) {
        self.name = name
        self.value = value
    }
}

package struct HTTPBackend: Hashable, Sendable {
    package var destination: RouteDestination
    /// Relative to its neighbours; 0 is never chosen.
    package var weight: UInt32
    package var filters: [HTTPFilter]

    package init(destination: RouteDestination, weight: UInt32 = 1, filters: [HTTPFilter] = []) {
        self.destination = destination
        self.weight = weight
        self.filters = filters
    }
}

package enum RouteDestination: Hashable, Sendable {
    /// `<namespace>/<hostname>` and a port of the service.
    case service(NamespacedName, port: UInt16)
    /// A reference that leads nowhere: requests chosen for it are answered with 500. `reason` is for the access log.
    case invalid(reason: String)
}

package struct RouteTimeouts: Hashable, Sendable {
    /// From the whole request's arrival to the whole response's end; nil: none.
    package var request: Duration?
    /// For one attempt at a backend; nil: none.
    package var backendRequest: Duration?

    package init() {}
}

package struct RetryPolicy: Hashable, Sendable {
    /// Statuses that are tried again, beside connections that fail before a response has begun.
    package var codes: [Int]
    /// After the first one.
    package var attempts: Int
    /// At least so long between two attempts; doubles with each; nil: 25 ms.
    package var backoff: Duration?

    package init(codes: [Int] = [], attempts: Int = 1, backoff: Duration? = nil) {
        self.codes = codes
        self.attempts = attempts
        self.backoff = backoff
    }
}

package struct SessionPersistence: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable { case cookie = 0, header }

    package var name: String
    package var kind: Kind
    package var absoluteTimeout: Duration?
    package var idleTimeout: Duration?
    /// A cookie that outlives the client's session, for ``absoluteTimeout``.
    package var isPermanentCookie: Bool

    package init(
        name: String, kind: Kind = .cookie, absoluteTimeout: Duration? = nil, idleTimeout: Duration? = nil,
        isPermanentCookie: Bool = false
    ) {
        self.name = name
        self.kind = kind
        self.absoluteTimeout = absoluteTimeout
        self.idleTimeout = idleTimeout
        self.isPermanentCookie = isPermanentCookie
    }
}
