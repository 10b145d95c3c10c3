internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// What a client's and an endpoint's HTTP/2 connection have in common: frames, windows, settings, and the queue of bodies.
///
/// A stream's body waits with the stream while a window is shut; what fits goes to the channel at once, which asks for the
/// next when it has drained.
class HTTP2Connection: PipeConsumer {
    static let streamWindowBytes = 256 << 10
    static let connectionWindowBytes = 1 << 20
    /// Control frames and bodies of one stream that wait in the channel, beyond what the channel calls full.
    static let controlBytesMax = 256 << 10
    static let frameBytesMax = 16_384

    let server: ExchangeServer
    let channel: any ByteChannel
    let role: HTTP2FrameReader.Role
    private var reader: HTTP2FrameReader
    private var decoder = HPACKDecoder(listBytesMax: HTTP2Connection.headerListBytesMax)
    private var encoder = HPACKEncoder()
    private var flood = HTTP2FloodGuard()
    private(set) var peerSettings = HTTP2Settings()
    private var sendWindow = FlowWindow(65_535)
    private var receiveWindow = ReceiveWindow(target: 65_535)
    private(set) var streams: [HTTP2StreamID: HTTP2Stream] = [:]
    /// Have body bytes to send, and a window of their own.
    private var ready: [HTTP2Stream] = []
    private(set) var isOver = false
    /// The highest stream of the peer (server), or our own last one (client).
    private(set) var lastStream = HTTP2StreamID.connection

    static let headerListBytesMax = 64 << 10

