package import MeshDNS
package import MeshDirectory
internal import MeshModel

/// What the mesh's snapshot says about names.
package struct MeshNames: MeshNameTable {
    private let state: MeshState
    private let serviceSuffix: String
    private let preferredNamespace: String?

    package init(_ state: MeshState, clusterDomain: String, preferredNamespace: String?) {
        self.state = state
        self.serviceSuffix = ".svc.\(clusterDomain)"
        self.preferredNamespace = preferredNamespace
    }

    package var wildcardLabelCounts: [Int] { self.state.wildcardLabelCounts }

    /// The client's own namespace, then the canonical service, then the preferred namespace; among equals the first
    /// namespace by name, so that all nodes answer alike.
    package func service(hostname: String, for client: DNSClient, isV6: Bool) -> NamedService? {
        var best: (rank: Int, entry: ServiceEntry)?
        for entry in self.state.services(hostname: hostname)
        where entry.isVisible(from: client.namespace) && self.isNamed(entry.service) {
            let rank = self.rank(entry.service, client)
            if let held = best,
                (held.rank, entry.service.namespace) >= (rank, held.entry.service.namespace)
            {
                continue
            }
            best = (rank, entry)
        }
        guard let entry = best?.entry else { return nil }
        let families = entry.service.ipFamilies
        return NamedService(
            hostname: entry.service.hostname, isV4: families != .v6Only, isV6: families != .v4Only,
            addresses: Self.addresses(entry, client, isV6))
    }

    /// One without virtual addresses has a name only where the cluster gives it one: others are for the resolver.
    private func isNamed(_ service: Service) -> Bool {
        !service.addresses.isEmpty || service.hostname.hasSuffix(self.serviceSuffix)
    }

    private func rank(_ service: Service, _ client: DNSClient) -> Int {
        if service.namespace == client.namespace { return 3 }
        if service.isCanonical { return 2 }
        return service.namespace == self.preferredNamespace ? 1 : 0
    }

    private static func addresses(_ entry: ServiceEntry, _ client: DNSClient, _ isV6: Bool) -> [IPAddress] {
        if !entry.service.addresses.isEmpty {
            return entry.service.addresses.filter { $0.network == client.network && $0.address.isV6 == isV6 }
                .map(\.address)
        }
        // Headless: one address of each endpoint.
        return entry.endpoints.compactMap { $0.workload.workload.addresses.first { $0.isV6 == isV6 } }
    }
}
