internal import Glibc
package import MeshLoop

/// What happens on a plain TCP connection. Called on the loop's thread; the socket may be closed inside any call.
protocol AppSocketHandler: AnyObject {
    func appConnected(_ socket: AppSocket)
    /// The connection broke, or could not be made; `code` is an errno.
    func appFailed(_ socket: AppSocket, code: CInt)
    func appReadable(_ socket: AppSocket)
    func appWritable(_ socket: AppSocket)
    func appTurn(_ socket: AppSocket)
    /// The application has finished and reads no more, but nothing is wrong.
    /// - Returns: false while its end is still on its way: ask again.
    func appLeft(_ socket: AppSocket) -> Bool
}

extension AppSocketHandler {
    /// Sockets of the kernel do not say so.
    func appLeft(_ socket: AppSocket) -> Bool { false }
}

/// A plain TCP connection: an application's, or a dialled target's. ``PipeEnd`` stands in for it where the application is
/// this process.
///
/// Remembers what the edge-triggered kernel said: `isReadable` and `isWritable` stay true until a call would have
/// blocked. Nobody listening yet is no loss: the flags are still there when a handler comes.
package class AppSocket: EventSource {
    final private(set) var isConnecting: Bool
    final var isReadable = false
    final var isWritable: Bool
    /// The peer sent FIN: after the last byte a read answers "ended".
    final var sawEnd = false
    /// Set while somebody moves this socket's bytes; cleared before close, which breaks the cycle.
    final var handler: (any AppSocketHandler)?
    /// Called once, when the socket has closed.
    final var whenClosed: (@Sendable () -> Void)?

    init(descriptor: CInt, loop: EventLoop, isConnecting: Bool) {
        self.isConnecting = isConnecting
        self.isWritable = !isConnecting
        super.init(descriptor: descriptor, loop: loop)
    }

    package override func ready(_ readiness: Readiness) {
        if self.isConnecting {
            if readiness.contains(.failed) || readiness.contains(.hungUp) {
                self.handler?.appFailed(self, code: Sockets.pendingError(of: self.descriptor))
                return
            }
            guard readiness.contains(.writable) else { return }
            self.isConnecting = false
            self.isWritable = true
            self.handler?.appConnected(self)
            if self.isClosed { return }
        }
        if readiness.contains(.failed) {
            self.handler?.appFailed(self, code: Sockets.pendingError(of: self.descriptor))
            return
        }
        if readiness.contains(.writable), !self.isWritable {
            self.isWritable = true
            self.handler?.appWritable(self)
            if self.isClosed { return }
        }
        if !readiness.isDisjoint(with: [.readable, .peerFinished, .hungUp]) {
            self.isReadable = true
            if !readiness.isDisjoint(with: [.peerFinished, .hungUp]) { self.sawEnd = true }
            self.handler?.appReadable(self)
        }
    }

    package override func turn() { self.handler?.appTurn(self) }

    // MARK: Bytes

    func read(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> IOResult {
        count == 1
            ? Sockets.read(self.descriptor, vectors[0].iov_base, vectors[0].iov_len)
            : Sockets.read(self.descriptor, vectors, count)
    }

    func write(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> IOResult {
        count == 1
            ? Sockets.write(self.descriptor, vectors[0].iov_base, vectors[0].iov_len)
            : Sockets.write(self.descriptor, vectors, count)
    }

    /// FIN: nothing more is written.
    func finishWriting() { Sockets.finishWriting(self.descriptor) }

    /// Closes with FIN, or with RST and the loss of whatever was not delivered.
    package func end(reset: Bool) {
        self.handler = nil
        if reset, !self.isClosed { Sockets.resetOnClose(self.descriptor) }
        self.close()
        self.whenClosed?()
        self.whenClosed = nil
    }

    /// Whether nothing but the end is left to read; looks without taking.
    func isAtEnd() -> Bool { self.sawEnd && Sockets.isAtEnd(self.descriptor) }
}
