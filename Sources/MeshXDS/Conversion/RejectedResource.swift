/// A resource that the receiver refuses, and why. It is named in the NACK and in the log.
public struct RejectedResource: Error, Hashable, Sendable, CustomStringConvertible {
    public let name: String
    public let reason: String

    public init(name: String, reason: String) {
        self.name = name
        self.reason = reason
    }

    public var description: String { "\(self.name): \(self.reason)" }
}

/// The resource types of this mesh, as xDS names them.
public enum XDSType {
    public static let address = "type.googleapis.com/istio.workload.Address"
    public static let authorization = "type.googleapis.com/istio.security.Authorization"
    /// Our own: for our waypoints only.
    public static let serviceRules = "type.googleapis.com/martlet.waypoint.ServiceRules"
    public static let waypointRules = "type.googleapis.com/martlet.waypoint.WaypointRules"

    // For Envoy.
    public static let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    public static let endpoints = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    public static let listener = "type.googleapis.com/envoy.config.listener.v3.Listener"
    /// Parts of listeners.
    public static let extensionConfig = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
    public static let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    public static let routes = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

    /// For the agent beside a sidecar's Envoy.
    public static let names = "type.googleapis.com/istio.networking.nds.v1.NameTable"

    /// Whether each client gets only what is for it.
    static func isScoped(_ type: String) -> Bool { type == Self.serviceRules || type == Self.waypointRules }
}
