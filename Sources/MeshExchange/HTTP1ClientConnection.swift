internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// A connection to an endpoint that speaks HTTP/1: one request at a time, then back to the pool.
final class HTTP1ClientConnection: PipeConsumer, UpstreamStream, PooledConnection {
    let key: UpstreamKey
    let peer: UpstreamPeer
    private let pool: UpstreamPool
    private let channel: any ByteChannel
    private var reader: HTTP1Reader
    private var owner: (any UpstreamStreamOwner)?
    private var isReused = false
    private var isIdempotent = true
    private var isOver = false
    // Of the request under way.
    private var requestEnded = true
    private var isChunked = false
    private var responseBegun = false
    private var keepsAlive = true
    private var expectsSwitch = false
    private var isSwitched = false
    private var switchedEnds = (ours: false, theirs: false)
    /// The owner cannot take more.
    private var isPaused = false
    /// Since when it waits in the pool.
    var idleSince: UInt64 = 0

    init(_ pool: UpstreamPool, _ key: UpstreamKey, _ channel: any ByteChannel, _ peer: UpstreamPeer) {
        self.pool = pool
        self.key = key
        self.peer = peer
        self.channel = channel
        self.reader = HTTP1Reader.responses(limits: pool.server.configuration.http1)
    }

    var isIdle: Bool { self.owner == nil && !self.isOver }

    /// Takes one request. The connection is idle.
    func take(_ attempt: Attempt) {
        self.owner = attempt
        attempt.connected(self)
    }

    // MARK: The request

