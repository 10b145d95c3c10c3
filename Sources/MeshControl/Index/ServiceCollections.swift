import MeshCollections
import MeshModel

/// Services of Kubernetes and hosts of ServiceEntries, with their waypoints.
struct ServiceCollections {
    /// By `<namespace>/<hostname>`.
    let all: MeshCollection<MeshModel.Service>
    /// By host name.
    let byHost: Index<MeshModel.Service, String>
    /// By `<namespace>/<name>`, for Services that have a waypoint or wanted one.
    let serviceBindings: MeshCollection<WaypointBinding>
    /// By `<namespace>/<name>`: every ServiceEntry, with the hosts that are really its own.
    let entries: MeshCollection<ResolvedEntry>
    let entryBindings: MeshCollection<WaypointBinding>
    let serviceStatuses: MeshCollection<ObjectStatus>
    let entryStatuses: MeshCollection<ObjectStatus>

    private let inputs: MeshInputs
    private let servicesByLabel: Index<ServiceView, String>
    private let entriesByLabel: Index<ResolvedEntry, String>

    init(_ graph: Graph, _ inputs: MeshInputs, _ gateways: GatewayCollections) {
        self.inputs = inputs
        let namespaces = inputs.namespaces

        let serviceBindings: MeshCollection<WaypointBinding> = graph.map(inputs.services) { _, view, fetch in
            guard view.isRoutable, !view.isOfGateway else { return nil }
            let binding = gateways.lookUp(view.namespace, inputs, fetch).serviceBinding(
                view.labels, canaryWeight: view.canaryWeight,
                namespaceCanaryWeight: fetch.get(namespaces, view.namespace)?.canaryWeight)
            return binding.isEmpty ? nil : binding
        }
        let kubernetes: MeshCollection<MeshModel.Service> = graph.flatMap(inputs.services) { key, view, fetch in
            ServiceBuilder.service(
                view, namespace: fetch.get(namespaces, view.namespace), network: inputs.network(fetch),
                suffix: inputs.settings(fetch).domainSuffix, binding: fetch.get(serviceBindings, key)
            ).map { [($0.key.description, $0)] } ?? []
        }

        let claims = Self.claims(graph, inputs)
        let claimsByHost = claims.index { _, claim in [claim.host] }
        let entries: MeshCollection<ResolvedEntry> = graph.map(inputs.serviceEntries) { _, view, fetch in
            let settings = inputs.settings(fetch)
            var entry = ResolvedEntry(
                view: view,
                visibility: ResolvedEntry.visibility(
                    view, namespaceLabels: fetch.get(namespaces, view.namespace)?.labels ?? [:], settings))
            guard entry.visibility != .none, view.addresses != nil else { return entry }
            for host in view.hosts {
                entry.settle(
                    host, claims: fetch.get(claimsByHost, host).map(\.value),
                    service: Self.service(named: host, inputs, settings, fetch))
            }
            return entry
        }
        let entryBindings: MeshCollection<WaypointBinding> = graph.map(entries) { _, entry, fetch in
            guard !entry.hosts.isEmpty else { return nil }
            let view = entry.view
            var binding = gateways.lookUp(view.namespace, inputs, fetch).serviceBinding(
                view.labels, canaryWeight: view.canaryWeight,
                namespaceCanaryWeight: fetch.get(namespaces, view.namespace)?.canaryWeight)
            if entry.visibility == .namespace { binding.keep(within: view.namespace) }
            return binding.isEmpty ? nil : binding
        }
        let written: MeshCollection<MeshModel.Service> = graph.flatMap(entries) { key, entry, fetch in
            let binding = fetch.get(entryBindings, key)
            let namespace = fetch.get(namespaces, entry.view.namespace)
            let network = inputs.network(fetch)
            return entry.hosts.map { host in
                let service = ServiceBuilder.service(
                    host, of: entry, namespace: namespace, network: network, binding: binding)
                return (service.key.description, service)
            }
        }
        self.all = graph.join([kubernetes, written])
        self.byHost = self.all.index { _, service in [service.hostname] }
        self.serviceBindings = serviceBindings
        self.entries = entries
        self.entryBindings = entryBindings
        self.serviceStatuses = graph.map(serviceBindings) { _, binding, _ in
            ObjectStatus(generation: 0, [binding.condition])
        }
        self.entryStatuses = graph.map(entries) { key, entry, fetch in
            let binding = fetch.get(entryBindings, key)
            return ObjectStatus(
                generation: entry.view.generation,
                [binding?.condition] + entry.conditions(inputs.settings(fetch), binding: binding))
        }
        self.servicesByLabel = inputs.services.index { _, view in
            view.isRoutable ? MeshInputs.filing(view.namespace, view.selector) : []
        }
        self.entriesByLabel = entries.index { _, entry in
            entry.hosts.isEmpty ? [] : MeshInputs.filing(entry.view.namespace, entry.view.selector)
        }
    }

