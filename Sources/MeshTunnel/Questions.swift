public import MeshIdentity
public import MeshModel
public import MeshPolicy

// What the tunnel may ask about the mesh, and what it tells. Declared here, beside the caller; the node proxy's
// directory, certificate manager and telemetry conform. Every method is called on an event-loop thread and must
// answer at once from memory: no lock held across work, no I/O, no waiting.

/// A pod that the tunnel serves: what the node agent announced.
public struct EnrolledPod: Hashable, Sendable {
    public var uid: String
    public var name: String
    public var namespace: String
    public var serviceAccount: String

    public init(uid: String, name: String, namespace: String, serviceAccount: String) {
        self.uid = uid
        self.name = name
        self.namespace = namespace
        self.serviceAccount = serviceAccount
    }
}

/// Answers from one immutable picture of the mesh. A connection asks one view and keeps its answers.
public protocol MeshView: AnyObject, Sendable {
    /// An application of `pod` opened a connection to `destination`.
    func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer
    /// Somebody wants to reach `pod`. Asked again for every live connection when the view changes.
    func admitInbound(_ question: InboundQuestion) -> InboundAnswer
    /// The identity that `pod` proves, or nil while the mesh does not know the pod.
    func identity(of pod: EnrolledPod) -> WorkloadIdentity?
}

public struct OutboundQuestion: Sendable {
    public var pod: EnrolledPod
    /// The application's own address.
    public var source: IPEndpoint
    /// The address it dialled, before redirection.
    public var destination: IPEndpoint
    /// Addresses already tried for this connection, so that another endpoint is chosen.
    public var excluding: [IPAddress]

    public init(pod: EnrolledPod, source: IPEndpoint, destination: IPEndpoint, excluding: [IPAddress] = []) {
        self.pod = pod
        self.source = source
        self.destination = destination
        self.excluding = excluding
    }
}

public enum OutboundAnswer: Sendable {
    /// Through an HBONE tunnel.
    case tunnel(TunnelRoute)
    /// Plain TCP, for destinations outside the mesh.
    case passthrough(to: IPEndpoint, labels: any ConnectionLabels)
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

    public init(
        peer: IPEndpoint, authority: String, source: WorkloadIdentity, expected: [WorkloadIdentity],
        headers: [(name: String, value: String)], labels: any ConnectionLabels
    ) {
        self.peer = peer
        self.authority = authority
        self.source = source
        self.expected = expected
        self.headers = headers
        self.labels = labels
    }
}

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
    /// `responseHeaders` go out with the 200 (the destination's `baggage`).
    case admit(
        Permit, target: IPEndpoint, responseHeaders: [(name: String, value: String)], labels: any ConnectionLabels)
    /// `status` is the HTTP status of the CONNECT answer (400, 401, 503); plaintext is just closed.
    case refuse(status: Int, RefusalReason, labels: (any ConnectionLabels)?)
}

/// Why a connection was refused before any byte moved. `text` is for the access log: what happened and the first
/// thing to check.
public struct RefusalReason: Hashable, Sendable {
    public var flag: ResponseFlag
    public var text: String

    public init(_ flag: ResponseFlag, _ text: String) {
        self.flag = flag
        self.text = text
    }
}

/// The short code of the access log and of the metric label `response_flags`.
public enum ResponseFlag: String, Hashable, Sendable, CaseIterable {
    case none = "-"
    case deny = "DENY"
    case connect = "CONNECT"
    case tlsFailure = "TLS_FAILURE"
    case h2HandshakeFailure = "H2_HANDSHAKE_FAILURE"
    case networkPolicy = "NETWORK_POLICY"
    case identityError = "IDENTITY_ERROR"
    case certificateRevoked = "CERT_REVOKED"
}

/// What is known about the two ends, shared by all connections of one (source, destination) pair: the tunnel carries
/// the reference and never looks inside.
public protocol ConnectionLabels: AnyObject, Sendable {}

