public import MeshChannel

/// A value of the node's metadata, as JSON knows them.
public enum MetadataValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case list([MetadataValue])
    case object([String: MetadataValue])
}

public struct XDSClientConfiguration: Sendable {
    public var endpoint: ControlPlaneEndpoint
    /// `ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`, or `waypoint~...`
    public var nodeID: String
    /// `NAME`, `NAMESPACE`, `INSTANCE_IPS`, `NODE_NAME`, `CLUSTER_ID` ... and of a waypoint `GATEWAY_NAME`.
    public var metadata: [String: MetadataValue]

    public init(endpoint: ControlPlaneEndpoint, nodeID: String, metadata: [String: MetadataValue] = [:]) {
        self.endpoint = endpoint
        self.nodeID = nodeID
        self.metadata = metadata
    }

    /// The node id of a node proxy.
    public static func nodeID(instanceIP: String, podName: String, podNamespace: String) -> String {
        Self.nodeID("ztunnel", instanceIP, podName, podNamespace)
    }

    /// The node id of a waypoint.
    public static func waypointID(instanceIP: String, podName: String, podNamespace: String) -> String {
        Self.nodeID("waypoint", instanceIP, podName, podNamespace)
    }

    private static func nodeID(
        _ kind: String, _ instanceIP: String, _ podName: String, _ podNamespace: String
    ) -> String {
        "\(kind)~\(instanceIP.isEmpty ? "1.1.1.1" : instanceIP)~\(podName).\(podNamespace)"
            + "~\(podNamespace).svc.cluster.local"
    }
}
