import MeshCollections
import MeshEnvoy
import MeshModel
import MeshRoutes

/// What Envoy waypoints are told, from the same rules, services and workloads that our own waypoints follow.
///
///     rules of a service ─▶ its chains and routes ─▶ the listener of a Gateway ─▶ destinations ─▶ clusters, endpoints
///                                                                                                   └▶ who answers there
///
/// A changed endpoint concerns the endpoints of its services only.
struct EnvoyCollections {
    /// By ``EnvoyKey``.
    let resources: MeshCollection<EnvoyResource>
    /// By `<namespace>/<name>` of the Gateway: what Envoy cannot do as it was asked for.
    let problems: MeshCollection<[EnvoyProblem]>

    init(
        _ graph: Graph, _ inputs: MeshInputs, _ services: ServiceCollections, _ workloads: WorkloadCollections,
        _ rules: RulesCollections
    ) {
        let settings: MeshCollection<EnvoySettings> = graph.map(inputs.gateways) { _, view, fetch in
            guard
                GatewayKind(view, class: fetch.get(inputs.gatewayClasses, view.className)) == .waypoint(.envoy)
            else { return nil }
            let mesh = inputs.settings(fetch)
            return EnvoySettings(
                trustDomains: [mesh.trustDomain] + mesh.trustDomainAliases, network: inputs.network(fetch),
                listensOnIPv6: view.statusAddresses.contains { IPAddress($0.value)?.isV6 ?? false })
        }
        let served = Self.served(graph, settings, services, rules)
        let gateways: MeshCollection<ServedGateway> = Self.gateways(graph, settings, served)
        let destinations: MeshCollection<ServedDestination> = graph.flatMap(gateways) { gateway, state, _ in
            state.destinations.map { ("\(gateway)|\($0.name)", ServedDestination(gateway: gateway, destination: $0)) }
        }
        let targets = Self.targets(graph, settings, destinations, services, workloads, rules)
        let targetsByGateway = targets.index { _, target in [target.gateway] }
        let tunnels: MeshCollection<EnvoyResource> = graph.flatMap(settings) { gateway, settings, fetch in
            fetch.get(targetsByGateway, gateway).reduce(into: Set()) { $0.formUnion($1.value.identities) }
                .flatMap { TunnelListeners.originate($0, settings) }.map { (EnvoyKey(gateway, $0).text, $0) }
        }
        self.resources = graph.join([
            graph.flatMap(served) { _, service, _ in
                service.routes.map { (EnvoyKey(service.gateway, $0).text, $0) }
            },
            graph.flatMap(gateways) { gateway, state, _ in
                state.resources.map { (EnvoyKey(gateway, $0).text, $0) }
            },
            graph.flatMap(targets) { _, target, _ in
                target.resources.map { (EnvoyKey(target.gateway, $0).text, $0) }
            },
            tunnels,
        ])
        self.problems = graph.map(gateways) { _, state, _ in state.problems.isEmpty ? nil : state.problems }
    }

    private struct ServedService: Equatable {
        var gateway: String
        var key: String
        var routes: [EnvoyResource]
        var chains: ServiceChains
        var destinations: Set<EnvoyDestination>
        var problems: [EnvoyProblem]
    }

    private struct ServedGateway: Equatable {
        var resources: [EnvoyResource]
        var destinations: Set<EnvoyDestination>
        var problems: [EnvoyProblem]
    }

    private struct ServedDestination: Equatable {
        var gateway: String
        var destination: EnvoyDestination
    }

    private struct Target: Equatable {
        var gateway: String
        var resources: [EnvoyResource]
        var identities: Set<ExpectedIdentities>
    }

