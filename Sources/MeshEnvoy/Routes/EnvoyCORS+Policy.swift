internal import MeshProto
internal import MeshRoutes
internal import SwiftProtobuf

extension EnvoyCORS {
    /// Preflights of origins that are not allowed are answered here, too, and reach no server.
    init(_ policy: CORSPolicy) {
        self.init()
        self.allowOriginStringMatch = policy.allowOrigins.map(Self.origin)
        self.allowMethods = policy.allowMethods.joined(separator: ", ")
        self.allowHeaders = policy.allowHeaders.joined(separator: ", ")
        // With credentials a browser takes `*` for a name.
        self.exposeHeaders = policy.exposeHeaders.filter { !policy.allowCredentials || $0 != "*" }
            .joined(separator: ", ")
        self.maxAge = String(policy.maxAgeSeconds)
        self.allowCredentials = Google_Protobuf_BoolValue(policy.allowCredentials)
        self.forwardNotMatchingPreflights = false
    }

    /// `<scheme>://<host>[:<port>]`: a missing port is the scheme's own; `*` in the host stands for any text but none.
    private static func origin(_ pattern: String) -> EnvoyStringMatcher {
        if pattern == "*" { return .regex(".+") }
        let lower = pattern.lowercased()
        for (scheme, port) in [("http", "80"), ("https", "443")] where lower.hasPrefix(scheme + "://") {
            var host = lower.dropFirst(scheme.count + 3)
            var ending = "(?::\(port))?"
            if let colon = host.lastIndex(of: ":"), host[colon...].dropFirst().allSatisfy(\.isNumber) {
                let given = host[colon...].dropFirst()
                host = host[..<colon]
                if given != port { ending = ":\(given)" }
            }
            let parts = host.split(separator: "*", maxSplits: 1, omittingEmptySubsequences: false)
            return .regex("(?i)\(scheme)://\(parts.map(RegexText.literal).joined(separator: ".+"))\(ending)")
        }
        return .exact(pattern)
    }
}

extension EnvoyStatefulSessionPerRoute {
    init(_ session: SessionPersistence) {
        self.init()
        let state: EnvoyExtension
        switch session.kind {
        case .cookie:
            let cookie = EnvoyCookieSession.with { message in
                message.cookie.name = session.name
                message.cookie.path = "/"
                if session.isPermanentCookie, let lifetime = session.absoluteTimeout {
                    message.cookie.ttl = lifetime.proto
                }
            }
            state = EnvoyExtension("envoy.http.stateful_session.cookie", cookie.packed)
        case .header:
            let header = EnvoyHeaderSession.with { $0.name = session.name }
            state = EnvoyExtension("envoy.http.stateful_session.header", header.packed)
        }
        self.statefulSession.sessionState = state
    }
}