    private static func claims(_ graph: Graph, _ inputs: MeshInputs) -> MeshCollection<ResolvedEntry.Claim> {
        let namespaces = inputs.namespaces
        return graph.flatMap(inputs.serviceEntries) { key, view, fetch in
            let visibility = ResolvedEntry.visibility(
                view, namespaceLabels: fetch.get(namespaces, view.namespace)?.labels ?? [:],
                inputs.settings(fetch))
            return ResolvedEntry.claims(view, visibility).map { ("\(key)/\($0.host)", $0) }
        }
    }

    /// The Kubernetes Service that has this host name.
    private static func service(
        named host: String, _ inputs: MeshInputs, _ settings: MeshSettings, _ fetch: Fetch
    ) -> NamespacedName? {
        let suffix = ".svc.\(settings.domainSuffix)"
        guard host.hasSuffix(suffix) else { return nil }
        let parts = host.dropLast(suffix.count).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let name = NamespacedName(namespace: String(parts[1]), name: String(parts[0]))
        guard let view = fetch.get(inputs.services, name.description), view.isRoutable else { return nil }
        return name
    }

    /// The waypoint of a service of the mesh, and what policies call the object behind it; nil when it has none, and
    /// wanted none.
    func binding(of service: MeshModel.Service, _ fetch: Fetch) -> (binding: WaypointBinding, target: GateTarget)? {
        let key = "\(service.namespace)/\(service.name)"
        let suffix = self.inputs.settings(fetch).domainSuffix
        if service.hostname == "\(service.name).\(service.namespace).svc.\(suffix)",
            let view = fetch.get(self.inputs.services, key), view.isRoutable
        {
            return fetch.get(self.serviceBindings, key).map { ($0, .service(key)) }
        }
        return fetch.get(self.entryBindings, key).map { ($0, .entry(key)) }
    }

    /// What a workload with these labels belongs to, with the waypoints of those services.
    func members(
        _ namespace: String, _ labels: [String: String], _ fetch: Fetch
    ) -> (services: [String: ServiceView], entries: [String: ResolvedEntry]) {
        var services: [String: ServiceView] = [:]
        var entries: [String: ResolvedEntry] = [:]
        for (key, value) in labels {
            let file = MeshInputs.file(namespace, key, value)
            for (name, service) in fetch.get(self.servicesByLabel, file) where service.selects(labels) {
                services[name] = service
            }
            for (name, entry) in fetch.get(self.entriesByLabel, file) where entry.view.selects(labels) {
                entries[name] = entry
            }
        }
        return (services, entries)
    }

    func memberships(
        services: [String: ServiceView], entries: [String: ResolvedEntry], suffix: String
    ) -> [WorkloadBuilder.Membership] {
        services.values.sorted { $0.key < $1.key }.map { view in
            .service(
                NamespacedName(namespace: view.namespace, name: ServiceBuilder.hostname(view, suffix: suffix)),
                view.ports)
        } + entries.values.sorted { $0.view.key < $1.view.key }.map { .entry($0.keys, $0.view.ports) }
    }
}

extension WaypointBinding {
    /// What only its own namespace sees cannot stand behind another namespace's proxy.
    fileprivate mutating func keep(within namespace: String) {
        if let waypoint = self.primary?.key, waypoint.namespace != namespace {
            self = WaypointBinding()
            self.problem = Problem(
                failure: .crossNamespaceForbidden,
                message: "hosts that are visible in namespace \(namespace) only cannot use waypoint \(waypoint)")
            self.standIn = .nowhere("\(waypoint.name).waypoint-refuses.invalid", in: waypoint.namespace)
        } else if let waypoint = self.canary?.waypoint.key, waypoint.namespace != namespace {
            self.canary = nil
            self.canaryTrouble =
                "\(Failure.crossNamespaceForbidden.rawValue): waypoint \(waypoint) is in another namespace"
        }
    }
}
