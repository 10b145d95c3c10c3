internal import MeshHTTP
internal import MeshLoop

/// A stream of either kind: its windows and the body that waits.
///
///     open ─END_STREAM both ways, RST_STREAM either way, connection gone─▶ not open: every later call does nothing
class HTTP2Stream {
    /// Of a body, waiting for a window: more is not taken from the other side.
    static let queuedBytesMax = 256 << 10

    let id: HTTP2StreamID
    unowned let connection: HTTP2Connection
    var sendWindow: FlowWindow
    var receiveWindow = ReceiveWindow(target: HTTP2Connection.streamWindowBytes)
    /// The connection knows it.
    var isOpen = true
    private var queued = PendingBytes()
    /// Our side ends behind `queued`; trailers then go out in a header block.
    private var endsWith: HTTP2HeaderList?
    private(set) var sentEnd = false
    private(set) var receivedEnd = false
    /// Our message is complete, and the rest of the peer's is not wanted: said behind it (RFC 9113, 8.1).
    private var resetsWhenSent = false
    /// In ``HTTP2Connection/ready``.
    var isQueued = false
    private var awaitsDrain = false
    /// Body bytes that the peer announced and has not sent; nil: it announced nothing.
    private var lengthLeft: Int?
    /// Taken by the other side later than at once: to be released then.
    private var unreleased = 0
    /// Rounds of the connection's watch in which bytes waited and none went.
    private var stalledRounds = 0

    init(_ id: HTTP2StreamID, _ connection: HTTP2Connection) {
        self.id = id
        self.connection = connection
        self.sendWindow = FlowWindow(connection.peerSettings.initialWindowBytes)
    }

    // MARK: For the two kinds

    /// The peer's resets are ordinary now.
    var isAnswered: Bool { true }
    /// A header block, of a stream whose peer has not ended it.
    func receivedHeaders(_ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2MalformedMessage) {}
    /// DATA may come now.
    func checkBody() throws(HTTP2MalformedMessage) {}
    /// - Returns: whether more may come; else ``resume()`` is called later.
    func received(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool { true }
    func peerFinished(_ trailers: HTTP2HeaderList) {}
    func peerReset(_ code: HTTP2ErrorCode) {}
    func broken(_ text: String) {}
    /// Nothing of what waits has been let through for too long.
    func stalled(_ text: String) {}
    func connectionLost(_ text: String) {}
    /// The queue has room.
    func drained() {}
    /// The head has not gone yet: nothing may overtake it.
    var holdsBody: Bool { false }

    // MARK: Received

    final func receivedData(_ bytes: UnsafeRawBufferPointer, endStream: Bool) throws(HTTP2MalformedMessage) {
        try self.checkBody()
        if let left = self.lengthLeft {
            guard bytes.count <= left, !endStream || bytes.count == left else { throw .wrongContentLength }
            self.lengthLeft = left - bytes.count
        }
        if !bytes.isEmpty {
            // What the other side does with it may end this stream.
            let wantsMore = self.received(bytes, isLast: endStream)
            if wantsMore { self.release(bytes.count) } else { self.unreleased += bytes.count }
        }
        if endStream { self.finishedByPeer(HTTP2HeaderList()) }
    }

    /// From `content-length` of the head.
    final func expect(_ length: Int?) { self.lengthLeft = length }

    /// The peer's message may end here.
    final func checkEnd() throws(HTTP2MalformedMessage) {
        if let left = self.lengthLeft, left > 0 { throw .wrongContentLength }
    }

    final func finishedByPeer(_ trailers: HTTP2HeaderList) {
        guard self.isOpen else { return }
        self.receivedEnd = true
        self.peerFinished(trailers)
        self.removeIfOver()
    }

    /// The other side goes on.
    final func resume() {
        let bytes = self.unreleased
        self.unreleased = 0
        if bytes > 0 { self.release(bytes) }
    }

    /// A stream that is not open has given everything back already.
    final func release(_ bytes: Int) {
        guard self.isOpen else { return }
        if let increment = self.receiveWindow.released(bytes), !self.receivedEnd {
            self.connection.control {
                HTTP2FrameWriter.appendWindowUpdate(stream: self.id, increment: increment, to: &$0)
            }
        }
        self.connection.returnCredit(bytes)
    }

    // MARK: Sent

    final var queuedBytes: Int { self.queued.count }
    final var hasBodyToSend: Bool {
        !self.sentEnd && !self.holdsBody && (!self.queued.isEmpty || self.endsWith != nil)
    }

    final var isFull: Bool {
        guard self.isOpen, self.queued.count >= Self.queuedBytesMax else { return false }
        self.awaitsDrain = true
        return true
    }

    /// Takes all of it: at once as far as nothing is in the way, into the queue what remains.
    /// - Parameter isLast: the last frame says END_STREAM; a ``queueEnd(_:)`` behind it has nothing left to say.
    final func queue(_ bytes: UnsafeRawBufferPointer, isLast: Bool) {
        guard self.isOpen, !self.sentEnd, self.endsWith == nil, !bytes.isEmpty else { return }
        var rest = bytes
        if self.queued.isEmpty, !self.holdsBody {
            while !rest.isEmpty, self.connection.isFreeToSend {
                let length = min(self.connection.allowance(self), rest.count)
                guard length > 0 else { break }
                let endsHere = isLast && length == rest.count
                self.connection.sendData(
                    self, UnsafeRawBufferPointer(rebasing: rest.prefix(length)), endStream: endsHere)
                if endsHere { return self.saidEnd() }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(length))
            }
        }
        guard let start = rest.baseAddress, !rest.isEmpty else { return }
        if self.queued.isEmpty { self.stalledRounds = 0 }
        self.queued.append(start, rest.count)
        if isLast { self.endsWith = HTTP2HeaderList() }
        self.connection.mayPump(self)
        self.connection.sendBodies()
    }

