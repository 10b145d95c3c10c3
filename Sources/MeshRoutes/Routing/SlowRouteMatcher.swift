package import MeshModel

/// What ``RouteTable`` must answer, found by asking every match of every route in turn. For tests and fuzzing, which
/// compare the two; nothing else calls it.
package struct SlowRouteMatcher {
    package struct Answer: Hashable {
        package let route: NamespacedName
        package let rule: Int
        package let prefixBytes: Int?
    }

    private let routes: [HTTPRoute]

    package init(_ routes: [HTTPRoute], port: UInt16) {
        let attached = routes.filter { $0.port == nil || $0.port == port }
        let grpc = attached.filter { $0.kind == .grpc }
        self.routes = grpc.isEmpty ? attached : grpc
    }

    package func match(_ request: RequestHead, isGRPC: Bool) -> Answer? {
        var best: (rank: [Int], answer: Answer)?
        for route in self.routes where route.kind == .http || isGRPC {
            for (index, rule) in route.rules.enumerated() {
                for match in rule.matches.isEmpty ? [HTTPMatch()] : rule.matches {
                    guard let (rank, prefixBytes) = Self.ask(match, route.kind, request) else { continue }
                    // The first of equals stays.
                    if best == nil || best!.rank.lexicographicallyPrecedes(rank) {
                        best = (rank, Answer(route: route.name, rule: index, prefixBytes: prefixBytes))
                    }
                }
            }
        }
        return best?.answer
    }

    /// nil: no match. The larger rank wins.
    private static func ask(
        _ match: HTTPMatch, _ kind: HTTPRoute.Kind, _ request: RequestHead
    ) -> (rank: [Int], prefixBytes: Int?)? {
        let path = String(RequestPath.path(request.path))
        var rank: [Int]
        var prefixBytes: Int?
        switch match.path {
        case .exact(let wanted):
            guard path == PathNormalization.canonicalEscapes(wanted) else { return nil }
            rank = [4, 0]
        case .prefix(let text):
            var wanted = PathNormalization.canonicalEscapes(text)
            if wanted.hasSuffix("/") { wanted.removeLast() }
            guard wanted.isEmpty || path == wanted || path.hasPrefix(wanted + "/") else { return nil }
            rank = [wanted.isEmpty ? 1 : 3, wanted.utf8.count]
            prefixBytes = kind == .http ? wanted.utf8.count : nil
            if kind == .grpc { rank = [0, 0] }
        case .regex(let pattern):
            guard let regex = try? BoundedRegex(pattern), regex.matches(path) else { return nil }
            rank = [2, pattern.utf8.count]
        case .grpc(let service, let method):
            let parts = path.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 3, parts[0].isEmpty, !parts[1].isEmpty, !parts[2].isEmpty else { return nil }
            guard Self.test(service, String(parts[1])), Self.test(method, String(parts[2])) else { return nil }
            rank = [Self.rank(service), Self.rank(method)]
        }
        if kind == .http, let method = match.method {
            guard method == request.method else { return nil }
            rank.append(1)
        } else {
            rank.append(0)
        }
        let headers = Self.firstOfEach(match.headers.map { FieldMatch(name: $0.name.lowercased(), value: $0.value) })
        for header in headers {
            let values = (0..<request.fields.count).filter { request.fields.name($0) == header.name }
                .map { request.fields.value($0) }
            let joined = values.joined(separator: header.name == "cookie" ? "; " : ", ")
            let isHost = header.name == "host" || header.name == ":authority"
            guard isHost || !values.isEmpty, Self.test(header.value, isHost ? request.authority : joined) else {
                return nil
            }
        }
        rank.append(headers.count)
        let query = kind == .http ? Self.firstOfEach(match.query) : []
        let parameters = Self.parameters(request.path)
        for wanted in query {
            guard let found = parameters.first(where: { $0.name == Array(wanted.name.utf8) }) else { return nil }
            switch wanted.value {
            case .exact(let text): if Array(text.utf8) != found.value { return nil }
            case .regex(let pattern):
                guard let regex = try? BoundedRegex(pattern), regex.matches(found.value.span) else { return nil }
            }
        }
        rank.append(query.count)
        return (rank, prefixBytes)
    }

    private static func firstOfEach(_ matches: [FieldMatch]) -> [FieldMatch] {
        var kept: [FieldMatch] = []
        for match in matches where !kept.contains(where: { $0.name == match.name }) { kept.append(match) }
        return kept
    }

    private static func test(_ match: TextMatch?, _ text: String) -> Bool {
        switch match {
        case nil: true
        case .exact(let wanted): Array(wanted.utf8) == Array(text.utf8)
        case .regex(let pattern): (try? BoundedRegex(pattern))?.matches(text) ?? false
        }
    }

    private static func rank(_ match: TextMatch?) -> Int {
        switch match {
        case .exact(let text): 1 + text.utf8.count
        case .regex: 1
        case nil: 0
        }
    }

    private static func parameters(_ target: String) -> [(name: [UInt8], value: [UInt8])] {
        RequestPath.query(target).utf8.dropFirst().split(separator: UInt8(ascii: "&"), omittingEmptySubsequences: false)
            .map { piece in
                let parts = piece.split(
                    separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
                return (Self.decoded(parts[0]), parts.count > 1 ? Self.decoded(parts[1]) : [])
            }
    }

    private static func decoded(_ text: Substring.UTF8View) -> [UInt8] {
        var octets = Array(text)
        var at = 0
        while at < octets.count {
            if octets[at] == UInt8(ascii: "+") {
                octets[at] = UInt8(ascii: " ")
            } else if octets[at] == UInt8(ascii: "%"), at + 2 < octets.count,
                octets[at + 1...at + 2].allSatisfy({ Hexadecimal.value($0) != nil }),
                let octet = UInt8(String(decoding: octets[at + 1...at + 2], as: UTF8.self), radix: 16)
            {
                octets.replaceSubrange(at...at + 2, with: [octet])
            }
            at += 1
        }
        return octets
    }
}
