public import MeshIdentity
public import MeshModel

/// What a policy may look at: the facts of one connection at layer 4. The network is never part of a decision.
public struct ConnectionFacts: Hashable, Sendable {
    /// Proven by the peer's certificate; nil for plaintext.
    public var identity: WorkloadIdentity?
    /// The TCP peer.
    public var source: IPAddress
    /// Where the connection really goes: the pod's address and the application's port.
    public var destination: IPEndpoint

    public init(identity: WorkloadIdentity?, source: IPAddress, destination: IPEndpoint) {
        self.identity = identity
        self.source = source
        self.destination = destination
    }
}

/// Proof that policy was asked and allowed this connection. Only this module can make one, and only a permit
/// can dial, so code that forwards bytes without asking does not compile.
public struct Permit: Hashable, Sendable {
    public let facts: ConnectionFacts
    /// The ALLOW policy that matched; nil when no ALLOW policy applies.
    public let allowedBy: NamespacedName?

    init(facts: ConnectionFacts, allowedBy: NamespacedName?) {
        self.facts = facts
        self.allowedBy = allowedBy
    }
}

public enum Denial: Hashable, Sendable, CustomStringConvertible {
    /// This DENY policy matched.
    case explicit(by: NamespacedName)
    /// ALLOW policies apply and none matched; their names, sorted.
    case notAllowed(byAnyOf: [NamespacedName])
    /// The workload names a policy that has not arrived: nothing is allowed until it does.
    case unknownPolicy(NamespacedName)

    public var description: String {
        switch self {
        case .explicit(let key): "explicitly denied by: \(key)"
        case .notAllowed(let keys):
            "allow policies exist, but none allowed: \(keys.map(\.description).joined(separator: ", "))"
        case .unknownPolicy(let key):
            "policy \(key) applies but is not known yet (fail closed); is the control plane connected?"
        }
    }
}

public enum Verdict: Hashable, Sendable {
    case permit(Permit)
    case deny(Denial)
}
