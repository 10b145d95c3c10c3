public import MeshIdentity
public import MeshModel

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
    /// An endpoint keeps failing: this loop passes it over for so long, while there are others.
    func ejected(_ endpoint: IPAddress, for time: Duration, because reason: String)
    /// A peer was refused, or its open tunnel cut, because its certificate is revoked or that cannot be known.
    func rejectedByRevocation(_ direction: ConnectionRecord.Direction)
}

extension ConnectionObserver {
    public func ejected(_ endpoint: IPAddress, for time: Duration, because reason: String) {}
    public func rejectedByRevocation(_ direction: ConnectionRecord.Direction) {}
}

/// One proxied connection: an outbound connection, an inbound tunnel stream, or an inbound plaintext connection.
public struct ConnectionRecord: Sendable {
    public enum Direction: String, Sendable { case inbound, outbound }
    public enum Transport: String, Sendable { case tcp = "TCP", hbone = "HBONE", doubleHBONE = "DOUBLEHBONE" }

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
