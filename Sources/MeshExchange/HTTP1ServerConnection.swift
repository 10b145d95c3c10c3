internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A client that speaks HTTP/1: one exchange after the other; what it sends ahead waits in the tunnel's window.
final class HTTP1ServerConnection: PipeConsumer, ServedConnection {
    /// How long a client that was told to go has to take the last response.
    static let lingerTimeout = Duration.seconds(5)

    private let server: ExchangeServer
    private let stream: ServedStream
    private let target: ServedTarget
    private var channel: PipeEnd { self.stream.pipe }
    private var reader: HTTP1Reader
    private var exchange: Exchange?
    private var began: UInt64 = 0
    // Of the request under way.
    private var method = ""
    private var isVersion10 = false
    private var keepsAlive = true
    private var requestEnded = true
    // Of its response.
    private var responseBegun = false
    private var isChunked = false
    /// The last response is out: what still comes is thrown away.
    private var isClosing = false
    private var isSwitched = false
    private var peerFinished = false
    private var isDraining: Bool
    private var timer: LoopTimer?

    init(_ server: ExchangeServer, _ stream: ServedStream, _ target: ServedTarget) {
        self.server = server
        self.stream = stream
        self.target = target
        self.reader = HTTP1Reader.requests(limits: server.configuration.http1)
        self.isDraining = server.isDraining
        server.opened(self)
        self.armIdle()
    }

