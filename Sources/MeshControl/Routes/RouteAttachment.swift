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
/// for the same clients (GEP-1426, "Route types"), and among the kinds that can do anything with what the port's owner
/// says it speaks.
package struct PortOwners: Hashable, Sendable {
    private var owners: [String: [UInt16: RouteKind]] = [:]
    private let ports: [ServicePort]

    init(_ attachments: [RouteAttachment], ports: [ServicePort]) {
        self.ports = ports
        for attachment in attachments {
            for port in self.wanted(attachment) where attachment.kind.fits(port.appProtocol) {
                let scope = attachment.clientNamespace ?? ""
                let other = self.owners[scope]?[port.port]
                if other.map({ attachment.kind.rawValue < $0.rawValue }) ?? true {
                    self.owners[scope, default: [:]][port.port] = attachment.kind
                }
            }
        }
    }

    private func wanted(_ attachment: RouteAttachment) -> [ServicePort] {
        attachment.port.map { number in self.ports.filter { $0.port == number } } ?? self.ports
    }

    /// What a route gets of the ports that it asks for.
    package struct Grant: Hashable {
        var ports: [UInt16] = []
        /// Declared as something that this kind of route is not for: there the route does nothing.
        var unfit: [ServicePort] = []
        /// Has the rest.
        var rival: RouteKind?
        /// The route need not be told port by port: nobody looks for it elsewhere.
        var isForService = false

        var isEmpty: Bool { self.ports.isEmpty && !(self.isForService && self.unfit.isEmpty) }
    }

    func grant(_ attachment: RouteAttachment) -> Grant {
        let owners = self.owners[attachment.clientNamespace ?? ""] ?? [:]
        let wanted = self.wanted(attachment)
        var grant = Grant()
        for port in wanted {
            if !attachment.kind.fits(port.appProtocol) {
                grant.unfit.append(port)
            } else if let owner = owners[port.port], owner != attachment.kind {
                grant.rival = grant.rival ?? owner
            } else {
                grant.ports.append(port.port)
            }
        }
        // Waypoints look for requests' routes only where they look for requests.
        let isOfRequests = attachment.kind == .http || attachment.kind == .grpc
        grant.isForService =
            attachment.port == nil && grant.rival == nil
            && (grant.unfit.isEmpty || isOfRequests && !grant.ports.isEmpty)
        return grant
    }
}

extension RouteKind {
    /// Whether a waypoint looks at such traffic in the way that this kind of route needs. A port that declares nothing is
    /// looked at as its traffic shows.
    func fits(_ declared: ServicePort.AppProtocol) -> Bool {
        switch (self, declared) {
        case (_, .unknown): true
        case (.grpc, .http11), (.grpc, .http2), (.grpc, .grpc): true
        case (.http, .http11), (.http, .http2), (.http, .grpc): true
        case (.tls, .tls): true
        case (.tcp, .tcp), (.tcp, .tls): true
        case (.grpc, _), (.http, _), (.tls, _), (.tcp, _): false
        }
    }

    /// What it is for, in words.
    var fitting: String {
        switch self {
        case .grpc, .http: "http, http2 and grpc"
        case .tls: "tls"
        case .tcp: "tcp and tls"
        }
    }
}

extension ServicePort.AppProtocol {
    /// As `appProtocol` of a Service, or the prefix of its port's name, has it.
    var word: String {
        switch self {
        case .unknown: "nothing"
        case .http11: "http"
        case .http2: "http2"
        case .grpc: "grpc"
        case .tcp: "tcp"
        case .tls: "tls"
        }
    }
}
