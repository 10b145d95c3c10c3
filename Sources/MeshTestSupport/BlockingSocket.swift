internal import Glibc

/// A plain TCP socket for tests: blocking, with a limit on every wait, so that a test fails instead of hanging.
public final class BlockingSocket: Sendable {
    public struct Failure: Error, CustomStringConvertible {
        public let call: String
        public let code: CInt
        public var description: String { "\(self.call): \(String(cString: strerror(self.code)))" }
        /// The other side sent RST.
        public var isReset: Bool { self.code == ECONNRESET || self.code == EPIPE }
        public var isTimeout: Bool { self.code == EAGAIN }
    }

    public static let waitSeconds = 60

    /// Closed in programs that other tests start meanwhile: an inherited descriptor would keep a connection open.
    static let streamType = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)

    public let descriptor: CInt

    /// Takes ownership.
    public init(adopting descriptor: CInt) {
        self.descriptor = descriptor
        var limit = timeval(tv_sec: Self.waitSeconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(self.descriptor) }

    /// Connects to 127.0.0.1, or another IPv4 address. Not `waiting`: only begins to.
    public static func connect(
        port: UInt16, address: UInt32 = loopbackAddress, waiting: Bool = true
    ) throws -> BlockingSocket {
        let type = Self.streamType | (waiting ? 0 : CInt(SOCK_NONBLOCK.rawValue))
        let made = BlockingSocket(adopting: socket(AF_INET, type, 0))
        var address = Self.endpoint(address, port)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(made.descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 || !waiting else { throw Failure(call: "connect", code: errno) }
        return made
    }

    /// 127.0.0.1
    public static let loopbackAddress: UInt32 = 0x7f00_0001

    static func endpoint(_ host: UInt32, _ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = host.bigEndian
        return address
    }

    public func send(_ bytes: some Sequence<UInt8>) throws {
        let bytes = Array(bytes)
        var at = 0
        while at < bytes.count {
            let sent = bytes[at...].withUnsafeBytes {
                Glibc.send(self.descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            guard sent >= 0 else { throw Failure(call: "send", code: errno) }
            at += sent
        }
    }

    /// Up to `count` bytes; empty at the end.
    public func receive(_ count: Int = 64 << 10) throws -> [UInt8] {
        var failure: CInt?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            let received = recv(self.descriptor, buffer.baseAddress, count, 0)
            if received < 0 { failure = errno }
            filled = max(0, received)
        }
        if let failure { throw Failure(call: "recv", code: failure) }
        return bytes
    }

    /// Exactly `count` bytes, fewer only at the end.
    public func receive(exactly count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let next = try self.receive(min(count - bytes.count, 256 << 10))
            if next.isEmpty { break }
            bytes += next
        }
        return bytes
    }

    public func receiveToEnd() throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let next = try self.receive(256 << 10)
            if next.isEmpty { return bytes }
            bytes += next
        }
    }

    public func finishWriting() { shutdown(self.descriptor, CInt(SHUT_WR)) }

    /// Makes the coming close a RST.
    public func resetOnClose() {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(self.descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
    }
}

/// A TCP server on 127.0.0.1, or another address of this machine, for tests: each connection is served by a thread of its own.
public final class BlockingServer: Sendable {
    public let port: UInt16
    private let listener: BlockingSocket

    /// - Parameter backlog: 0 with a handler of nil makes a server that connections hang at.
    public init(
        address host: UInt32 = BlockingSocket.loopbackAddress, handler: (@Sendable (BlockingSocket) -> Void)?
    ) throws {
        let listener = BlockingSocket(adopting: socket(AF_INET, BlockingSocket.streamType, 0))
        var forever = timeval(tv_sec: 0, tv_usec: 0)
        setsockopt(listener.descriptor, SOL_SOCKET, SO_RCVTIMEO, &forever, socklen_t(MemoryLayout<timeval>.size))
        var address = BlockingSocket.endpoint(host, 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(listener.descriptor, pointer, length) == 0
                    && listen(listener.descriptor, handler == nil ? 0 : 512) == 0
                    && getsockname(listener.descriptor, pointer, &length) == 0
            }
        }
        guard bound else { throw BlockingSocket.Failure(call: "listen", code: errno) }
        self.listener = listener
        self.port = UInt16(bigEndian: address.sin_port)
        guard let handler else { return }
        let descriptor = listener.descriptor
        startThread {
            while true {
                let accepted = accept(descriptor, nil, nil)
                guard accepted >= 0 else { return }
                _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
                let socket = BlockingSocket(adopting: accepted)
                startThread { handler(socket) }
            }
        }
    }

    deinit { shutdown(self.listener.descriptor, CInt(SHUT_RDWR)) }

    /// Sends everything back, and the end too.
    public static func echo(address: UInt32 = BlockingSocket.loopbackAddress) throws -> BlockingServer {
        try BlockingServer(address: address) { socket in
            do {
                while true {
                    let bytes = try socket.receive(256 << 10)
                    if bytes.isEmpty { break }
                    try socket.send(bytes)
                }
                socket.finishWriting()
            } catch {
                // The client went away; so does this thread.
            }
        }
    }
}

private final class Job {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

func startThread(_ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(Job(body)).toOpaque()
    let result = pthread_create(
        &thread, nil,
        {
            Unmanaged<Job>.fromOpaque($0!).takeRetainedValue().body()
            return nil
        }, argument)
    precondition(result == 0, "pthread_create: \(result)")
    pthread_detach(thread)
}

/// Runs blocking code on a thread of its own.
public func offThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
        startThread { continuation.resume(with: Result { try body() }) }
    }
}

/// Bytes that look random and are the same for the same seed.
public func patternBytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for i in 0..<count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            buffer[i] = UInt8(truncatingIfNeeded: state >> 56)
        }
        filled = count
    }
}
