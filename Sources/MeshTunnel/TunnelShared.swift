internal import Synchronization

/// What all loops of one engine share.
final class TunnelShared: Sendable {
    let configuration: TunnelConfiguration
    let certificates: any CertificateSource
    let observer: any ConnectionObserver
    let makeContexts: ContextMaker
    let resolver: (any HostResolver)?
    let makeServer: StreamServerMaker?
    let counters = TunnelCounters()
    private let lastConnectionID = Atomic<UInt64>(0)

    init(
        configuration: TunnelConfiguration, certificates: any CertificateSource, observer: any ConnectionObserver,
        resolver: (any HostResolver)?, makeServer: StreamServerMaker? = nil, makeContexts: ContextMaker? = nil
    ) {
        self.makeServer = makeServer
        let onlyPostQuantum = configuration.onlyPostQuantum
        self.makeContexts = makeContexts ?? { try TLSIdentityContexts($0, onlyPostQuantum: onlyPostQuantum) }
        self.configuration = configuration
        self.certificates = certificates
        self.observer = observer
        self.resolver = resolver
    }

    func nextConnectionID() -> UInt64 { self.lastConnectionID.add(1, ordering: .relaxed).newValue }
}

/// Counted per connection, tunnel and stream; never per byte.
final class TunnelCounters: Sendable {
    let openConnections = Atomic(0)
    let inboundTunnels = Atomic(0)
    let outboundTunnels = Atomic(0)
    let inboundHandshakes = Atomic<UInt64>(0)
    let outboundHandshakes = Atomic<UInt64>(0)
    let streams = Atomic<UInt64>(0)
    let failedHandshakes = Atomic<UInt64>(0)

    func handshakeDone(isInbound: Bool) {
        if isInbound {
            self.inboundHandshakes.add(1, ordering: .relaxed)
        } else {
            self.outboundHandshakes.add(1, ordering: .relaxed)
        }
    }

    func tunnels(isInbound: Bool, by change: Int) {
        if isInbound {
            self.inboundTunnels.add(change, ordering: .relaxed)
        } else {
            self.outboundTunnels.add(change, ordering: .relaxed)
        }
    }
}

/// A reading of the engine's counters.
public struct TunnelStatistics: Hashable, Sendable {
    /// Connections being proxied now, in both directions.
    public var openConnections = 0
    /// TLS connections open now, handshakes included.
    public var inboundTunnels = 0
    public var outboundTunnels = 0
    /// Since the start.
    public var inboundHandshakes: UInt64 = 0
    public var outboundHandshakes: UInt64 = 0
    public var failedHandshakes: UInt64 = 0
    public var streams: UInt64 = 0

    init(_ counters: TunnelCounters) {
        self.openConnections = counters.openConnections.load(ordering: .relaxed)
        self.inboundTunnels = counters.inboundTunnels.load(ordering: .relaxed)
        self.outboundTunnels = counters.outboundTunnels.load(ordering: .relaxed)
        self.inboundHandshakes = counters.inboundHandshakes.load(ordering: .relaxed)
        self.outboundHandshakes = counters.outboundHandshakes.load(ordering: .relaxed)
        self.failedHandshakes = counters.failedHandshakes.load(ordering: .relaxed)
        self.streams = counters.streams.load(ordering: .relaxed)
    }
}
