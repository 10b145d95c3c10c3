package import KubeAPI
import MeshCollections
package import MeshModel

/// What the cluster shall hold for one Gateway.
package struct GatewayPlan: Hashable, Sendable {
    package var gateway: NamespacedName
    /// Of the Gateway: its objects are known by it.
    package var uid: String
    package var children: [KubeObject]
    /// Whether the Gateway has to be told that it is ours (annotation `gateway.istio.io/controller-version`).
    package var stampsVersion: Bool

    /// Whether the proxies are ours to deploy: a host name, or more than one address, means a Service that somebody
    /// else provides.
    static func isManaged(_ gateway: GatewayView) -> Bool {
        gateway.specAddresses.count <= 1 && gateway.specAddresses.allSatisfy { $0.type == "IPAddress" }
    }
}

/// What to deploy for Gateways and what their statuses say, from Gateways, classes, overlays and what is there.
struct GatewayPlans {
    /// By `<namespace>/<name>`; a Gateway without an element is left as it is.
    let plans: MeshCollection<GatewayPlan>
    /// By `<namespace>/<name>`.
    let reports: MeshCollection<GatewayReport>
    /// By name.
    let classReports: MeshCollection<GatewayReport>

    /// Plan or trouble of one Gateway.
    private enum Outcome: Hashable {
        case plan(GatewayPlan)
        case invalid(InvalidParameters)
        case nothing
    }

    init(_ graph: Graph, _ inputs: MeshInputs) {
        let (classes, namespaces, services) = (inputs.gatewayClasses, inputs.namespaces, inputs.services)
        let defaults = inputs.overlays.index { _, view in view.defaultsFor.map { [$0] } ?? [] }
        let slices = inputs.slices.index { _, view in view.isUsable ? ["\(view.namespace)/\(view.serviceName)"] : [] }

        let outcomes: MeshCollection<Outcome> = graph.map(inputs.gateways) { _, gateway, fetch in
            let settings = inputs.settings(fetch)
            let gatewayClass = fetch.get(classes, gateway.className)
            guard let engine = GatewayKind(gateway, class: gatewayClass)?.engine,
                settings.owns(gateway, in: fetch.get(namespaces, gateway.namespace))
            else { return nil }
            guard GatewayPlan.isManaged(gateway), !gateway.isBeingDeleted else { return .nothing }
            let version = gateway.annotations[Names.controllerVersion].flatMap { Int($0) } ?? 0
            if version > WaypointObjects.controllerVersion { return .nothing }
            // What cannot be used as it stands is not deployed; what runs already goes on running.
            guard gateway.annotations[Names.serviceType] == nil,
                gateway.listeners.contains(where: { ListenerReport.isTunnel($0) })
            else { return .nothing }
            do throws(InvalidParameters) {
                try Self.check(gateway, gatewayClass, engine, settings)
                var overlays: [GatewayOverlay] = []
                let ofClass = fetch.get(defaults, gateway.className).map(\.value)
                    .filter { $0.namespace == settings.controlPlaneNamespace }
                    .min { ($0.createdAt, $0.name) < ($1.createdAt, $1.name) }
                if let ofClass { overlays.append(try GatewayOverlay(ofClass)) }
                if let parameters = gateway.infrastructure.parameters {
                    overlays.append(try Self.overlay(parameters, of: gateway) { fetch.get(inputs.overlays, $0) })
                }
                return .plan(
                    GatewayPlan(
                        gateway: NamespacedName(namespace: gateway.namespace, name: gateway.name), uid: gateway.uid,
                        children: try WaypointObjects(
                            gateway, settings, network: inputs.network(fetch), engine: engine
                        ).all(overlays),
                        stampsVersion: version < WaypointObjects.controllerVersion))
            } catch {
                return .invalid(error)
            }
        }
        self.plans = graph.map(outcomes) { _, outcome, _ in
            if case .plan(let plan) = outcome { plan } else { nil }
        }
        self.reports = graph.map(inputs.gateways) { key, gateway, fetch in
            let settings = inputs.settings(fetch)
            let gatewayClass = fetch.get(classes, gateway.className)
            guard let kind = GatewayKind(gateway, class: gatewayClass),
                settings.owns(gateway, in: fetch.get(namespaces, gateway.namespace))
            else { return nil }
            var parameters: InvalidParameters?
            if case .invalid(let error) = fetch.get(outcomes, key) { parameters = error }
            let judgement = GatewayJudgement(
                gateway: gateway,
                fronts: Self.fronts(gateway, settings.domainSuffix).map { name in
                    let hostname = "\(name.name).\(name.namespace).svc.\(settings.domainSuffix)"
                    let service = fetch.get(services, name.description)
                    let ready = fetch.get(slices, name.description).reduce(0) {
                        $0 + $1.value.endpoints.count(where: \.isReady)
                    }
                    return .init(
                        hostname: hostname, key: name.description,
                        addresses: service.map { $0.clusterIPs.filter { !$0.isEmpty && $0 != "None" } },
                        readyEndpoints: ready)
                },
                tunnel: Waypoint.tunnel(of: gateway, gatewayClass).map { ApplicationTunnelPort(port: $0.port) },
                parameters: parameters, trouble: fetch.get(inputs.gatewayTroubles, key))
            switch kind {
            case .waypoint: return judgement.waypoint()
            case .remote: return judgement.remote()
            }
        }
        self.classReports = graph.map(classes) { _, view, _ in
            guard let kind = GatewayKind(controller: view.controllerName) else { return nil }
            var report = GatewayReport(
                generation: view.generation,
                [StatusCondition("Accepted", true, reason: "Accepted", message: "Handled by Istio controller")])
            if kind.engine != nil { report.features = GatewayKind.features }
            return report
        }
    }

