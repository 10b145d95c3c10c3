import MeshCollections
import MeshModel

/// Waypoints and other networks' gateways, from Gateways and their classes.
struct GatewayCollections {
    /// By `<namespace>/<name>`.
    let waypoints: MeshCollection<Waypoint>
    /// By `<namespace>/<name>`: Gateways without an address, which may become waypoints.
    let pending: MeshCollection<PendingWaypoint>
    /// By `<namespace>/<name>` of the Gateway.
    let networkGateways: MeshCollection<NetworkGateway>
    private let byNetwork: Index<NetworkGateway, String>

    init(_ graph: Graph, _ inputs: MeshInputs) {
        let classes = inputs.gatewayClasses
        self.waypoints = graph.map(inputs.gateways) { _, view, fetch in
            // A remote gateway is an address elsewhere and no layer-7 proxy of ours.
            let gatewayClass = fetch.get(classes, view.className)
            if NetworkGateway(view, class: gatewayClass) != nil { return nil }
            return Waypoint(view, class: gatewayClass, network: inputs.network(fetch))
        }
        self.pending = graph.map(inputs.gateways) { _, view, fetch in
            let gatewayClass = fetch.get(classes, view.className)
            guard view.statusAddresses.isEmpty, NetworkGateway(view, class: gatewayClass) == nil else { return nil }
            let suffix = inputs.settings(fetch).domainSuffix
            return GatewayPlans.fronts(view, suffix).first.map {
                PendingWaypoint(
                    traffic: Waypoint.traffic(of: view, gatewayClass),
                    host: WaypointLookUp.host($0.name, in: $0.namespace, suffix))
            }
        }
        self.networkGateways = graph.map(inputs.gateways) { _, view, fetch in
            NetworkGateway(view, class: fetch.get(classes, view.className))
        }
        self.byNetwork = self.networkGateways.index { _, gateway in [gateway.network] }
    }

    /// How workloads of that network are reached from here: through the first gateway that speaks HBONE.
    func gateway(of network: String, _ inputs: MeshInputs, _ fetch: Fetch) -> GatewayAddress? {
        if network == inputs.network(fetch) { return nil }
        return fetch.get(self.byNetwork, network).lazy.compactMap(\.value.address).first
    }

    func lookUp(_ namespace: String, _ inputs: MeshInputs, _ fetch: Fetch) -> WaypointLookUp {
        WaypointLookUp(
            namespace: namespace, view: fetch.get(inputs.namespaces, namespace),
            domainSuffix: inputs.settings(fetch).domainSuffix
        ) {
            fetch.get(self.waypoints, $0.description)
        } pending: {
            fetch.get(self.pending, $0.description)
        }
    }
}
