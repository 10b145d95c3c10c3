internal import Glibc
internal import MeshLoop

/// Bytes both ways, in order: a stream of a tunnel (``PipeEnd``) or a plain TCP connection (``SocketChannel``).
/// What the other side does is told to the ``PipeConsumer``.
package protocol ByteChannel: AnyObject {
    /// Cleared at the end.
    var consumer: (any PipeConsumer)? { get set }
    var isClosed: Bool { get }
    /// More should not be sent before ``PipeConsumer/pipeDrained()``, which comes only after this was asked.
    var isFull: Bool { get }
    /// Sent, and not fetched yet.
    var queuedBytes: Int { get }
    /// Takes all of it.
    func send(_ bytes: UnsafeRawBufferPointer)
    /// FIN behind what was sent.
    func finish()
    /// Ends both ways now; the consumer is told no more.
    func reset()
    /// Behind ``finish()``: nothing more is read, and what was sent still arrives.
    /// - Returns: false while some of it has not left: ask again.
    func leave() -> Bool
    /// Nothing is to come before ``wantsMore()``: what the other side sends waits in its window.
    func pause()
    func wantsMore()
}

extension ByteChannel {
    package func send(_ bytes: [UInt8]) { bytes.withUnsafeBytes { self.send($0) } }

    /// Where only a reset can say so.
    package func leave() -> Bool {
        self.reset()
        return true
    }
}

extension PipeEnd: ByteChannel {}

