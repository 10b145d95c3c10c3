package import MeshCollections
package import MeshEnvoy
package import MeshModel
package import MeshRoutes

/// From Kubernetes objects to the mesh: which workloads, services and policies there are, and what to write into
/// which status. Pure and synchronous; the owner feeds objects in and calls ``settle()``.
package final class MeshIndex {
    private let graph: Graph
    private let inputs: MeshInputs
    package var settings: Input<MeshSettings> { self.inputs.settings }
    package var namespaces: Input<NamespaceView> { self.inputs.namespaces }
    package var nodes: Input<NodeView> { self.inputs.nodes }
    package var pods: Input<PodView> { self.inputs.pods }
    package var services: Input<ServiceView> { self.inputs.services }
    package var slices: Input<SliceView> { self.inputs.slices }
    package var serviceEntries: Input<ServiceEntryView> { self.inputs.serviceEntries }
    package var workloadEntries: Input<WorkloadEntryView> { self.inputs.workloadEntries }
    package var gateways: Input<GatewayView> { self.inputs.gateways }
    package var gatewayClasses: Input<GatewayClassView> { self.inputs.gatewayClasses }
    package var overlays: Input<OverlayView> { self.inputs.overlays }
    /// By `<namespace>/<name>` of the Gateway: what kept its objects from being written.
    package var gatewayTroubles: Input<String> { self.inputs.gatewayTroubles }
    package var authorizationPolicies: Input<PolicyView> { self.inputs.authorizationPolicies }
    package var peerAuthentications: Input<PeerAuthenticationView> { self.inputs.peerAuthentications }

    package var requestAuthentications: Input<RequestAuthenticationView> { self.inputs.requestAuthentications }
    package var rateLimits: Input<RateLimitView> { self.inputs.rateLimits }
    package var destinationRules: Input<DestinationRuleView> { self.inputs.destinationRules }
    package var virtualServices: Input<VirtualServiceView> { self.inputs.virtualServices }
    package var backendTrafficPolicies: Input<BackendTrafficPolicyView> { self.inputs.backendTrafficPolicies }
    package var telemetries: Input<TelemetryView> { self.inputs.telemetries }
    /// By ``KeySource/key``: key sets as they were fetched.
    package var keySets: Input<String> { self.inputs.keySets }
    /// By kind, then by `<namespace>/<name>`.
    package var routes: [RouteKind: Input<RouteView>] { self.inputs.routes }

    /// By `<namespace>/<hostname>`: services with a waypoint, and nothing else.
    package let serviceRules: MeshCollection<ServedRules>
    /// By the Gateway's `<namespace>/<name>`: waypoints of ours, whether or not they have an address.
    package let waypointRules: MeshCollection<WaypointRules>
    /// By the same: the service accounts that may call themselves that waypoint, and what they run.
    package let waypointRunners: MeshCollection<WaypointRunners>
    /// By ``KeySource/key``: what has to be fetched.
    package let keySources: MeshCollection<WantedKeys>
    /// By ``EnvoyKey``: what Envoys are told.
    package let envoyResources: MeshCollection<EnvoyResource>
    /// By the Gateway's `<namespace>/<name>`, or by what part of sidecars' configurations: what Envoys cannot do as it was
    /// asked for.
    package let envoyProblems: MeshCollection<[EnvoyProblem]>
    /// By `<namespace>/<name>`: pods with a sidecar.
    package let sidecarPods: MeshCollection<SidecarPod>

    /// By uid.
    package let workloads: MeshCollection<Workload>
    /// By `<namespace>/<hostname>`.
    package let meshServices: MeshCollection<MeshModel.Service>
    /// By `<namespace>/<name>`.
    package let policies: MeshCollection<AuthorizationPolicy>

    // What to write into which status, by the object's `<namespace>/<name>`; objects without an element have no
    // condition of ours.
    package let serviceStatuses: MeshCollection<ObjectStatus>
    package let serviceEntryStatuses: MeshCollection<ObjectStatus>
    package let workloadEntryStatuses: MeshCollection<ObjectStatus>
    package let policyStatuses: MeshCollection<ObjectStatus>
    package let peerAuthenticationStatuses: MeshCollection<ObjectStatus>
    package let gatewayReports: MeshCollection<GatewayReport>
    /// By name.
    package let gatewayClassReports: MeshCollection<GatewayReport>
    /// What to deploy, by the Gateway's `<namespace>/<name>`.
    package let gatewayPlans: MeshCollection<GatewayPlan>
    package let requestAuthenticationStatuses: MeshCollection<ObjectStatus>
    package let rateLimitStatuses: MeshCollection<ObjectStatus>
    package let destinationRuleStatuses: MeshCollection<ObjectStatus>
    package let virtualServiceStatuses: MeshCollection<ObjectStatus>
    package let routeStatuses: [RouteKind: MeshCollection<PlacedStatus>]
    package let backendTrafficPolicyStatuses: MeshCollection<PlacedStatus>

    package init(_ initial: MeshSettings) {
        let graph = Graph()
        let inputs = MeshInputs(graph, initial)
        let gateways = GatewayCollections(graph, inputs)
        let services = ServiceCollections(graph, inputs, gateways)
        let gates = GateCollections(graph, inputs)
        let policies = PolicyCollections(graph, inputs, gateways, services, gates)
        let workloads = WorkloadCollections(graph, inputs, gateways, services, policies)
        let plans = GatewayPlans(graph, inputs)
        self.gatewayReports = plans.reports
        self.gatewayClassReports = plans.classReports
        self.gatewayPlans = plans.plans
        let routes = RouteCollections(graph, inputs, gateways, services)
        let balancing = BalancingCollections(graph, inputs, services)
        let rules = RulesCollections(graph, inputs, services, routes, gates, balancing)
        let envoys = EnvoyCollections(graph, inputs, services, workloads, rules)
        let sidecars = SidecarCollections(graph, inputs, services, workloads, routes, rules)
        self.envoyResources = graph.join([envoys.resources, sidecars.resources])
        self.envoyProblems = graph.join([envoys.problems, sidecars.problems])
        self.sidecarPods = sidecars.pods
        let targets = PolicyTargets(inputs: inputs, gateways: gateways, services: services)
        self.serviceRules = rules.services
        self.waypointRules = rules.waypoints
        self.waypointRunners = rules.runners
        self.keySources = graph.join([gates.keySources, sidecars.keySources])
        self.requestAuthenticationStatuses = gates.statuses(graph, .tokens, inputs.requestAuthentications, targets) {
            ($0.targets, $0.key.namespace, $0.generation)
        }
        self.rateLimitStatuses = gates.statuses(graph, .rate, inputs.rateLimits, targets) {
            ($0.targets, $0.key.namespace, $0.generation)
        }
        self.destinationRuleStatuses = balancing.ruleStatuses
        self.virtualServiceStatuses = VirtualServiceStatus.statuses(graph, inputs, services)
        self.backendTrafficPolicyStatuses = balancing.policyStatuses
        self.routeStatuses = routes.statuses
        self.graph = graph
        self.inputs = inputs
        self.workloads = workloads.all
        self.meshServices = services.all
        self.policies = policies.all
        self.serviceStatuses = services.serviceStatuses
        self.serviceEntryStatuses = services.entryStatuses
        self.workloadEntryStatuses = workloads.entryStatuses
        self.policyStatuses = policies.statuses
        self.peerAuthenticationStatuses = policies.peerStatuses
    }

    package func settle() { self.graph.settle() }
}

