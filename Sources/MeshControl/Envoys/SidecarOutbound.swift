import MeshCollections
import MeshEnvoy
import MeshModel
import MeshRoutes
import MeshXDS

/// The way from applications with a sidecar to services.
struct SidecarOutbound {
    let resources: MeshCollection<EnvoyResource>
    let problems: MeshCollection<[EnvoyProblem]>

    /// A service as clients' listeners and routes see it.
    private struct Entrance: Equatable {
        var service: MeshModel.Service
        /// Whom the host of a request leads to it, by port.
        var named: [UInt16: RequestTarget] = [:]
        /// Ports that clients find at the service's own addresses.
        var own: [UInt16: Own] = [:]
        /// Whom the server name of a connection leads to it, by port.
        var serverNames: [UInt16: OutboundListeners.NamedTarget] = [:]

        struct Own: Equatable {
            var kind: OutboundListeners.Kind
            var requests: RequestTarget
        }

        func isSeen(from namespace: String) -> Bool {
            self.service.visibility == .everywhere || self.service.namespace == namespace
        }
        var sharedPorts: [UInt16] { Set(self.named.keys).union(self.serverNames.keys).sorted() }
        /// Who sees it: everybody, or its namespace.
        var layer: String { SidecarOutbound.layer(self.service) }
    }

    fileprivate static func layer(_ service: MeshModel.Service) -> String {
        service.visibility == .everywhere ? SidecarLayer.mesh : SidecarLayer.namespace(service.namespace)
    }

    init(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ pods: MeshCollection<SidecarPod>,
        _ inputs: MeshInputs, _ services: ServiceCollections, _ workloads: WorkloadCollections,
        _ routes: RouteCollections, _ rules: RulesCollections
    ) {
        let namespaces: MeshCollection<Bool> = graph.flatMap(pods) { _, pod, _ in [(pod.namespace, true)] }
        let entrances: MeshCollection<Entrance> = graph.map(services.all) { _, service, fetch in
            guard let settings = fetch.get(settings, "") else { return nil }
            // What a waypoint does for the service, its clients leave to it.
            let attached = service.waypoint == nil ? routes.routes(service, fetch).http : []
            return Self.entrance(service, attached, settings)
        }
        func balancing(_ fetch: Fetch) -> (NamespacedName) -> BackendBalancing.Choice {
            { fetch.get(rules.services, $0.description)?.rules.balancing.choice ?? .leastRequest }
        }
        let targets = Self.targets(graph, settings, pods, services, workloads, rules)
        let owned = Self.owned(graph, settings, namespaces, entrances, balancing)
        let shared = Self.shared(graph, settings, namespaces, entrances, balancing)
        let headless = Self.headless(graph, settings, services, workloads)
        let parts = [targets, owned, shared, headless].map { SidecarPart.split(graph, $0) }
        self.resources = graph.join(parts.map(\.resources) + [Self.tunnels(graph, settings, targets)])
        self.problems = graph.join(parts.map(\.problems))
    }

    private static func entrance(
        _ service: MeshModel.Service, _ routes: [HTTPRoute], _ settings: SidecarSettings
    ) -> Entrance {
        var entrance = Entrance(service: service)
        let isHeadless = service.isHeadless
        for port in service.distinctPorts {
            let target = RequestTarget(service, port: port.port, routes: routes, settings.mesh)
            let kind = OutboundListeners.kind(
                port, hasWaypoint: service.waypoint != nil, hasRoutes: !target.routes.isEmpty)
            switch port.appProtocol {
            case .http11, .http2, .grpc:
                if !isHeadless, !SidecarSettings.ownPorts.contains(port.port) { entrance.named[port.port] = target }
            case .tls:
                if service.addresses.isEmpty, !isHeadless, !SidecarSettings.ownPorts.contains(port.port) {
                    entrance.serverNames[port.port] = .init(
                        serverName: service.hostname, destination: target.destination)
                }
            case .unknown, .tcp: break
            }
            if kind != .shared { entrance.own[port.port] = .init(kind: kind, requests: target) }
        }
        return entrance
    }

    // MARK: Clusters and endpoints

    private static func targets(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ pods: MeshCollection<SidecarPod>,
        _ services: ServiceCollections, _ workloads: WorkloadCollections, _ rules: RulesCollections
    ) -> MeshCollection<SidecarPart> {
        let byAddress = services.all.index { _, service in service.addresses.map(\.description) }
        func hops(_ waypoint: GatewayAddress, weight: UInt32, _ fetch: Fetch) -> [SidecarDestination.Hop] {
            var keys: [String] = []
            switch waypoint.destination {
            case .hostname(let service): keys = [service.description]
            case .address(let address): keys = fetch.get(byAddress, address.description).map(\.key)
            }
            let instances = keys.flatMap { fetch.get(workloads.byService, $0).map(\.value) }.filter(\.isHealthy)
            return instances.compactMap { workload in
                workload.addresses.first.map {
                    SidecarDestination.Hop(
                        IPEndpoint(address: $0, port: waypoint.hbonePort), workload.identity,
                        weight: max(weight / UInt32(clamping: instances.count), 1))
                }
            }
        }
        return graph.map(services.all) { key, service, fetch in
            guard let settings = fetch.get(settings, "") else { return nil }
            var waypoint: [SidecarDestination.Hop]?
            if !service.weightedWaypoints.isEmpty {
                waypoint = service.weightedWaypoints.filter { $0.weight > 0 }
                    .flatMap { hops($0.destination, weight: $0.weight * Self.weightUnit, fetch) }
            } else if let address = service.waypoint {
                waypoint = hops(address, weight: 1, fetch)
            }
            let backends = fetch.get(workloads.byService, key).map(\.value).map { workload in
                SidecarDestination.Backend(
                    workload, hasSidecar: Self.hasSidecar(workload, pods, fetch),
                    waypoint: workload.waypoint.map { hops($0, weight: 1, fetch) })
            }
            let destination = SidecarDestination(
                service, backends, waypoint: waypoint,
                fetch.get(rules.services, key)?.rules.balancing ?? BackendBalancing(), settings.mesh)
            var part = SidecarPart(identities: destination.identities)
            part.add(Self.layer(service), destination.resources)
            return part
        }
    }

