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
    /// `ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`
    public var nodeID: String
    /// `NAME`, `NAMESPACE`, `INSTANCE_IPS`, `NODE_NAME`, `CLUSTER_ID` ...
    public var metadata: [String: MetadataValue]

    public init(endpoint: ControlPlaneEndpoint, nodeID: String, metadata: [String: MetadataValue] = [:]) {
        self.endpoint = endpoint
        self.nodeID = nodeID
        self.metadata = metadata
    }

    /// The node id of a node proxy.
    public static func nodeID(instanceIP: String, podName: String, podNamespace: String) -> String {
        "ztunnel~\(instanceIP.isEmpty ? "1.1.1.1" : instanceIP)~\(podName).\(podNamespace)"
            + "~\(podNamespace).svc.cluster.local"
    }
}
