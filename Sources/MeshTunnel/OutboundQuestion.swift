public import MeshIdentity
public import MeshLoop
public import MeshModel

/// What an outbound connection asks: an application of `pod` dialled `destination`.
public struct OutboundQuestion: Sendable {
    public var pod: EnrolledPod
    /// The application's own address.
    public var source: IPEndpoint
    /// The address it dialled, before redirection.
    public var destination: IPEndpoint
    /// Addresses already tried for this connection, so that another endpoint is chosen.
    public var excluding: [IPAddress]
    /// What the host names that this connection asked for led to, as far as they have been looked up.
    public var hosts: [String: Result<[IPAddress], HostUnresolved>]
    /// How the endpoints are doing, as this loop sees it; nil: nobody knows.
    public var endpoints: LoopBound<EndpointBook>?

    public init(
        pod: EnrolledPod, source: IPEndpoint, destination: IPEndpoint, excluding: [IPAddress] = [],
        hosts: [String: Result<[IPAddress], HostUnresolved>] = [:], endpoints: LoopBound<EndpointBook>? = nil
    ) {
        self.pod = pod
        self.source = source
        self.destination = destination
        self.excluding = excluding
        self.hosts = hosts
        self.endpoints = endpoints
    }
}

public enum OutboundAnswer: Sendable {
    /// Through an HBONE tunnel.
    case tunnel(TunnelRoute)
    /// Plain TCP, for destinations outside the mesh.
    case passthrough(to: IPEndpoint, labels: any ConnectionLabels)
    /// The endpoint is known by this name only: ask again with its addresses in ``OutboundQuestion/hosts``.
    case resolve(host: String)
    /// Not enough is known yet: ask again when the view changes, refuse with this reason when that takes too long.
    case wait(RefusalReason)
    /// The client's connection is closed, and the reason logged.
    case refuse(RefusalReason, labels: (any ConnectionLabels)?)
}

public struct TunnelRoute: Sendable {
    /// The peer's HBONE port to dial (a pod, a waypoint, or a gateway).
    public var peer: IPEndpoint
    /// The `:authority` of the CONNECT request, `ip:port` or `host:port`.
    public var authority: String
    /// The identity to prove.
    public var source: WorkloadIdentity
    /// At least one of these must be proven by the peer. Never empty.
    public var expected: [WorkloadIdentity]
    /// Request headers besides the pseudo headers (`baggage`, `forwarded`, `traceparent`), lower-case names.
    public var headers: [(name: String, value: String)]
    public var labels: any ConnectionLabels
    /// The peer is a gateway to another network: the application's bytes go through a second tunnel inside the
    /// stream, which ends at the workload behind the gateway (double HBONE).
    public var inner: InnerTunnel?

    public init(
        peer: IPEndpoint, authority: String, source: WorkloadIdentity, expected: [WorkloadIdentity],
        headers: [(name: String, value: String)], labels: any ConnectionLabels, inner: InnerTunnel? = nil
    ) {
        self.peer = peer
        self.authority = authority
        self.source = source
        self.expected = expected
        self.headers = headers
        self.labels = labels
        self.inner = inner
    }
}

/// The second tunnel of a double HBONE connection: own TLS session, own CONNECT, for one connection only.
public struct InnerTunnel: Sendable {
    public var authority: String
    /// At least one of these must be proven by the workload behind the gateway. Never empty.
    public var expected: [WorkloadIdentity]
    public var headers: [(name: String, value: String)]
    /// Who the gateway chose is known only when it answers: labels from the headers of its answer and the identity
    /// it has proven. Nil when the answer says nothing.
    public var labels:
        @Sendable (_ headers: [(name: String, value: String)], _ identity: WorkloadIdentity?) -> (any ConnectionLabels)?

    public init(
        authority: String, expected: [WorkloadIdentity], headers: [(name: String, value: String)],
        labels:
            @escaping @Sendable (
                _ headers: [(name: String, value: String)], _ identity: WorkloadIdentity?
            ) -> (any ConnectionLabels)?
    ) {
        self.authority = authority
        self.expected = expected
        self.headers = headers
        self.labels = labels
    }
}
