internal import MeshHTTP
internal import MeshRoutes
internal import MeshTunnel

// What a client of HTTP/1 is answered.

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
        if self.isDraining || !self.requestEnded || self.peerFinished { self.keepsAlive = false }
        let length = self.length(of: head, hasBody: hasBody)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.fields.listBytes + 96)
        HTTP1Writer.appendStatusLine(head.status, to: &bytes)
        if case .forbidden = length {
            var fields = head.fields
            fields.remove(named: "content-length")
            HTTP1Writer.append(fields, to: &bytes)
        } else {
            HTTP1Writer.append(head.fields, to: &bytes)
        }
        switch length {
        case .said, .forbidden: break
        case .none: HTTP1Writer.appendField("content-length", "0", to: &bytes)
        case .chunked:
            self.isChunked = true
            HTTP1Writer.appendField("transfer-encoding", "chunked", to: &bytes)
        case .untilClose: self.keepsAlive = false
        }
        if !self.keepsAlive {
            HTTP1Writer.appendField("connection", "close", to: &bytes)
        } else if self.isVersion10 {
            HTTP1Writer.appendField("connection", "keep-alive", to: &bytes)
        }
        HTTP1Writer.appendEndOfHead(to: &bytes)
        self.channel.send(bytes)
    }

    /// How the client learns where the body ends (RFC 9112, 6.3).
    private enum Length {
        /// The head says it, or need not.
        case said
        /// 204 must not say it (RFC 9110, 8.6).
        case forbidden
        /// HTTP/2 ends such a response with its head; here a length must say it.
        case none
        case chunked, untilClose
    }

    private func length(of head: ResponseHead, hasBody: Bool) -> Length {
        let isSaid = head.fields.has("content-length")
        if head.status == 204 { return isSaid ? .forbidden : .said }
        if isSaid { return .said }
        if hasBody { return self.isVersion10 ? .untilClose : .chunked }
        return self.method == "HEAD" || head.status == 304 ? .said : .none
    }

    func send(_ bytes: UnsafeRawBufferPointer, isLast: Bool) {
        guard !bytes.isEmpty else { return }
        guard self.isChunked else { return self.channel.send(bytes) }
        var line: [UInt8] = []
        HTTP1Writer.appendChunkSize(bytes.count, to: &line)
        self.channel.send(line)
        self.channel.send(bytes)
        self.channel.send([0x0D, 0x0A])
    }

    func finish(_ trailers: HTTP2HeaderList) {
        // Of a switched protocol one direction: the client may go on.
        if self.isSwitched { return self.channel.finish() }
        guard self.isChunked else { return }
        var bytes: [UInt8] = []
        HTTP1Writer.appendLastChunk(trailers, to: &bytes)
        self.channel.send(bytes)
    }

    func exchangeEnded() {
        self.exchange = nil
        guard !self.channel.isClosed, !self.isClosing else { return }
        guard self.keepsAlive, self.requestEnded, !self.peerFinished, !self.isDraining, !self.isSwitched else {
            return self.close()
        }
        self.wait(for: .request)
        self.channel.wantsMore()
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
        self.wait(for: .nothing)
        self.channel.wantsMore()
    }

    func abort() {
        self.exchange = nil
        self.channel.reset()
        self.closed()
    }

    var isFull: Bool {
        guard self.channel.isFull else { return false }
        self.awaitReading()
        return true
    }
    func wantsMore() { self.channel.wantsMore() }
}
