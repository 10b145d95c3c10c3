internal import MeshIdentity
internal import MeshModel
internal import MeshTunnel

/// Who asks for what, and over which pipe: what is kept of a ``ServedStream`` while it lives. Every idle connection has one.
struct ServedClient {
    let pipe: any ByteChannel
    let target: ServedTarget
    /// The TCP peer of the tunnel.
    let source: IPEndpoint
    /// Proven by the client's certificate.
    let identity: WorkloadIdentity?

    init(_ stream: ServedStream, _ target: ServedTarget) {
        self.pipe = stream.pipe
        self.target = target
        self.source = stream.source
        self.identity = stream.identity
    }
}
