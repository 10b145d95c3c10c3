internal import MeshDirectory
internal import MeshExchange
internal import MeshModel
internal import MeshRoutes
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
        let gateways: [GatewayAddress: GatewayPeers]
        let use: BackendUse
        let backend: Backend
    }
    private let known = Mutex<[Key: Known]>([:])

    package init() {}

    func backend(
        _ service: ServiceEntry, _ port: ServicePort, _ balancing: BackendBalancing, own: WorkloadEntry?,
        _ settings: WaypointSettings, _ state: MeshState
    ) -> Backend {
        let key = Key(service: service.key, port: port.port)
        let known = self.known.withLock { $0[key] }
        if let found = known, found.service === service, found.own === own, found.balancing == balancing,
            found.gateways.allSatisfy({ $1.isCurrent($0, from: settings.gateway.namespace, state) })
        {
            return found.backend
        }
        var builder = EndpointBuilder(service, port, own: own, settings, state)
        let endpoints = builder.build()
        let use = known?.use ?? BackendUse()
        let backend = Backend(
            service: service.key, port: port.port, appProtocol: port.appProtocol, balancing: balancing,
            endpoints: endpoints, use: use, reasonForNone: builder.reasonForNone)
        let new = Known(
            service: service, own: own, balancing: balancing, gateways: builder.gateways, use: use, backend: backend)
        self.known.withLock { known in
            if known.count >= Self.backendsMax { known.removeAll() }
            known[key] = new
        }
        return backend
    }

    /// The one endpoint of a request for a workload's own address.
    static func workload(
        _ entry: WorkloadEntry, port: UInt16, own: WorkloadEntry?, _ settings: WaypointSettings
    ) -> Backend {
        let endpoint = EndpointBuilder.direct(
            entry, port: port, nil, headers: EndpointBuilder.headers(own: own, host: nil), priority: 0, settings)
        return Backend(service: nil, port: port, appProtocol: .unknown, endpoints: endpoint.map { [$0] } ?? [])
    }
}

/// Backends of one picture of the mesh.
struct BackendFinder: Sendable {
    let picture: WaypointPicture
    let settings: WaypointSettings
    let table: BackendTable

    private var own: WorkloadEntry? { self.picture.state.workload(uid: self.settings.workload) }

    /// Nil: there is no such service, or it has no such port.
    @Sendable func find(_ key: NamespacedName, _ port: UInt16) -> Backend? {
        guard let service = self.picture.state.service(key),
            let listed = service.service.ports.first(where: { $0.port == port })
        else { return nil }
        return self.table.backend(
            service, listed, self.picture.rules(of: key)?.rules.balancing ?? BackendBalancing(), own: self.own,
            self.settings, self.picture.state)
    }

    func workload(_ entry: WorkloadEntry, port: UInt16) -> Backend {
        BackendTable.workload(entry, port: port, own: self.own, self.settings)
    }
}
