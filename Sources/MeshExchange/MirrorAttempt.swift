internal import MeshHTTP
internal import MeshRoutes

/// A copy of a request: sent as well as it goes, its response thrown away, its failure nobody's business.
final class MirrorAttempt: AttemptOwner {
    /// Of a body, while there is no connection; a copy with more is given up.
    static let keptBytesMax = 64 << 10

    let server: ExchangeServer
    private let mirror: ForwardPlan.Mirror
    private let isHTTP2: Bool
    private let hasBody: Bool
    private var attempt: Attempt?
    private var kept: [UInt8] = []
    private var end: HTTP2HeaderList?

    init(server: ExchangeServer, _ mirror: ForwardPlan.Mirror, origin: RequestOrigin, hasBody: Bool) {
        self.server = server
        self.mirror = mirror
        self.hasBody = hasBody
        self.isHTTP2 = origin.isGRPC || mirror.backend.appProtocol == .http2 || mirror.backend.appProtocol == .grpc
    }

    func start() {
        let now = self.server.loop.now
        guard
            let endpoint = self.mirror.backend.choose(self.server.book, excluding: [], hash: nil, at: now)
        else { return }
        let attempt = Attempt(exchange: self, endpoint: endpoint, beganNanoseconds: now)
        self.attempt = attempt
        self.server.pool.request(attempt, isHTTP2: self.isHTTP2)
    }

    func send(_ bytes: UnsafeRawBufferPointer) {
        guard let attempt else { return }
        if let stream = attempt.stream {
            // One that does not keep up must not hold up the others, nor make us hold its bytes.
            if stream.isFull { return self.cancel() }
            return stream.send(bytes)
        }
        guard self.kept.count + bytes.count <= Self.keptBytesMax else { return self.cancel() }
        self.kept.append(contentsOf: bytes)
    }

    func finish(_ trailers: HTTP2HeaderList) {
        self.end = trailers
        self.attempt?.stream?.finish(trailers)
    }

    func cancel() {
        let attempt = self.attempt
        self.attempt = nil
        self.kept = []
        attempt?.cancel()
    }

    func attemptConnected(_ attempt: Attempt, _ stream: any UpstreamStream) {
        guard attempt === self.attempt else { return stream.cancel() }
        stream.request(self.mirror.request, hasBody: self.hasBody)
        if !self.kept.isEmpty { self.kept.withUnsafeBytes { stream.send($0) } }
        self.kept = []
        if self.hasBody, let end { stream.finish(end) }
    }

    func attemptInformed(_ head: ResponseHead) {}
    func attemptResponded(_ attempt: Attempt, _ head: ResponseHead, hasBody: Bool) { if !hasBody { self.attempt = nil } }
    func attemptSwitchedProtocol(_ head: ResponseHead) { self.cancel() }
    func attemptReceived(_ bytes: UnsafeRawBufferPointer) -> Bool { true }
    func attemptFinished(_ trailers: HTTP2HeaderList) { self.attempt = nil }
    func attemptDrained() {}
    func attemptFailed(_ attempt: Attempt, _ trouble: UpstreamTrouble) { self.attempt = nil }
}