    /// A percent of weight, so that it can be divided among the pods of a waypoint.
    private static let weightUnit: UInt32 = 1000

    private static func hasSidecar(
        _ workload: Workload, _ pods: MeshCollection<SidecarPod>, _ fetch: Fetch
    ) -> Bool {
        let key = "\(workload.namespace)/\(workload.name)"
        return workload.uid.hasSuffix("//Pod/\(key)") && fetch.get(pods, key) != nil
    }

    private static func tunnels(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ targets: MeshCollection<SidecarPart>
    ) -> MeshCollection<EnvoyResource> {
        // The same from many services: one of them gives it.
        let expected: MeshCollection<ExpectedIdentities> = graph.flatMap(targets) { _, part, _ in
            part.identities.map { ($0.listener, $0) }
        }
        return graph.flatMap(expected) { _, identities, fetch in
            guard let settings = fetch.get(settings, "") else { return [] }
            return TunnelListeners.originate(identities, settings.mesh).map {
                (EnvoyKey(SidecarLayer.mesh, $0).text, $0)
            }
        }
    }

    // MARK: Listeners and routes

    /// Ports with listeners at a service's own addresses.
    private static func owned(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ namespaces: MeshCollection<Bool>,
        _ entrances: MeshCollection<Entrance>,
        _ balancing: @escaping (Fetch) -> (NamespacedName) -> BackendBalancing.Choice
    ) -> MeshCollection<SidecarPart> {
        graph.map(entrances) { _, entrance, fetch in
            guard let settings = fetch.get(settings, ""), !entrance.own.isEmpty else { return nil }
            var part = SidecarPart()
            for port in entrance.service.distinctPorts {
                guard let own = entrance.own[port.port] else { continue }
                part.add(
                    entrance.layer, OutboundListeners.service(entrance.service, port, own.kind, settings))
                if own.kind == .streams { continue }
                let general = OutboundRoutes.service(own.requests, from: "", balancing: balancing(fetch))
                part.add(entrance.layer, [general.resource])
                part.problems += general.problems
                for namespace in own.requests.consumers.sorted() where fetch.get(namespaces, namespace) != nil {
                    let special = OutboundRoutes.service(
                        own.requests, from: namespace, balancing: balancing(fetch))
                    part.add(SidecarLayer.namespace(namespace), [special.resource])
                    part.problems += special.problems
                }
            }
            return part
        }
    }

    /// Ports at any address, and for each namespace the routes behind them.
    private static func shared(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ namespaces: MeshCollection<Bool>,
        _ entrances: MeshCollection<Entrance>,
        _ balancing: @escaping (Fetch) -> (NamespacedName) -> BackendBalancing.Choice
    ) -> MeshCollection<SidecarPart> {
        let byPort = entrances.index { _, entrance in entrance.sharedPorts }
        let ports: MeshCollection<UInt16> = graph.flatMap(entrances) { _, entrance, _ in
            entrance.sharedPorts.map { ("\($0)", $0) }
        }
        let listeners: MeshCollection<SidecarPart> = graph.map(ports) { _, port, fetch in
            guard let settings = fetch.get(settings, "") else { return nil }
            let here = fetch.get(byPort, port).map(\.value)
            var part = SidecarPart()
            part.add(
                SidecarLayer.mesh,
                [
                    OutboundListeners.port(
                        port, hasRequests: here.contains { $0.named[port] != nil },
                        names: here.filter { $0.service.visibility == .everywhere }
                            .compactMap { $0.serverNames[port] }, settings)
                ])
            return part
        }
        let pairs: MeshCollection<NamespacePort> = graph.flatMap(ports) { _, port, fetch in
            fetch.all(namespaces).map {
                ("\($0.key):\(port)", NamespacePort(namespace: $0.key, port: port))
            }
        }
        let routes: MeshCollection<SidecarPart> = graph.map(pairs) { _, pair, fetch in
            guard let settings = fetch.get(settings, "") else { return nil }
            let targets = fetch.get(byPort, pair.port).map(\.value).filter { $0.isSeen(from: pair.namespace) }
                .compactMap { $0.named[pair.port] }
            let (resource, problems) = OutboundRoutes.port(
                pair.port, from: pair.namespace, targets, settings, balancing: balancing(fetch))
            var part = SidecarPart(problems: problems)
            part.add(SidecarLayer.namespace(pair.namespace), [resource])
            return part
        }
        return graph.join([listeners, routes])
    }

    private struct NamespacePort: Equatable {
        var namespace: String
        var port: UInt16
    }

    /// Pods of services without an address of their own, which clients find by themselves.
    private static func headless(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ services: ServiceCollections,
        _ workloads: WorkloadCollections
    ) -> MeshCollection<SidecarPart> {
        graph.map(services.all) { key, service, fetch in
            guard service.isHeadless, let settings = fetch.get(settings, "") else { return nil }
            var part = SidecarPart()
            for workload in fetch.get(workloads.byService, key).map(\.value)
            where workload.network == settings.mesh.network {
                for port in service.distinctPorts {
                    for address in workload.addresses where !address.isV6 {
                        part.add(
                            Self.layer(service), [OutboundListeners.pod(address, of: service, port, settings)])
                    }
                }
            }
            return part
        }
    }
}
