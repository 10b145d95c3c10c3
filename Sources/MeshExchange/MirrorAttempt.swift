internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes

/// A copy of a request: sent as well as it goes, its response thrown away, its failure nobody's business.
final class MirrorAttempt: AttemptOwner {
    /// Of a body, while there is no connection; a copy with more is given up.
    static let keptBytesMax = 64 << 10
    /// From its start to the end of the response that nobody reads.
    static let timeout = Duration.seconds(15)

    let server: ExchangeServer
    private let mirror: ForwardPlan.Mirror
    private let isHTTP2: Bool
    private let hasBody: Bool
    private var attempt: Attempt?
    private var kept: [UInt8] = []
    private var end: HTTP2HeaderList?
    private var timer: LoopTimer?

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
        let attempt = Attempt(
            exchange: self, endpoint: endpoint, of: self.mirror.backend, beganNanoseconds: now)
        self.attempt = attempt
        let timer = LoopTimer(loop: self.server.loop) { [weak self] in self?.cancel() }
        self.timer = timer
        timer.arm(after: Self.timeout)
        self.server.pool.request(attempt, isHTTP2: self.isHTTP2)
    }

    private func ended() {
        self.timer?.cancel()
        self.timer = nil
        self.attempt = nil
        self.kept = []
    }

    func send(_ bytes: UnsafeRawBufferPointer, isLast: Bool) {
        guard let attempt else { return }
        if let stream = attempt.stream {
            // One that does not keep up must not hold up the others, nor make us hold its bytes.
            if stream.isFull { return self.cancel() }
            return stream.send(bytes, isLast: isLast)
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
        self.ended()
        attempt?.cancel()
    }

    func attemptConnected(_ attempt: Attempt, _ stream: any UpstreamStream) {
        guard attempt === self.attempt else { return stream.cancel() }
        stream.request(self.mirror.request, hasBody: self.hasBody)
        let isLast = self.end?.isEmpty ?? false
        if !self.kept.isEmpty { self.kept.withUnsafeBytes { stream.send($0, isLast: isLast) } }
        self.kept = []
        if self.hasBody, let end { stream.finish(end) }
    }

    func attemptInformed(_ head: ResponseHead) {}
    func attemptResponded(_ attempt: Attempt, _ head: ResponseHead, hasBody: Bool) { if !hasBody { self.ended() } }
    func attemptSwitchedProtocol(_ head: ResponseHead) { self.cancel() }
    func attemptReceived(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool { true }
    func attemptFinished(_ trailers: HTTP2HeaderList) { self.ended() }
    func attemptDrained() {}
    func attemptFailed(_ attempt: Attempt, _ trouble: UpstreamTrouble) { self.ended() }
}
