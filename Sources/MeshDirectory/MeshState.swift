internal import Collections
package import MeshIdentity
package import MeshModel
package import MeshPolicy

/// Everything the control plane said, with the indexes that connections ask.
///
/// A value that is cheap to copy and to change after it was copied: the dictionaries are persistent hash tries, so a
/// change touches a few nodes and a published snapshot keeps the old ones. Lists under one key are short (services of
/// one VIP, workloads of one address), except a service's endpoints, which are a hash trie of their own.
package struct MeshState: Sendable {
    private var workloads: TreeDictionary<String, WorkloadEntry> = [:]
    /// The one to answer first.
    private var byAddress: TreeDictionary<NetworkAddress, Few<WorkloadEntry>> = [:]
    private var local: TreeDictionary<WorkloadEntry.PodKey, Few<WorkloadEntry>> = [:]
    /// By namespace and DNS name, for those that have one.
    private var byHostname: TreeDictionary<NamespacedName, Few<WorkloadEntry>> = [:]
    private var services: TreeDictionary<NamespacedName, ServiceEntry> = [:]
    private var servicesByHostname: TreeDictionary<String, Few<NamespacedName>> = [:]
    private var servicesByAddress: TreeDictionary<NetworkAddress, Few<NamespacedName>> = [:]
    /// How many services have a wildcard host name of so many labels.
    private var wildcards: [Int: Int] = [:]
    /// Ascending: which lengths of wildcard host names are worth trying.
    package private(set) var wildcardLabelCounts: [Int] = []
    private var blocks = BlockIndex()
    /// Also of services that have not arrived yet, and of workloads that are not healthy.
    private var endpoints: TreeDictionary<NamespacedName, TreeDictionary<String, Endpoint>> = [:]
    private var shared = SharedFacts()
    package private(set) var policies = PolicySet.empty
    private var policiesByKey: [NamespacedName: AuthorizationPolicy] = [:]

    /// Nil: workloads of every node count as local.
    private let nodeName: String?
    /// How often a service was made anew because its endpoints changed; for tests.
    package private(set) var serviceLayouts = 0

    package init(nodeName: String?) { self.nodeName = nodeName }
}

// MARK: - Updates

extension MeshState {
    /// Removals first, then what is new or changed.
    package mutating func apply(upserted: [MeshAddress], removed: [String]) {
        var changed: Set<NamespacedName> = []
        for name in removed {
            if let entry = self.workloads[name] {
                self.remove(entry, &changed)
            } else if let key = NamespacedName(name) {
                self.removeService(key)
                self.removeEverything(at: key, &changed)
            }
        }
        for address in upserted {
            switch address {
            case .workload(let workload):
                if let old = self.workloads[workload.uid] { self.remove(old, &changed) }
                self.insert(WorkloadEntry(self.shared.share(workload), isLocal: self.isLocal(workload)), &changed)
            case .service(let service):
                self.removeService(service.key)
                self.insert(service)
                changed.insert(service.key)
            }
        }
        for key in changed {
            guard let entry = self.services[key] else { continue }
            self.lay(out: entry.service)
        }
    }

    package mutating func apply(upserted: [AuthorizationPolicy], removed: [NamespacedName]) {
        for key in removed { self.policiesByKey[key] = nil }
        for policy in upserted { self.policiesByKey[policy.key] = policy }
        self.policies = PolicySet(self.policiesByKey.values)
    }

    private mutating func insert(_ entry: WorkloadEntry, _ changed: inout Set<NamespacedName>) {
        let workload = entry.workload
        self.workloads[workload.uid] = entry
        // A host-network address is shared by many workloads and means none of them.
        if workload.networkMode == .standard {
            for address in workload.addresses {
                let key = NetworkAddress(network: workload.network, address: address)
                guard var sharing = self.byAddress[key] else {
                    self.byAddress[key] = .one(entry)
                    continue
                }
                // The higher rank answers; among equals the later arrival.
                sharing.insert(entry) { $0.rank <= entry.rank }
                self.byAddress[key] = sharing
            }
        }
        if self.isLocal(workload) { self.local[entry.podKey].append(entry) }
        if !workload.hostname.isEmpty { self.byHostname[Self.hostKey(workload)].append(entry) }
        for (service, ports) in workload.services {
            self.endpoints[service, default: [:]][workload.uid] = Endpoint(workload: entry, ports: ports)
            changed.insert(service)
        }
    }

