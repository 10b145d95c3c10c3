package import MeshIdentity
package import MeshModel
package import MeshRoutes

/// Wants to know what happened to requests and to opaque streams: metrics, access log, spans. Called on event-loop
/// threads, several at a time, and answers at once.
package protocol ExchangeObserver: AnyObject, Sendable {
    /// Once for every request whose head was understood, when its last byte is sent or it has ended otherwise.
    func finished(_ report: borrowing ExchangeReport)

    /// A stream that is carried without being understood (TCP, TLS) has its upstream, or was refused: then `closed`
    /// follows at once.
    func opened(_ stream: borrowing StreamReport)
    /// Bytes since the last call for this stream; at most a few times a second.
    func moved(_ stream: borrowing StreamReport, sent: UInt64, received: UInt64)
    /// The last call for this stream.
    func closed(_ stream: borrowing StreamReport, _ end: borrowing StreamReport.End)
}

/// Who talked to whom. What is unknown is nil: nothing here is guessed.
package struct ExchangeEnds: Sendable {
    /// The TCP peer of the tunnel.
    package var client: IPEndpoint
    /// Proven by the client's certificate.
    package var clientIdentity: WorkloadIdentity?
    /// What the CONNECT asked for, as an address; nil when it named a host.
    package var local: IPEndpoint?
    /// What was asked for; nil for traffic to a workload's own address.
    package var service: NamespacedName?
    /// Of the service, or of the workload that was asked for.
    package var port: UInt16
    /// The backend that the route chose, when it is another service than the one that was asked for.
    package var backend: NamespacedName?
    /// The uid of the workload that answered, or would have.
    package var endpoint: String?
    /// What was dialled: the endpoint's address and port, inside the tunnel when there is one.
    package var upstream: IPEndpoint?
    /// Proven by the endpoint's certificate; nil for plaintext.
    package var upstreamIdentity: WorkloadIdentity?

    package init(client: IPEndpoint, clientIdentity: WorkloadIdentity?, port: UInt16) {
        self.client = client
        self.clientIdentity = clientIdentity
        self.port = port
    }
}

/// What became of one request. Handed over once, borrowed: whoever wants to keep something copies it.
package struct ExchangeReport: Sendable {
    package enum Version: UInt8, Hashable, Sendable {
        case http10 = 0, http11, http2
    }

    package var ends: ExchangeEnds
    /// As the client sent it, before any filter.
    package var request: RequestHead
    package var version: Version
    /// As the client got it; nil: the client left, or the stream was reset, before there was one.
    package var response: ResponseHead?
    /// From the trailers, or the head of a response without a body; nil: not gRPC, or never said.
    package var grpcStatus: UInt32?
    /// A call of gRPC: by the request's content type.
    package var isGRPC: Bool
    package var flags = ExchangeFlags()
    /// One word or two with underscores, and what it was about, for the access log: `route_not_found`,
    /// `rbac_access_denied_matched_policy[shop/deny-all]`; nil: the response came from upstream, and
    /// no policy that only notes had anything to say.
    package var details: String?
    /// Why the last attempt at an upstream failed, in words.
    package var upstreamFailure: String?

    /// Of bodies, without framing; after an upgrade what was carried in each direction.
    package var requestBytes: UInt64 = 0
    package var responseBytes: UInt64 = 0
    /// Of gRPC.
    package var requestMessages: UInt64 = 0
    package var responseMessages: UInt64 = 0

    /// Of the loop's clock: the first byte of the head.
    package var startedNanoseconds: UInt64
    /// From the start: until the last byte of the request had come; nil: it never did.
    package var requestNanoseconds: UInt64?
    /// From the start: until the head of the response came from upstream; nil: it did not come.
    package var responseNanoseconds: UInt64?
    /// From the start to the end.
    package var durationNanoseconds: UInt64 = 0
    /// From the moment when the last attempt had sent its request's head until the response's head; nil: none.
    package var upstreamNanoseconds: UInt64?

    /// The route that matched and its rule's name or number, as `shop/cart/0`; nil: none did, or none is attached.
    package var route: String?
    /// Times that an upstream was asked.
    package var attempts: Int = 0
    /// Our own span, when spans are made.
    package var trace: TraceContext?

    package init(
        ends: ExchangeEnds, request: RequestHead, version: Version, isGRPC: Bool, startedNanoseconds: UInt64
    ) {
        self.ends = ends
        self.request = request
        self.version = version
        self.isGRPC = isGRPC
        self.startedNanoseconds = startedNanoseconds
    }
}

