package enum HTTPFilter: Hashable, Sendable {
    case requestHeaders(HeaderChange)
    case responseHeaders(HeaderChange)
    case redirect(RequestRedirect)
    case rewrite(URLRewrite)
    case mirror(RequestMirror)
    case cors(CORSPolicy)
}

/// Set replaces, add appends, remove comes last. Names in lower case.
package struct HeaderChange: Hashable, Sendable {
    package struct Field: Hashable, Sendable {
        package var name, value: String
        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }
    package var set: [Field] = []
    package var add: [Field] = []
    package var remove: [String] = []

    package init() {}
}

package enum PathChange: Hashable, Sendable {
    case full(String)
    /// Replaces what the match's prefix matched.
    case prefix(String)
}

/// What is nil stays as the request has it.
package struct RequestRedirect: Hashable, Sendable {
    package var scheme: String?
    package var hostname: String?
    package var path: PathChange?
    package var port: UInt16?
    /// 301, 302, 303, 307 or 308.
    package var status: Int

    package init(status: Int = 302) { self.status = status }
}

package struct URLRewrite: Hashable, Sendable {
    package var hostname: String?
    package var path: PathChange?

    package init(hostname: String? = nil, path: PathChange? = nil) {
        self.hostname = hostname
        self.path = path
    }
}

/// A copy of the request whose response nobody waits for.
package struct RequestMirror: Hashable, Sendable {
    package var destination: RouteDestination
    /// Of ``denominator`` requests so many are copied.
    package var numerator: UInt32
    package var denominator: UInt32

    package init(destination: RouteDestination, numerator: UInt32 = 100, denominator: UInt32 = 100) {
        self.destination = destination
        self.numerator = numerator
        self.denominator = denominator
    }
}

package struct CORSPolicy: Hashable, Sendable {
    /// `*`, an origin, or an origin with one `*` in its host.
    package var allowOrigins: [String] = []
    package var allowMethods: [String] = []
    package var allowHeaders: [String] = []
    package var exposeHeaders: [String] = []
    package var allowCredentials = false
    package var maxAgeSeconds: UInt32 = 5

    package init() {}
}
