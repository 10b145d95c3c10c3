package import MeshModel
import MeshRoutes

/// One route at one service, without what it says: changes of its rules change nothing here.
package struct RouteAttachment: Hashable, Sendable {
    /// `<namespace>/<hostname>`.
    package var service: String
    package var kind: RouteKind
    package var route: NamespacedName
    package var createdAt: String
    /// Nil: every port of the service.
    package var port: UInt16?
    /// Nil: a producer route, for every client; else a consumer route, for the clients of that namespace.
    package var clientNamespace: String?

    var routeID: String { Self.routeID(self.kind, self.route) }
    static func routeID(_ kind: RouteKind, _ route: NamespacedName) -> String { "\(kind.name)|\(route)" }

    /// As the standard orders routes whose matches are equal: the oldest first, then by name.
    static func comesFirst(_ a: Self, _ b: Self) -> Bool {
        (a.createdAt, a.route.namespace, a.route.name, a.port ?? 0)
            < (b.createdAt, b.route.namespace, b.route.name, b.port ?? 0)
    }
}

/// Which kind of route has which port of a service: of several kinds the most specific one, among the routes that are
/// for the same clients (GEP-1426, "Route types").
package struct PortOwners: Hashable, Sendable {
    private var owners: [String: [UInt16: RouteKind]] = [:]
    private let ports: [UInt16]

    init(_ attachments: [RouteAttachment], ports: [UInt16]) {
        self.ports = ports
        for attachment in attachments {
            for port in attachment.port.map({ [$0] }) ?? ports {
                let scope = attachment.clientNamespace ?? ""
                let other = self.owners[scope]?[port]
                if other.map({ attachment.kind.rawValue < $0.rawValue }) ?? true {
                    self.owners[scope, default: [:]][port] = attachment.kind
                }
            }
        }
    }

    package enum Grant: Hashable {
        case every
        case ports([UInt16])
        /// Another kind has them all.
        case none(RouteKind)
    }

    func grant(_ attachment: RouteAttachment) -> Grant {
        let owners = self.owners[attachment.clientNamespace ?? ""] ?? [:]
        let wanted = attachment.port.map { [$0] } ?? self.ports
        let granted = wanted.filter { owners[$0] == attachment.kind }
        if granted.isEmpty, let other = wanted.lazy.compactMap({ owners[$0] }).first { return .none(other) }
        return attachment.port == nil && granted.count == wanted.count ? .every : .ports(granted)
    }
}
