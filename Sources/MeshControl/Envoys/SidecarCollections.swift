import MeshCollections
import MeshEnvoy
import MeshModel
import MeshRoutes
import MeshXDS

/// What sidecars are told: what all of them have in common (services, their endpoints, listeners for them), what a namespace
/// has (routes, because names are short there), and what a pod has (its inbound side).
///
///     services, workloads ─▶ clusters, endpoints ─▶ who answers there ┐
///     services, routes ────▶ listeners, routes by port and namespace  ├─▶ resources
///     pods, policies ──────▶ the inbound side of each pod             ┘
///
/// Nothing of it is made before there is a pod with a sidecar.
struct SidecarCollections {
    /// By ``EnvoyKey``, whose first part is a ``SidecarLayer``.
    let resources: MeshCollection<EnvoyResource>
    /// What Envoy cannot do as it was asked for, by what it concerns.
    let problems: MeshCollection<[EnvoyProblem]>
    /// By `<namespace>/<name>`.
    let pods: MeshCollection<SidecarPod>
    /// Keys of issuers that only sidecars ask for.
    let keySources: MeshCollection<WantedKeys>

    init(
        _ graph: Graph, _ inputs: MeshInputs, _ services: ServiceCollections, _ workloads: WorkloadCollections,
        _ routes: RouteCollections, _ rules: RulesCollections
    ) {
        let pods: MeshCollection<SidecarPod> = graph.map(inputs.pods) { _, view, _ in SidecarPod(view) }
        let all = pods.index { _, _ in [""] }
        let isUsed: MeshCollection<Bool> = graph.value { fetch in fetch.has(all, "") }
        let telemetries = inputs.telemetries.index { _, view in view.isGeneral ? [view.key.namespace] : [] }
        let settings: MeshCollection<SidecarSettings> = graph.map(isUsed) { _, isUsed, fetch in
            guard isUsed else { return nil }
            let mesh = inputs.settings(fetch)
            var settings = SidecarSettings(
                EnvoySettings(
                    trustDomains: [mesh.trustDomain] + mesh.trustDomainAliases, network: inputs.network(fetch)))
            settings.allowsUnknown = mesh.allowsUnknownDestinations
            settings.accessLog = TelemetryReader.sidecarLog(
                [fetch.get(telemetries, mesh.rootNamespace).map(\.value)], mesh)
            return settings
        }
        let outbound = SidecarOutbound(graph, settings, pods, inputs, services, workloads, routes, rules)
        let inbound = SidecarInbound(graph, settings, pods, inputs, services, workloads, telemetries)
        let names = SidecarNames(graph, settings, pods, services, workloads)
        let common: MeshCollection<SidecarPart> = graph.map(settings) { _, settings, _ in
            var part = SidecarPart()
            part.add(SidecarLayer.mesh, SidecarClusters.common + [OutboundListeners.capture(settings)])
            return part
        }
        self.pods = pods
        self.resources = graph.join([
            SidecarPart.split(graph, common).resources, outbound.resources, inbound.resources, names.resources,
        ])
        self.problems = graph.join([outbound.problems, inbound.problems])
        self.keySources = inbound.keySources
    }
}

/// Resources of a part, and what is wrong with them.
struct SidecarPart: Equatable {
    var resources: [EnvoyKey: EnvoyResource] = [:]
    var problems: [EnvoyProblem] = []
    /// Who is expected in tunnels that it leads to.
    var identities: Set<ExpectedIdentities> = []

    mutating func add(_ layer: String, _ resources: [EnvoyResource]) {
        for resource in resources { self.resources[EnvoyKey(layer, resource)] = resource }
    }

    /// Parts of a collection as resources, and as problems.
    static func split(
        _ graph: Graph, _ parts: MeshCollection<SidecarPart>
    ) -> (resources: MeshCollection<EnvoyResource>, problems: MeshCollection<[EnvoyProblem]>) {
        (
            graph.flatMap(parts) { _, part, _ in part.resources.map { ($0.key.text, $0.value) } },
            graph.map(parts) { _, part, _ in part.problems.isEmpty ? nil : part.problems }
        )
    }
}

extension TelemetryReader {
    /// Unlike waypoints, sidecars write lines only where somebody says so.
    ///
    /// - Parameter scopes: the Telemetries of each, the widest first.
    static func sidecarLog(_ scopes: [[TelemetryView]], _ settings: MeshSettings) -> AccessLogStyle? {
        var telemetry = Self.initial(settings)
        let log = settings.accessLog
        telemetry.isAccessLogEnabled = !log.defaultProviders.isEmpty || !(log.file ?? "").isEmpty
        for views in scopes { telemetry = Self.read(views, over: telemetry, settings) }
        return telemetry.isAccessLogEnabled ? telemetry.accessLog ?? AccessLogStyle(.text) : nil
    }
}
