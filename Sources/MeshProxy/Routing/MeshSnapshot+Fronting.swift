internal import MeshDirectory
internal import MeshModel
internal import MeshTunnel

// Requests that name somebody else than the pod they arrive at: pods in front of others, such as waypoints.

extension MeshSnapshot {
    /// A request for another address ends here only if this pod stands in front of it: a waypoint, or an application
    /// that takes whole tunnels.
    func mayEnd(_ asked: IPAddress, at local: WorkloadEntry, arrival: IPAddress) -> Bool {
        if asked == arrival || local.workload.applicationTunnel != nil { return true }
        let address = NetworkAddress(network: self.settings.network, address: asked)
        return self.gateways(of: address).contains { self.leads($0, to: local) || self.owns($0, arrival) }
    }

    /// The waypoints that may stand in front of an address.
    private func gateways(of address: NetworkAddress) -> [GatewayAddress] {
        if let workload = self.state.workload(at: address) { return workload.workload.waypoint.map { [$0] } ?? [] }
        guard let service = self.state.service(at: address, from: nil)?.service else { return [] }
        return (service.waypoint.map { [$0] } ?? [])
            + service.weightedWaypoints.filter { $0.weight > 0 }.map(\.destination)
    }

    /// On demand: what has to be known about whom a request names before it can be judged. Nothing for the usual request,
    /// which names this pod's own address.
    func unanswered(_ authority: Authority, at local: WorkloadEntry, _ arrival: IPAddress) -> String? {
        if self.settings.demand == nil { return nil }
        switch authority {
        case .host(let host, _):
            let own = local.workload.services.keys.first { $0.name == host }
            return self.unanswered(own ?? NamespacedName(namespace: local.workload.namespace, name: host))
        case .address(let asked):
            if asked.address == arrival || local.workload.applicationTunnel != nil { return nil }
            let address = NetworkAddress(network: self.settings.network, address: asked.address)
            return self.unanswered(address)
                ?? self.gateways(of: address).lazy.compactMap { self.unanswered($0) }.first
        }
    }

    /// Whether a gateway is this workload: one of the service's endpoints, or the workload itself.
    func leads(_ gateway: GatewayAddress, to local: WorkloadEntry) -> Bool {
        switch gateway.destination {
        case .address(let address):
            if let service = self.state.service(at: address, from: nil) {
                return self.state.hasEndpoint(local.workload.uid, in: service.key)
            }
            return self.state.workload(at: address) === local
        case .hostname(let key):
            if self.state.service(key) != nil { return self.state.hasEndpoint(local.workload.uid, in: key) }
            return self.state.workload(hostname: key) === local
        }
    }

    private func owns(_ gateway: GatewayAddress, _ arrival: IPAddress) -> Bool {
        guard case .address(let address) = gateway.destination,
            self.state.service(at: address, from: nil) == nil
        else { return false }
        return self.state.workload(at: address)?.workload.addresses.contains(arrival) ?? false
    }
}