    /// Each service behind each of its Envoy waypoints.
    private static func served(
        _ graph: Graph, _ settings: MeshCollection<EnvoySettings>, _ services: ServiceCollections,
        _ rules: RulesCollections
    ) -> MeshCollection<ServedService> {
        graph.flatMap(rules.services) { key, served, fetch in
            served.waypoints.map(\.description).sorted().compactMap { gateway in
                guard let settings = fetch.get(settings, gateway), let waypoint = fetch.get(rules.waypoints, gateway),
                    waypoint.trafficType == .service || waypoint.trafficType == .all,
                    let service = fetch.get(services.all, key)
                else { return nil }
                return (
                    "\(gateway)|\(key)",
                    Self.served(service, served.rules, waypoint, settings, gateway) {
                        fetch.get(rules.services, $0.description)?.rules.balancing.choice ?? .leastRequest
                    }
                )
            }
        }
    }

    private static func served(
        _ service: MeshModel.Service, _ rules: ServiceRules, _ waypoint: WaypointRules, _ settings: EnvoySettings,
        _ gateway: String, balancing: @escaping (NamespacedName) -> BackendBalancing.Choice
    ) -> ServedService {
        var routes: [UInt16: ServedRoutes] = [:]
        for port in service.ports where port.appProtocol != .tcp && port.appProtocol != .tls {
            routes[port.port] = ServedRoutes(
                EnvoyDestination(service.key, port: port.port), rules, balancing: balancing)
        }
        let chains = ServiceChains(service, rules, waypoint, routes, settings)
        let ofRoutes = routes.sorted { $0.key < $1.key }.map(\.value)
        return ServedService(
            gateway: gateway, key: service.key.description, routes: ofRoutes.map(\.resource), chains: chains,
            destinations: ofRoutes.reduce(into: chains.destinations) { $0.formUnion($1.destinations) },
            problems: chains.problems + ofRoutes.flatMap(\.problems))
    }

    private static func gateways(
        _ graph: Graph, _ settings: MeshCollection<EnvoySettings>, _ served: MeshCollection<ServedService>
    ) -> MeshCollection<ServedGateway> {
        let byGateway = served.index { _, service in [service.gateway] }
        return graph.map(settings) { gateway, settings, fetch in
            let services = fetch.get(byGateway, gateway).map(\.value).sorted { $0.key < $1.key }
            return ServedGateway(
                resources: [
                    TunnelListeners.terminate(settings), TunnelClusters.main,
                    MainListener.listener(services.map { ($0.key, $0.chains) }),
                ],
                destinations: services.reduce(into: []) { $0.formUnion($1.destinations) },
                problems: services.flatMap(\.problems))
        }
    }

    /// Clusters and their endpoints. A destination that is not there has none, and requests for it get 500.
    private static func targets(
        _ graph: Graph, _ settings: MeshCollection<EnvoySettings>, _ destinations: MeshCollection<ServedDestination>,
        _ services: ServiceCollections, _ workloads: WorkloadCollections, _ rules: RulesCollections
    ) -> MeshCollection<Target> {
        return graph.map(destinations) { _, element, fetch in
            let destination = element.destination
            let key = destination.service.description
            guard let settings = fetch.get(settings, element.gateway), let service = fetch.get(services.all, key),
                let port = service.ports.first(where: { $0.port == destination.port })
            else { return nil }
            let balancing = fetch.get(rules.services, key)?.rules.balancing ?? BackendBalancing()
            let (endpoints, identities) = DestinationCluster.endpoints(
                destination, service, port, fetch.get(workloads.byService, key).map(\.value), settings)
            return Target(
                gateway: element.gateway,
                resources: [DestinationCluster.cluster(destination, port, balancing), endpoints],
                identities: identities)
        }
    }
}

/// Which resource of which Envoys, as one text.
struct EnvoyKey: Hashable {
    /// `<namespace>/<name>` of a Gateway, or a part of sidecars' configurations.
    var gateway: String
    var type, name: String

    init(_ gateway: String, _ resource: EnvoyResource) {
        (self.gateway, self.type, self.name) = (gateway, resource.type, resource.name)
    }

    /// Neither Gateways nor types have a bar in their names.
    init?(_ text: String) {
        let parts = text.split(separator: "|", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 3 else { return nil }
        (self.gateway, self.type, self.name) = (parts[0], parts[1], parts[2])
    }

    var text: String { "\(self.gateway)|\(self.type)|\(self.name)" }
}