    init(_ server: ExchangeServer, _ channel: any ByteChannel, role: HTTP2FrameReader.Role) {
        self.server = server
        self.channel = channel
        self.role = role
        var limits = HTTP2FrameReader.Limits()
        limits.frameBytesMax = Self.frameBytesMax
        limits.headerBlockBytesMax = Self.headerListBytesMax
        self.reader = HTTP2FrameReader(role: role, limits: limits)
        var bytes: [UInt8] = []
        if role == .client { HTTP2FrameWriter.appendClientPreface(to: &bytes) }
        var own = HTTP2Settings()
        own.enablePush = false
        own.initialWindowBytes = Self.streamWindowBytes
        own.headerListBytesMax = Self.headerListBytesMax
        if role == .server {
            own.maxConcurrentStreams = server.configuration.streamsMax
            own.enableConnectProtocol = true
        }
        HTTP2FrameWriter.appendSettings(own.announcement(from: role), to: &bytes)
        if let increment = self.receiveWindow.grow(to: Self.connectionWindowBytes) {
            HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: increment, to: &bytes)
        }
        channel.send(bytes)
    }

    // MARK: For the two kinds

    /// A header block of a stream that is not open; a server opens one.
    func opened(_ id: HTTP2StreamID, _ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2ConnectionError) {}
    func receivedGoAway(_ last: HTTP2StreamID, _ code: HTTP2ErrorCode) {}
    func settingsChanged() {}
    func streamsChanged() {}
    /// The connection is gone; streams have been told.
    func ended() {}

    final func add(_ stream: HTTP2Stream) {
        self.streams[stream.id] = stream
        self.lastStream = max(self.lastStream, stream.id)
    }

    final func note(_ id: HTTP2StreamID) { self.lastStream = max(self.lastStream, id) }

    // MARK: Bytes of the peer

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.isOver { return bytes.count }
        var input = bytes
        do throws(HTTP2ConnectionError) {
            while let event = try self.reader.next(&input) {
                try self.received(event)
                if self.isOver { return bytes.count }
            }
        } catch {
            self.close(error.code, "\(error)")
        }
        self.sendBodies()
        return bytes.count
    }

    private func received(_ event: HTTP2Event) throws(HTTP2ConnectionError) {
        let now = self.server.loop.now
        switch event {
        case .data(let id, let bytes, let flowControlled, let endStream):
            try self.receivedData(id, bytes, flowControlled, endStream)
        case .headers(let id, let block, let endStream):
            let fields: HTTP2HeaderList
            do throws(HPACKError) { fields = try self.decoder.decode(block) } catch { throw .compression(error) }
            if let stream = self.streams[id] {
                do throws(HTTP2MalformedMessage) {
                    try stream.receivedHeaders(fields, endStream: endStream)
                } catch {
                    try self.broke(HTTP2StreamError(id, .malformed(error)))
                }
            } else {
                try self.opened(id, fields, endStream: endStream)
            }
        case .reset(let id, let code):
            guard let stream = self.streams[id] else {
                // RFC 9113, 5.1: for a stream that never was it is a connection error.
                guard id <= self.lastStream else { throw .wrongStream(.resetStream, id) }
                return try self.flood.record(.useless, at: now)
            }
            if !stream.isAnswered { try self.flood.record(.unansweredReset, at: now) }
            self.remove(stream)
            stream.peerReset(code)
        case .settings(let settings):
            try self.flood.record(.settings, at: now)
            try self.apply(settings)
        case .settingsAck, .priorityIgnored, .unknownIgnored: try self.flood.record(.useless, at: now)
        case .ping(let opaque, let ack):
            guard !ack else { return }
            try self.flood.record(.ping, at: now)
            self.control { HTTP2FrameWriter.appendPing(opaque: opaque, ack: true, to: &$0) }
        case .goAway(let last, let code, _): self.receivedGoAway(last, code)
        case .windowUpdate(let id, let increment): try self.credited(id, increment)
        case .streamError(let error): try self.broke(error)
        }
    }

    private func receivedData(
        _ id: HTTP2StreamID, _ bytes: UnsafeRawBufferPointer, _ flowControlled: Int, _ endStream: Bool
    ) throws(HTTP2ConnectionError) {
        do { try self.receiveWindow.received(flowControlled) } catch { throw .windowExceeded }
        if flowControlled == 0, !endStream { try self.flood.record(.emptyData, at: self.server.loop.now) }
        guard let stream = self.streams[id] else {
            guard id <= self.lastStream else { throw .wrongStream(.data, id) }
            return self.returnCredit(flowControlled)
        }
        do { try stream.receiveWindow.received(flowControlled) } catch {
            self.returnCredit(flowControlled)
            return try self.broke(HTTP2StreamError(id, .windowExceeded))
        }
        guard stream.acceptsData else {
            self.returnCredit(flowControlled)
            return try self.broke(HTTP2StreamError(id, .streamClosed))
        }
        if flowControlled > bytes.count { stream.release(flowControlled - bytes.count) }
        do throws(HTTP2MalformedMessage) {
            try stream.receivedData(bytes, endStream: endStream)
        } catch {
            try self.broke(HTTP2StreamError(id, .malformed(error)))
        }
    }

    private func apply(_ settings: [HTTP2Setting]) throws(HTTP2ConnectionError) {
        let change = try self.peerSettings.apply(settings, from: self.role == .server ? .client : .server)
        if change.initialWindowDelta != 0 {
            for stream in self.streams.values {
                do { try stream.sendWindow.adjust(by: change.initialWindowDelta) } catch { throw .windowOverflow }
                self.mayPump(stream)
            }
        }
        if let table = change.headerTableBytes {
            self.encoder.peerTableBytesMaxChanged(to: table.smallest)
            self.encoder.peerTableBytesMaxChanged(to: table.last)
        }
        self.control { HTTP2FrameWriter.appendSettingsAck(to: &$0) }
        self.settingsChanged()
    }

    private func credited(_ id: HTTP2StreamID, _ increment: Int) throws(HTTP2ConnectionError) {
        guard !id.isConnection else {
            do { try self.sendWindow.credit(increment) } catch { throw .windowOverflow }
            return
        }
        guard let stream = self.streams[id] else {
            guard id <= self.lastStream else { throw .wrongStream(.windowUpdate, id) }
            return try self.flood.record(.useless, at: self.server.loop.now)
        }
        do { try stream.sendWindow.credit(increment) } catch {
            return try self.broke(HTTP2StreamError(id, .windowOverflow))
        }
        self.mayPump(stream)
    }

    /// The peer broke a rule on one stream.
    func broke(_ error: HTTP2StreamError) throws(HTTP2ConnectionError) {
        try self.flood.record(.provokedReset, at: self.server.loop.now)
        self.reset(error.stream, error.code)
        guard let stream = self.streams[error.stream] else { return }
        self.remove(stream)
        stream.broken("\(error)")
    }

    final func refused(_ id: HTTP2StreamID) throws(HTTP2ConnectionError) {
        self.reset(id, .refusedStream)
        try self.flood.record(.refusedStream, at: self.server.loop.now)
    }

    func pipeFinished() { self.lost("the peer closed the connection") }

    func pipeDrained() {
        self.sendBodies()
        for stream in Array(self.streams.values) where stream.awaitsDrain && !stream.isFull {
            stream.awaitsDrain = false
            stream.drained()
        }
    }

    func pipeClosed(reset: Bool) { self.lost(reset ? "the peer reset the connection" : "the connection ended") }

    // MARK: Sending

    final func control(_ write: (inout [UInt8]) -> Void) {
        guard !self.isOver else { return }
        var bytes: [UInt8] = []
        write(&bytes)
        self.channel.send(bytes)
    }

    final func sendHeaders(_ id: HTTP2StreamID, _ fill: (inout HPACKEncoder, inout [UInt8]) -> Void, endStream: Bool) {
        guard !self.isOver else { return }
        var block: [UInt8] = []
        self.encoder.begin(&block)
        fill(&self.encoder, &block)
        var bytes: [UInt8] = []
        HTTP2FrameWriter.appendHeaders(
            stream: id, block: block, endStream: endStream, frameBytesMax: self.peerSettings.frameBytesMax, to: &bytes)
        self.channel.send(bytes)
    }

    final func reset(_ id: HTTP2StreamID, _ code: HTTP2ErrorCode) {
        self.control { HTTP2FrameWriter.appendReset(stream: id, code: code, to: &$0) }
    }

    /// `stream` has something to send and may.
    final func mayPump(_ stream: HTTP2Stream) {
        guard stream.hasBodyToSend, !stream.isQueued else { return }
        guard stream.sendWindow.sendable > 0 || stream.queuedBytes == 0 else { return }
        stream.isQueued = true
        self.ready.append(stream)
    }

    /// Round and round, a frame each, while the channel takes it.
    final func sendBodies() {
        var at = 0
        while at < self.ready.count, !self.isOver, !self.channel.isFull {
            let stream = self.ready[at]
            at += 1
            stream.isQueued = false
            guard self.streams[stream.id] === stream else { continue }
            let allowed = min(self.sendWindow.sendable, stream.sendWindow.sendable, self.peerSettings.frameBytesMax)
            if allowed == 0, stream.queuedBytes > 0 {
                // The connection's window is shut: its place is kept.
                if stream.sendWindow.sendable > 0 {
                    stream.isQueued = true
                    at -= 1
                    break
                }
                continue
            }
            let sent = stream.sendFrame(upTo: allowed)
            stream.sendWindow.consume(sent)
            self.sendWindow.consume(sent)
            self.mayPump(stream)
        }
        self.ready.removeFirst(min(at, self.ready.count))
    }

    final func returnCredit(_ bytes: Int) {
        guard bytes > 0, !self.isOver, let increment = self.receiveWindow.released(bytes) else { return }
        self.control { HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: increment, to: &$0) }
    }

    /// The stream is over on both sides, or nobody wants it.
    final func remove(_ stream: HTTP2Stream) {
        guard self.streams[stream.id] === stream else { return }
        self.streams[stream.id] = nil
        self.returnCredit(stream.receiveWindow.held)
        self.streamsChanged()
    }

    // MARK: The end

    final func goAway(_ code: HTTP2ErrorCode, _ text: String = "") {
        let last = self.role == .server ? self.lastStream : HTTP2StreamID.connection
        self.control { HTTP2FrameWriter.appendGoAway(lastStream: last, code: code, debug: text, to: &$0) }
    }

    /// Tells the peer why and goes.
    final func close(_ code: HTTP2ErrorCode, _ text: String) {
        guard !self.isOver else { return }
        self.goAway(code, text)
        self.isOver = true
        self.channel.finish()
        self.channel.consumer = Discarding(self.channel, self.server.loop)
        self.tellStreams(text)
    }

    private func lost(_ text: String) {
        guard !self.isOver else { return }
        self.isOver = true
        self.channel.consumer = nil
        if !self.channel.isClosed { self.channel.reset() }
        self.tellStreams(text)
    }

    private func tellStreams(_ text: String) {
        let streams = self.streams
        self.streams = [:]
        self.ready = []
        for stream in streams.values { stream.connectionLost(text) }
        self.ended()
    }
}