    private mutating func remove(_ entry: WorkloadEntry, _ changed: inout Set<NamespacedName>) {
        let workload = entry.workload
        self.workloads[workload.uid] = nil
        if workload.networkMode == .standard {
            for address in workload.addresses {
                Self.remove(entry, from: &self.byAddress, NetworkAddress(network: workload.network, address: address))
            }
        }
        if self.isLocal(workload) { Self.remove(entry, from: &self.local, entry.podKey) }
        if !workload.hostname.isEmpty { Self.remove(entry, from: &self.byHostname, Self.hostKey(workload)) }
        for service in workload.services.keys {
            self.endpoints[service]?[workload.uid] = nil
            if self.endpoints[service]?.isEmpty == true { self.endpoints[service] = nil }
            changed.insert(service)
        }
        self.shared.release(workload)
    }

    private mutating func insert(_ service: Service) {
        self.services[service.key] = ServiceEntry(service, endpoints: [:])
        self.servicesByHostname[service.hostname].append(service.key)
        self.countWildcard(service, by: 1)
        for address in service.addresses { self.servicesByAddress[address].append(service.key) }
        for block in Set(service.blocks) { self.blocks.insert(block, service.key) }
    }

    private mutating func removeService(_ key: NamespacedName) {
        guard let service = self.services[key]?.service else { return }
        self.services[key] = nil
        Self.remove(key, from: &self.servicesByHostname, service.hostname)
        self.countWildcard(service, by: -1)
        for address in service.addresses { Self.remove(key, from: &self.servicesByAddress, address) }
        for block in Set(service.blocks) { self.blocks.remove(block, key) }
    }

    /// On demand the control plane may say `<network>/<ip>` of an address that nobody has any more.
    private mutating func removeEverything(at key: NamespacedName, _ changed: inout Set<NamespacedName>) {
        guard let address = IPAddress(key.name) else { return }
        let place = NetworkAddress(network: key.namespace, address: address)
        for entry in self.byAddress[place]?.all ?? [] { self.remove(entry, &changed) }
        for service in self.servicesByAddress[place]?.all ?? [] { self.removeService(service) }
    }

    private mutating func countWildcard(_ service: Service, by change: Int) {
        guard service.hostname.hasPrefix("*.") else { return }
        let labels = service.hostname.split(separator: ".").count
        let count = self.wildcards[labels, default: 0] + change
        self.wildcards[labels] = count == 0 ? nil : count
        if count == 0 || count == change { self.wildcardLabelCounts = self.wildcards.keys.sorted() }
    }

    private mutating func lay(out service: Service) {
        self.serviceLayouts += 1
        self.services[service.key] = ServiceEntry(service, endpoints: self.endpoints[service.key] ?? [:])
    }

    private static func hostKey(_ workload: Workload) -> NamespacedName {
        NamespacedName(namespace: workload.namespace, name: workload.hostname)
    }

    private static func remove<Key: Hashable>(
        _ entry: WorkloadEntry, from index: inout TreeDictionary<Key, Few<WorkloadEntry>>, _ key: Key
    ) {
        guard let list = index[key] else { return }
        index[key] = list.removing { $0 === entry }
    }

    private static func remove<Key: Hashable>(
        _ service: NamespacedName, from index: inout TreeDictionary<Key, Few<NamespacedName>>, _ key: Key
    ) {
        guard let list = index[key] else { return }
        index[key] = list.removing { $0 == service }
    }
}

// MARK: - Questions

extension MeshState {
    package func workload(uid: String) -> WorkloadEntry? { self.workloads[uid] }

