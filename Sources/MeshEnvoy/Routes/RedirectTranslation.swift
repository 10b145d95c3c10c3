internal import MeshProto
internal import MeshRoutes

/// Redirects, and other changes of paths.
enum RedirectTranslation {
    /// The port of the Location is the one that is given, else the scheme's own where a scheme is given, else the one that
    /// the request came to; it is left out where the scheme implies it.
    ///
    /// Envoy keeps a port that the client wrote into the host unless it is told another: where the port has to go, a host
    /// with a port gets a route of its own, which says the port instead.
    static func routes(
        _ redirect: RequestRedirect, on route: EnvoyRoute, servicePort: UInt16, prefix: String?
    ) -> [EnvoyRoute] {
        // Inside a tunnel there is no other scheme.
        let scheme = redirect.scheme ?? "http"
        let implied: UInt16? = scheme == "https" ? 443 : scheme == "http" ? 80 : nil
        let port = redirect.port ?? (redirect.scheme == nil ? servicePort : implied ?? servicePort)
        var route = route
        route.redirect = .with {
            if let scheme = redirect.scheme { $0.schemeRedirect = scheme }
            $0.hostRedirect = redirect.hostname ?? ""
            if let change = redirect.path?.substitution(prefix: prefix) { $0.regexRewrite = change }
            $0.responseCode = Self.code(redirect.status)
            if port != implied { $0.portRedirect = UInt32(port) }
        }
        guard port == implied, redirect.hostname == nil else { return [route] }
        var explicit = route
        explicit.redirect.portRedirect = UInt32(port)
        explicit.match.headers.append(
            .with {
                $0.name = ":authority"
                $0.stringMatch = .regex(".*:[0-9]+")
            })
        return [explicit, route]
    }

    private static func code(_ status: Int) -> EnvoyRedirectAction.Code {
        switch status {
        case 301: .movedPermanently
        case 303: .seeOther
        case 307: .temporaryRedirect
        case 308: .permanentRedirect
        default: .found
        }
    }
}

extension PathChange {
    /// As a substitution in the path without its query.
    ///
    /// - Parameter prefix: what the rule's match matched, without a slash at its end; nil: it was no prefix, and where one
    ///   is to be replaced nothing happens.
    func substitution(prefix: String?) -> EnvoyRegexSubstitution? {
        switch self {
        case .full(let path):
            return .with {
                $0.pattern.regex = "^.*$"
                $0.substitution = RegexText.replacement(path.hasPrefix("/") || path == "*" ? path : "/" + path)
            }
        case .prefix(let replacement):
            guard let prefix else { return nil }
            var start = replacement[...]
            while start.hasSuffix("/") { start = start.dropLast() }
            if !start.isEmpty, !start.hasPrefix("/") { start = "/" + start }
            return .with {
                // What would be empty is a slash.
                $0.pattern.regex = "^\(RegexText.path(prefix))\(start.isEmpty ? "/?" : "")(.*)$"
                $0.substitution = (start.isEmpty ? "/" : RegexText.replacement(start)) + "\\1"
            }
        }
    }
}
