internal import MeshHTTP

/// A request's target, taken apart (RFC 9112, 3.2): host and path as everybody behind us sees them.
struct RequestTarget {
    let authority: String
    /// Path and query, or `*`.
    let path: String

    /// - Parameter host: the field; counts less than an absolute target (RFC 9112, 3.2.2).
    /// - Throws: for a form that the method does not have, and for what a target cannot contain.
    init(_ target: String, method: String, host: String) throws(HTTP1Error) {
        // A fragment never leaves its client; who looks at the path could take it for an end, or not.
        guard !target.utf8.contains(UInt8(ascii: "#")) else { throw HTTP1Error(400, "a fragment in a request target") }
        if target.utf8.first == UInt8(ascii: "/") {
            self.authority = host
            self.path = target
            return
        }
        if target == "*" {
            guard method == "OPTIONS" else { throw HTTP1Error(400, "* is for OPTIONS only") }
            self.authority = host
            self.path = target
            return
        }
        let rest = try Self.behindScheme(target)
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        let authority = rest[..<end]
        guard !authority.isEmpty, !authority.utf8.contains(where: Self.forbidden.contains) else {
            throw HTTP1Error(400, "a request target whose authority is no name or address with a port")
        }
        self.authority = String(authority)
        let path = rest[end...]
        if path.isEmpty {
            // RFC 9112, 3.2.4: the server as a whole.
            self.path = method == "OPTIONS" ? "*" : "/"
        } else {
            self.path = path.utf8.first == UInt8(ascii: "/") ? String(path) : "/" + path
        }
    }

    private static let forbidden = Array("\\@, \"<>".utf8)

    private static func behindScheme(_ target: String) throws(HTTP1Error) -> Substring {
        let lower = target.prefix(8).lowercased()
        for scheme in ["http://", "https://"] where lower.hasPrefix(scheme) { return target.dropFirst(scheme.count) }
        throw HTTP1Error(400, "a request target of no known form")
    }
}

/// What a client may switch to by `Upgrade`, which is ignored otherwise (RFC 9110, 7.8), or by `:protocol` (RFC 8441).
enum UpgradeRule {
    /// Protocols that carry requests of their own would carry them past every route and policy.
    static func isPassedOn(_ upgrade: String) -> Bool {
        let lower = upgrade.lowercased()
        return !upgrade.isEmpty && upgrade.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ",") }
            && !["h2", "http/", "tls/"].contains { lower.contains($0) }
    }
}
