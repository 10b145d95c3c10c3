/// A layer-4 authorization policy as the node proxy enforces it (`istio.security.Authorization`).
///
/// A policy matches when any rule matches; a rule when all its clauses match; a clause when any of its matches
/// does; a match when all its filled attributes do. A policy without rules never matches (so an ALLOW policy
/// without rules denies everything in its scope); a rule without clauses and a clause without matches match
/// always; a match with no attribute at all matches never.
public struct AuthorizationPolicy: Hashable, Sendable {
    public enum Scope: UInt8, Hashable, Sendable { case global = 0, namespace, workloadSelector }
    public enum Action: UInt8, Hashable, Sendable { case allow = 0, deny }

    public struct Rule: Hashable, Sendable {
        public var clauses: [Clause]
        public init(clauses: [Clause]) { self.clauses = clauses }
    }
    public struct Clause: Hashable, Sendable {
        public var matches: [Match]
        public init(matches: [Match]) { self.matches = matches }
    }

    public enum StringMatch: Hashable, Sendable {
        case exact(String), prefix(String), suffix(String)
        /// Any non-empty value.
        case presence
    }
    public struct ServiceAccountMatch: Hashable, Sendable {
        public var namespace, serviceAccount: String
        public init(namespace: String, serviceAccount: String) {
            self.namespace = namespace
            self.serviceAccount = serviceAccount
        }
    }
    /// Attributes are AND-ed; values within one are OR-ed; no value of a `not…` list may match.
    public struct Match: Hashable, Sendable {
        public var namespaces: [StringMatch] = [], notNamespaces: [StringMatch] = []
        /// Compared with the peer's identity without `spiffe://`.
        public var principals: [StringMatch] = [], notPrincipals: [StringMatch] = []
        public var serviceAccounts: [ServiceAccountMatch] = [], notServiceAccounts: [ServiceAccountMatch] = []
        public var sourceIPs: [CIDR] = [], notSourceIPs: [CIDR] = []
        public var destinationIPs: [CIDR] = [], notDestinationIPs: [CIDR] = []
        public var destinationPorts: [UInt16] = [], notDestinationPorts: [UInt16] = []
        public init() {}
    }

    public var key: NamespacedName
    public var scope: Scope
    public var action: Action
    public var rules: [Rule]
    public var isDryRun: Bool

    public init(key: NamespacedName, scope: Scope, action: Action, rules: [Rule], isDryRun: Bool = false) {
        self.key = key
        self.scope = scope
        self.action = action
        self.rules = rules
        self.isDryRun = isDryRun
    }
}
