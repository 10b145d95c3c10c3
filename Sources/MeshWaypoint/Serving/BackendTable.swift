internal import MeshDirectory
internal import MeshExchange
internal import MeshIdentity
internal import MeshModel
internal import MeshRoutes
internal import MeshTunnel
internal import Synchronization

/// The endpoints of services as the engine takes them, worked out once for as long as the service stays as it is: most
/// changes of a mesh concern somebody else.
package final class BackendTable: Sendable {
    /// Ports of services remembered; more, and all are forgotten.
    static let backendsMax = 50_000

    private struct Key: Hashable, Sendable {
        var service: NamespacedName
        var port: UInt16
    }
    private struct Known: Sendable {
        /// What the backend was made of.
        let service: ServiceEntry
        let own: WorkloadEntry?
        let balancing: BackendBalancing
        let backend: Backend
    }
    private let known = Mutex<[Key: Known]>([:])

    package init() {}

    func backend(
        _ service: ServiceEntry, _ port: ServicePort, _ balancing: BackendBalancing, own: WorkloadEntry?,
        _ settings: WaypointSettings
    ) -> Backend {
        let key = Key(service: service.key, port: port.port)
        if let found = self.known.withLock({ $0[key] }), found.service === service, found.own === own,
            found.balancing == balancing
        {
            return found.backend
        }
        let backend = Backend(
            service: service.key, port: port.port, appProtocol: port.appProtocol, balancing: balancing,
            endpoints: Self.endpoints(service, port, own, settings))
        self.known.withLock { known in
            if known.count >= Self.backendsMax { known.removeAll() }
            known[key] = Known(service: service, own: own, balancing: balancing, backend: backend)
        }
        return backend
    }

    /// The one endpoint of a request for a workload's own address.
    static func workload(_ entry: WorkloadEntry, port: UInt16, _ settings: WaypointSettings) -> Backend {
        let endpoint = Self.endpoint(entry, port: port, nil, priority: 0, settings)
        return Backend(service: nil, port: port, appProtocol: .unknown, endpoints: endpoint.map { [$0] } ?? [])
    }

    private static func endpoints(
        _ service: ServiceEntry, _ port: ServicePort, _ own: WorkloadEntry?, _ settings: WaypointSettings
    ) -> [UpstreamEndpoint] {
        let balancing = service.service.loadBalancing
        let isRanked = balancing.mode == .strict || balancing.mode == .failover
        let preference = isRanked ? balancing.routingPreference : []
        let place = own?.place
        return service.endpoints.compactMap { endpoint in
            guard let target = endpoint.targetPort(of: port.port) ?? (port.targetPort > 0 ? port.targetPort : nil)
            else {
                return nil
            }
            var priority = 0
            if let place, !preference.isEmpty {
                guard let rank = place.rank(preference, endpoint.workload.place, isStrict: balancing.mode == .strict)
                else { return nil }
                // A rank is at most the number of scopes, and once more for the network.
                priority = preference.count * 2 - rank
            }
            return Self.endpoint(endpoint.workload, port: target, service.service, priority: priority, settings)
        }
    }

    /// Nil when it cannot be reached: on another network, or without an address.
    private static func endpoint(
        _ entry: WorkloadEntry, port: UInt16, _ service: Service?, priority: Int, _ settings: WaypointSettings
    ) -> UpstreamEndpoint? {
        let workload = entry.workload
        guard workload.network == settings.network, workload.capacity > 0,
            let address = workload.addresses.first(where: { Self.allows($0, service?.ipFamilies) })
        else { return nil }
        let target = IPEndpoint(address: address, port: port)
        var route: TunnelRoute?
        if workload.tunnelProtocol == .hbone {
            var expected = (service?.subjectAltNames ?? []).compactMap { try? WorkloadIdentity(spiffe: $0) }
            if !expected.contains(entry.identity) { expected.append(entry.identity) }
            route = TunnelRoute(
                peer: IPEndpoint(address: address, port: settings.tunnelPort), authority: target.description,
                source: settings.identity, expected: expected, headers: [], labels: WaypointSnapshot.labels)
        }
        return UpstreamEndpoint(
            workload: workload.uid, address: target, route: route, priority: priority, weight: workload.capacity)
    }

    private static func allows(_ address: IPAddress, _ families: Service.IPFamilies?) -> Bool {
        switch families ?? .automatic {
        case .automatic, .dual: true
        case .v4Only: !address.isV6
        case .v6Only: address.isV6
        }
    }
}

/// Backends of one picture of the mesh.
struct BackendFinder: Sendable {
    let picture: WaypointPicture
    let settings: WaypointSettings
    let table: BackendTable

    /// Nil: there is no such service, or it has no such port.
    @Sendable func find(_ key: NamespacedName, _ port: UInt16) -> Backend? {
        guard let service = self.picture.state.service(key),
            let listed = service.service.ports.first(where: { $0.port == port })
        else { return nil }
        return self.table.backend(
            service, listed, self.picture.rules(of: key)?.rules.balancing ?? BackendBalancing(),
            own: self.picture.state.workload(uid: self.settings.workload), self.settings)
    }

    func workload(_ entry: WorkloadEntry, port: UInt16) -> Backend {
        BackendTable.workload(entry, port: port, self.settings)
    }
}
