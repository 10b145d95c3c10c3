extension PathChange {
    /// The new target: path changed, query kept.
    ///
    /// The prefix is replaced by whole segments, and slashes between it and the rest are neither lost nor doubled
    /// (HTTPPathModifier.replacePrefixMatch has the table): `/foo/bar` with `/foo` by `/xyz` or `/xyz/` is `/xyz/bar`, by
    /// the empty text or `/` it is `/bar`; what would be empty is `/`.
    ///
    /// - Parameter prefixBytes: ``MatchedRule/prefixBytes``; nil leaves the path as it is where a prefix is replaced: the
    ///   standard wants a prefix match with it.
    package func apply(to target: String, prefixBytes: Int?) -> String {
        let query = RequestPath.query(target)
        switch self {
        case .full(let path): return Self.rooted(path) + query
        case .prefix(let replacement):
            let path = RequestPath.path(target)
            guard let prefixBytes, prefixBytes <= path.utf8.count else { return target }
            let rest = path.utf8.dropFirst(prefixBytes)
            var start = replacement[...]
            while start.utf8.last == UInt8(ascii: "/") { start = start.dropLast() }
            if !start.isEmpty, start.utf8.first != UInt8(ascii: "/") { start = "/" + start }
            let joined = String(start) + (Substring(rest))
            return Self.rooted(joined) + query
        }
    }

    /// A path is never empty and begins with a slash, except the `*` of OPTIONS.
    private static func rooted(_ path: String) -> String {
        path.utf8.first == UInt8(ascii: "/") || path == "*" ? path : "/" + path
    }
}

extension URLRewrite {
    /// The hostname replaces the whole authority, port included: the standard speaks of the Host header's value.
    package func apply(to request: inout RequestHead, prefixBytes: Int?) {
        if let path = self.path { request.path = path.apply(to: request.path, prefixBytes: prefixBytes) }
        if let hostname = self.hostname { request.authority = hostname }
    }
}
