internal import MeshLoop
internal import MeshModel
internal import Synchronization

/// What every loop knows about one enrolled pod.
final class PodHandle: Sendable {
    let pod: EnrolledPod
    let ports: TunnelConfiguration.Ports
    /// Own descriptor of the pod's network namespace; nil: the process's own namespace.
    private let namespaceDescriptor: CInt?
    /// Dialled sockets may take the client's address.
    let maySpoofSource: Bool
    /// SO_MARK of sockets that are made for the pod; 0 sets none.
    let mark: UInt32
    private let removed = Atomic(false)

    /// Takes ownership of `namespaceDescriptor`.
    init(
        pod: EnrolledPod, ports: TunnelConfiguration.Ports, namespaceDescriptor: CInt?, maySpoofSource: Bool,
        mark: UInt32
    ) {
        self.pod = pod
        self.ports = ports
        self.namespaceDescriptor = namespaceDescriptor
        self.maySpoofSource = maySpoofSource
        self.mark = mark
    }

    deinit {
        if let namespaceDescriptor { Sockets.closeDescriptor(namespaceDescriptor) }
    }

    var namespace: CInt? { self.namespaceDescriptor }
    var isRemoved: Bool { self.removed.load(ordering: .acquiring) }
    func markRemoved() { self.removed.store(true, ordering: .releasing) }
}

/// Why a pod cannot be served.
public enum PodStartError: Error, Hashable, CustomStringConvertible {
    case alreadyServed(uid: String)
    case draining
    case namespace(uid: String, reason: String)
    case listen(uid: String, purpose: String, reason: String)

    public var description: String {
        switch self {
        case .alreadyServed(let uid): "pod \(uid) is served already"
        case .draining: "the proxy is shutting down and takes no more pods"
        case .namespace(let uid, let reason): "the network namespace of pod \(uid) cannot be kept: \(reason)"
        case .listen(let uid, let purpose, let reason):
            "pod \(uid): cannot listen for \(purpose) connections: \(reason); does another process hold the port, "
                + "or lacks the proxy CAP_NET_ADMIN or CAP_SYS_ADMIN?"
        }
    }
}
