internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes

/// One attempt: waits for a connection to its endpoint, then has a stream there.
final class Attempt: UpstreamStreamOwner {
    let exchange: any AttemptOwner
    let endpoint: UpstreamEndpoint
    let backend: Backend
    let beganNanoseconds: UInt64
    private(set) var stream: (any UpstreamStream)?
    private(set) var isOver = false
    private var isSwitched = false
    /// Waits in the pool; see ``UpstreamPool``.
    var isWaiting = false
    private var isCounted = false

    init(exchange: any AttemptOwner, endpoint: UpstreamEndpoint, of backend: Backend, beganNanoseconds: UInt64) {
        self.exchange = exchange
        self.endpoint = endpoint
        self.backend = backend
        self.beganNanoseconds = beganNanoseconds
        exchange.server.book.began(endpoint.key)
        self.isCounted = true
    }

    /// The pool has a stream for us.
    func connected(_ stream: any UpstreamStream) {
        guard !self.isOver else { return stream.cancel() }
        self.isWaiting = false
        self.stream = stream
        self.exchange.attemptConnected(self, stream)
    }

    private func end() {
        self.isOver = true
        self.isWaiting = false
        self.stream = nil
        guard self.isCounted else { return }
        self.isCounted = false
        self.exchange.server.book.ended(self.endpoint.key)
    }

    func cancel() {
        guard !self.isOver else { return }
        let stream = self.stream
        let wasWaiting = self.isWaiting
        self.end()
        if wasWaiting { self.exchange.server.pool.gaveUp(self) }
        stream?.cancel()
    }

    // MARK: From the stream

    func attemptInformed(_ head: ResponseHead) { if !self.isOver { self.exchange.attemptInformed(head) } }

    func attemptResponded(_ head: ResponseHead, hasBody: Bool) {
        guard !self.isOver else { return }
        let server = self.exchange.server
        if head.status >= 500 {
            server.book.failed(self.endpoint.key, .status(head.status), of: self.backend, at: server.loop.now)
        } else {
            let now = server.loop.now
            server.book.answered(self.endpoint.key, after: now &- self.beganNanoseconds, at: now)
        }
        // Without a body nothing more comes from the stream.
        if !hasBody { self.end() }
        self.exchange.attemptResponded(self, head, hasBody: hasBody)
    }

    func attemptSwitchedProtocol(_ head: ResponseHead) {
        guard !self.isOver else { return }
        self.isSwitched = true
        self.exchange.attemptSwitchedProtocol(head)
    }

    func attemptReceived(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool {
        self.isOver ? true : self.exchange.attemptReceived(bytes, isLast: isLast)
    }

    func attemptFinished(_ trailers: HTTP2HeaderList) {
        guard !self.isOver else { return }
        if !self.isSwitched { self.end() }
        self.exchange.attemptFinished(trailers)
    }

    func attemptDrained() { if !self.isOver { self.exchange.attemptDrained() } }

    func attemptFailed(_ trouble: UpstreamTrouble) {
        guard !self.isOver else { return }
        self.end()
        let server = self.exchange.server
        if trouble.kind == .connect || trouble.kind == .unresolved || !trouble.isUntouched {
            server.book.failed(self.endpoint.key, .connection, of: self.backend, at: server.loop.now)
        }
        self.exchange.attemptFailed(self, trouble)
    }
}

/// Whose attempt it is: an exchange, or a mirror that nobody waits for.
protocol AttemptOwner: AnyObject {
    var server: ExchangeServer { get }
    func attemptConnected(_ attempt: Attempt, _ stream: any UpstreamStream)
    func attemptInformed(_ head: ResponseHead)
    func attemptResponded(_ attempt: Attempt, _ head: ResponseHead, hasBody: Bool)
    func attemptSwitchedProtocol(_ head: ResponseHead)
    func attemptReceived(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool
    func attemptFinished(_ trailers: HTTP2HeaderList)
    func attemptDrained()
    func attemptFailed(_ attempt: Attempt, _ trouble: UpstreamTrouble)
}
