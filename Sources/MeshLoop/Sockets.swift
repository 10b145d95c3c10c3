internal import CMeshLoop
public import Glibc
public import MeshModel

/// TCP sockets as the byte path needs them: non-blocking, close-on-exec, TCP_NODELAY, made in a chosen network
/// namespace. Descriptors are plain numbers here; they become owned when a source adopts them.
public enum Sockets {
    /// Whether a socket may use addresses that are not its host's (IP_TRANSPARENT).
    public enum Transparency: CInt, Sendable {
        case off = 0, bestEffort, required
    }

    public struct ListenOptions: Sendable {
        /// Borrowed descriptor of the namespace to be born in; nil: the caller's own.
        public var namespace: CInt?
        /// Port 0 takes a free one.
        public var local: IPEndpoint
        /// With an IPv6 address: accept IPv4 too.
        public var isDualStack = true
        public var reusesPort = true
        /// SO_MARK; 0 sets none.
        public var mark: UInt32 = 0
        public var transparency = Transparency.off
        public var backlog: CInt = 4096

        public init(namespace: CInt? = nil, local: IPEndpoint) {
            self.namespace = namespace
            self.local = local
        }
    }

    public struct ListenResult: Sendable {
        public var descriptor: CInt
        public var port: UInt16
        /// IP_TRANSPARENT was granted: dialled sockets may take the client's address.
        public var isTransparent: Bool

        package init(descriptor: CInt, port: UInt16, isTransparent: Bool) {
            self.descriptor = descriptor
            self.port = port
            self.isTransparent = isTransparent
        }
    }

    public static func listen(_ options: ListenOptions) throws(SystemError) -> ListenResult {
        if let namespace = options.namespace, Simulation.owns(namespace) {
            return try Simulation.owner().listen(options)
        }
        var raw = cml_listen_options()
        raw.network_namespace = options.namespace ?? -1
        raw.local = cml_endpoint(options.local)
        raw.dual_stack = options.isDualStack
        raw.reuse_port = options.reusesPort
        raw.mark = options.mark
        raw.transparent = options.transparency.rawValue
        raw.backlog = options.backlog
        var result = cml_listen_result()
        let descriptor = cml_listen(&raw, &result)
        guard descriptor >= 0 else {
            throw SystemError(call: "\(String(cString: result.step)) on \(options.local)", code: -descriptor)
        }
        return ListenResult(descriptor: descriptor, port: result.port, isTransparent: result.is_transparent)
    }

    public struct Keepalive: Sendable, Hashable {
        /// Whole seconds.
        public var idle, interval: CInt
        public var count: CInt
        /// TCP_USER_TIMEOUT: what the peer does not acknowledge ends the connection when silence would have.
        public var limitsUnacknowledged: Bool

        public init(idle: CInt, interval: CInt, count: CInt, limitsUnacknowledged: Bool = false) {
            self.idle = idle
            self.interval = interval
            self.count = count
            self.limitsUnacknowledged = limitsUnacknowledged
        }

        /// For TCP_USER_TIMEOUT; 0 sets none.
        var userTimeoutMilliseconds: UInt32 {
            guard self.limitsUnacknowledged else { return 0 }
            return UInt32(clamping: (Int64(self.idle) + Int64(self.interval) * Int64(self.count)) * 1000)
        }
    }

    public struct DialOptions: Sendable {
        public var namespace: CInt?
        public var target: IPEndpoint
        /// The address to come from, when the platform allows it.
        public var source: IPAddress?
        public var mark: UInt32 = 0
        public var keepalive: Keepalive?

        public init(namespace: CInt? = nil, target: IPEndpoint) {
            self.namespace = namespace
            self.target = target
        }
    }

    /// Starts to connect; the socket becomes writable or fails later.
    public static func dial(_ options: DialOptions) throws(SystemError) -> CInt {
        if let namespace = options.namespace, Simulation.owns(namespace) {
            return try Simulation.owner().dial(options)
        }
        var raw = cml_dial_options()
        raw.network_namespace = options.namespace ?? -1
        raw.target = cml_endpoint(options.target)
        if let source = options.source {
            raw.spoofs_source = true
            raw.source = cml_endpoint(IPEndpoint(address: source, port: 0))
        }
        raw.mark = options.mark
        if let keepalive = options.keepalive {
            raw.keepalive_idle = keepalive.idle
            raw.keepalive_interval = keepalive.interval
            raw.keepalive_count = keepalive.count
            raw.user_timeout_milliseconds = keepalive.userTimeoutMilliseconds
        }
        var spoofed = false
        return try SystemError.check("connect to \(options.target)", cml_dial(&raw, &spoofed))
    }

