import MeshCollections
package import MeshModel
package import MeshRoutes

/// The rules of a service, and the waypoints that get them: its own, and its canary.
package struct ServedRules: Hashable, Sendable {
    package var rules: ServiceRules
    package var waypoints: Set<NamespacedName>
}

/// What waypoints get: for each service with a waypoint its rules, and for each waypoint its own.
struct RulesCollections {
    let services: MeshCollection<ServedRules>
    let waypoints: MeshCollection<WaypointRules>
    let runners: MeshCollection<WaypointRunners>

    init(
        _ graph: Graph, _ inputs: MeshInputs, _ services: ServiceCollections, _ routes: RouteCollections,
        _ gates: GateCollections, _ balancing: BalancingCollections
    ) {
        let telemetries = TelemetryCollections(inputs)
        let waypoints: MeshCollection<WaypointRules> = graph.map(inputs.gateways) { _, view, fetch in
            let gatewayClass = fetch.get(inputs.gatewayClasses, view.className)
            guard Self.isWaypoint(view, gatewayClass) else { return nil }
            let key = NamespacedName(namespace: view.namespace, name: view.name)
            let traffic = Waypoint.traffic(of: view, gatewayClass)
            var rules = WaypointRules(key: key, trafficType: WaypointRules.TrafficType(traffic))
            rules.gate = gates.gate([.gateway(view.key), .gatewayClass(view.className)], fetch)
            rules.telemetry = telemetries.telemetry(view, inputs.settings(fetch), fetch)
            return rules
        }
        self.waypoints = waypoints
        let podsByGateway = inputs.pods.index { _, pod in
            pod.labels[Names.gatewayName].map { ["\(pod.namespace)/\($0)"] } ?? []
        }
        self.runners = graph.map(waypoints) { key, rules, fetch in
            // Its Deployment's account has the Gateway's name unless something else was asked for; then that, or pods
            // of the same namespace, tell.
            let view = fetch.get(inputs.gateways, key)
            let engine = view.flatMap { GatewayKind($0, class: fetch.get(inputs.gatewayClasses, $0.className))?.engine }
            return WaypointRunners(
                accounts: Set(fetch.get(podsByGateway, key).map(\.value.serviceAccount))
                    .union([view?.serviceAccount ?? rules.key.name]),
                engine: engine ?? .martlet)
        }
        self.services = graph.map(services.all) { _, service, fetch in
            guard let (binding, target) = services.binding(of: service, fetch), let waypoint = binding.primary else {
                return nil
            }
            var rules = ServiceRules(key: service.key)
            (rules.routes, rules.streams) = routes.routes(service, fetch)
            rules.gate = gates.gate([target], fetch)
            rules.balancing = balancing.balancing(service, waypoint: waypoint.key, target: target, fetch)
            rules.telemetry = telemetries.telemetry(
                target, over: fetch.get(waypoints, waypoint.key.description)?.telemetry, inputs.settings(fetch), fetch)
            return ServedRules(
                rules: rules, waypoints: Set([waypoint.key, binding.canary?.waypoint.key].compactMap { $0 }))
        }
    }

    /// One that we run.
    private static func isWaypoint(_ view: GatewayView, _ gatewayClass: GatewayClassView?) -> Bool {
        GatewayKind(view, class: gatewayClass)?.engine != nil
    }
}

extension WaypointRules.TrafficType {
    init(_ traffic: Waypoint.Traffic) {
        switch traffic {
        case .service: self = .service
        case .workload: self = .workload
        case .all: self = .all
        // Also a word that we cannot read.
        default: self = .none
        }
    }
}

/// Telemetry objects, found by what they are for.
private struct TelemetryCollections {
    private let general: Index<TelemetryView, String>
    /// By target; a class's root namespace is looked at by who finds it.
    private let targeted: Index<TelemetryView, String>

    init(_ inputs: MeshInputs) {
        self.general = inputs.telemetries.index { _, view in view.isGeneral ? [view.key.namespace] : [] }
        self.targeted = inputs.telemetries.index { _, view in
            view.targets.compactMap {
                GateTarget($0, namespace: view.key.namespace, rootNamespace: view.key.namespace)?.text
            }
        }
    }

    func telemetry(_ gateway: GatewayView, _ settings: MeshSettings, _ fetch: Fetch) -> WaypointTelemetry {
        var telemetry = TelemetryReader.initial(settings)
        func add(_ views: [TelemetryView]) { telemetry = TelemetryReader.read(views, over: telemetry, settings) }
        add(fetch.get(self.general, settings.rootNamespace).map(\.value))
        add(
            fetch.get(self.targeted, GateTarget.gatewayClass(gateway.className).text).map(\.value)
                .filter { $0.key.namespace == settings.rootNamespace })
        if gateway.namespace != settings.rootNamespace { add(fetch.get(self.general, gateway.namespace).map(\.value)) }
        add(fetch.get(self.targeted, GateTarget.gateway(gateway.key).text).map(\.value))
        return telemetry
    }

    /// Nil when nothing is said of this service.
    func telemetry(
        _ target: GateTarget, over waypoint: WaypointTelemetry?, _ settings: MeshSettings, _ fetch: Fetch
    ) -> WaypointTelemetry? {
        let views = fetch.get(self.targeted, target.text).map(\.value)
        if views.isEmpty { return nil }
        return TelemetryReader.read(views, over: waypoint ?? TelemetryReader.initial(settings), settings)
    }
}
