extension BackendBalancing.Choice {
    package struct HashKey: Sendable {
        package let hash: UInt64
        /// For the response, when the client has no cookie yet.
        package let setCookie: String?
    }

    /// What of a request decides where it goes; nil: nothing, as the request lacks it or the choice is no hash. Then any
    /// endpoint will do.
    ///
    /// - Parameters:
    ///   - source: the client's address as text.
    ///   - random: for a new cookie.
    package func key(of request: RequestHead, source: String, random: UInt64) -> HashKey? {
        switch self {
        case .leastRequest, .roundRobin, .random: return nil
        case .hashHeader(let name):
            let lower = name.lowercased()
            if lower == "host" { return HashKey(hash: StableHash.of(request.authority.utf8), setCookie: nil) }
            guard let first = request.fields.firstIndex(named: lower) else { return nil }
            return HashKey(
                hash: StableHash.of(request.fields.joinedValue(bytes: Array(lower.utf8), from: first)), setCookie: nil)
        case .hashSource: return HashKey(hash: StableHash.of(source.utf8), setCookie: nil)
        case .hashQuery(let name):
            let target = request.path.utf8.span
            guard let range = QueryParameters.find(Array(name.utf8), in: target) else { return nil }
            return HashKey(hash: StableHash.of(QueryParameters.decoded(target, range)), setCookie: nil)
        case .hashCookie(let name, let path, let lifetime):
            if let value = CookieField.value(named: name, in: request.fields) {
                return HashKey(hash: StableHash.of(value.utf8), setCookie: nil)
            }
            let value = String(random, radix: 16)
            var cookie = "\(name)=\(value); Path=\(path.isEmpty ? "/" : path); HttpOnly"
            if let lifetime, lifetime > .zero { cookie += "; Max-Age=\(lifetime.components.seconds)" }
            return HashKey(hash: StableHash.of(value.utf8), setCookie: cookie)
        }
    }
}