/// A stream of either kind: its windows and the body that waits.
class HTTP2Stream {
    /// Of a body, waiting for a window: more is not taken from the other side.
    static let queuedBytesMax = 256 << 10

    let id: HTTP2StreamID
    unowned let connection: HTTP2Connection
    var sendWindow: FlowWindow
    var receiveWindow = ReceiveWindow(target: HTTP2Connection.streamWindowBytes)
    private var queued = PendingBytes()
    /// Our side ends behind `queued`; trailers then go out in a header block.
    private var endsWith: HTTP2HeaderList?
    private(set) var sentEnd = false
    private(set) var receivedEnd = false
    var isQueued = false
    var awaitsDrain = false
    /// Body bytes that the peer announced and has not sent; nil: it announced nothing.
    private var lengthLeft: Int?

    init(_ id: HTTP2StreamID, _ connection: HTTP2Connection) {
        self.id = id
        self.connection = connection
        self.sendWindow = FlowWindow(connection.peerSettings.initialWindowBytes)
    }

    // MARK: For the two kinds

    var isAnswered: Bool { true }
    /// DATA is in order now.
    var acceptsData: Bool { !self.receivedEnd }
    func receivedHeaders(_ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2MalformedMessage) {}
    /// - Returns: whether more may come; else ``release(_:)`` is called later.
    func received(_ bytes: UnsafeRawBufferPointer) -> Bool { true }
    func peerFinished(_ trailers: HTTP2HeaderList) {}
    func peerReset(_ code: HTTP2ErrorCode) {}
    func broken(_ text: String) {}
    func connectionLost(_ text: String) {}
    /// The queue has room.
    func drained() {}