    package func workload(at address: NetworkAddress) -> WorkloadEntry? { self.byAddress[address]?.first }

    package func workload(hostname: NamespacedName) -> WorkloadEntry? { self.byHostname[hostname]?.first }

    /// The workload that the node agent announced, by exact name; never by address.
    package func localWorkload(name: String, namespace: String, serviceAccount: String) -> WorkloadEntry? {
        self.local[.init(name: name, namespace: namespace, serviceAccount: serviceAccount)]?.first
    }

    package func service(_ key: NamespacedName) -> ServiceEntry? { self.services[key] }

    package func hasEndpoint(_ uid: String, in service: NamespacedName) -> Bool {
        self.endpoints[service]?[uid] != nil
    }

    /// The service that a client of `namespace` means by an address: an exact one first, then a block. Nil as namespace
    /// sees everything.
    package func service(at address: NetworkAddress, from namespace: String?) -> ServiceEntry? {
        if let keys = self.servicesByAddress[address], let best = self.best(of: keys.all, from: namespace) {
            return best
        }
        if self.blocks.isEmpty { return nil }
        var longest: ServiceEntry?
        var own: ServiceEntry?
        self.blocks.visit(address) { owners in
            // One prefix length after the other: the own namespace beats a longer prefix, else the first counts.
            guard let best = self.best(of: owners, from: namespace) else { return false }
            if let namespace, best.service.namespace == namespace {
                own = best
                return true
            }
            if longest == nil { longest = best }
            return namespace == nil
        }
        return own ?? longest
    }

    /// All services of one host name, in the order of their arrival.
    package func services(hostname: String) -> [ServiceEntry] {
        (self.servicesByHostname[hostname]?.all ?? []).compactMap { self.services[$0] }
    }

    /// The service that a client of `namespace` means by a host name.
    package func service(hostname: String, from namespace: String?) -> ServiceEntry? {
        self.servicesByHostname[hostname].flatMap { self.best(of: $0.all, from: namespace) }
    }

    /// Of those that may be seen: the client's own namespace, then the canonical one, then whoever came first.
    private func best(of keys: [NamespacedName], from namespace: String?) -> ServiceEntry? {
        var best: (entry: ServiceEntry, rank: Int)?
        for key in keys {
            guard let entry = self.services[key], entry.isVisible(from: namespace) else { continue }
            let isOwn = namespace.map { $0 == entry.service.namespace } ?? false
            let rank = (isOwn ? 2 : 0) + (entry.service.isCanonical ? 1 : 0)
            if rank > best?.rank ?? -1 { best = (entry, rank) }
        }
        return best?.entry
    }

    func isLocal(_ workload: Workload) -> Bool { self.nodeName.map { $0 == workload.node } ?? true }

    /// The identities that this node proves: of local workloads that take part in the mesh.
    package var localIdentities: Set<WorkloadIdentity> {
        var identities: Set<WorkloadIdentity> = []
        for (_, entries) in self.local {
            for entry in entries.all where entry.workload.tunnelProtocol == .hbone || entry.workload.isNativeTunnel {
                identities.insert(entry.identity)
            }
        }
        return identities
    }

    /// How many different facts the workloads share; for tests.
    package var sharedFacts: (commons: Int, sites: Int) { self.shared.counts }

    // For dumps.
    package var allWorkloads: [WorkloadEntry] { self.workloads.values.map { $0 } }
    package var allServices: [ServiceEntry] { self.services.values.map { $0 } }
    package func endpoints(of service: NamespacedName) -> [(uid: String, endpoint: Endpoint)] {
        (self.endpoints[service] ?? [:]).map { (uid: $0.key, endpoint: $0.value) }
    }
    /// Endpoints whose service has not arrived.
    package var stagedServices: [NamespacedName: [String]] {
        var staged: [NamespacedName: [String]] = [:]
        for (key, endpoints) in self.endpoints where self.services[key] == nil { staged[key] = Array(endpoints.keys) }
        return staged
    }
}
