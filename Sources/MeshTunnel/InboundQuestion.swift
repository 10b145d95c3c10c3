public import MeshIdentity
public import MeshModel
public import MeshPolicy

/// What an inbound connection asks: somebody wants to reach `pod`.
public struct InboundQuestion: Sendable {
    public enum Via: Sendable {
        /// A CONNECT request's authority and the headers that the view may read (lower-case names).
        case hbone(authority: String, headers: [(name: String, value: String)])
        /// Captured plaintext with the address that the client dialled.
        case plaintext(originalDestination: IPEndpoint)
    }
    public var pod: EnrolledPod
    /// The TCP peer.
    public var source: IPEndpoint
    /// The address where the connection arrived: the pod's own.
    public var local: IPEndpoint
    /// Proven by the TLS handshake; nil for plaintext.
    public var identity: WorkloadIdentity?
    public var via: Via

    public init(
        pod: EnrolledPod, source: IPEndpoint, local: IPEndpoint, identity: WorkloadIdentity?, via: Via
    ) {
        self.pod = pod
        self.source = source
        self.local = local
        self.identity = identity
        self.via = via
    }
}

public enum InboundAnswer: Sendable {
    /// Dial `target` in the pod's namespace, from the source's address when the platform allows it.
    /// `responseHeaders` go out with the 200 (the destination's `baggage`). `preamble` is what the target gets before
    /// the first byte of the peer (a PROXY protocol header), 1 KiB at most.
    case admit(
        Permit, target: IPEndpoint, responseHeaders: [(name: String, value: String)], labels: any ConnectionLabels,
        preamble: [UInt8] = [])
    /// This process serves the stream itself, by the engine's ``StreamServer``: `target` is what it is told.
    case serve(Permit, any StreamTarget, labels: any ConnectionLabels)
    /// Not enough is known yet: ask again when the view changes, refuse when that takes too long. A connection that was
    /// admitted before lives on, unless the flag is ``ResponseFlag/deny``: what policy cannot decide any more is over
    /// at the same deadline.
    case wait(status: Int, RefusalReason)
    /// `status` is the HTTP status of the CONNECT answer (400, 401, 503); plaintext is just closed.
    case refuse(status: Int, RefusalReason, labels: (any ConnectionLabels)?)
}

/// What a ``StreamServer`` is asked to be: found by the view, opaque to the tunnel.
public protocol StreamTarget: AnyObject, Sendable {}
