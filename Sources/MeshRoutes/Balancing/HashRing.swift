/// Consistent hashing after Google's Maglev (NSDI 2016, 3.4): a table in which every endpoint has its even share, and
/// which changes little when one comes or goes. Replicas that know the same endpoints have the same table.
package struct HashRing: Sendable {
    /// The table is one of these primes: at least ``slotsPerEndpoint`` for each endpoint, while there are such.
    static let sizes = [251, 1021, 4093, 16_381, 65_521]
    static let slotsPerEndpoint = 100
    /// More endpoints than this share the table's slots unevenly, and some have none.
    package static let endpointsMax = 65_521

    private let table: [UInt32]

    /// - Parameter endpointIDs: in any order; what is chosen are positions in it. Workloads' uids.
    package init(_ endpointIDs: [String]) {
        guard !endpointIDs.isEmpty else {
            self.table = []
            return
        }
        let size = Self.sizes.first { $0 >= endpointIDs.count * Self.slotsPerEndpoint } ?? Self.sizes.last!
        var table = [UInt32](repeating: .max, count: size)
        // In the order of ids, whatever order they come in.
        let order = endpointIDs.indices.sorted { endpointIDs[$0].utf8.lexicographicallyPrecedes(endpointIDs[$1].utf8) }
        var next: [Int] = []
        var skips: [Int] = []
        for index in order {
            let hash = StableHash.of(endpointIDs[index].utf8)
            next.append(Int(hash % UInt64(size)))
            skips.append(Int(StableHash.mixed(hash) % UInt64(size - 1)) + 1)
        }
        var filled = 0
        while filled < size {
            for turn in order.indices {
                while table[next[turn]] != .max { next[turn] = (next[turn] + skips[turn]) % size }
                table[next[turn]] = UInt32(order[turn])
                filled += 1
                if filled == size { break }
            }
        }
        self.table = table
    }

    /// The endpoint's position; nil when there is none.
    package func choose(_ hash: UInt64) -> Int? {
        if self.table.isEmpty { return nil }
        return Int(self.table[Int(StableHash.mixed(hash) % UInt64(self.table.count))])
    }
}

extension BackendBalancing.Choice {
    package struct HashKey: Sendable {
        /// For ``HashRing/choose(_:)``.
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