    /// Takes a connection from the backlog. A negative descriptor is `-errno`.
    static func accept(_ listener: CInt) -> (descriptor: CInt, peer: IPEndpoint?) {
        if Simulation.owns(listener) { return Simulation.owner().accept(listener) }
        var peer = cml_endpoint()
        let descriptor = cml_accept(listener, &peer)
        return (descriptor, descriptor < 0 ? nil : IPEndpoint(peer))
    }

    /// The local address of a connected socket.
    public static func localEndpoint(of descriptor: CInt) -> IPEndpoint? {
        if Simulation.owns(descriptor) { return Simulation.owner().localEndpoint(of: descriptor) }
        var endpoint = cml_endpoint()
        return cml_local_endpoint(descriptor, &endpoint) < 0 ? nil : IPEndpoint(endpoint)
    }

    /// The address dialled before redirection; nil when the connection was not redirected.
    public static func originalDestination(of descriptor: CInt) -> IPEndpoint? {
        if Simulation.owns(descriptor) { return Simulation.owner().originalDestination(of: descriptor) }
        var endpoint = cml_endpoint()
        return cml_original_destination(descriptor, &endpoint) < 0 ? nil : IPEndpoint(endpoint)
    }

    public static func setKeepalive(_ descriptor: CInt, _ keepalive: Keepalive) {
        if Simulation.owns(descriptor) { return }
        _ = cml_set_keepalive(descriptor, keepalive.idle, keepalive.interval, keepalive.count)
        let timeout = keepalive.userTimeoutMilliseconds
        if timeout > 0 { _ = cml_set_user_timeout(descriptor, timeout) }
    }

    /// The next close sends RST and throws unsent bytes away.
    public static func resetOnClose(_ descriptor: CInt) {
        if Simulation.owns(descriptor) { return Simulation.owner().resetOnClose(descriptor) }
        _ = cml_set_reset_on_close(descriptor)
    }

    /// errno of a broken connection; 0 when it is well.
    public static func pendingError(of descriptor: CInt) -> CInt {
        if Simulation.owns(descriptor) { return Simulation.owner().pendingError(of: descriptor) }
        return cml_pending_error(descriptor)
    }

    /// Sends FIN.
    public static func finishWriting(_ descriptor: CInt) {
        if Simulation.owns(descriptor) { return Simulation.owner().finishWriting(descriptor) }
        _ = shutdown(descriptor, CInt(SHUT_WR))
    }

    public static func closeDescriptor(_ descriptor: CInt) {
        if Simulation.owns(descriptor) {
            // The last descriptors go with the objects of a simulation, which may outlive it.
            Simulation.kernel?.close(descriptor)
            return
        }
        _ = close(descriptor)
    }

    /// Whether nothing but the peer's FIN is left to read; looks without taking.
    public static func isAtEnd(_ descriptor: CInt) -> Bool {
        if Simulation.owns(descriptor) { return Simulation.owner().isAtEnd(descriptor) }
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, CInt(MSG_PEEK) | CInt(MSG_DONTWAIT)) == 0
    }

    /// Two connected stream sockets, non-blocking and close-on-exec: what one sends the other receives.
    ///
    /// - Parameter namespace: of the pod that they are for; it says whether they are simulated, and nothing else.
    public static func pair(for namespace: CInt?) throws(SystemError) -> (CInt, CInt) {
        if let namespace, Simulation.owns(namespace) { return Simulation.owner().pair() }
        var ends: [CInt] = [-1, -1]
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw SystemError(call: "socketpair", code: errno) }
        return (ends[0], ends[1])
    }

    /// An own copy of a borrowed descriptor, close-on-exec.
    public static func duplicate(_ descriptor: CInt) throws(SystemError) -> CInt {
        if Simulation.owns(descriptor) { return Simulation.owner().duplicate(descriptor) }
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw SystemError(call: "dup", code: errno) }
        return copy
    }
}

