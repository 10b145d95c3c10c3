import KubeAPI
package import KubeClient
package import Logging
import MeshCollections
import MeshModel
package import MeshXDS
import Synchronization

/// The settings in force, readable from any thread.
package final class SettingsHolder: Sendable {
    private let value: Mutex<MeshSettings>
    package init(_ settings: MeshSettings) { self.value = Mutex(settings) }
    package var current: MeshSettings { self.value.withLock { $0 } }
    func set(_ settings: MeshSettings) { self.value.withLock { $0 = settings } }
}

/// Introduces Kubernetes to the mesh: every watch event goes into the index, every change that comes out of it goes
/// to the xDS server, the CA's pod list and the status writer.
package actor ControlPlane {
    private let initial: MeshSettings
    private let settings: SettingsHolder
    private let index: MeshIndex
    private let server: XDSServer
    private let pods: PodRegistry
    private let statuses: StatusWriter
    private let addresses: AddressAllocator
    private let gateways: GatewayWriters
    private let placed: PlacedStatusWriter
    private let waypoints: WaypointRegistry
    private let nodeVersions: NodeVersions
    private let sidecars: SidecarRegistry
    /// Keys to fetch, or not any more; as many at a time as there are RequestAuthentications.
    private let keyRequests: AsyncStream<(key: String, keys: WantedKeys?)>
    private let keyRequest: AsyncStream<(key: String, keys: WantedKeys?)>.Continuation
    private let logger: Logger
    private let changes: ChangeCollector
    private var missing = Set(Kind.allCases)

    package init(
        _ initial: MeshSettings, settings: SettingsHolder, server: XDSServer, pods: PodRegistry,
        statuses: StatusWriter, addresses: AddressAllocator, placed: PlacedStatusWriter, waypoints: WaypointRegistry,
        sidecars: SidecarRegistry = SidecarRegistry(), gateways: GatewayWriters,
        nodeVersions: NodeVersions = NodeVersions(), logger: Logger
    ) {
        self.initial = initial
        self.settings = settings
        self.index = MeshIndex(settings.current)
        self.changes = ChangeCollector(self.index)
        self.server = server
        self.pods = pods
        self.statuses = statuses
        self.addresses = addresses
        self.gateways = gateways
        self.nodeVersions = nodeVersions
        self.placed = placed
        self.waypoints = waypoints
        self.sidecars = sidecars
        (self.keyRequests, self.keyRequest) = AsyncStream.makeStream()
        self.logger = logger
    }

    /// Which types have not been listed yet.
    package var pending: [String] { self.missing.map(\.rawValue).sorted() }

    /// Follows the cluster until the task is cancelled.
    package nonisolated func run(_ cluster: any KubeCluster) async {
        await withTaskGroup(of: Void.self) { group in
            for kind in Kind.allCases {
                group.addTask {
                    let informer =
                        kind == .meshConfig
                        ? Informer(
                            cluster, kind.type, namespace: self.initial.rootNamespace,
                            ListOptions(fieldSelector: "metadata.name=istio"))
                        : Informer(cluster, anyOf: kind.types)
                    let logger = self.logger
                    let events = informer.events { error in
                        logger.warning(
                            "watch failed", metadata: ["type": "\(kind.rawValue)", "why": "\(error)"])
                    }
                    for await event in events { await self.receive(kind, event) }
                }
            }
            group.addTask { await self.fetchKeys() }
        }
    }

    /// Issuers' keys, for as long as the task lives.
    private nonisolated func fetchKeys() async {
        let fetcher = KeySetFetcher(logger: self.logger) { key, keys in await self.receive(keys: keys, of: key) }
        for await request in self.keyRequests { await fetcher.want(request.key, request.keys) }
        await fetcher.stop()
    }

    private func receive(keys: String?, of source: String) {
        if let keys { self.index.keySets.set(source, keys) } else { self.index.keySets.remove(source) }
        if self.missing.isEmpty { self.settle() }
    }

    package func receive(_ kind: Kind, _ event: InformerEvent) {
        let settings = self.settings.current
        func owned<View>(_ view: @escaping (KubeObject) -> View) -> (KubeObject) -> View? {
            { settings.owns($0) ? view($0) : nil }
        }
        switch kind {
        case .namespaces: self.index.namespaces.take(event) { NamespaceView($0) }
        case .nodes:
            self.index.nodes.take(event) { NodeView($0) }
            self.nodeVersions.observe(event)
        case .pods: self.receivePods(event)
        case .services: self.index.services.take(event) { ServiceView($0) }
        case .endpointSlices: self.index.slices.take(event) { SliceView($0) }
        case .serviceEntries:
            self.index.serviceEntries.take(event, owned { ServiceEntryView($0) })
            self.tellAllocator(event)
        case .workloadEntries: self.index.workloadEntries.take(event, owned { WorkloadEntryView($0) })
        case .gateways:
            self.index.gateways.take(event) { GatewayView($0) }
            self.gateways.statuses.observed(.gateway, event)
        case .gatewayClasses:
            self.index.gatewayClasses.take(event) { GatewayClassView($0) }
            self.gateways.statuses.observed(.gatewayClass, event)
        case .overlays: self.index.overlays.take(event) { OverlayView($0) }
        case .authorizationPolicies: self.index.authorizationPolicies.take(event, owned { PolicyView($0) })
        case .peerAuthentications:
            self.index.peerAuthentications.take(event, owned { PeerAuthenticationView($0) })
        case .meshConfig: self.receiveMeshConfig(event)
        case .requestAuthentications:
            self.index.requestAuthentications.take(event, owned { RequestAuthenticationView($0) })
        case .rateLimits: self.index.rateLimits.take(event, owned { RateLimitView($0) })
        case .destinationRules: self.index.destinationRules.take(event, owned { DestinationRuleView($0) })
        case .virtualServices: self.index.virtualServices.take(event, owned { VirtualServiceView($0) })
        case .backendTrafficPolicies:
            self.index.backendTrafficPolicies.take(event, owned { BackendTrafficPolicyView($0) })
        case .telemetries: self.index.telemetries.take(event, owned { TelemetryView($0) })
        case .grpcRoutes, .httpRoutes, .tlsRoutes, .tcpRoutes:
            if let route = kind.route { self.index.routes[route]?.take(event, owned { RouteView(route, $0) }) }
        }
        // Objects of another revision are that revision's to write.
        if let status = kind.status { self.statuses.observed(status, event) { settings.owns($0) } }
        if let placed = kind.placed { self.placed.observed(placed, event) { settings.owns($0) } }
        if case .snapshot = event { self.missing.remove(kind) }
        // Half a mesh is nobody's business: nothing is derived before everything was listed once.
        guard self.missing.isEmpty else { return }
        self.settle()
        if !self.server.isReady {
            self.server.becomeReady()
            self.statuses.becomeReady()
            self.placed.becomeReady()
            self.logger.info(
                "mesh state is complete",
                metadata: [
                    "workloads": "\(self.index.workloads.count)", "services": "\(self.index.meshServices.count)",
                    "policies": "\(self.index.policies.count)",
                ])
        }
    }

    private func settle() {
        self.index.settle()
        self.flush()
    }

    /// What kept a Gateway's objects from being written; nil: nothing does.
    package func receive(trouble: String?, ofGateway gateway: String) {
        guard self.index.gatewayTroubles[gateway] != trouble else { return }
        if let trouble {
            self.index.gatewayTroubles.set(gateway, trouble)
        } else {
            self.index.gatewayTroubles.remove(gateway)
        }
        if self.missing.isEmpty { self.settle() }
    }

    private func receivePods(_ event: InformerEvent) {
        self.index.pods.take(event) { PodView($0) }
        switch event {
        case .snapshot: self.pods.replaceAll(self.index.pods.all)
        case .updated(let object): self.pods.set(object.key, PodView(object))
        case .deleted(let object): self.pods.set(object.key, nil)
        }
    }

    private func receiveMeshConfig(_ event: InformerEvent) {
        let yaml: String
        switch event {
        case .snapshot(let all):
            yaml = all.first { $0.name == "istio" }?.json.at("data", "mesh")?.string ?? ""
        case .updated(let object) where object.name == "istio": yaml = object.json.at("data", "mesh")?.string ?? ""
        case .deleted(let object) where object.name == "istio": yaml = ""
        case .updated, .deleted: return
        }
        do throws(InvalidMeshConfig) {
            let settings = try self.initial.merging(meshConfig: yaml)
            self.settings.set(settings)
            self.index.settings.set("", settings)
        } catch {
            self.logger.error("MeshConfig is not used; the former one stays in force", metadata: ["why": "\(error)"])
        }
    }

    private func tellAllocator(_ event: InformerEvent) {
        switch event {
        case .snapshot: self.addresses.observed(all: self.index.serviceEntries.all)
        case .updated(let object), .deleted(let object):
            self.addresses.observed(object.key, self.index.serviceEntries[object.key])
        }
    }

    private func flush() {
        let changes = self.changes.take()
        if !changes.policies.isEmpty || !changes.removedPolicies.isEmpty {
            self.server.apply(.policies(upserted: changes.policies, removed: changes.removedPolicies))
        }
        if !changes.addresses.isEmpty || !changes.removedAddresses.isEmpty {
            self.server.apply(.addresses(upserted: changes.addresses, removed: changes.removedAddresses))
        }
        if !changes.waypointRules.isEmpty || !changes.removedWaypoints.isEmpty {
            self.server.apply(waypointRules: changes.waypointRules, removed: changes.removedWaypoints)
        }
        if !changes.serviceRules.isEmpty || !changes.removedServiceRules.isEmpty {
            self.server.apply(
                serviceRules: changes.serviceRules.map { ($0.rules, $0.waypoints) },
                removed: changes.removedServiceRules)
        }
        self.tell(envoys: changes)
        for (pod, sidecar) in changes.sidecars { self.sidecars.set(pod, sidecar) }
        for (gateway, runners) in changes.runners { self.waypoints.set(gateway, runners) }
        for (key, keys) in changes.keys { self.keyRequest.yield((key, keys)) }
        for (kind, key, status) in changes.statuses {
            self.statuses.want(kind, key, status)
            // Beside the status, which few will look for on an object that mostly works elsewhere.
            if kind == .virtualServices, let condition = status?.conditions.first {
                self.logger.warning(
                    "a VirtualService is not followed", metadata: ["object": "\(key)", "why": "\(condition.message)"])
            }
        }
        for (kind, key, report) in changes.reports { self.gateways.statuses.want(kind, key, report) }
        for (key, plan) in changes.plans { self.gateways.deployer.want(key, plan) }
        for (kind, key, status) in changes.placed { self.placed.want(kind, key, status) }
    }
}

