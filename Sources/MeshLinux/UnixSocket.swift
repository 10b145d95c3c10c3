internal import CMeshLinux
internal import Glibc

public enum UnixSocketKind: Sendable {
    case stream
    /// Message boundaries are kept: one send is one receive.
    case sequencedPackets

    var type: CInt {
        switch self {
        case .stream: CInt(SOCK_STREAM.rawValue)
        case .sequencedPackets: CInt(SOCK_SEQPACKET.rawValue)
        }
    }
}

/// What one receive brought: bytes, and the descriptor that came with them.
public struct UnixPacket: ~Copyable, Sendable {
    public let bytes: [UInt8]
    private var passed: CInt

    init(bytes: [UInt8], descriptor: CInt) {
        self.bytes = bytes
        self.passed = descriptor
    }

    deinit { if self.passed >= 0 { close(self.passed) } }

    /// The descriptor, given away: the caller owns it. Nil when there was none or it was taken before.
    public mutating func takeDescriptor() -> CInt? {
        defer { self.passed = -1 }
        return self.passed >= 0 ? self.passed : nil
    }
}

/// A connected unix socket. Calls block the calling thread (not a task's: see ``KernelThread``) up to a time limit.
/// Closed with the last reference; ``shutDown()`` ends it from any thread.
public final class UnixSocket: Sendable {
    private let descriptor: CInt

    init(adopting descriptor: CInt) { self.descriptor = descriptor }

    deinit { close(self.descriptor) }

    public static func connect(to path: String, _ kind: UnixSocketKind) throws(SystemError) -> UnixSocket {
        UnixSocket(adopting: try checked(cmx_unix_connect(path, kind.type), "connect to \(path)"))
    }

    public static func pair(_ kind: UnixSocketKind) throws(SystemError) -> (UnixSocket, UnixSocket) {
        var first: CInt = -1
        var second: CInt = -1
        try checked(cmx_unix_pair(kind.type, &first, &second), "make a socket pair")
        return (UnixSocket(adopting: first), UnixSocket(adopting: second))
    }

    /// Sends everything; on a packet socket as one packet.
    /// - Parameter passing: sent in `SCM_RIGHTS` with the first byte; stays the caller's.
    /// - Throws: `EPIPE` when the peer is gone, a timeout when it does not read.
    public func send(
        _ bytes: [UInt8], passing: CInt? = nil, timeout: Duration, wakeup: Wakeup? = nil
    ) throws(SystemError) {
        var rest = bytes[...]
        var passed = passing ?? -1
        while true {
            // SAFETY: the buffer lives for the call, and the shim only reads it.
            let sent = rest.withUnsafeBytes { cmx_send(self.descriptor, $0.baseAddress, $0.count, passed) }
            if sent == -Int(EAGAIN) {
                try self.wait(for: CInt(POLLOUT), "send to a unix socket", timeout, wakeup)
                continue
            }
            try checked(sent, "send to a unix socket")
            passed = -1
            rest = rest.dropFirst(sent)
            if rest.isEmpty { return }
        }
    }

    /// - Parameter timeout: nil waits for ever (or for the wake-up).
    /// - Returns: nil when the peer has closed.
    /// - Throws: `EMSGSIZE` for a packet longer than `bytesMax`, `EPROTO` for more than one descriptor.
    public func receive(
        bytesMax: Int, timeout: Duration?, wakeup: Wakeup? = nil
    ) throws(SystemError) -> UnixPacket? {
        var bytes = [UInt8](repeating: 0, count: bytesMax)
        while true {
            var passed: CInt = -1
            // SAFETY: the shim writes at most `bytesMax` bytes into the array and one descriptor.
            let count = bytes.withUnsafeMutableBytes { cmx_receive(self.descriptor, $0.baseAddress, $0.count, &passed) }
            if count == -Int(EAGAIN) {
                try self.wait(for: CInt(POLLIN), "receive from a unix socket", timeout, wakeup)
                continue
            }
            if count == -Int(ECONNRESET) { return nil }
            try checked(count, "receive from a unix socket")
            if count == 0 {
                if passed >= 0 { close(passed) }
                return nil
            }
            bytes.removeLast(bytes.count - count)
            return UnixPacket(bytes: bytes, descriptor: passed)
        }
    }

    /// Something can be received now, the end included.
    public var isReadable: Bool { cmx_wait(self.descriptor, Int16(POLLIN), -1, 0) == 1 }

    /// Returns when the peer has closed; does not touch the data.
    public func waitForHangUp(wakeup: Wakeup) throws(SystemError) {
        try self.wait(for: CMX_POLL_HANG_UP, "wait for a unix socket", nil, wakeup)
    }

    /// Ends both directions; waits in other threads return.
    public func shutDown() { shutdown(self.descriptor, CInt(SHUT_RDWR)) }

    private func wait(
        for events: CInt, _ operation: String, _ timeout: Duration?, _ wakeup: Wakeup?
    ) throws(SystemError) {
        let ready = cmx_wait(
            self.descriptor, Int16(events), wakeup?.descriptor ?? -1, timeout?.pollMilliseconds ?? -1)
        switch try checked(ready, operation) {
        case 0: throw SystemError(operation, code: ETIMEDOUT)
        case 2: throw SystemError(operation, code: ECANCELED)
        default: return
        }
    }
}

/// A listening unix socket. The file of a predecessor is replaced in one step; our own is removed by ``unlink()``.
public final class UnixListener: Sendable {
    private let descriptor: CInt
    public let path: String
    /// Of the socket file, to tell it from a successor's.
    private let inode: UInt64?

    /// The kernel queues this many connections that nobody has accepted yet.
    static let backlog: CInt = 128

    /// - Parameter mode: of the socket file, e.g. `0o666`.
    public init(path: String, _ kind: UnixSocketKind, mode: UInt32) throws(SystemError) {
        self.path = path
        self.descriptor = try checked(
            cmx_unix_listen(path, kind.type, Self.backlog, mode), "listen at \(path)")
        self.inode = try Files.information(path)?.inode
    }

    deinit { close(self.descriptor) }

    /// Blocks until somebody connects, or the wake-up is signalled (a ``SystemError`` that `isWoken`).
    public func accept(wakeup: Wakeup) throws(SystemError) -> UnixSocket {
        while true {
            let accepted = cmx_accept(self.descriptor)
            if accepted >= 0 { return UnixSocket(adopting: accepted) }
            if accepted != -EAGAIN, accepted != -EINTR, accepted != -ECONNABORTED {
                throw SystemError("accept at \(self.path)", code: -accepted)
            }
            let ready = cmx_wait(self.descriptor, Int16(POLLIN), wakeup.descriptor, -1)
            if try checked(ready, "accept at \(self.path)") == 2 {
                throw SystemError("accept at \(self.path)", code: ECANCELED)
            }
        }
    }

    /// Removes the socket file, so that clients learn at once that nobody is there; a successor's is left alone.
    public func unlink() {
        if let inode, (try? Files.information(self.path))?.inode == inode { Glibc.unlink(self.path) }
    }
}
