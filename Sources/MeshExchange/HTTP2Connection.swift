internal import MeshHTTP
internal import MeshLoop
internal import MeshRoutes
internal import MeshTunnel

/// What a client's and an endpoint's HTTP/2 connection have in common: frames, windows, settings, and the queue of bodies.
///
/// What the peer says: `+Frames`; what is sent: `+Sending`; how it ends: `+End`.
///
/// A stream's body waits with the stream while a window is shut or the channel is full. What waits in the channel is
/// bounded: bodies stop when it is full, and beyond ``unreadBytesMax`` nothing more is read from a peer that does not
/// read what it has been answered.
class HTTP2Connection: PipeConsumer {
    static let streamWindowBytes = 256 << 10
    /// Of a client: so many of its streams may stand still at once before the others wait.
    static let clientWindowBytes = 4 << 20
    /// Heads and control frames that wait in the channel beside bodies, before the peer is not heard any more.
    static let unreadBytesMax = PipeEnd.queuedBytesMax + 256 << 10
    static let frameBytesMax = 16_384
    /// A larger frame of ours would only keep other streams waiting.
    static let sentFrameBytesMax = 64 << 10
    static let headerListBytesMax = 64 << 10
    /// How often it is looked whether anything stands still.
    static let watchInterval = Duration.seconds(15)

    let server: ExchangeServer
    let channel: any ByteChannel
    let role: HTTP2FrameReader.Role
    var reader: HTTP2FrameReader
    var decoder = HPACKDecoder(listBytesMax: HTTP2Connection.headerListBytesMax)
    var encoder = HPACKEncoder()
    var flood = HTTP2FloodGuard()
    var peerSettings = HTTP2Settings()
    var hasPeerSettings = false
    var sendWindow = FlowWindow(65_535)
    var receiveWindow = ReceiveWindow(target: 65_535)
    var streams: [HTTP2StreamID: HTTP2Stream] = [:]
    var closedStreams = ClosedStreams()
    /// The highest stream of the peer (server), or our own last one (client).
    var lastStream = HTTP2StreamID.connection
    /// Streams with something to send, and a window of their own that is open; those before `readyAt` had their turn.
    var ready: [HTTP2Stream] = []
    var readyAt = 0
    var isSendingBodies = false
    /// The peer's bytes wait until it has read ours.
    var awaitsReading = false
    var isOver = false
    private var watch: LoopTimer?
    /// Rounds of the watch in which the channel has not moved.
    private var stalledRounds = 0
    private var watchedQueue = 0
    /// The header block that was the last one to be half there, and since when.
    private var watchedBlocks: UInt64 = 0
    private var blockBegan: UInt64 = 0

    init(_ server: ExchangeServer, _ channel: any ByteChannel, role: HTTP2FrameReader.Role) {
        self.server = server
        self.channel = channel
        self.role = role
        var limits = HTTP2FrameReader.Limits()
        limits.frameBytesMax = Self.frameBytesMax
        limits.headerBlockBytesMax = Self.headerListBytesMax
        self.reader = HTTP2FrameReader(role: role, limits: limits)
        self.introduce()
    }