/// One opaque stream through the waypoint.
package struct StreamReport: Sendable {
    /// Unique in the process.
    package let id: UInt64
    package var ends: ExchangeEnds
    /// Of a TLS client hello.
    package var serverName: String?
    /// As in ``ExchangeReport/route``.
    package var route: String?
    /// Of the loop's clock.
    package var startedNanoseconds: UInt64

    package init(id: UInt64, ends: ExchangeEnds, startedNanoseconds: UInt64) {
        self.id = id
        self.ends = ends
        self.startedNanoseconds = startedNanoseconds
    }

    /// Byte counts are totals: `sent` towards the client, `received` from it.
    package struct End: Sendable {
        package var flags: ExchangeFlags
        /// As in ``ExchangeReport/details``.
        package var details: String?
        package var upstreamFailure: String?
        package var sent: UInt64
        package var received: UInt64
        package var durationNanoseconds: UInt64

        package init(flags: ExchangeFlags = [], sent: UInt64, received: UInt64, durationNanoseconds: UInt64) {
            self.flags = flags
            self.sent = sent
            self.received = received
            self.durationNanoseconds = durationNanoseconds
        }
    }
}

/// Why an exchange did not go as it should: the codes that dashboards and alerts on Envoy's `response_flags` know.
package struct ExchangeFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    private static func at(_ place: UInt32) -> Self { Self(rawValue: 1 << place) }

    /// UH: no healthy endpoint.
    package static let noHealthyUpstream = Self.at(0)
    /// UF: no connection to the endpoint.
    package static let upstreamConnectionFailure = Self.at(1)
    /// UC: the endpoint ended the connection.
    package static let upstreamConnectionEnd = Self.at(2)
    /// UR: the endpoint reset the stream.
    package static let upstreamReset = Self.at(3)
    /// UT: the route's timeout.
    package static let upstreamTimeout = Self.at(4)
    /// UO: too many requests wait for the endpoint, or are under way there.
    package static let upstreamOverflow = Self.at(5)
    /// URX: tried as often as the route allows.
    package static let retriesExhausted = Self.at(6)
    /// UPE: the endpoint broke HTTP.
    package static let upstreamProtocolError = Self.at(7)
    /// NR: no route, or none of its backends can be used.
    package static let noRoute = Self.at(8)
    /// NC: the backend is no service that we know.
    package static let noCluster = Self.at(9)
    /// DC: the client left.
    package static let clientEnd = Self.at(10)
    /// DPE: the client broke HTTP.
    package static let clientProtocolError = Self.at(11)
    /// LR: we reset the stream.
    package static let localReset = Self.at(12)
    /// SI: nothing moved for too long.
    package static let idleTimeout = Self.at(13)
    /// DT: it lived for too long.
    package static let durationTimeout = Self.at(14)
    /// RL: a rate limit.
    package static let rateLimited = Self.at(15)
    /// OM: we are short of something.
    package static let overload = Self.at(16)
    /// DENY, as the node proxy writes it: an AuthorizationPolicy, or a token that is not good.
    package static let denied = Self.at(17)

    /// In the order of the places.
    private static let codes = [
        "UH", "UF", "UC", "UR", "UT", "UO", "URX", "UPE", "NR", "NC", "DC", "DPE", "LR", "SI", "DT", "RL", "OM",
        "DENY",
    ]

    /// Codes with commas; `-` for none.
    package var text: String {
        if self.isEmpty { return "-" }
        return Self.codes.indices.filter { self.rawValue & 1 << UInt32($0) != 0 }.map { Self.codes[$0] }
            .joined(separator: ",")
    }
}
