internal import CMeshLinux
internal import Glibc

/// An open network namespace. Owning one keeps the namespace alive after its pod is gone.
public struct NetworkNamespace: ~Copyable, Sendable {
    /// What tells one namespace from another: device and inode of its file (verified: equal for every descriptor and
    /// path of the same namespace, however it was passed on).
    public struct Identity: Hashable, Sendable, CustomStringConvertible {
        public let device, inode: UInt64
        public var description: String { "net:[\(self.inode)]" }
    }

    private let descriptor: CInt

    /// Takes over the descriptor: it is closed with this value.
    public init(adopting descriptor: CInt) { self.descriptor = descriptor }

    /// - Parameter path: `/var/run/netns/NAME`, `/proc/PID/ns/net` ...
    public init(path: String) throws(SystemError) {
        self.descriptor = try checked(cmx_open_for_reading(path), "open network namespace \(path)")
    }

    /// The namespace that the calling thread is in.
    public static func current() throws(SystemError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    /// A new, empty namespace without a name: it is gone with the last descriptor, process and socket in it.
    public static func create() async throws -> SharedNetworkNamespace {
        try await KernelThread.perform {
            try checked(cmx_new_network_namespace(), "make a network namespace")
            return try SharedNetworkNamespace(try Self.current())
        }
    }

    deinit { close(self.descriptor) }

    /// Gives the descriptor away; the caller closes it.
    public consuming func release() -> CInt {
        let descriptor = self.descriptor
        discard self
        return descriptor
    }

    /// A second owner of the same namespace.
    public func duplicate() throws(SystemError) -> NetworkNamespace {
        NetworkNamespace(adopting: try checked(cmx_duplicate(self.descriptor), "duplicate a namespace descriptor"))
    }

    /// The descriptor stays ours; use it only inside the body.
    public func withDescriptor<Value>(_ body: (CInt) throws -> Value) rethrows -> Value { try body(self.descriptor) }

    public func identity() throws(SystemError) -> Identity {
        var device: UInt64 = 0
        var inode: UInt64 = 0
        try checked(cmx_identity(self.descriptor, &device, &inode), "stat a namespace descriptor")
        return Identity(device: device, inode: inode)
    }

    /// The identity of the namespace a path names, without keeping it open.
    public static func identity(ofPath path: String) throws(SystemError) -> Identity {
        var device: UInt64 = 0
        var inode: UInt64 = 0
        try checked(cmx_identity_of_path(path, &device, &inode), "stat \(path)")
        return Identity(device: device, inode: inode)
    }

    /// Runs `body` on a new thread that has entered this namespace, and that ends afterwards: it never has to find
    /// its way home. Sockets, netlink, `/proc/sys/net` and programs started in `body` all act inside.
    public func perform<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        let descriptor = self.descriptor
        return try await KernelThread.perform {
            try checked(cmx_enter_network_namespace(descriptor), "enter the network namespace")
            return try body()
        }
    }

    /// A non-blocking socket that lives in this namespace; usable from outside for its whole life. Takes about 10 µs
    /// and may be called from any thread: the thread leaves the namespace before this returns, or the process stops.
    /// - Returns: a descriptor that the caller owns.
    public func socket(domain: CInt, type: CInt, protocol: CInt = 0) throws(SystemError) -> CInt {
        let home = try Self.home.get()
        return try checked(
            cmx_socket_in_network_namespace(self.descriptor, home, domain, type, `protocol`),
            "make a socket in the pod's network namespace")
    }

    /// Our own namespace, opened once and kept for the life of the process. `/proc/self` is the main thread, which
    /// nothing in this project moves.
    private static let home: Result<CInt, SystemError> = {
        let opened = cmx_open_for_reading("/proc/self/ns/net")
        return opened < 0
            ? .failure(SystemError("open /proc/self/ns/net", code: -opened)) : .success(opened)
    }()
}

/// A namespace with several owners: the enrolment's record, a snapshot on its way to a proxy, a check that runs.
public final class SharedNetworkNamespace: Sendable {
    public let namespace: NetworkNamespace
    public let identity: NetworkNamespace.Identity

    public init(_ namespace: consuming NetworkNamespace) throws(SystemError) {
        self.identity = try namespace.identity()
        self.namespace = namespace
    }

    public func perform<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await self.namespace.perform(body)
    }
}
