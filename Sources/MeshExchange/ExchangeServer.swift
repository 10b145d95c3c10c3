internal import Glibc
package import MeshHTTP
package import MeshLoop
internal import MeshModel
internal import MeshRoutes
package import MeshTunnel

/// Every choice of the engine, with its defaults.
package struct ExchangeConfiguration: Sendable {
    package var http1 = HTTP1Limits()
    /// Requests that a client may have under way in one HTTP/2 connection.
    package var streamsMax = 100
    /// A client's connection without a request is kept so long.
    package var idleTimeout = Duration.seconds(3_600)
    /// An endpoint's connection without a request.
    package var upstreamIdleNanoseconds: UInt64 = 60_000_000_000
    /// How long a client may say nothing before its protocol is taken for one where the server speaks first; see
    /// ``ServedPort/needsHTTP``.
    package var silenceTimeout = Duration.milliseconds(200)
    /// A peer of an HTTP/2 connection that lets nothing of what waits for it through for so long is given up.
    package var stallTimeout = Duration.seconds(300)

    package init() {}
}

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
    private let memory = LoopMemory()
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
        switch port.appProtocol {
        case .http11, .http2, .grpc, .unknown:
            stream.pipe.consumer = ProtocolSniffer(
                self, stream, target, isHTTPOnly: port.appProtocol != .unknown || port.needsHTTP)
        case .tcp: self.carry(stream, target, hello: .none)
        case .tls: self.carry(stream, target, hello: .expected)
        }
    }

    private func carry(_ stream: ServedStream, _ target: ServedTarget, hello: OpaqueConnection.Hello) {
        let connection = OpaqueConnection(self, stream, target, hello: hello)
        stream.pipe.consumer = connection
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

    func exchange(
        for client: any ClientStream, _ stream: ServedStream, _ target: ServedTarget, _ head: RequestHead,
        _ version: ExchangeReport.Version, hasBody: Bool, upgrade: String?
    ) -> Exchange {
        let isGRPC = head.fields["content-type"].map { $0.hasPrefix("application/grpc") } ?? false
        let origin = self.origin(stream, target, isGRPC: isGRPC)
        var head = head
        if !head.fields.has("x-request-id") { head.fields.append("x-request-id", self.requestID()) }
        if !head.fields.has("x-forwarded-proto") { head.fields.append("x-forwarded-proto", head.scheme) }
        if let upgrade { head.fields.append("upgrade", upgrade) }
        let report = ExchangeReport(
            ends: self.ends(stream, target), request: head, version: version, isGRPC: isGRPC,
            startedNanoseconds: self.loop.now)
        return Exchange(
            server: self, client: client, origin: origin, report: report, hasBody: hasBody,
            asksForSwitch: upgrade != nil)
    }

    func origin(_ stream: ServedStream, _ target: ServedTarget, isGRPC: Bool) -> RequestOrigin {
        RequestOrigin(
            client: stream.source, identity: stream.identity, local: target.local, isGRPC: isGRPC,
            now: self.loop.now, time: self.seconds, random: self.book.random(), memory: self.memory)
    }

    func ends(_ stream: ServedStream, _ target: ServedTarget) -> ExchangeEnds {
        var ends: ExchangeEnds
        switch target.what {
        case .service(let key, let port):
            ends = ExchangeEnds(
                client: stream.source, clientIdentity: stream.identity, port: port)
            ends.service = key
        case .workload(let uid, let port):
            ends = ExchangeEnds(
                client: stream.source, clientIdentity: stream.identity, port: port)
            ends.endpoint = uid
        }
        ends.local = target.local
        return ends
    }

    func entered(_ exchange: Exchange) {
        self.exchangesUnderWay += 1
        self.exchanges[ObjectIdentifier(exchange)] = exchange
    }

    func left(_ exchange: Exchange) {
        self.exchangesUnderWay -= 1
        self.exchanges[ObjectIdentifier(exchange)] = nil
    }

    /// A request that could not be understood: there is no exchange to report.
    func refused(
        _ stream: ServedStream, _ reason: String, _ version: ExchangeReport.Version = .http11, status: Int = 400
    ) {
        guard let target = stream.target as? ServedTarget else { return }
        var report = ExchangeReport(
            ends: self.ends(stream, target),
            request: RequestHead(method: "-", scheme: "http", authority: "-", path: "-", fields: HTTP2HeaderList()),
            version: version, isGRPC: false, startedNanoseconds: self.loop.now)
        report.flags = .clientProtocolError
        report.details = reason
        report.response = ResponseHead(status: status)
        self.observer.finished(report)
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

    private var seconds: Int64 {
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

    /// A random UUID (version 4).
    private func requestID() -> String {
        let high = self.book.random() & ~0xF000 | 0x4000
        let low = self.book.random() & ~(3 << 62) | 1 << 63
        func hex(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: digits - text.utf8.count) + text
        }
        return
            "\(hex(high >> 32, 8))-\(hex(high >> 16 & 0xFFFF, 4))-\(hex(high & 0xFFFF, 4))-"
            + "\(hex(low >> 48, 4))-\(hex(low & 0xFFFF_FFFF_FFFF, 12))"
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
enum HTTPDate {
    private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    static func text(_ seconds: Int64) -> String {
        let day = seconds / 86_400
        let time = seconds % 86_400
        // Civil from days since 1970, in eras of 400 years beginning in March.
        let shifted = day + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthIndex = (5 * dayOfYear + 2) / 153
        let date = dayOfYear - (153 * monthIndex + 2) / 5 + 1
        let month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        func two(_ value: Int64) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return
            "\(self.days[Int(day % 7)]), \(two(date)) \(self.months[Int(month - 1)]) \(year) "
            + "\(two(time / 3_600)):\(two(time / 60 % 60)):\(two(time % 60)) GMT"
    }
}
