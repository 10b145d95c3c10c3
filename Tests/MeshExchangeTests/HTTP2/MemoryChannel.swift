import MeshLoop
import MeshTunnel

/// A channel without a socket: what the product sends stays here until the test takes it, and what the test delivers is
/// received at once.
final class MemoryChannel: ByteChannel {
    var consumer: (any PipeConsumer)?
    private(set) var isClosed = false
    private(set) var wasReset = false
    private(set) var hasFinished = false
    /// Of the product, not taken yet.
    private var sent: [UInt8] = []
    /// Of the test, refused by the product.
    private var left: [UInt8] = []
    private var isPaused = false
    private var awaitsDrain = false

    var queuedBytes: Int { self.sent.count }
    /// Bytes of the test that the product has not taken.
    var leftBytes: Int { self.left.count }

    var isFull: Bool {
        let isFull = self.sent.count >= PipeEnd.queuedBytesMax
        if isFull { self.awaitsDrain = true }
        return isFull
    }

    func send(_ bytes: UnsafeRawBufferPointer) {
        guard !self.isClosed, !self.hasFinished else { return }
        self.sent.append(contentsOf: bytes)
    }

    func finish() { self.hasFinished = true }

    func reset() {
        self.wasReset = true
        self.isClosed = true
        self.consumer = nil
    }

    func pause() { self.isPaused = true }

    func wantsMore() {
        self.isPaused = false
    }

    // MARK: The test's side

    /// The product's end is done with: it reset, or said that it sends no more.
    var isOver: Bool { self.isClosed || self.hasFinished }

    func deliver(_ bytes: [UInt8]) {
        self.left += bytes
        self.pump()
    }

    func deliver(_ text: String) { self.deliver(Array(text.utf8)) }

    /// Gives what is left to a product that wants it again.
    func pump() {
        while !self.left.isEmpty, !self.isPaused, !self.isClosed, let consumer = self.consumer {
            // A piece of its own: reading past it would be seen.
            let piece = self.left
            let taken = piece.withUnsafeBytes { consumer.pipeReceived($0) }
            self.left.removeFirst(taken)
            if taken < piece.count { self.isPaused = true }
        }
    }

    /// Everything that the product has sent; it hears that there is room.
    func take() -> [UInt8] {
        let taken = self.sent
        self.sent = []
        if self.awaitsDrain {
            self.awaitsDrain = false
            self.consumer?.pipeDrained()
        }
        return taken
    }

    func finishByPeer() { self.consumer?.pipeFinished() }

    func closeByPeer(reset: Bool) {
        self.isClosed = true
        let consumer = self.consumer
        self.consumer = nil
        consumer?.pipeClosed(reset: reset)
    }
}