/// Key and certificates of one identity at one version. The tunnel builds TLS contexts once per version.
public struct WorkloadCertificate: Hashable, Sendable {
    public var identity: WorkloadIdentity
    /// DER, leaf first, intermediates after.
    public var chain: [[UInt8]]
    /// PKCS#8 DER.
    public var privateKey: [UInt8]
    /// DER certificates of every trusted root.
    public var roots: [[UInt8]]
    /// Counts up with every renewal of this identity.
    public var version: UInt64

    public init(
        identity: WorkloadIdentity, chain: [[UInt8]], privateKey: [UInt8], roots: [[UInt8]], version: UInt64
    ) {
        self.identity = identity
        self.chain = chain
        self.privateKey = privateKey
        self.roots = roots
        self.version = version
    }
}

public protocol CertificateSource: AnyObject, Sendable {
    /// Calls `completion` exactly once, on any thread: at once when the certificate is at hand, else when it has
    /// arrived or failed. The tunnel bounds the wait itself.
    func certificate(
        for identity: WorkloadIdentity,
        completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void)
}

public struct CertificateUnavailable: Error, Hashable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}

/// Wants to know what happened to connections: access log, metrics, the live tables of `config_dump`.
/// Called on event-loop threads, several at a time.
public protocol ConnectionObserver: AnyObject, Sendable {
    func opened(_ connection: ConnectionRecord)
    /// Bytes moved since the last call for this connection; at most a few times a second per connection.
    func moved(_ connection: ConnectionRecord, sent: UInt64, received: UInt64)
    /// The last call for this connection.
    func closed(_ connection: ConnectionRecord, end: ConnectionEnd)
    /// Refused before enough was known for a full record (`connection failed` in the access log).
    func refusedEarly(
        direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?, _ reason: RefusalReason)
}

/// One proxied connection: an outbound connection, an inbound tunnel stream, or an inbound plaintext connection.
public struct ConnectionRecord: Sendable {
    public enum Direction: String, Sendable { case inbound, outbound }
    public enum Transport: String, Sendable { case tcp = "TCP", hbone = "HBONE" }

    /// Unique in the process.
    public let id: UInt64
    public var direction: Direction
    public var transport: Transport
    public var pod: EnrolledPod
    /// The client: the application (outbound) or the TCP peer (inbound).
    public var source: IPEndpoint
    /// Before redirection: what the application dialled; for inbound where the connection arrived.
    public var originalDestination: IPEndpoint
    /// What was really dialled.
    public var destination: IPEndpoint
    /// The CONNECT authority, when there is a tunnel.
    public var authority: String?
    /// Proven by certificate: the other side of the tunnel.
    public var peerIdentity: WorkloadIdentity?
    public var labels: (any ConnectionLabels)?
    public var openedAtNanoseconds: UInt64

    public init(
        id: UInt64, direction: Direction, transport: Transport, pod: EnrolledPod, source: IPEndpoint,
        originalDestination: IPEndpoint, destination: IPEndpoint, authority: String?,
        peerIdentity: WorkloadIdentity?, labels: (any ConnectionLabels)?, openedAtNanoseconds: UInt64
    ) {
        self.id = id
        self.direction = direction
        self.transport = transport
        self.pod = pod
        self.source = source
        self.originalDestination = originalDestination
        self.destination = destination
        self.authority = authority
        self.peerIdentity = peerIdentity
        self.labels = labels
        self.openedAtNanoseconds = openedAtNanoseconds
    }
}

/// How a connection ended. Byte counts are totals: `sent` towards the client, `received` from the client.
public struct ConnectionEnd: Sendable {
    public var flag: ResponseFlag
    /// Nil for a clean end.
    public var error: String?
    public var sent: UInt64
    public var received: UInt64
    public var durationNanoseconds: UInt64

    public init(flag: ResponseFlag, error: String?, sent: UInt64, received: UInt64, durationNanoseconds: UInt64) {
        self.flag = flag
        self.error = error
        self.sent = sent
        self.received = received
        self.durationNanoseconds = durationNanoseconds
    }
}