    // MARK: Received

    /// Bytes taken by the other side later than at once.
    private var unreleased = 0

    final func receivedData(_ bytes: UnsafeRawBufferPointer, endStream: Bool) throws(HTTP2MalformedMessage) {
        if let left = self.lengthLeft {
            guard bytes.count <= left, !endStream || bytes.count == left else { throw .badContentLength("body") }
            self.lengthLeft = left - bytes.count
        }
        if !bytes.isEmpty {
            if self.received(bytes) { self.release(bytes.count) } else { self.unreleased += bytes.count }
        }
        if endStream { self.finishedByPeer(HTTP2HeaderList()) }
    }

    /// From `content-length` of the head.
    final func expect(_ length: Int?) { self.lengthLeft = length }

    final func checkEnd() throws(HTTP2MalformedMessage) {
        if let left = self.lengthLeft, left > 0 { throw .badContentLength("body") }
    }

    final func finishedByPeer(_ trailers: HTTP2HeaderList) {
        self.receivedEnd = true
        self.peerFinished(trailers)
        self.removeIfOver()
    }

    /// The other side goes on.
    final func resume() {
        guard self.unreleased > 0 else { return }
        let bytes = self.unreleased
        self.unreleased = 0
        self.release(bytes)
    }

    final func release(_ bytes: Int) {
        guard !self.connection.isOver else { return }
        if let increment = self.receiveWindow.released(bytes), !self.receivedEnd {
            self.connection.control {
                HTTP2FrameWriter.appendWindowUpdate(stream: self.id, increment: increment, to: &$0)
            }
        }
        self.connection.returnCredit(bytes)
    }

    // MARK: Sent

    final var queuedBytes: Int { self.queued.count }
    final var hasBodyToSend: Bool { !self.sentEnd && (!self.queued.isEmpty || self.endsWith != nil) }

    final var isFull: Bool {
        let isFull = self.queued.count >= Self.queuedBytesMax
        if isFull { self.awaitsDrain = true }
        return isFull
    }

    final func queue(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress, !self.sentEnd, self.endsWith == nil else { return }
        self.queued.append(start, bytes.count)
        self.connection.mayPump(self)
        self.connection.sendBodies()
    }

    final func queueEnd(_ trailers: HTTP2HeaderList) {
        guard !self.sentEnd, self.endsWith == nil else { return }
        self.endsWith = trailers
        self.connection.mayPump(self)
        self.connection.sendBodies()
    }

    /// The head said that nothing follows.
    final func endedWithHead() {
        self.sentEnd = true
        self.removeIfOver()
    }

    /// One frame; the end too, if it is due. - Returns: bytes that count for the windows.
    final func sendFrame(upTo allowed: Int) -> Int {
        let length = min(allowed, self.queued.count)
        let isLast = length == self.queued.count && self.endsWith != nil
        let trailers = isLast ? self.endsWith! : HTTP2HeaderList()
        let endsHere = isLast && trailers.isEmpty
        if length > 0 || endsHere {
            withUnsafeTemporaryAllocation(byteCount: HTTP2FrameWriter.Bytes.dataHeader + length, alignment: 8) { room in
                let header = HTTP2FrameWriter.writeDataHeader(
                    stream: self.id, length: length, endStream: endsHere, at: room.baseAddress!)
                // SAFETY: the room is a header and `length` bytes.
                _ = self.queued.take(room.baseAddress! + header, length)
                self.connection.channel.send(UnsafeRawBufferPointer(room))
            }
        }
        if isLast {
            if !endsHere {
                self.connection.sendHeaders(
                    self.id, { encoder, block in encoder.append(trailers, to: &block) }, endStream: true)
            }
            self.sentEnd = true
            self.removeIfOver()
        } else if self.awaitsDrain, self.queued.count < Self.queuedBytesMax / 2 {
            self.awaitsDrain = false
            self.drained()
        }
        return length
    }

    private func removeIfOver() { if self.sentEnd, self.receivedEnd { self.connection.remove(self) } }

    /// Ends the stream with RST_STREAM.
    final func reset(_ code: HTTP2ErrorCode) {
        guard self.connection.streams[self.id] === self else { return }
        self.connection.reset(self.id, code)
        self.connection.remove(self)
    }
}