/// The objects as they are watched.
struct MeshInputs {
    let settings: Input<MeshSettings>
    let namespaces: Input<NamespaceView>
    let nodes: Input<NodeView>
    let pods: Input<PodView>
    let services: Input<ServiceView>
    let slices: Input<SliceView>
    let serviceEntries: Input<ServiceEntryView>
    let workloadEntries: Input<WorkloadEntryView>
    let gateways: Input<GatewayView>
    let gatewayClasses: Input<GatewayClassView>
    let overlays: Input<OverlayView>
    let gatewayTroubles: Input<String>
    let authorizationPolicies: Input<PolicyView>
    let peerAuthentications: Input<PeerAuthenticationView>
    let requestAuthentications: Input<RequestAuthenticationView>
    let rateLimits: Input<RateLimitView>
    let destinationRules: Input<DestinationRuleView>
    let virtualServices: Input<VirtualServiceView>
    let backendTrafficPolicies: Input<BackendTrafficPolicyView>
    let telemetries: Input<TelemetryView>
    let keySets: Input<String>
    let routes: [RouteKind: Input<RouteView>]
    /// The cluster's own network, under the empty key: a label of the root namespace.
    let network: MeshCollection<String>
    private let initial: MeshSettings

    init(_ graph: Graph, _ initial: MeshSettings) {
        self.settings = graph.input()
        self.namespaces = graph.input()
        self.nodes = graph.input()
        self.pods = graph.input()
        self.services = graph.input()
        self.slices = graph.input()
        self.serviceEntries = graph.input()
        self.workloadEntries = graph.input()
        self.gateways = graph.input()
        self.gatewayClasses = graph.input()
        self.overlays = graph.input()
        self.gatewayTroubles = graph.input()
        self.authorizationPolicies = graph.input()
        self.peerAuthentications = graph.input()
        self.requestAuthentications = graph.input()
        self.rateLimits = graph.input()
        self.destinationRules = graph.input()
        self.virtualServices = graph.input()
        self.backendTrafficPolicies = graph.input()
        self.telemetries = graph.input()
        self.keySets = graph.input()
        self.routes = Dictionary(uniqueKeysWithValues: RouteKind.allCases.map { ($0, graph.input()) })
        self.settings.set("", initial)
        self.initial = initial
        let (settings, namespaces) = (self.settings, self.namespaces)
        self.network = graph.value { fetch in
            let root = (fetch.get(settings, "") ?? initial).rootNamespace
            return fetch.get(namespaces, root)?.labels[Names.network] ?? ""
        }
    }

    func settings(_ fetch: Fetch) -> MeshSettings { fetch.get(self.settings, "") ?? self.initial }
    func network(_ fetch: Fetch) -> String { fetch.get(self.network, "") ?? "" }

    /// How objects with a selector are found by a workload's labels: each is filed under the least `key=value` of its
    /// selector, and tested for the others by who finds it.
    static func filing(_ namespace: String, _ selector: [String: String]?) -> [String] {
        guard let first = selector?.min(by: { $0.key < $1.key }) else { return [] }
        return [Self.file(namespace, first.key, first.value)]
    }

    static func file(_ namespace: String, _ key: String, _ value: String) -> String { "\(namespace)|\(key)=\(value)" }
}
