internal import Glibc
internal import MeshHTTP
package import MeshLoop
internal import MeshModel
internal import MeshRoutes
package import MeshTunnel

/// A client's connection of either version, or one that has not shown yet what it speaks.
protocol ServedConnection: AnyObject {
    func drain()
}

/// Layer 7 on one event loop: takes the streams of a tunnel engine and carries their requests to endpoints.
package final class ExchangeServer: StreamServer {
    /// What responses say in `server`, as sidecars and waypoints of the reference do: tools look for it.
    static let name = "istio-envoy"
    /// Attempts for a request that no endpoint has looked at, where its route asks for no retries.
    static let untouchedAttemptsMax = 3

    let loop: EventLoop
    let configuration: ExchangeConfiguration
    let observer: any ExchangeObserver
    private(set) var view: any ExchangeView
    let book: UpstreamBook
    let memory = LoopMemory()
    private(set) var pool: UpstreamPool!
    private(set) var dialer: (any UpstreamDialer)?
    private(set) var isDraining = false
    /// Exchanges under way, and retries among them.
    private(set) var exchangesUnderWay = 0
    var retriesUnderWay = 0
    private var connections: [ObjectIdentifier: any ServedConnection] = [:]
    private var streams: [ObjectIdentifier: OpaqueConnection] = [:]
    private var progress: LoopTimer?
    /// How often the observer hears of the bytes of opaque streams.
    static let progressInterval = Duration.seconds(1)
    private var exchanges: [ObjectIdentifier: Exchange] = [:]
    private var lastStreamID: UInt64

    package init(
        loop: EventLoop, configuration: ExchangeConfiguration, view: any ExchangeView,
        observer: any ExchangeObserver, seed: UInt64
    ) {
        self.loop = loop
        self.configuration = configuration
        self.view = view
        self.observer = observer
        self.book = UpstreamBook(seed: seed)
        self.lastStreamID = seed << 32
        self.pool = UpstreamPool(server: self)
    }

    /// Requests from now on ask `view`; those under way go on as they were planned.
    package func publish(_ view: any ExchangeView) { self.view = view }

    // MARK: Streams

    package func serve(_ stream: ServedStream) {
        self.dialer = stream.dialer
        guard let target = stream.target as? ServedTarget, let port = self.view.served(target) else {
            return stream.pipe.reset()
        }
        let client = ServedClient(stream, target)
        switch port.appProtocol {
        case .http11, .http2, .grpc, .unknown:
            client.pipe.consumer = ProtocolSniffer(
                self, client, isHTTPOnly: port.appProtocol != .unknown || port.needsHTTP)
        case .tcp: self.carry(client, hello: .none)
        case .tls: self.carry(client, hello: .expected)
        }
    }

    private func carry(_ client: ServedClient, hello: OpaqueConnection.Hello) {
        let connection = OpaqueConnection(self, client, hello: hello)
        client.pipe.consumer = connection
        connection.start()
    }

    package func drain() {
        self.isDraining = true
        for connection in Array(self.connections.values) { connection.drain() }
        self.pool.drain()
    }

    func opened(_ connection: any ServedConnection) { self.connections[ObjectIdentifier(connection)] = connection }
    func closed(_ connection: any ServedConnection) { self.connections[ObjectIdentifier(connection)] = nil }

    func opened(_ stream: OpaqueConnection) {
        self.streams[ObjectIdentifier(stream)] = stream
        if self.progress?.isArmed != true { self.reportProgressLater() }
    }

    func closed(_ stream: OpaqueConnection) { self.streams[ObjectIdentifier(stream)] = nil }

    private func reportProgressLater() {
        let timer =
            self.progress
            ?? LoopTimer(loop: self.loop) { [unowned self] in
                for stream in self.streams.values { stream.reportProgress() }
                if !self.streams.isEmpty { self.reportProgressLater() }
            }
        self.progress = timer
        timer.arm(after: Self.progressInterval)
    }

    func nextStreamID() -> UInt64 {
        self.lastStreamID &+= 1
        return self.lastStreamID
    }

    // MARK: Exchanges

    func entered(_ exchange: Exchange) {
        self.exchangesUnderWay += 1
        self.exchanges[ObjectIdentifier(exchange)] = exchange
    }

    func left(_ exchange: Exchange) {
        self.exchangesUnderWay -= 1
        self.exchanges[ObjectIdentifier(exchange)] = nil
    }

    // MARK: Memory

    private var frameBytes: [UInt8] = []
    private static let frameBytesKept = 64 << 10

    /// An empty array whose memory stays with the loop, for frames that are copied to their channel at once.
    @inline(__always)
    func withFrameBytes(_ body: (inout [UInt8]) -> Void) {
        // Taken out, so that who comes here from inside gets another one.
        var bytes: [UInt8] = []
        swap(&bytes, &self.frameBytes)
        body(&bytes)
        guard bytes.capacity <= Self.frameBytesKept else { return }
        bytes.removeAll(keepingCapacity: true)
        self.frameBytes = bytes
    }

    // MARK: What is held

    /// What this loop holds at a moment: when nothing is under way everything is 0, but for idle connections.
    package struct Occupancy: Hashable, Sendable {
        /// Clients' connections that speak HTTP, or have not shown what they speak.
        package var connections: Int
        /// Opaque streams.
        package var streams: Int
        package var exchanges: Int
        package var retries: Int
        /// Connections to endpoints, being made or made; those of them that wait for a request.
        package var upstreams: Int
        package var idleUpstreams: Int
        /// Attempts that wait for a connection.
        package var waiting: Int
        /// Attempts and opaque streams that endpoints are charged with.
        package var active: Int
    }

    package var occupancy: Occupancy {
        Occupancy(
            connections: self.connections.count, streams: self.streams.count, exchanges: self.exchanges.count,
            retries: self.retriesUnderWay,
            upstreams: self.pool.connections, idleUpstreams: self.pool.idleConnections, waiting: self.pool.waiting,
            active: self.book.active)
    }

    // MARK: Time and numbers

    /// Since 1970.
    var seconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec)
    }

    private var dateSecond: Int64 = 0
    private var dateText = ""

    /// `Date` of this second (RFC 9110, 5.6.7).
    var date: String {
        let now = self.seconds
        if now != self.dateSecond {
            self.dateSecond = now
            self.dateText = HTTPDate.text(now)
        }
        return self.dateText
    }
}
