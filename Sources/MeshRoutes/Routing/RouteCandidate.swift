/// One match of one rule, ready to be asked; its path, where that is exact or a prefix, has been compared already.
struct RouteCandidate: Sendable {
    enum PathTest: Sendable {
        case none
        case regex(BoundedRegex)
        /// `/<service>/<method>`, nil: any.
        case grpc(service: TextTest?, method: TextTest?)
    }

    /// Larger comes first, field by field; then the order in which matches were given.
    struct Precedence: Comparable {
        /// A pattern's length, or the rank of a gRPC service.
        var first = 0
        /// The rank of a gRPC method.
        var second = 0
        var hasMethod = 0
        var headers = 0
        var query = 0
        var order: Int

        static func < (left: Self, right: Self) -> Bool {
            // The one that is asked first is the smaller one.
            (right.first, right.second, right.hasMethod, right.headers, right.query, left.order)
                < (left.first, left.second, left.hasMethod, left.headers, left.query, right.order)
        }
    }

    let rule: RouteRule
    let precedence: Precedence
    let path: PathTest
    let method: [UInt8]?
    let headers: [FieldTest]
    let query: [FieldTest]

    /// - Parameter target: of the request, with `pathBytes` octets before its query.
    func matches(_ request: RequestHead, _ target: Span<UInt8>, pathBytes: Int) -> Bool {
        if let method = self.method, !request.method.utf8.span.equals(method) { return false }
        switch self.path {
        case .none: break
        case .regex(let regex): if !regex.matches(target.extracting(0..<pathBytes)) { return false }
        case .grpc(let service, let method):
            guard let slash = Self.methodSlash(target, pathBytes) else { return false }
            if let service, !service.matches(target.extracting(1..<slash)) { return false }
            if let method, !method.matches(target.extracting(slash + 1..<pathBytes)) { return false }
        }
        for header in self.headers where !header.matches(request) { return false }
        for parameter in self.query where !parameter.matches(request) { return false }
        return true
    }

    /// Where `/<service>/<method>` has its second slash.
    private static func methodSlash(_ target: Span<UInt8>, _ pathBytes: Int) -> Int? {
        guard pathBytes > 0, target[0] == UInt8(ascii: "/") else { return nil }
        var slash: Int?
        for at in 1..<max(1, pathBytes) where target[at] == UInt8(ascii: "/") {
            if slash != nil { return nil }
            slash = at
        }
        guard let slash, slash > 1, slash + 1 < pathBytes else { return nil }
        return slash
    }
}
