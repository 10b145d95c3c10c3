public import MeshModel

/// Looks up the addresses of workloads that are known by a host name only.
public protocol HostResolver: AnyObject, Sendable {
    /// Calls `completion` exactly once, on any thread, and returns at once. Whoever asks bounds the wait.
    /// - Parameter host: a DNS name as the control plane gave it.
    func resolve(_ host: String, completion: @escaping @Sendable (Result<ResolvedHost, HostUnresolved>) -> Void)
}

public struct ResolvedHost: Hashable, Sendable {
    /// Never empty.
    public var addresses: [IPAddress]
    /// How long the answer holds; nil: the resolver does not say.
    public var lifetime: Duration?

    public init(addresses: [IPAddress], lifetime: Duration? = nil) {
        self.addresses = addresses
        self.lifetime = lifetime
    }
}

/// Why a host name has no address, in words for the access log.
public struct HostUnresolved: Error, Hashable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}
