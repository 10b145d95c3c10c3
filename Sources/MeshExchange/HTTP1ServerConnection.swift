internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A client that speaks HTTP/1: one exchange after the other; what it sends ahead waits in the tunnel's window.
///
/// Its requests are read here; what it is answered: `+Response`; how long it may take, and its end: `+End`.
final class HTTP1ServerConnection: PipeConsumer, ServedConnection {
    let server: ExchangeServer
    private let client: ServedClient
    var channel: any ByteChannel { self.client.pipe }
    private(set) var reader: HTTP1Reader
    var exchange: Exchange?
    // Of the request under way.
    private(set) var method = ""
    private(set) var isVersion10 = false
    var keepsAlive = true
    private(set) var requestEnded = true
    // Of its response.
    var responseBegun = false
    var isChunked = false
    /// The last response is out: what still comes is thrown away.
    var isClosing = false
    var isSwitched = false
    private(set) var peerFinished = false
    var isDraining: Bool
    /// One timer for whatever is waited for.
    var timer: LoopTimer?
    var awaited = Wait.nothing
    /// A head has begun and is not complete.
    private(set) var hasHalfHead = false

    init(_ server: ExchangeServer, _ client: ServedClient) {
        self.server = server
        self.client = client
        self.reader = HTTP1Reader.requests(limits: server.configuration.http1)
        self.isDraining = server.isDraining
        server.opened(self)
        self.wait(for: .request)
    }

    // MARK: Bytes of the client

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.isClosing { return bytes.count }
        if self.isSwitched { return self.carry(bytes) }
        var input = bytes
        do throws(HTTP1Error) {
            while true {
                // One at a time: the next request is not looked at before this response has ended, nor before a client
                // that does not read its answers has read some.
                let mustWait = self.exchange == nil ? self.channel.isFull : self.requestEnded
                if mustWait {
                    if self.exchange == nil { self.awaitReading() }
                    return bytes.count - input.count
                }
                guard let event = try self.reader.next(&input) else {
                    self.readAll()
                    return bytes.count
                }
                switch event {
                case .head(let head): try self.begin(head)
                case .body(let body):
                    let isLast = self.reader.endsBodyBefore(input)
                    let wantsMore = self.exchange?.receivedBody(body, isLast: isLast) ?? true
                    guard wantsMore || isLast else {
                        self.channel.pause()
                        // The end of a body needs no further byte, so nothing would bring it up later.
                        if input.isEmpty { continue }
                        return bytes.count - input.count
                    }
                case .end(let trailers):
                    self.requestEnded = true
                    self.exchange?.requestFinished(trailers)
                }
                if self.isClosing || self.channel.isClosed { return bytes.count }
            }
        } catch {
            self.refuse(error)
            return bytes.count
        }
    }

    /// Every byte that came is used up.
    private func readAll() {
        guard self.exchange == nil, !self.hasHalfHead, !self.reader.isIdle else { return }
        self.hasHalfHead = true
        self.wait(for: .head)
    }

    private func carry(_ bytes: UnsafeRawBufferPointer) -> Int {
        if let exchange, !exchange.receivedBody(bytes, isLast: false) { self.channel.pause() }
        return bytes.count
    }

    func pipeFinished() {
        self.peerFinished = true
        if self.isSwitched {
            self.exchange?.requestFinished(HTTP2HeaderList())
            return
        }
        guard let exchange else { return self.close() }
        // A client that closes its side after its request still wants the answer.
        if !self.requestEnded {
            self.exchange = nil
            exchange.clientLeft()
            self.channel.reset()
            self.closed()
            return
        }
        // Of a request for another protocol, whose answer is still to come, this is the end.
        exchange.requestFinished(HTTP2HeaderList())
    }

    func pipeDrained() {
        self.hasRead()
        if let exchange { exchange.clientDrained() } else { self.channel.wantsMore() }
    }

    func pipeClosed(reset: Bool) {
        let exchange = self.exchange
        self.exchange = nil
        self.closed()
        exchange?.clientLeft()
    }

    // MARK: A request

    private func begin(_ head: HTTP1Head) throws(HTTP1Error) {
        guard case .request(let method, let target) = head.start else { return }
        self.hasHalfHead = false
        self.wait(for: .nothing)
        self.method = method
        self.isVersion10 = head.isVersion10
        self.keepsAlive = head.keepsAlive
        self.requestEnded = false
        self.responseBegun = false
        self.isChunked = false
        let request = try self.request(head, method, target)
        let hasBody =
            switch head.framing {
            case .none, .tunnel: false
            case .length, .chunked, .untilClose: true
            }
        // With a body in between it would not be clear where the other protocol begins.
        let upgrade = hasBody ? nil : head.upgrade.flatMap { UpgradeRule.isPassedOn($0) ? $0 : nil }
        let exchange = self.server.exchange(
            for: self, of: self.client, request, head.isVersion10 ? .http10 : .http11, hasBody: hasBody,
            upgrade: upgrade)
        self.exchange = exchange
        if !hasBody {
            // Its end comes with its head, and needs no further byte.
            var nothing = UnsafeRawBufferPointer(start: nil, count: 0)
            _ = try self.reader.next(&nothing)
            self.requestEnded = true
        }
        exchange.start(self.server.view.served(self.client.target))
        if head.expectsContinue, !self.requestEnded, self.exchange === exchange, !self.responseBegun {
            // It waits for our word; the endpoint's own "100" is not passed on then (RFC 9110, 10.1.1).
            self.channel.send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
        }
    }

    private func request(_ head: HTTP1Head, _ method: String, _ target: String) throws(HTTP1Error) -> RequestHead {
        if method == "CONNECT" { throw HTTP1Error(405, "CONNECT is served by the tunnel, not inside it") }
        let target = try RequestTarget(target, method: method, host: head.fields["host"] ?? "")
        var fields = head.fields.endToEnd()
        if head.expectsContinue { fields.remove(named: "expect") }
        if head.upgrade != nil { fields.remove(named: "http2-settings") }
        return RequestHead(
            method: method, scheme: "http", authority: target.authority, path: target.path, fields: fields)
    }

    func refuse(_ error: HTTP1Error, _ flags: ExchangeFlags = .clientProtocolError) {
        self.keepsAlive = false
        // Inside a body: what came of it is of no use.
        if let exchange { return exchange.clientBroke(error.status, error.description) }
        self.server.refused(self.client, error.description, status: error.status, flags)
        var bytes: [UInt8] = []
        let text = "\(error.description)\n"
        HTTP1Writer.appendStatusLine(error.status, to: &bytes)
        HTTP1Writer.appendField("content-type", "text/plain", to: &bytes)
        HTTP1Writer.appendField("content-length", String(text.utf8.count), to: &bytes)
        HTTP1Writer.appendField("connection", "close", to: &bytes)
        HTTP1Writer.appendEndOfHead(to: &bytes)
        bytes.append(contentsOf: text.utf8)
        self.channel.send(bytes)
        self.close()
    }
}