/// A plain TCP connection as a channel.
///
/// What the consumer leaves waits here, and nothing more is read meanwhile: at most one scratch buffer.
package final class SocketChannel: ByteChannel, AppSocketHandler {
    static let readsPerTurnMax = 4

    package var consumer: (any PipeConsumer)?
    private let socket: AppSocket
    /// Called once: nil, or why there is no connection.
    private var connected: ((String?) -> Void)?
    private var deadline: LoopTimer?
    private var queued = PendingBytes()
    private var left = PendingBytes()
    private var isPaused = false
    private var hasFinished = false
    private var finSent = false
    private var peerFinished = false
    private var awaitsDrain = false
    private var hasFailed = false

    /// - Parameter socket: connecting, its owner us.
    init(_ socket: AppSocket, timeout: Duration, connected: @escaping (String?) -> Void) {
        self.socket = socket
        self.connected = connected
        socket.handler = self
        let timer = LoopTimer(loop: socket.loop) { [unowned self] in self.failed("no connection within \(timeout)") }
        self.deadline = timer
        timer.arm(after: timeout)
    }

    package var isClosed: Bool { self.socket.isClosed }

    package var queuedBytes: Int { self.queued.count }

    package var isFull: Bool {
        let isFull = self.queued.count >= PipeEnd.queuedBytesMax
        if isFull { self.awaitsDrain = true }
        return isFull
    }

    package func send(_ bytes: UnsafeRawBufferPointer) {
        guard !self.isClosed, !self.hasFinished, let start = bytes.baseAddress else { return }
        self.queued.append(start, bytes.count)
        self.socket.wantsTurn()
    }

    package func finish() {
        guard !self.isClosed, !self.hasFinished else { return }
        self.hasFinished = true
        self.socket.wantsTurn()
    }

    package func reset() {
        self.consumer = nil
        self.close(reset: true)
    }

    package func leave() -> Bool {
        guard self.finSent || self.isClosed else { return false }
        self.consumer = nil
        self.close(reset: false)
        return true
    }

    package func pause() { self.isPaused = true }

    package func wantsMore() {
        guard self.isPaused else { return }
        self.isPaused = false
        self.socket.wantsTurn()
    }

    private func close(reset: Bool) {
        self.deadline?.cancel()
        self.deadline = nil
        self.connected = nil
        let consumer = self.consumer
        self.consumer = nil
        if !self.isClosed { self.socket.end(reset: reset) }
        self.queued.removeAll()
        self.left.removeAll()
        consumer?.pipeClosed(reset: reset)
    }

    private func failed(_ reason: String) {
        // What came before a reset is still in the kernel: an early answer, whose sender did not wait for all of ours.
        if self.connected == nil, !self.peerFinished, !self.hasFailed, !self.isPaused, self.left.isEmpty {
            self.hasFailed = true
            self.socket.isReadable = true
            while self.socket.isReadable, !self.isPaused, !self.isClosed { self.receive() }
            if self.isClosed { return }
        }
        let connected = self.connected
        self.connected = nil
        self.close(reset: true)
        connected?(reason)
    }

    // MARK: The socket

    func appConnected(_ socket: AppSocket) {
        self.deadline?.cancel()
        self.deadline = nil
        let connected = self.connected
        self.connected = nil
        connected?(nil)
        self.flush()
    }

    func appFailed(_ socket: AppSocket, code: CInt) { self.failed(SystemError.text(code)) }
    func appReadable(_ socket: AppSocket) { self.receive() }
    func appWritable(_ socket: AppSocket) { self.flush() }

    func appTurn(_ socket: AppSocket) {
        self.flush()
        if !self.isClosed { self.receive() }
    }

    private func flush() {
        guard self.socket.isWritable, !self.isClosed else { return }
        if !self.queued.isEmpty {
            switch self.queued.write(to: self.socket.descriptor).stop {
            case .moved: break
            case .wouldBlock, .ended: self.socket.isWritable = false
            case .failed(let code): return self.failed(SystemError.text(code))
            }
        }
        if self.queued.isEmpty, self.hasFinished, !self.finSent {
            self.finSent = true
            self.socket.finishWriting()
            if self.peerFinished { return self.close(reset: false) }
        }
        if self.awaitsDrain, self.queued.count <= PipeEnd.queuedBytesLow {
            self.awaitsDrain = false
            self.consumer?.pipeDrained()
        }
    }

    private func receive() {
        if !self.left.isEmpty, !self.isPaused {
            // Taken out meanwhile: the consumer may end the channel.
            var left = PendingBytes()
            swap(&left, &self.left)
            _ = left.drain { bytes, length in
                if self.isPaused { return .wouldBlock }
                let taken = self.consumer?.pipeReceived(UnsafeRawBufferPointer(start: bytes, count: length)) ?? length
                if taken < length { self.isPaused = true }
                return taken > 0 ? .moved(taken) : .wouldBlock
            }
            if self.isClosed { return }
            swap(&left, &self.left)
        }
        let scratch = self.socket.loop.scratch.received
        for _ in 0..<Self.readsPerTurnMax {
            guard self.socket.isReadable, !self.isPaused, !self.isClosed, !self.peerFinished else { return }
            switch Sockets.read(self.socket.descriptor, scratch.baseAddress!, ScratchBuffers.readBytes) {
            case .moved(let count):
                let bytes = UnsafeRawBufferPointer(start: scratch.baseAddress, count: count)
                let taken = self.consumer?.pipeReceived(bytes) ?? count
                if taken < count, !self.isClosed {
                    self.isPaused = true
                    self.left.append(bytes.baseAddress! + taken, count - taken)
                }
                if count < ScratchBuffers.readBytes, !self.socket.sawEnd {
                    self.socket.isReadable = false
                    return
                }
            case .wouldBlock: self.socket.isReadable = false
            // After a failure the end is no end, and the first failure says more.
            case .ended where self.hasFailed, .failed where self.hasFailed: return self.socket.isReadable = false
            case .ended:
                self.socket.isReadable = false
                self.peerFinished = true
                self.consumer?.pipeFinished()
                if self.finSent, !self.isClosed { self.close(reset: false) }
                return
            case .failed(let code): return self.failed(SystemError.text(code))
            }
        }
        self.socket.wantsTurn()
    }
}
