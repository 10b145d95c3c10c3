public import MeshIdentity
public import MeshModel

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
    /// What an application of `pod` means by a host name; nil when the mesh does not know it.
    func addresses(of host: String, for pod: EnrolledPod) -> [IPAddress]?
}

extension MeshView {
    /// For meshes that name nobody.
    public func addresses(of host: String, for pod: EnrolledPod) -> [IPAddress]? { nil }
}

/// Why a connection was refused before any byte moved. `text` is for the access log: what happened and the first
/// thing to check; `kind` is what refusals are counted by.
public struct RefusalReason: Hashable, Sendable {
    /// Few and fixed: a metric label.
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        /// The destination is a port of the mesh itself.
        case selfCall = "self_call"
        /// The mesh does not know our own pod.
        case unknownPod = "unknown_pod"
        /// The control plane, which is asked for each destination, has not answered.
        case unansweredDemand = "unanswered_demand"
        case unknownWaypoint = "unknown_waypoint"
        case unknownGateway = "unknown_gateway"
        case noHealthyUpstream = "no_healthy_upstream"
        /// The endpoint has no address that may be used, or none of its names leads to one.
        case noAddress = "no_address"
        /// The other side of a gateway could be anybody: the service names no identity.
        case noExpectedIdentity = "no_expected_identity"
        case policy = "policy"
        /// No CONNECT, or one with a malformed authority.
        case badRequest = "bad_request"
        /// The request is for another pod's address.
        case addressMismatch = "address_mismatch"
        /// The request names a service or port that we do not serve.
        case unknownService = "unknown_service"
        /// Certificate, TLS or HTTP/2 handshake.
        case handshake = "handshake"
        /// A bound was reached, or the machine is out of something.
        case shortage = "shortage"
        /// The process ends or the pod leaves.
        case ending = "ending"
        case other = "other"
    }

    public var flag: ResponseFlag
    public var text: String
    public var kind: Kind

    public init(_ flag: ResponseFlag, _ text: String, kind: Kind = .other) {
        self.flag = flag
        self.text = text
        self.kind = kind
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
