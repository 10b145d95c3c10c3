package import MeshModel

/// Names that parts of a configuration call one another by: Istio's, where Istio has one, so that its tools, dashboards
/// and people find what they know.
package enum EnvoyNames {
    /// Ends HBONE.
    static let terminate = "connect_terminate"
    /// What came out of a tunnel.
    static let main = "main_internal"
    /// Opens HBONE; behind it stands who may answer.
    static let originate = "connect_originate"

    /// In the bootstrap: the agent beside Envoy, with the secrets below.
    package static let secretsCluster = "sds-grpc"
    package static let certificate = "default"
    package static let roots = "ROOTCA"

    // What is known of a tunnel inside it.
    static let localAddress = "envoy.filters.listener.original_dst.local_ip"
    static let remoteAddress = "envoy.filters.listener.original_dst.remote_ip"
    static let authority = "io.istio.connect_authority"
    static let principal = "io.istio.peer_principal"

    /// Metadata of an endpoint: where the tunnel goes.
    static let originalDestination = "envoy.filters.listener.original_dst"
    static let waypoint = "waypoint"
    static let socketMatch = "envoy.transport_socket_match"

    // Of sidecars.
    static let passthrough = "PassthroughCluster"
    static let blackHole = "BlackHoleCluster"
    static let inboundPassthrough = "InboundPassthroughCluster"
    /// The environment of Envoy, where the agent says whose sidecar it is: what is the same for all sidecars is encoded once.
    package static let peerIDVariable = "MESH_PEER_METADATA_ID"
    package static let peerMetadataVariable = "MESH_PEER_METADATA"

    // Extensions.
    static let tcpProxy = "envoy.filters.network.tcp_proxy"
    static let connectionManager = "envoy.filters.network.http_connection_manager"
    static let networkRBAC = "envoy.filters.network.rbac"
    static let networkRateLimit = "envoy.filters.network.local_ratelimit"
    static let httpRBAC = "envoy.filters.http.rbac"
    static let tokens = "envoy.filters.http.jwt_authn"
    static let rateLimit = "envoy.filters.http.local_ratelimit"
    static let cors = "envoy.filters.http.cors"
    static let session = "envoy.filters.http.stateful_session"
    static let router = "envoy.filters.http.router"
    static let httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
}

/// A port of a service, as somewhere to go.
package struct EnvoyDestination: Hashable, Sendable {
    /// `<namespace>/<hostname>`
    package var service: NamespacedName
    package var port: UInt16

    package init(_ service: NamespacedName, port: UInt16) {
        self.service = service
        self.port = port
    }

    /// Of its cluster.
    package var name: String { "outbound|\(self.port)||\(self.host)" }

    /// Of the routes of what is sent to it by sidecars.
    var hostAndPort: String { "\(self.host):\(self.port)" }

    /// Of the filter chain and the routes of what is sent to it through this waypoint.
    func chain(_ kind: String) -> String { "inbound-vip|\(self.port)|\(kind)|\(self.host)" }

    /// Hosts of ServiceEntries may be the same in two namespaces.
    private var host: String {
        let (namespace, host) = (self.service.namespace, self.service.name)
        // Bytes: the standard search for texts knows of languages, and is slow.
        let (bytes, part) = (host.utf8, ".\(namespace).svc.".utf8)
        return bytes.indices.contains { bytes[$0...].starts(with: part) } ? host : "\(host)~\(namespace)"
    }
}