    private static func check(
        _ gateway: GatewayView, _ gatewayClass: GatewayClassView?, _ engine: WaypointEngine, _ settings: MeshSettings
    ) throws(InvalidParameters) {
        if settings.waypoints.image(of: engine).isEmpty, gateway.annotations[Names.proxyImage] == nil {
            let variable = engine == .envoy ? "WAYPOINT_ENVOY_IMAGE" : "WAYPOINT_IMAGE"
            throw InvalidParameters(
                description:
                    "the control plane was not told which image waypoints of this class run; set \(variable) in its "
                    + "environment")
        }
        let traffic = Waypoint.traffic(of: gateway, gatewayClass)
        if engine == .envoy, traffic == .workload || traffic == .all {
            throw InvalidParameters(
                description:
                    "Envoy as a waypoint serves services only; \(Names.waypointFor)=\(traffic.rawValue) needs the class "
                    + "istio-waypoint")
        }
    }

    private static func overlay(
        _ parameters: GatewayView.Parameters, of gateway: GatewayView, find: (String) -> OverlayView?
    ) throws(InvalidParameters) -> GatewayOverlay {
        guard parameters.group.isEmpty, parameters.kind == "ConfigMap" else {
            throw InvalidParameters(
                description: "spec.infrastructure.parametersRef: only ConfigMaps can be referred to (group \"\"), not "
                    + "\(parameters.kind) of group \"\(parameters.group)\"")
        }
        guard let view = find("\(gateway.namespace)/\(parameters.name)") else {
            throw InvalidParameters(
                description:
                    "spec.infrastructure.parametersRef: ConfigMap \(gateway.namespace)/\(parameters.name) does "
                    + "not exist")
        }
        return try GatewayOverlay(view)
    }

    /// The Services in front of a waypoint: ours, or those whose host names the Gateway gives.
    static func fronts(_ gateway: GatewayView, _ suffix: String) -> [NamespacedName] {
        if GatewayPlan.isManaged(gateway) {
            return [NamespacedName(namespace: gateway.namespace, name: WaypointObjects.name(gateway))]
        }
        return gateway.specAddresses.filter(\.isHostname).compactMap { address in
            var host = address.value[...]
            for ending in [".\(suffix)", ".svc"] where host.hasSuffix(ending) { host = host.dropLast(ending.count) }
            let parts = host.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            switch parts.count {
            case 1: return NamespacedName(namespace: gateway.namespace, name: parts[0])
            case 2: return NamespacedName(namespace: parts[1], name: parts[0])
            default: return nil
            }
        }
    }
}
