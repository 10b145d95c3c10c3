/// What is shared by reference: a value in a box, copied before it is changed unless nobody else has it.
extension Workload {
    /// What the pods of one Deployment have in common.
    public struct CommonFacts: Hashable, Sendable {
        public var namespace = ""
        /// A DNS name to resolve when `addresses` is empty.
        public var hostname = ""
        public var network = ""
        public var tunnelProtocol = TunnelProtocol.none
        public var trustDomain = "cluster.local"
        public var serviceAccount = "default"
        public var waypoint: GatewayAddress?
        public var networkGateway: GatewayAddress?
        public var canonicalName = ""
        public var canonicalRevision = ""
        public var kind = Kind.pod
        /// The owner's name, e.g. the Deployment's.
        public var workloadName = ""
        public var isNativeTunnel = false
        public var applicationTunnel: ApplicationTunnel?
        /// Key `<namespace>/<hostname>` of each service this endpoint belongs to, and its ports there.
        public var services: [NamespacedName: [ServicePort]] = [:]
        /// Keys of the selector-scoped policies that apply; namespace and global ones apply by themselves.
        public var authorizationPolicies: [NamespacedName] = []
        public var clusterID = "Kubernetes"
        public var networkMode = NetworkMode.standard
        /// Load-balancing weight; 0 gets no traffic.
        public var capacity: UInt32 = 1

        public init() {}
    }

    /// Where a pod runs.
    public struct SiteFacts: Hashable, Sendable {
        public var node: String
        public var locality: Locality

        public init(node: String = "", locality: Locality = Locality()) {
            self.node = node
            self.locality = locality
        }
    }

    // @unchecked: the facts change only in `change`, after a check that nobody else holds the object.
    public final class Common: Hashable, @unchecked Sendable {
        public fileprivate(set) var facts: CommonFacts

        public init(_ facts: CommonFacts) { self.facts = facts }

        static let standard = Common(CommonFacts())

        public static func == (one: Common, other: Common) -> Bool { one === other || one.facts == other.facts }

        /// Of the facts that tell Deployments apart; all of them would only take longer.
        public func hash(into hasher: inout Hasher) {
            hasher.combine(self.facts.namespace)
            hasher.combine(self.facts.workloadName)
            hasher.combine(self.facts.canonicalName)
            hasher.combine(self.facts.canonicalRevision)
            hasher.combine(self.facts.serviceAccount)
            hasher.combine(self.facts.services.count)
        }
    }

    // @unchecked: as above.
    public final class Site: Hashable, @unchecked Sendable {
        public fileprivate(set) var facts: SiteFacts

        public init(_ facts: SiteFacts) { self.facts = facts }

        static let unknown = Site(SiteFacts())

        public static func == (one: Site, other: Site) -> Bool { one === other || one.facts == other.facts }

        public func hash(into hasher: inout Hasher) { hasher.combine(self.facts) }
    }

    private mutating func change(_ change: (inout CommonFacts) -> Void) {
        if !isKnownUniquelyReferenced(&self.common) { self.common = Common(self.common.facts) }
        change(&self.common.facts)
    }

    private mutating func changeSite(_ change: (inout SiteFacts) -> Void) {
        if !isKnownUniquelyReferenced(&self.site) { self.site = Site(self.site.facts) }
        change(&self.site.facts)
    }
}

// MARK: - The facts as the workload's own

extension Workload {
    public var namespace: String {
        get { self.common.facts.namespace }
        set { self.change { $0.namespace = newValue } }
    }
    /// A DNS name to resolve when `addresses` is empty.
    public var hostname: String {
        get { self.common.facts.hostname }
        set { self.change { $0.hostname = newValue } }
    }
    public var network: String {
        get { self.common.facts.network }
        set { self.change { $0.network = newValue } }
    }
    public var tunnelProtocol: TunnelProtocol {
        get { self.common.facts.tunnelProtocol }
        set { self.change { $0.tunnelProtocol = newValue } }
    }
    public var trustDomain: String {
        get { self.common.facts.trustDomain }
        set { self.change { $0.trustDomain = newValue } }
    }
    public var serviceAccount: String {
        get { self.common.facts.serviceAccount }
        set { self.change { $0.serviceAccount = newValue } }
    }
    public var waypoint: GatewayAddress? {
        get { self.common.facts.waypoint }
        set { self.change { $0.waypoint = newValue } }
    }
    public var networkGateway: GatewayAddress? {
        get { self.common.facts.networkGateway }
        set { self.change { $0.networkGateway = newValue } }
    }
    public var canonicalName: String {
        get { self.common.facts.canonicalName }
        set { self.change { $0.canonicalName = newValue } }
    }
    public var canonicalRevision: String {
        get { self.common.facts.canonicalRevision }
        set { self.change { $0.canonicalRevision = newValue } }
    }
    public var kind: Kind {
        get { self.common.facts.kind }
        set { self.change { $0.kind = newValue } }
    }
    /// The owner's name, e.g. the Deployment's.
    public var workloadName: String {
        get { self.common.facts.workloadName }
        set { self.change { $0.workloadName = newValue } }
    }
    public var isNativeTunnel: Bool {
        get { self.common.facts.isNativeTunnel }
        set { self.change { $0.isNativeTunnel = newValue } }
    }
    public var applicationTunnel: ApplicationTunnel? {
        get { self.common.facts.applicationTunnel }
        set { self.change { $0.applicationTunnel = newValue } }
    }
    /// Key `<namespace>/<hostname>` of each service this endpoint belongs to, and its ports there.
    public var services: [NamespacedName: [ServicePort]] {
        get { self.common.facts.services }
        set { self.change { $0.services = newValue } }
    }
    /// Keys of the selector-scoped policies that apply; namespace and global ones apply by themselves.
    public var authorizationPolicies: [NamespacedName] {
        get { self.common.facts.authorizationPolicies }
        set { self.change { $0.authorizationPolicies = newValue } }
    }
    public var clusterID: String {
        get { self.common.facts.clusterID }
        set { self.change { $0.clusterID = newValue } }
    }
    public var networkMode: NetworkMode {
        get { self.common.facts.networkMode }
        set { self.change { $0.networkMode = newValue } }
    }
    /// Load-balancing weight; 0 gets no traffic.
    public var capacity: UInt32 {
        get { self.common.facts.capacity }
        set { self.change { $0.capacity = newValue } }
    }
    public var node: String {
        get { self.site.facts.node }
        set { self.changeSite { $0.node = newValue } }
    }
    public var locality: Locality {
        get { self.site.facts.locality }
        set { self.changeSite { $0.locality = newValue } }
    }
}
