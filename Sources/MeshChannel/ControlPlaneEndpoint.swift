/// Where the control plane is, how it proves itself, and how we prove ourselves: what xDS and the CA have in common.
public struct ControlPlaneEndpoint: Sendable {
    /// Which certificates may have signed the server's. Files are read again for every connection.
    public enum Roots: Hashable, Sendable {
        case file(String)
        case pem(String)
        /// The platform's.
        case system
        /// No TLS at all. For a loopback peer only: the token would cross the wire in the clear.
        case plaintext
    }
    /// Where the bearer token is. A file is read again for every call, because the kubelet renews it.
    public enum Token: Hashable, Sendable {
        case file(String)
        case none
    }

    public var host: String
    public var port: Int
    /// Another name that the server's certificate may carry instead of `host`.
    public var alternativeHost: String?
    public var roots: Roots
    public var token: Token
    /// Sent as `clusterid`; the empty string sends nothing.
    public var clusterID: String
    /// Sent with every call; names in lower case.
    public var headers: [String: String]
    /// Of ``Roots/file(_:)``; copies share it.
    let rootFile = RootFile()

    public init(
        host: String, port: Int, alternativeHost: String? = nil, roots: Roots, token: Token,
        clusterID: String = "Kubernetes", headers: [String: String] = [:]
    ) {
        self.host = host
        self.port = port
        self.alternativeHost = alternativeHost
        self.roots = roots
        self.token = token
        self.clusterID = clusterID
        self.headers = headers
    }

    /// `istiod.istio-system.svc:15012`, with or without `https://`; the port is 15012 when it is left out.
    /// Nil for `http://`, an empty host, and a port that is none.
    public init?(
        address: String, alternativeHost: String? = nil, roots: Roots, token: Token,
        clusterID: String = "Kubernetes", headers: [String: String] = [:]
    ) {
        var rest = address[...]
        if rest.hasPrefix("https://") { rest = rest.dropFirst("https://".count) }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        guard !rest.contains("/") else { return nil }
        var port = 15012
        var host = String(rest)
        let isBareV6 = rest.first != "[" && rest.filter { $0 == ":" }.count > 1
        if !isBareV6, let colon = rest.lastIndex(of: ":"), rest[colon...].contains("]") == false {
            guard let number = UInt16(rest[rest.index(after: colon)...]), number > 0 else { return nil }
            port = Int(number)
            host = String(rest[..<colon])
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        if host.isEmpty { return nil }
        self.init(
            host: host, port: port, alternativeHost: alternativeHost, roots: roots, token: token,
            clusterID: clusterID, headers: headers)
    }

    /// The names the server may prove, in the order they are tried.
    package var serverNames: [String] { [self.host] + (self.alternativeHost.map { [$0] } ?? []) }
}

/// Something on this machine keeps us from even asking the control plane.
public enum EndpointError: Error, Hashable, CustomStringConvertible {
    case unreadableToken(path: String, reason: String)
    case emptyToken(path: String)
    case unreadableRoots(path: String, reason: String)

    public var description: String {
        switch self {
        case .unreadableToken(let path, let reason):
            "cannot read the service account token \(path): \(reason); is the projected volume mounted?"
        case .emptyToken(let path):
            "the service account token \(path) is empty; is the kubelet able to renew it?"
        case .unreadableRoots(let path, let reason):
            "cannot read the control plane's root certificates \(path): \(reason); "
                + "is the ConfigMap istio-ca-root-cert mounted?"
        }
    }
}