    final func queueEnd(_ trailers: HTTP2HeaderList) {
        guard self.isOpen, !self.sentEnd, self.endsWith == nil else { return }
        self.endsWith = trailers
        if self.queued.isEmpty, !self.isQueued, !self.holdsBody { return self.sendFrame(upTo: 0) }
        self.connection.mayPump(self)
        self.connection.sendBodies()
    }

    /// The head said that nothing follows.
    final func endedWithHead() {
        self.sentEnd = true
        self.removeIfOver()
    }

    /// One frame; the end too, if it is due.
    final func sendFrame(upTo allowed: Int) {
        let length = min(allowed, self.queued.count)
        let isLast = length == self.queued.count && self.endsWith != nil
        let trailers = isLast ? self.endsWith ?? HTTP2HeaderList() : HTTP2HeaderList()
        let endsHere = isLast && trailers.isEmpty
        if length > 0 {
            self.stalledRounds = 0
            var isSent = false
            _ = self.queued.drain { bytes, count in
                guard !isSent else { return .wouldBlock }
                isSent = true
                self.connection.sendData(
                    self, UnsafeRawBufferPointer(start: bytes, count: min(count, length)), endStream: endsHere)
                return .moved(min(count, length))
            }
        } else if endsHere {
            self.connection.sendData(self, UnsafeRawBufferPointer(start: nil, count: 0), endStream: true)
        }
        if isLast {
            if !endsHere {
                self.connection.sendHeaders(self.id, endStream: true) { encoder, block in
                    encoder.append(trailers, to: &block)
                }
            }
            self.saidEnd()
        } else if self.awaitsDrain, self.queued.count < Self.queuedBytesMax / 2 {
            self.awaitsDrain = false
            self.drained()
        }
    }

    // MARK: The end

    /// Our message is complete, or will be when what waits has gone.
    final var isEnding: Bool { self.sentEnd || self.endsWith != nil }

    private func saidEnd() {
        self.sentEnd = true
        self.removeIfOver()
        if self.isOpen, self.resetsWhenSent { self.reset(.noError) }
    }

    private func removeIfOver() { if self.sentEnd, self.receivedEnd { self.connection.remove(self) } }

    /// Nothing that the peer still sends is wanted: RST_STREAM behind the end of our message.
    final func wantsNoMore() {
        guard self.isOpen, !self.receivedEnd else { return }
        if self.sentEnd { self.reset(.noError) } else { self.resetsWhenSent = true }
    }

    /// Ends the stream with RST_STREAM.
    final func reset(_ code: HTTP2ErrorCode) {
        guard self.isOpen else { return }
        let connection = self.connection
        connection.closedStreams.resetByUs(
            self.id, dataLeft: self.receivedEnd ? 0 : self.receiveWindow.available)
        connection.control { HTTP2FrameWriter.appendReset(stream: self.id, code: code, to: &$0) }
        connection.remove(self)
    }

    /// Asked once in every round of the watch: bytes wait, and none have gone for more than `rounds` of them.
    final func isStalled(_ rounds: Int) -> Bool {
        guard !self.queued.isEmpty else {
            self.stalledRounds = 0
            return false
        }
        self.stalledRounds += 1
        return self.stalledRounds > rounds
    }
}
