internal import Glibc
package import MeshLoop

/// Who serves a stream in this process: the application's place behind a ``PipeEnd``. Called on the loop; the pipe may be
/// closed inside any call.
package protocol PipeConsumer: AnyObject {
    /// Bytes from the peer, borrowed for the call.
    /// - Returns: how many are taken. Fewer than all of them: the rest comes again, and nothing else before
    ///   ``PipeEnd/wantsMore()``.
    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int
    /// The peer sends no more; every byte before that has been received.
    func pipeFinished()
    /// What was refused for ``PipeEnd/queuedBytesMax`` may be sent now.
    func pipeDrained()
    /// The stream is over, both ways. The last call.
    func pipeClosed(reset: Bool)
}

/// The application of a stream, where that is this process: what the peer sends is handed over where it lies, and what is
/// sent waits here until the tunnel fetches it to the place where its record is sealed.
package final class PipeEnd: AppSocket {
    /// A consumer that has queued so much waits for ``PipeConsumer/pipeDrained()``.
    package static let queuedBytesMax = 256 << 10
    /// And is called when so little is left.
    static let queuedBytesLow = 64 << 10
    /// Handed over at a time: what a consumer takes before it can say that it is full.
    static let offeredBytesMax = 128 << 10

    /// Cleared at the end, which breaks the cycle.
    package var consumer: (any PipeConsumer)?
    private var queued = PendingBytes()
    private var hasFinished = false
    private var awaitsDrain = false
    private var toldEnd = false

    package init(loop: EventLoop, consumer: (any PipeConsumer)? = nil) {
        self.consumer = consumer
        super.init(descriptor: -1, loop: loop, isConnecting: false)
    }

    // MARK: For the consumer

    package var queuedBytes: Int { self.queued.count }

    /// Takes all of it; the caller looks at ``isFull`` before it makes more.
    package func send(_ bytes: UnsafeRawBufferPointer) {
        guard !self.isClosed, !self.hasFinished, let start = bytes.baseAddress else { return }
        self.queued.append(start, bytes.count)
        self.hasNews()
    }

    package var isFull: Bool {
        let isFull = self.queued.count >= Self.queuedBytesMax
        if isFull { self.awaitsDrain = true }
        return isFull
    }

    /// FIN behind what was sent.
    package func finish() {
        guard !self.isClosed, !self.hasFinished else { return }
        self.hasFinished = true
        self.sawEnd = true
        self.hasNews()
    }

    /// Ends the stream now, both ways.
    package func reset() {
        guard !self.isClosed else { return }
        self.consumer = nil
        // Without a stream yet: whoever opens one for us finds us closed.
        guard let handler else { return self.end(reset: true) }
        handler.appFailed(self, code: ECONNRESET)
    }

    /// Behind ``finish()``: nothing more is read, and what was sent still arrives. False: some of it is still here.
    package func leave() -> Bool {
        guard !self.isClosed else { return true }
        return self.handler?.appLeft(self) ?? false
    }

    package func pause() { self.isWritable = false }

    /// After ``pause()``, or when ``PipeConsumer/pipeReceived(_:)`` left something: it may come again.
    package func wantsMore() {
        guard !self.isClosed, !self.isWritable else { return }
        self.isWritable = true
        self.wantsTurn()
    }

    private func hasNews() {
        guard !self.isReadable else { return }
        self.isReadable = true
        self.handler?.appReadable(self)
    }

    // MARK: For the stream

    override func read(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> IOResult {
        guard !self.queued.isEmpty else { return self.hasFinished ? .ended : .wouldBlock }
        var moved = 0
        for i in 0..<count {
            let taken = self.queued.take(vectors[i].iov_base, vectors[i].iov_len)
            moved += taken
            if taken < vectors[i].iov_len { break }
        }
        if self.awaitsDrain, self.queued.count <= Self.queuedBytesLow { self.wantsTurn() }
        return .moved(moved)
    }

    override func write(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> IOResult {
        var moved = 0
        for i in 0..<count {
            var left = UnsafeRawBufferPointer(start: vectors[i].iov_base, count: vectors[i].iov_len)
            while !left.isEmpty {
                guard self.isWritable else { return moved > 0 ? .moved(moved) : .wouldBlock }
                guard let consumer, !self.isClosed else { return .failed(EPIPE) }
                let offered = UnsafeRawBufferPointer(rebasing: left.prefix(Self.offeredBytesMax))
                let taken = consumer.pipeReceived(offered)
                // The stream has given everything back to its windows already.
                if self.isClosed { return .failed(EPIPE) }
                moved += taken
                if taken < offered.count { return moved > 0 ? .moved(moved) : .wouldBlock }
                left = UnsafeRawBufferPointer(rebasing: left.dropFirst(taken))
            }
        }
        return .moved(moved)
    }

    override func finishWriting() {
        self.toldEnd = true
        self.consumer?.pipeFinished()
    }

    override func isAtEnd() -> Bool { self.hasFinished && self.queued.isEmpty }

    /// Outside of the tunnel's own work: there its scratch buffers are in use.
    package override func turn() {
        if self.awaitsDrain, self.queued.count <= Self.queuedBytesLow {
            self.awaitsDrain = false
            self.consumer?.pipeDrained()
        }
        if !self.isClosed, self.isWritable { self.handler?.appWritable(self) }
    }

    package override func end(reset: Bool) {
        // The peer's end may be the end of everything.
        if !reset, !self.toldEnd { self.finishWriting() }
        let consumer = self.consumer
        self.consumer = nil
        super.end(reset: reset)
        consumer?.pipeClosed(reset: reset)
    }
}