extension ControlPlane {
    private func tell(envoys changes: ChangeCollector.Changes) {
        var byGateway: [String: [EnvoyResourceSet.Name: EncodedResource?]] = [:]
        for (key, resource) in changes.envoys {
            let encoded = resource.map { EncodedResource(type: $0.type, name: $0.name, bytes: $0.bytes) }
            byGateway[key.gateway, default: [:]].updateValue(
                encoded, forKey: EnvoyResourceSet.Name(type: key.type, name: key.name))
        }
        for (gateway, changes) in byGateway { self.server.apply(envoys: gateway, changes) }
        for (gateway, problems) in changes.envoyProblems {
            for problem in problems {
                self.logger.warning(
                    "an Envoy cannot do as it was asked for",
                    metadata: ["of": "\(gateway)", "what": "\(problem)"])
            }
        }
    }
}

extension Input {
    /// One watch event; `view` answers nil for an object that is not ours.
    fileprivate func take(_ event: InformerEvent, _ view: (KubeObject) -> Value?) {
        switch event {
        case .snapshot(let all):
            self.replaceAll(
                Dictionary(
                    all.compactMap { object in view(object).map { (object.key, $0) } }, uniquingKeysWith: { $1 }))
        case .updated(let object):
            if let value = view(object) { self.set(object.key, value) } else { self.remove(object.key) }
        case .deleted(let object): self.remove(object.key)
        }
    }
}
