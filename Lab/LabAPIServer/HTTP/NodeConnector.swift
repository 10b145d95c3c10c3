/// How the API server reaches the kubelets: every node has one that listens on a unix socket.
public protocol NodeConnector: Sendable {
    /// The absolute path of the socket of a node's kubelet.
    ///
    /// - Returns: Nil for a node that has no kubelet.
    func kubeletSocket(node: String) async -> String?

    /// A connected TCP socket to an address that the node reaches, of a pod for example; the caller owns it.
    ///
    /// - Parameter host: a numeric address.
    /// - Returns: Nil when this process reaches the address itself.
    /// - Throws: When the node does not run, or nobody answers there in time.
    func podSocket(node: String, host: String, port: Int, timeout: Duration) async throws -> CInt?
}

extension NodeConnector {
    public func podSocket(node: String, host: String, port: Int, timeout: Duration) async throws -> CInt? { nil }
}

/// A connector for clusters without nodes: logs and exec answer that the node is unknown.
public struct NoNodes: NodeConnector {
    public init() {}
    public func kubeletSocket(node: String) async -> String? { nil }
}
