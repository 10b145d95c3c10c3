public import MeshLoop
public import MeshModel

/// Every choice of a tunnel engine, with the mesh's defaults.
public struct TunnelConfiguration: Sendable {
    public struct Ports: Hashable, Sendable {
        /// Captured connections of applications.
        public var outbound: UInt16 = 15001
        /// Captured plaintext from outside the mesh.
        public var inboundPlaintext: UInt16 = 15006
        /// HBONE, dialled directly by peers.
        public var inboundTunnel: UInt16 = 15008
        /// Applications that ask for their destination, at loopback only. Nil: not served.
        public var socks: UInt16?

        /// 0 takes a free port; ``TunnelEngine/addPod(_:namespace:)`` tells which.
        public init(
            outbound: UInt16 = 15001, inboundPlaintext: UInt16 = 15006, inboundTunnel: UInt16 = 15008,
            socks: UInt16? = nil
        ) {
            self.outbound = outbound
            self.inboundPlaintext = inboundPlaintext
            self.inboundTunnel = inboundTunnel
            self.socks = socks
        }

        /// A connection to one of these would come back to us.
        func contains(_ port: UInt16) -> Bool {
            port == self.outbound || port == self.inboundPlaintext || port == self.inboundTunnel || port == self.socks
        }
    }

    /// Where a captured connection was going before redirection.
    public enum OriginalDestination: Hashable, Sendable {
        /// Ask the kernel (SO_ORIGINAL_DST); the local address when the connection was not redirected.
        case redirected
        /// Every connection was going here: for benchmarks and tests without redirection.
        case fixed(IPEndpoint)
    }

    public var ports = Ports()
    public var outboundDestination = OriginalDestination.redirected
    public var plaintextDestination = OriginalDestination.redirected
    /// Where the listeners are bound; nil: every address.
    public var listenAddress: IPAddress?
    /// Whether another engine, a successor, may listen on the same ports meanwhile.
    public var reusesPorts = true
    /// False binds IPv4 only.
    public var isIPv6Enabled = true
    /// SO_MARK of every socket made for a pod; the redirection rules let it pass. 0 sets none.
    public var mark: UInt32 = 1337
    /// Whether inbound targets see the client's address.
    public var sourceSpoofing = Sockets.Transparency.bestEffort
    /// For dialled sockets, and accepted ones of the capture ports. Nil: none.
    public var keepalive: Sockets.Keepalive? = Sockets.Keepalive(idle: 180, interval: 180, count: 9)

    /// Tunnels whose keys nobody can work out later with a quantum computer, or none: X25519MLKEM768 only. Else it is
    /// preferred.
    public var onlyPostQuantum = false

    /// Event loops, one thread each.
    public var loops = 2
    /// Streams that we open in one tunnel, however many the peer allows.
    public var streamsPerTunnelMax = 100
    /// Streams that a peer may have open in one tunnel.
    public var inboundStreamsMax = 200
    /// A tunnel without streams is kept so long.
    public var idleTunnelTimeout = Duration.seconds(300)
    /// A tunnel older than this takes no new streams, so that none outlives its certificates for long. Nil: any age.
    public var tunnelAgeMax: Duration? = .seconds(24 * 60 * 60)
    /// Inbound tunnels that one loop serves for one pod; who comes later is closed at once.
    public var inboundTunnelsPerPodMax = 10_000
    /// Inbound tunnels of one loop that have not come to the end of their handshake. When there are more, the oldest
    /// is closed: peers that connect and say nothing must not keep those out who speak.
    public var unprovenTunnelsMax = 1_000
    /// How often a connection is tried before its client is closed: each time with another endpoint.
    public var dialAttemptsMax = 3

    /// How long a connection waits for the mesh to know its pod, or the policies that judge it.
    public var knowledgeTimeout = Duration.seconds(5)
    /// How long it waits for the addresses of a host name.
    public var lookupTimeout = Duration.seconds(5)
    /// TCP connect.
    public var dialTimeout = Duration.seconds(10)
    /// Certificate, TLS handshake and the peer's first SETTINGS.
    public var handshakeTimeout = Duration.seconds(10)
    /// From CONNECT to its answer.
    public var answerTimeout = Duration.seconds(20)
    /// A tunnel that was silent so long is asked whether it lives.
    public var pingInterval = Duration.seconds(10)
    /// And is given up when the answer takes longer.
    public var pingTimeout = Duration.seconds(20)

    /// What a peer may send before we have passed it on. The ratio of 1:4 is deliberate: with equal windows one
    /// slow stream stops all the others.
    public var streamWindowBytes = 4 << 20
    public var tunnelWindowBytes = 16 << 20
    /// The largest frame accepted.
    public var frameBytesMax = 1 << 20

    /// Other trust domains that mean this mesh: a peer that proves to be of one of them is taken as if it had proven the
    /// same account of ours. Policies see the identity as it was proven.
    public var trustDomainAliases: Set<String> = []

    public init() {}
}