    /// Our preface: settings, and the connection's window.
    private func introduce() {
        var bytes: [UInt8] = []
        if self.role == .client { HTTP2FrameWriter.appendClientPreface(to: &bytes) }
        var own = HTTP2Settings()
        own.enablePush = false
        own.initialWindowBytes = Self.streamWindowBytes
        own.headerListBytesMax = Self.headerListBytesMax
        let streamsMax = self.server.configuration.streamsMax
        if self.role == .server {
            own.maxConcurrentStreams = streamsMax
            own.enableConnectProtocol = true
        }
        HTTP2FrameWriter.appendSettings(own.announcement(from: self.role), to: &bytes)
        // An endpoint's connection serves clients that know nothing of one another: slow ones must not stop the rest.
        let target = self.role == .server ? Self.clientWindowBytes : streamsMax * Self.streamWindowBytes
        if let increment = self.receiveWindow.grow(to: target) {
            HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: increment, to: &bytes)
        }
        self.channel.send(bytes)
    }

    // MARK: For the two kinds

    /// A header block of a stream that is not open; a server opens one.
    func opened(_ id: HTTP2StreamID, _ fields: HTTP2HeaderList, endStream: Bool) throws(HTTP2ConnectionError) {}
    func receivedGoAway(_ last: HTTP2StreamID, _ code: HTTP2ErrorCode) {}
    func receivedPingAck(_ opaque: UInt64) {}
    func settingsChanged() {}
    func streamsChanged() {}
    /// The connection is gone; streams have been told.
    func ended() {}

    // MARK: Streams

    final func add(_ stream: HTTP2Stream) {
        self.note(stream.id)
        self.streams[stream.id] = stream
        self.watchLater()
    }

    /// The peer has used this identifier; no stream came of it.
    final func note(_ id: HTTP2StreamID) {
        self.closedStreams.began(id)
        self.lastStream = max(self.lastStream, id)
    }

    /// The stream is over on both sides, or nobody wants it. Its windows are given back once.
    final func remove(_ stream: HTTP2Stream) {
        guard stream.isOpen else { return }
        stream.isOpen = false
        self.streams[stream.id] = nil
        if stream.isQueued {
            stream.isQueued = false
            if let at = self.ready[self.readyAt...].firstIndex(where: { $0 === stream }) { self.ready.remove(at: at) }
        }
        self.returnCredit(stream.receiveWindow.held)
        self.streamsChanged()
    }

    /// A stream of which the peer never heard: its identifier is just skipped.
    final func forget(_ stream: HTTP2Stream) { self.remove(stream) }

    // MARK: Bytes of the peer

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int {
        if self.isOver { return bytes.count }
        // Said once it was all taken, too: then the next bytes are the first that wait.
        if self.awaitsReading { return 0 }
        var input = bytes
        do throws(HTTP2ConnectionError) {
            while let event = try self.reader.next(&input) {
                try self.received(event)
                if self.isOver { return bytes.count }
                if self.channel.queuedBytes > Self.unreadBytesMax, self.channel.isFull {
                    // What we have answered is not read: the peer may ask on when it has.
                    self.awaitsReading = true
                    break
                }
            }
        } catch {
            self.close(error.code, "\(error)")
            return bytes.count
        }
        if self.reader.isInsideHeaderBlock { self.watchBlock() }
        self.sendBodies()
        return bytes.count - input.count
    }

    func pipeFinished() { self.lost("the peer closed the connection") }

    func pipeDrained() {
        if self.awaitsReading {
            self.awaitsReading = false
            self.blockBegan = self.server.loop.now
            self.channel.wantsMore()
        }
        self.sendBodies()
    }

    func pipeClosed(reset: Bool) { self.lost(reset ? "the peer reset the connection" : "the connection ended") }

    // MARK: What stands still

    /// A header block has begun and not ended.
    private func watchBlock() {
        // While the peer is not heard, the rest may have come.
        if self.awaitsReading || self.reader.blocksBegun != self.watchedBlocks {
            self.watchedBlocks = self.reader.blocksBegun
            self.blockBegan = self.server.loop.now
        }
        self.watchLater()
    }

    /// Runs while there is anything that could stand still: open streams, a header block, or bytes that wait.
    final func watchLater() {
        guard self.watch?.isArmed != true, !self.isOver else { return }
        let watch = self.watch ?? LoopTimer(loop: self.server.loop) { [unowned self] in self.look() }
        self.watch = watch
        watch.arm(after: Self.watchInterval)
    }

    final func stopWatch() {
        self.watch?.cancel()
        self.watch = nil
    }

    private func look() {
        let rounds = max(1, Int(self.server.configuration.stallTimeout / Self.watchInterval))
        let queue = self.channel.queuedBytes
        let isUnread = queue > 0 && queue >= self.watchedQueue
        self.watchedQueue = queue
        self.stalledRounds = isUnread ? self.stalledRounds + 1 : 0
        if self.stalledRounds > rounds {
            return self.abandon("the peer has read nothing for \(self.server.configuration.stallTimeout)")
        }
        let limit = self.server.configuration.headTimeout
        if self.reader.isInsideHeaderBlock, !self.awaitsReading,
            .nanoseconds(self.server.loop.now &- self.blockBegan) >= limit
        {
            return self.close(.enhanceYourCalm, "the peer has not completed a header block within \(limit)")
        }
        for stream in Array(self.streams.values) where stream.isStalled(rounds) {
            stream.reset(.cancel)
            stream.stalled("the peer has let nothing of the body through for \(self.server.configuration.stallTimeout)")
        }
        if !self.streams.isEmpty || queue > 0 || self.reader.isInsideHeaderBlock { return self.watchLater() }
        // Idle, perhaps for an hour: what busier times needed goes.
        self.watch = nil
        self.streams = [:]
        self.ready = []
    }
}
