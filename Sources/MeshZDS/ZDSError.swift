public import MeshLinux

/// Why a node proxy did not do what the agent asked.
public enum ZDSError: Error, Hashable, CustomStringConvertible {
    case notConnected
    /// The proxy answered with a reason.
    case refused(String)
    /// The connection broke, or was closed because no answer came in time: a late one could be taken for the next.
    case connectionLost(String)
    case malformed(ZDSMalformed)
    /// More orders wait for the proxy than ``ZDSServer/ordersMax``.
    case overloaded

    public var description: String {
        switch self {
        case .notConnected:
            "no node proxy is connected on this node; does the ztunnel pod here run, and is it ready to take pods?"
        case .refused(let reason): "the node proxy refused: \(reason)"
        case .connectionLost(let reason): "lost the node proxy: \(reason)"
        case .malformed(let error): "\(error)"
        case .overloaded: "more than \(ZDSServer.ordersMax) orders wait for the node proxy"
        }
    }
}

/// One pod of the snapshot that a new proxy gets.
public enum ZDSSnapshotEntry: Sendable {
    case add(ZDSPod, SharedNetworkNamespace)
    /// The pod is enrolled, but its namespace is not known (yet).
    case keep(uid: String)
}