/// What one read or write did.
public enum IOResult: Equatable {
    case moved(Int)
    case wouldBlock
    case ended
    case failed(CInt)
}

extension Sockets {
    @inline(__always)
    public static func read(_ descriptor: CInt, _ bytes: UnsafeMutableRawPointer, _ count: Int) -> IOResult {
        if Simulation.owns(descriptor) { return Simulation.read(descriptor, bytes, count) }
        while true {
            let result = recv(descriptor, bytes, count, 0)
            if result > 0 { return .moved(result) }
            if result == 0 { return .ended }
            let code = errno
            if code == EAGAIN { return .wouldBlock }
            if code != EINTR { return .failed(code) }
        }
    }

    @inline(__always)
    public static func read(_ descriptor: CInt, _ vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> IOResult {
        if Simulation.owns(descriptor) {
            return Simulation.owner().read(descriptor, into: UnsafeBufferPointer(start: vectors, count: count))
        }
        while true {
            let result = readv(descriptor, vectors, CInt(count))
            if result > 0 { return .moved(result) }
            if result == 0 { return .ended }
            let code = errno
            if code == EAGAIN { return .wouldBlock }
            if code != EINTR { return .failed(code) }
        }
    }

    @inline(__always)
    public static func write(_ descriptor: CInt, _ bytes: UnsafeRawPointer, _ count: Int) -> IOResult {
        if Simulation.owns(descriptor) { return Simulation.write(descriptor, bytes, count) }
        while true {
            let result = send(descriptor, bytes, count, CInt(MSG_NOSIGNAL))
            if result >= 0 { return .moved(result) }
            let code = errno
            if code == EAGAIN { return .wouldBlock }
            if code != EINTR { return .failed(code) }
        }
    }

    /// A read of few bytes into memory of its own: for handshakes, not for traffic.
    public static func read(_ descriptor: CInt, bytesMax: Int) -> (result: IOResult, bytes: [UInt8]) {
        var result = IOResult.wouldBlock
        // SAFETY: the buffer has `bytesMax` bytes, and `read` says how many of them it wrote.
        let bytes = [UInt8](unsafeUninitializedCapacity: bytesMax) { buffer, count in
            guard let start = buffer.baseAddress else { return }
            result = Self.read(descriptor, start, bytesMax)
            if case .moved(let moved) = result { count = moved }
        }
        return (result, bytes)
    }

    /// A write of few bytes, none of which is kept when the kernel takes less.
    public static func write(_ descriptor: CInt, _ bytes: [UInt8]) -> IOResult {
        // SAFETY: the array outlives the call.
        bytes.withUnsafeBytes { buffer in
            buffer.baseAddress.map { Self.write(descriptor, $0, buffer.count) } ?? .moved(0)
        }
    }

    /// Like `writev`, but a broken connection is an error and no signal.
    @inline(__always)
    public static func write(_ descriptor: CInt, _ vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> IOResult {
        if Simulation.owns(descriptor) {
            return Simulation.owner().write(descriptor, from: UnsafeBufferPointer(start: vectors, count: count))
        }
        var message = msghdr()
        message.msg_iov = vectors
        message.msg_iovlen = count
        while true {
            let result = sendmsg(descriptor, &message, CInt(MSG_NOSIGNAL))
            if result >= 0 { return .moved(result) }
            let code = errno
            if code == EAGAIN { return .wouldBlock }
            if code != EINTR { return .failed(code) }
        }
    }
}

extension cml_endpoint {
    init(_ endpoint: IPEndpoint) {
        self.init(
            high: endpoint.address.high, low: endpoint.address.low, port: endpoint.port,
            is_v6: endpoint.address.isV6)
    }
}

extension IPEndpoint {
    init(_ raw: cml_endpoint) {
        let address =
            raw.is_v6
            ? IPAddress(v6High: raw.high, low: raw.low) : IPAddress(v4: UInt32(truncatingIfNeeded: raw.low))
        self.init(address: address, port: raw.port)
    }
}
