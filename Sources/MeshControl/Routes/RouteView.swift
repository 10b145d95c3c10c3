package import KubeAPI
package import MeshModel

/// The kinds of routes, the most specific first: of two kinds that ask for one port of a service, the first gets it
/// (GEP-1426).
package enum RouteKind: Int, CaseIterable, Hashable, Sendable {
    case grpc, http, tls, tcp

    package var name: String {
        switch self {
        case .grpc: "GRPCRoute"
        case .http: "HTTPRoute"
        case .tls: "TLSRoute"
        case .tcp: "TCPRoute"
        }
    }
}

/// What the mesh reads of a route of the Gateway API.
package struct RouteView: Hashable, Sendable {
    /// What the route is attached to.
    package struct Parent: Hashable, Sendable {
        package var group, kind, namespace, name: String
        package var port: UInt16?
        /// Of a service: the name of a port.
        package var section: String?
        /// As written: statuses refer to the parent by it.
        package var reference: JSONValue

        package var key: String { "\(self.namespace)/\(self.name)" }
    }

    package var kind: RouteKind
    package var key: NamespacedName
    package var generation: Int64
    package var createdAt: String
    package var parents: [Parent]
    package var hostnames: [String]
    package var rules: [JSONValue]

    package init(_ kind: RouteKind, _ object: KubeObject) {
        self.kind = kind
        self.key = NamespacedName(namespace: object.namespace, name: object.name)
        self.generation = object.generation
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        self.parents = (object.spec["parentRefs"]?.array ?? []).map { reference in
            let group = reference["group"]?.string ?? "gateway.networking.k8s.io"
            return Parent(
                group: group == "core" ? "" : group, kind: reference["kind"]?.string ?? "Gateway",
                namespace: reference["namespace"]?.string ?? object.namespace,
                name: reference["name"]?.string ?? "",
                port: reference["port"]?.int.flatMap { UInt16(exactly: $0) },
                section: reference["sectionName"]?.string, reference: reference)
        }
        self.hostnames = (object.spec["hostnames"]?.array ?? []).compactMap(\.string)
        self.rules = object.spec["rules"]?.array ?? []
    }
}

/// Durations of the Gateway API (GEP-2257): up to four of `<digits><h|m|s|ms>`, as `1h30m` or `500ms`.
enum GatewayDuration {
    static func parse(_ text: String) -> Duration? {
        var rest = Substring(text)
        var total = Duration.zero
        for part in 0..<5 {
            if rest.isEmpty { return part == 0 ? nil : total }
            if part == 4 { return nil }
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            guard (1...5).contains(digits.count), let number = Int64(digits) else { return nil }
            rest = rest.dropFirst(digits.count)
            if rest.hasPrefix("ms") {
                total += .milliseconds(number)
                rest = rest.dropFirst(2)
                continue
            }
            switch rest.first {
            case "h": total += .seconds(number * 3600)
            case "m": total += .seconds(number * 60)
            case "s": total += .seconds(number)
            default: return nil
            }
            rest = rest.dropFirst()
        }
        return nil
    }
}
