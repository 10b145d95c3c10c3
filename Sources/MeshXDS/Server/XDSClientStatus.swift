/// What the server knows about one connected client: whether it has, and accepts, what it was sent.
public struct XDSClientStatus: Hashable, Sendable {
    public struct TypeStatus: Hashable, Sendable {
        public var type: String
        public var isWildcard: Bool
        public var sentNonce, ackedNonce: String
        public var sentRevision, ackedRevision: UInt64
        public var resourcesSent, refusals: UInt64
        /// The reason of the last NACK; empty when there was none.
        public var lastRefusal: String
        public var isInSync: Bool { self.sentNonce == self.ackedNonce }
    }

    public var nodeID: String
    public var peer: String
    /// `namespace/serviceAccount`, as authenticated.
    public var account: String
    public var types: [TypeStatus]
}

/// What happened in the server; for metrics.
public enum XDSEvent: Hashable, Sendable {
    case connected, disconnected, unauthenticated
    /// A caller that may not be served.
    case notAdmitted
    case pushed(type: String, resources: Int)
    case refused(type: String)
    case staleNonce(type: String)
    case published
}

/// As whom a caller is served.
public enum XDSAdmission: Hashable, Sendable {
    /// All addresses and layer-4 policies.
    case nodeProxy
    /// All addresses, and the rules that are for this waypoint: `<namespace>/<name>` of its Gateway.
    case waypoint(String)
    /// Envoy's own configuration, for the Envoys of this waypoint: `<namespace>/<name>` of its Gateway.
    case envoy(String)
    /// Envoy's own configuration, for the sidecar of this pod: `<namespace>/<name>`.
    case sidecar(String)
    /// Not at all, and why; the caller is told.
    case refused(String)
}
