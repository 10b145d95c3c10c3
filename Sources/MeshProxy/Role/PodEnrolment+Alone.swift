package import MeshTunnel

/// The process's own network namespace.
private struct OwnNamespace: PodNamespace {
    let key = "own"
    func withDescriptor(_ body: (CInt) throws -> Void) rethrows { try body(-1) }
}

extension PodEnrolment {
    /// `PROXY_MODE=dedicated`: one pod, in whose namespace this process lives; nobody orders it to serve others. When its
    /// ports cannot be bound it is tried again like any pod.
    package func serveAlone(_ pod: EnrolledPod) {
        self.connected()
        _ = self.add(pod, in: OwnNamespace())
        self.snapshotSent()
    }
}
