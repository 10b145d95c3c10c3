import Glibc
import MeshLinux
import MeshModel

/// Sockets inside network namespaces, as a proxy and as apps use them. Every wait has a limit.
final class TCP: Sendable {
    struct Failure: Error, CustomStringConvertible {
        let operation: String
        let code: CInt
        var description: String { "\(self.operation): \(String(cString: strerror(self.code)))" }
    }

    let descriptor: CInt
    static let limitMilliseconds: CInt = 5000

    private init(_ descriptor: CInt) { self.descriptor = descriptor }
    deinit { close(self.descriptor) }

    private static func check(_ value: CInt, _ operation: String) throws -> CInt {
        if value < 0 { throw Failure(operation: operation, code: errno) }
        return value
    }

    private static func option(_ socket: CInt, _ level: CInt, _ name: CInt, _ value: CInt) throws {
        var value = value
        _ = try Self.check(setsockopt(socket, level, name, &value, 4), "set socket option \(name)")
    }

    /// All addresses are written as IPv6, IPv4 ones mapped: one kind of socket for everything.
    private static func withAddress<Value>(
        _ endpoint: IPEndpoint, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value
    ) -> Value {
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = endpoint.port.bigEndian
        let bytes =
            endpoint.address.isV6
            ? endpoint.address.bytes : [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] + endpoint.address.bytes
        withUnsafeMutableBytes(of: &address.sin6_addr) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
    }

    private static func socket(_ namespace: SharedNetworkNamespace, _ type: CInt, mark: UInt32?) throws -> CInt {
        let socket = try namespace.namespace.socket(domain: AF_INET6, type: type)
        try Self.option(socket, CInt(IPPROTO_IPV6), 26, 0)  // IPV6_V6ONLY
        if let mark { try Self.option(socket, SOL_SOCKET, SO_MARK, CInt(mark)) }
        return socket
    }

    static func listen(
        in namespace: SharedNetworkNamespace, port: UInt16, mark: UInt32? = nil, isTransparent: Bool = false
    ) throws -> TCP {
        let made = TCP(try Self.socket(namespace, CInt(SOCK_STREAM.rawValue), mark: mark))
        try Self.option(made.descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        // Two proxies share the ports of a pod during a hand-over.
        try Self.option(made.descriptor, SOL_SOCKET, SO_REUSEPORT, 1)
        try made.bind(IPEndpoint(address: IPAddress(v6High: 0, low: 0), port: port))
        _ = try Self.check(Glibc.listen(made.descriptor, 16), "listen at \(port)")
        return made
    }

    static func datagrams(in namespace: SharedNetworkNamespace, at endpoint: IPEndpoint?) throws -> TCP {
        let made = TCP(try Self.socket(namespace, CInt(SOCK_DGRAM.rawValue), mark: nil))
        if let endpoint { try made.bind(endpoint) }
        return made
    }

    private func bind(_ endpoint: IPEndpoint) throws {
        let failed = Self.withAddress(endpoint) { Glibc.bind(self.descriptor, $0, $1) }
        _ = try Self.check(failed, "bind \(endpoint)")
    }

    /// - Parameter source: speak from this address, ours or not.
    static func connect(
        in namespace: SharedNetworkNamespace, to endpoint: IPEndpoint, mark: UInt32? = nil, source: IPAddress? = nil
    ) throws -> TCP {
        let made = TCP(try Self.socket(namespace, CInt(SOCK_STREAM.rawValue), mark: mark))
        if let source {
            try Self.option(made.descriptor, CInt(IPPROTO_IP), 19, 1)  // IP_TRANSPARENT
            try Self.option(made.descriptor, CInt(IPPROTO_IPV6), 75, 1)  // IPV6_TRANSPARENT
            try made.bind(IPEndpoint(address: source, port: 0))
        }
        let failed = Self.withAddress(endpoint) { Glibc.connect(made.descriptor, $0, $1) }
        if failed < 0, errno != EINPROGRESS { throw Failure(operation: "connect to \(endpoint)", code: errno) }
        try made.wait(POLLOUT, "connect to \(endpoint)")
        var code: CInt = 0
        var size = socklen_t(4)
        _ = try Self.check(getsockopt(made.descriptor, SOL_SOCKET, SO_ERROR, &code, &size), "connect")
        if code != 0 { throw Failure(operation: "connect to \(endpoint)", code: code) }
        return made
    }

    private func wait(_ events: CInt, _ operation: String) throws {
        var polled = pollfd(fd: self.descriptor, events: Int16(events), revents: 0)
        let ready = try Self.check(poll(&polled, 1, Self.limitMilliseconds), operation)
        if ready == 0 { throw Failure(operation: operation, code: ETIMEDOUT) }
    }

    func accept() throws -> TCP {
        try self.wait(POLLIN, "accept")
        return TCP(try Self.check(Glibc.accept(self.descriptor, nil, nil), "accept"))
    }

    /// Somebody has connected and was not accepted.
    var hasWaiting: Bool {
        var polled = pollfd(fd: self.descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, 100) > 0
    }

    func send(_ text: String) throws {
        let sent = Array(text.utf8).withUnsafeBytes { Glibc.send(self.descriptor, $0.baseAddress, $0.count, 0x4000) }
        _ = try Self.check(CInt(sent), "send")
    }

    func send(_ text: String, to endpoint: IPEndpoint) throws {
        let bytes = Array(text.utf8)
        let sent = Self.withAddress(endpoint) { sendto(self.descriptor, bytes, bytes.count, 0, $0, $1) }
        _ = try Self.check(CInt(sent), "send to \(endpoint)")
    }

    /// What comes in one read; empty at the end.
    func receive() throws -> String { try self.receiveFrom().text }

    func receiveFrom() throws -> (text: String, from: IPEndpoint?) {
        try self.wait(POLLIN, "receive")
        var bytes = [UInt8](repeating: 0, count: 4096)
        var count = 0
        let from = Self.endpoint { count = recvfrom(self.descriptor, &bytes, bytes.count, 0, $0, $1) }
        if count < 0 { throw Failure(operation: "receive", code: errno) }
        return (String(decoding: bytes.prefix(count), as: UTF8.self), from)
    }

    private static func endpoint(
        _ fill: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Void
    ) -> IPEndpoint? {
        var storage = sockaddr_in6()
        var size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { fill($0, &size) }
        }
        let port = UInt16(bigEndian: storage.sin6_port)
        let family = CInt(storage.sin6_family)
        return withUnsafeBytes(of: &storage) { raw -> IPEndpoint? in
            switch family {
            case AF_INET: IPAddress(bytes: raw[4..<8]).map { IPEndpoint(address: $0, port: port) }
            case AF_INET6: IPAddress(bytes: raw[8..<24]).map { IPEndpoint(address: $0, port: port) }
            default: nil
            }
        }
    }

    var peer: IPEndpoint? { Self.endpoint { _ = getpeername(self.descriptor, $0, $1) } }
    var local: IPEndpoint? { Self.endpoint { _ = getsockname(self.descriptor, $0, $1) } }

    /// SO_ORIGINAL_DST is 80 at both levels; at IP first, as the proxy reads it.
    var originalDestination: IPEndpoint? {
        Self.endpoint { address, size in
            if getsockopt(self.descriptor, CInt(IPPROTO_IP), 80, address, size) < 0 {
                size.pointee = socklen_t(MemoryLayout<sockaddr_in6>.size)
                _ = getsockopt(self.descriptor, CInt(IPPROTO_IPV6), 80, address, size)
            }
        }
    }
}
