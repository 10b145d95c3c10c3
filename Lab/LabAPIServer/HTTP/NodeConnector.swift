/// How the API server reaches the kubelets: every node has one that listens on a unix socket.
public protocol NodeConnector: Sendable {
    /// The absolute path of the socket of a node's kubelet.
    ///
    /// - Returns: Nil for a node that has no kubelet.
    func kubeletSocket(node: String) async -> String?
}

/// A connector for clusters without nodes: logs and exec answer that the node is unknown.
public struct NoNodes: NodeConnector {
    public init() {}
    public func kubeletSocket(node: String) async -> String? { nil }
}