    // MARK: Bytes of the client

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.isClosing { return bytes.count }
        if self.isSwitched { return self.carry(bytes) }
        var input = bytes
        do throws(HTTP1Error) {
            while true {
                // One at a time: the next request is not looked at before this response has ended.
                if self.exchange != nil, self.requestEnded { return bytes.count - input.count }
                if self.reader.isTunnel { return bytes.count - input.count }
                guard let event = try self.reader.next(&input) else { return bytes.count }
                switch event {
                case .head(let head): try self.begin(head)
                case .body(let body):
                    guard self.exchange?.receivedBody(body) ?? true else { return bytes.count - input.count }
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

    private func carry(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let exchange else { return bytes.count }
        if !exchange.receivedBody(bytes) { self.channel.pause() }
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
        }
    }

    func pipeDrained() { self.exchange?.clientDrained() }

    func pipeClosed(reset: Bool) {
        let exchange = self.exchange
        self.exchange = nil
        self.closed()
        exchange?.clientLeft()
    }

    private func closed() {
        self.timer?.cancel()
        self.timer = nil
        self.server.closed(self)
    }

    // MARK: A request

    private func begin(_ head: HTTP1Head) throws(HTTP1Error) {
        guard case .request(let method, let target) = head.start else { return }
        self.timer?.cancel()
        self.method = method
        self.isVersion10 = head.isVersion10
        self.keepsAlive = head.keepsAlive
        self.requestEnded = false
        self.responseBegun = false
        self.isChunked = false
        let request = try self.request(head, method, target)
        let hasBody: Bool
        switch head.framing {
        case .none, .tunnel: hasBody = false
        case .length(let length): hasBody = length > 0
        case .chunked, .untilClose: hasBody = true
        }
        let exchange = self.server.exchange(
            for: self, self.stream, self.target, request, head.isVersion10 ? .http10 : .http11, hasBody: hasBody,
            upgrade: head.upgrade)
        self.exchange = exchange
        if !hasBody {
            // Its end comes with its head, and needs no further byte.
            var nothing = UnsafeRawBufferPointer(start: nil, count: 0)
            _ = try self.reader.next(&nothing)
            self.requestEnded = true
        }
        exchange.start(self.server.view.served(self.target))
        if head.expectsContinue, !self.requestEnded, self.exchange === exchange, !self.responseBegun {
            // It waits for our word; the endpoint's own "100" is not passed on then (RFC 9110, 10.1.1).
            self.channel.send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
        }
    }

    private func request(_ head: HTTP1Head, _ method: String, _ target: String) throws(HTTP1Error) -> RequestHead {
        var fields = head.fields.endToEnd()
        if head.expectsContinue { fields.remove(named: "expect") }
        var authority = head.fields["host"] ?? ""
        var path = target
        if method == "CONNECT" { throw HTTP1Error(405, "CONNECT is served by the tunnel, not inside it") }
        if !target.hasPrefix("/"), target != "*" {
            guard let parts = AbsoluteTarget(target) else { throw HTTP1Error(400, "a request target of no known form") }
            // RFC 9112, 3.2.2: it counts more than Host.
            authority = parts.authority
            path = parts.path
        }
        if target == "*", method != "OPTIONS" { throw HTTP1Error(400, "* is for OPTIONS only") }
        return RequestHead(method: method, scheme: "http", authority: authority, path: path, fields: fields)
    }

    private func refuse(_ error: HTTP1Error) {
        self.keepsAlive = false
        if let exchange {
            // Inside a body: what came of it is of no use.
            self.exchange = nil
            let hasAnswered = self.responseBegun
            exchange.clientLeft(.clientProtocolError, details: error.description)
            if hasAnswered {
                self.channel.reset()
                return self.closed()
            }
        } else {
            self.server.refused(self.stream, error.description)
        }
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

    // MARK: The end of a response, and of the connection

    private func responseIsOver() {
        self.exchange = nil
        guard self.keepsAlive, self.requestEnded, !self.peerFinished else { return self.close() }
        self.armIdle()
        self.channel.wantsMore()
    }

    /// FIN behind what was sent; the client has a while to close its side.
    private func close() {
        guard !self.isClosing else { return }
        self.isClosing = true
        self.channel.finish()
        self.channel.wantsMore()
        if self.channel.isClosed { return }
        self.arm(after: Self.lingerTimeout) { connection in
            connection.channel.reset()
            connection.closed()
        }
    }

    private func armIdle() {
        self.arm(after: self.server.configuration.idleTimeout) { $0.close() }
    }

    private func arm(after limit: Duration, _ expired: @escaping (HTTP1ServerConnection) -> Void) {
        self.timer?.cancel()
        let timer = LoopTimer(loop: self.server.loop) { [unowned self] in expired(self) }
        self.timer = timer
        timer.arm(after: limit)
    }

    func drain() {
        self.isDraining = true
        // Between two requests: the client may have sent one already, but it knows that and asks again.
        if self.exchange == nil, self.reader.isIdle, !self.isClosing { self.close() }
    }
}

extension HTTP1ServerConnection: ClientStream {
    func inform(_ head: ResponseHead) {
        // HTTP/1.0 has none; "100" we said ourselves.
        guard !self.isVersion10, !self.responseBegun, head.status != 100 else { return }
        var bytes: [UInt8] = []
        HTTP1Writer.appendStatusLine(head.status, to: &bytes)
        HTTP1Writer.append(head.fields, to: &bytes)
        HTTP1Writer.appendEndOfHead(to: &bytes)
        self.channel.send(bytes)
    }

    func respond(_ head: ResponseHead, hasBody: Bool) {
        self.responseBegun = true
        // The rest of the request would have to be read for the next one to be found.
        if self.isDraining || !self.requestEnded && !hasBody { self.keepsAlive = false }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.fields.listBytes + 96)
        HTTP1Writer.appendStatusLine(head.status, to: &bytes)
        HTTP1Writer.append(head.fields, to: &bytes)
        if hasBody, !head.fields.has("content-length") {
            if self.isVersion10 {
                self.keepsAlive = false
            } else {
                self.isChunked = true
                HTTP1Writer.appendField("transfer-encoding", "chunked", to: &bytes)
            }
        } else if !hasBody, !head.fields.has("content-length"), self.method != "HEAD", head.status >= 200,
            head.status != 204, head.status != 304
        {
            // HTTP/2 ends such a response with its head; here a length must say it.
            HTTP1Writer.appendField("content-length", "0", to: &bytes)
        }
        if !self.keepsAlive {
            HTTP1Writer.appendField("connection", "close", to: &bytes)
        } else if self.isVersion10 {
            HTTP1Writer.appendField("connection", "keep-alive", to: &bytes)
        }
        HTTP1Writer.appendEndOfHead(to: &bytes)
        self.channel.send(bytes)
    }

    func send(_ bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty else { return }
        guard self.isChunked else { return self.channel.send(bytes) }
        var line: [UInt8] = []
        HTTP1Writer.appendChunkSize(bytes.count, to: &line)
        self.channel.send(line)
        self.channel.send(bytes)
        self.channel.send([0x0D, 0x0A])
    }

    func finish(_ trailers: HTTP2HeaderList) {
        if self.isSwitched { return self.close() }
        if self.isChunked {
            var bytes: [UInt8] = []
            HTTP1Writer.appendLastChunk(trailers, to: &bytes)
            self.channel.send(bytes)
        }
    }

    func exchangeEnded() {
        guard !self.channel.isClosed, !self.isClosing else { return self.exchange = nil }
        self.responseIsOver()
    }

    func switchProtocol(_ head: ResponseHead) {
        self.isSwitched = true
        self.responseBegun = true
        var bytes: [UInt8] = []
        HTTP1Writer.appendStatusLine(head.status, to: &bytes)
        HTTP1Writer.append(head.fields, to: &bytes)
        HTTP1Writer.appendField("connection", "upgrade", to: &bytes)
        HTTP1Writer.appendEndOfHead(to: &bytes)
        self.channel.send(bytes)
        self.timer?.cancel()
        self.channel.wantsMore()
    }

    func abort() {
        self.exchange = nil
        self.channel.reset()
        self.closed()
    }

    var isFull: Bool { self.channel.isFull }
    func wantsMore() { self.channel.wantsMore() }
}

/// `http://authority/path?query` (RFC 9112, 3.2.2).
struct AbsoluteTarget {
    let authority: String
    let path: String

    init?(_ target: String) {
        guard let scheme = ["http://", "https://"].first(where: { target.lowercased().hasPrefix($0) }) else { return nil }
        let rest = target.dropFirst(scheme.count)
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        let authority = String(rest[..<end])
        guard !authority.isEmpty, !authority.contains("@"), !authority.contains("#") else { return nil }
        self.authority = authority
        let path = rest[end...]
        self.path = path.isEmpty ? "/" : path.hasPrefix("/") ? String(path) : "/" + path
    }
}
