package import MeshTunnel

extension TunnelEngine: Tunnel {
    package func serve(_ pod: EnrolledPod, namespace descriptor: CInt) throws {
        try self.addPod(pod, namespace: descriptor)
    }

    package func serveSelf(_ pod: EnrolledPod) throws { try self.addOwnPod(pod) }
}
