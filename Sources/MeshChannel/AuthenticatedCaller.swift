/// Who is calling the control plane, proven by a token that the cluster vouches for.
public struct AuthenticatedCaller: Hashable, Sendable {
    public struct Pod: Hashable, Sendable {
        public var name, uid: String
        public init(name: String, uid: String) {
            self.name = name
            self.uid = uid
        }
    }

    public var namespace, serviceAccount: String
    /// The pod that the token was made for; nil for a token that is bound to none.
    public var pod: Pod?

    public init(namespace: String, serviceAccount: String, pod: Pod? = nil) {
        self.namespace = namespace
        self.serviceAccount = serviceAccount
        self.pod = pod
    }

    /// `namespace/serviceAccount`
    public var account: String { "\(self.namespace)/\(self.serviceAccount)" }
}

/// Asks the cluster whose token it is.
public protocol CallerAuthenticator: Sendable {
    /// What a caller has to present, for callers that were refused: the same for all of them.
    var wanted: String { get }
    /// - Throws: ``AuthenticationFailure``.
    func authenticate(bearer token: String, clusterID: String) async throws -> AuthenticatedCaller
}

/// For our log; the caller learns only that it failed.
public struct AuthenticationFailure: Error, Hashable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
