package import MeshIdentity
package import MeshTunnel
internal import Synchronization

/// What the role needs of the tunnel engine.
package protocol Tunnel: Sendable {
    func publish(_ view: any MeshView)
    func publish(_ revocation: Revocation)
    func certificateRenewed(_ identity: WorkloadIdentity)
    /// - Parameter descriptor: of the pod's network namespace, borrowed.
    func serve(_ pod: EnrolledPod, namespace descriptor: CInt) throws
    /// Takes HBONE for the proxy's own pod, in the proxy's own namespace; nothing is captured there.
    func serveSelf(_ pod: EnrolledPod) throws
    /// - Parameter whenDone: called once, on any thread, when the pod's peers have been told.
    func removePod(uid: String, whenDone: @escaping @Sendable () -> Void)
    func drain(deadline: Duration) async
}

/// The place of the tunnel, which is made late: only once the mesh is known. Whatever is published before is kept for
/// the moment it is made.
package final class TunnelSlot: Sendable {
    private struct Content {
        var snapshot: MeshSnapshot?
        var tunnel: (any Tunnel)?
        var revocation = Revocation.ignored
    }
    private let content = Mutex(Content())

    package init() {}

    package var tunnel: (any Tunnel)? { self.content.withLock { $0.tunnel } }
    package var snapshot: MeshSnapshot? { self.content.withLock { $0.snapshot } }

    package func publish(_ snapshot: MeshSnapshot) {
        // Under the lock: snapshots reach the tunnel in the order in which they were published.
        self.content.withLock { content in
            content.snapshot = snapshot
            content.tunnel?.publish(snapshot)
        }
    }

    package func publish(_ revocation: Revocation) {
        self.content.withLock { content in
            content.revocation = revocation
            content.tunnel?.publish(revocation)
        }
    }

    package func certificateRenewed(_ identity: WorkloadIdentity) {
        self.tunnel?.certificateRenewed(identity)
    }

    /// - Parameter make: gets the newest snapshot. When it throws, the place stays empty.
    package func fill(_ make: (MeshSnapshot) throws -> any Tunnel) rethrows -> (any Tunnel)? {
        try self.content.withLock { content in
            guard content.tunnel == nil, let snapshot = content.snapshot else { return content.tunnel }
            let tunnel = try make(snapshot)
            tunnel.publish(content.revocation)
            content.tunnel = tunnel
            return tunnel
        }
    }
}
