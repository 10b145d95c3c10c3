internal import Collections
package import MeshIdentity
package import MeshModel
package import MeshPolicy

/// Everything the control plane said, with the indexes that connections ask.
///
/// A value that is cheap to copy and to change after it was copied: the dictionaries are persistent hash tries, so a
/// change touches a few nodes and a published snapshot keeps the old ones. Lists under one key are short (services of
/// one VIP, workloads of one address), except a service's endpoints, which are laid out once per update.
package struct MeshState: Sendable {
    private var workloads: TreeDictionary<String, WorkloadEntry> = [:]
    /// The one to answer first.
    private var byAddress: TreeDictionary<NetworkAddress, [WorkloadEntry]> = [:]
    private var local: TreeDictionary<WorkloadEntry.PodKey, [WorkloadEntry]> = [:]
    /// By namespace and DNS name, for those that have one.
    private var byHostname: TreeDictionary<NamespacedName, [WorkloadEntry]> = [:]
    private var services: TreeDictionary<NamespacedName, ServiceEntry> = [:]
    private var servicesByHostname: TreeDictionary<String, [NamespacedName]> = [:]
    private var servicesByAddress: TreeDictionary<NetworkAddress, [NamespacedName]> = [:]
    /// How many services have a wildcard host name of so many labels.
    private var wildcards: [Int: Int] = [:]
    /// Ascending: which lengths of wildcard host names are worth trying.
    package private(set) var wildcardLabelCounts: [Int] = []
    /// Scanned one by one: CIDR services are few (they come from ServiceEntry objects).
    private var blocks: [(block: NetworkBlock, service: NamespacedName)] = []
    /// Also of services that have not arrived yet, and of workloads that are not healthy.
    private var endpoints: TreeDictionary<NamespacedName, TreeDictionary<String, Endpoint>> = [:]
    package private(set) var policies = PolicySet.empty
    private var policiesByKey: [NamespacedName: AuthorizationPolicy] = [:]

    /// Nil: workloads of every node count as local.
    private let nodeName: String?
    /// How often a service's endpoints were laid out; for tests.
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
            }
        }
        for address in upserted {
            switch address {
            case .workload(let workload):
                if let old = self.workloads[workload.uid] { self.remove(old, &changed) }
                self.insert(WorkloadEntry(workload), &changed)
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
                var sharing = self.byAddress[key] ?? []
                // The higher rank answers; among equals the later arrival.
                sharing.insert(entry, at: sharing.firstIndex { $0.rank <= entry.rank } ?? sharing.endIndex)
                self.byAddress[key] = sharing
            }
        }
        if self.isLocal(workload) { self.local[entry.podKey, default: []].append(entry) }
        if !workload.hostname.isEmpty { self.byHostname[Self.hostKey(workload), default: []].append(entry) }
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
    }

    private mutating func insert(_ service: Service) {
        self.services[service.key] = ServiceEntry(service, endpoints: [])
        self.servicesByHostname[service.hostname, default: []].append(service.key)
        self.countWildcard(service, by: 1)
        for address in service.addresses { self.servicesByAddress[address, default: []].append(service.key) }
        self.blocks += service.blocks.map { (block: $0, service: service.key) }
    }

    private mutating func removeService(_ key: NamespacedName) {
        guard let service = self.services[key]?.service else { return }
        self.services[key] = nil
        Self.remove(key, from: &self.servicesByHostname, service.hostname)
        self.countWildcard(service, by: -1)
        for address in service.addresses { Self.remove(key, from: &self.servicesByAddress, address) }
        if !service.blocks.isEmpty { self.blocks.removeAll { $0.service == key } }
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
        self.services[service.key] = ServiceEntry(
            service, endpoints: (self.endpoints[service.key] ?? [:]).values.map { $0 })
    }

    private static func hostKey(_ workload: Workload) -> NamespacedName {
        NamespacedName(namespace: workload.namespace, name: workload.hostname)
    }

    private static func remove<Key: Hashable>(
        _ entry: WorkloadEntry, from index: inout TreeDictionary<Key, [WorkloadEntry]>, _ key: Key
    ) {
        guard var list = index[key] else { return }
        list.removeAll { $0 === entry }
        index[key] = list.isEmpty ? nil : list
    }

    private static func remove<Key: Hashable>(
        _ service: NamespacedName, from index: inout TreeDictionary<Key, [NamespacedName]>, _ key: Key
    ) {
        guard var list = index[key] else { return }
        list.removeAll { $0 == service }
        index[key] = list.isEmpty ? nil : list
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
        let exact = (self.servicesByAddress[address] ?? []).compactMap { self.services[$0] }
            .filter { $0.isVisible(from: namespace) }
        if let best = Self.best(exact, from: namespace) { return best }
        var winner: (entry: ServiceEntry, isOwn: Bool, length: Int, isCanonical: Bool)?
        for (block, key) in self.blocks
        where block.network == address.network && block.cidr.contains(address.address) {
            guard let entry = self.services[key], entry.isVisible(from: namespace) else { continue }
            let candidate = (
                entry: entry, isOwn: entry.service.namespace == namespace, length: block.cidr.prefixLength,
                isCanonical: entry.service.isCanonical
            )
            if let held = winner,
                (held.isOwn ? 1 : 0, held.length, held.isCanonical ? 1 : 0)
                    >= (candidate.isOwn ? 1 : 0, candidate.length, candidate.isCanonical ? 1 : 0)
            {
                continue
            }
            winner = candidate
        }
        return winner?.entry
    }

    /// All services of one host name, in the order of their arrival.
    func services(hostname: String) -> [ServiceEntry] {
        (self.servicesByHostname[hostname] ?? []).compactMap { self.services[$0] }
    }

    /// The service that a client of `namespace` means by a host name.
    package func service(hostname: String, from namespace: String?) -> ServiceEntry? {
        Self.best(
            (self.servicesByHostname[hostname] ?? []).compactMap { self.services[$0] }
                .filter { $0.isVisible(from: namespace) }, from: namespace)
    }

    /// The client's own namespace, then the canonical one, then whoever came first.
    private static func best(_ candidates: [ServiceEntry], from namespace: String?) -> ServiceEntry? {
        if candidates.count < 2 { return candidates.first }
        return candidates.first { $0.service.namespace == namespace }
            ?? candidates.first { $0.service.isCanonical } ?? candidates.first
    }

    func isLocal(_ workload: Workload) -> Bool { self.nodeName.map { $0 == workload.node } ?? true }

    /// The identities that this node proves: of local workloads that take part in the mesh.
    package var localIdentities: Set<WorkloadIdentity> {
        var identities: Set<WorkloadIdentity> = []
        for (_, entries) in self.local {
            for entry in entries where entry.workload.tunnelProtocol == .hbone || entry.workload.isNativeTunnel {
                identities.insert(entry.identity)
            }
        }
        return identities
    }

    // For dumps.
    package var allWorkloads: [WorkloadEntry] { self.workloads.values.map { $0 } }
    package var allServices: [ServiceEntry] { self.services.values.map { $0 } }
    func endpoints(of service: NamespacedName) -> [(uid: String, endpoint: Endpoint)] {
        (self.endpoints[service] ?? [:]).map { (uid: $0.key, endpoint: $0.value) }
    }
    /// Endpoints whose service has not arrived.
    package var stagedServices: [NamespacedName: [String]] {
        var staged: [NamespacedName: [String]] = [:]
        for (key, endpoints) in self.endpoints where self.services[key] == nil { staged[key] = Array(endpoints.keys) }
        return staged
    }
}