    func request(_ head: RequestHead, hasBody: Bool) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.fields.listBytes + head.path.utf8.count + 64)
        HTTP1Writer.appendRequestLine(method: head.method, target: head.path, to: &bytes)
        HTTP1Writer.appendField("host", head.authority, to: &bytes)
        HTTP1Writer.append(head.fields, to: &bytes)
        let saysLength = head.fields.has("content-length")
        self.isChunked = hasBody && !saysLength
        if self.isChunked {
            HTTP1Writer.appendField("transfer-encoding", "chunked", to: &bytes)
        } else if !hasBody, !saysLength, Self.methodsWithBody.contains(head.method) {
            // RFC 9110, 8.6: of these a server may want to know.
            HTTP1Writer.appendField("content-length", "0", to: &bytes)
        }
        self.expectsSwitch = head.fields.has("upgrade")
        if self.expectsSwitch { HTTP1Writer.appendField("connection", "upgrade", to: &bytes) }
        HTTP1Writer.appendEndOfHead(to: &bytes)
        self.reader.expect(head.method == "HEAD" ? .head : .other)
        self.requestEnded = !hasBody
        self.responseBegun = false
        self.keepsAlive = true
        self.isIdempotent = Self.idempotentMethods.contains(head.method)
        self.channel.send(bytes)
    }

    private static let methodsWithBody: Set<String> = ["POST", "PUT", "PATCH"]
    private static let idempotentMethods: Set<String> = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]

    func send(_ bytes: UnsafeRawBufferPointer, isLast: Bool) {
        guard !bytes.isEmpty, !self.isOver else { return }
        guard self.isChunked, !self.isSwitched else { return self.channel.send(bytes) }
        var line: [UInt8] = []
        HTTP1Writer.appendChunkSize(bytes.count, to: &line)
        self.channel.send(line)
        self.channel.send(bytes)
        self.channel.send([0x0D, 0x0A])
    }

    func finish(_ trailers: HTTP2HeaderList) {
        if self.isSwitched {
            self.switchedEnds.ours = true
            return self.channel.finish()
        }
        guard !self.requestEnded else { return }
        self.requestEnded = true
        guard self.isChunked else { return }
        var bytes: [UInt8] = []
        HTTP1Writer.appendLastChunk(trailers, to: &bytes)
        self.channel.send(bytes)
    }

    var isFull: Bool { self.channel.isFull }

    func wantsMore() {
        self.isPaused = false
        self.channel.wantsMore()
    }

    /// Only the end of the connection tells an HTTP/1 endpoint that nobody waits any more.
    func cancel() {
        guard self.owner != nil else { return }
        self.owner = nil
        self.end(reset: !(self.switchedEnds.ours && self.switchedEnds.theirs))
    }

    // MARK: The response

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.isPaused { return 0 }
        if self.isSwitched { return self.carry(bytes) }
        guard self.owner != nil else {
            // Something that nobody asked for: it cannot be told what it answers.
            self.end(reset: true)
            return bytes.count
        }
        var input = bytes
        do throws(HTTP1Error) {
            while let event = try self.reader.next(&input) {
                switch event {
                case .head(let head): try self.received(head)
                case .body(let body):
                    let isLast = self.reader.endsBodyBefore(input)
                    if self.owner?.attemptReceived(body, isLast: isLast) == false, !isLast {
                        self.isPaused = true
                        // The end of a body needs no further byte, so nothing would bring it up later.
                        if !input.isEmpty { return bytes.count - input.count }
                    }
                case .end(let trailers):
                    // What comes behind a response would be taken for the answer to the next request.
                    guard self.responseBegun else { break }
                    if !input.isEmpty { self.keepsAlive = false }
                    self.responseIsOver(trailers)
                    return bytes.count
                }
                if self.isOver { return bytes.count }
            }
        } catch {
            self.fail(UpstreamTrouble(.protocolError, "the endpoint broke HTTP: \(error)", isUntouched: false))
            return bytes.count
        }
        if self.isSwitched, !input.isEmpty {
            let used = bytes.count - input.count
            return self.isPaused ? used : used + self.carry(input)
        }
        return bytes.count
    }

    private func carry(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.owner?.attemptReceived(bytes, isLast: false) == false { self.isPaused = true }
        return bytes.count
    }

    private func received(_ head: HTTP1Head) throws(HTTP1Error) {
        guard case .response(let status) = head.start else { return }
        var response = ResponseHead(status: status, fields: head.fields.endToEnd())
        if status == 101 {
            guard self.expectsSwitch else { throw HTTP1Error(502, "a switch of protocols that nobody asked for") }
            self.isSwitched = true
            if let upgrade = head.upgrade { response.fields.append("upgrade", upgrade) }
            self.owner?.attemptSwitchedProtocol(response)
            return
        }
        if status < 200 { return self.owner?.attemptInformed(response) ?? () }
        self.responseBegun = true
        self.keepsAlive = head.keepsAlive
        // Without a body the response is over for its owner; the end that follows is for us.
        self.owner?.attemptResponded(response, hasBody: head.framing != .none)
    }

    private func responseIsOver(_ trailers: HTTP2HeaderList) {
        guard self.responseBegun else { return }
        self.isPaused = false
        let owner = self.owner
        self.owner = nil
        let isReusable = self.keepsAlive && self.requestEnded
        owner?.attemptFinished(trailers)
        if self.isOver { return }
        self.isReused = true
        if isReusable {
            self.pool.returned(self)
        } else {
            self.end(reset: !self.requestEnded)
        }
    }

    func pipeFinished() {
        if self.isSwitched {
            self.switchedEnds.theirs = true
            self.owner?.attemptFinished(HTTP2HeaderList())
            return
        }
        do throws(HTTP1Error) {
            if let event = try self.reader.closed(), case .end(let trailers) = event {
                self.keepsAlive = false
                self.responseIsOver(trailers)
            }
        } catch {}
        self.fail(
            UpstreamTrouble(
                .ended, "the endpoint closed the connection before its response", isUntouched: self.isStale))
    }

    /// It closed while idle, and our request met that. Whether the endpoint has seen it cannot be known, so only what may
    /// be done twice counts as untouched (RFC 9110, 9.2.2).
    private var isStale: Bool {
        self.isReused && self.isIdempotent && !self.responseBegun && self.reader.isIdle
    }

    func pipeDrained() { self.owner?.attemptDrained() }

    func pipeClosed(reset: Bool) {
        self.fail(
            UpstreamTrouble(
                reset ? .reset : .ended,
                reset ? "the endpoint reset the connection" : "the endpoint closed the connection before its response",
                isUntouched: self.isStale))
    }

    private func fail(_ trouble: UpstreamTrouble) {
        guard !self.isOver else { return }
        let owner = self.owner
        self.owner = nil
        self.end(reset: true)
        owner?.attemptFailed(trouble)
    }

    private func end(reset: Bool) {
        guard !self.isOver else { return }
        self.isOver = true
        self.pool.ended(self)
        if reset {
            self.channel.reset()
        } else {
            self.channel.finish()
            self.channel.consumer = Discarding(self.channel, self.pool.server.loop)
        }
    }

    func close() { self.end(reset: false) }
}
