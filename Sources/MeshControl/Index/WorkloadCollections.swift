import KubeAPI
import MeshCollections
import MeshModel

/// Every endpoint of the mesh: pods, WorkloadEntries, endpoints in ServiceEntries and in EndpointSlices, and other
/// networks' gateways.
struct WorkloadCollections {
    /// By uid.
    let all: MeshCollection<Workload>
    /// By service, `<namespace>/<hostname>`.
    let byService: Index<Workload, String>
    /// By `<namespace>/<name>` of the WorkloadEntry.
    let entryStatuses: MeshCollection<ObjectStatus>

    init(
        _ graph: Graph, _ inputs: MeshInputs, _ gateways: GatewayCollections, _ services: ServiceCollections,
        _ policies: PolicyCollections
    ) {
        let surroundings = SurroundingsFinder(
            inputs: inputs, gateways: gateways, services: services, policies: policies)
        let pods = Self.pods(graph, inputs, gateways, services, surroundings)
        let entryBindings: MeshCollection<WaypointBinding> = graph.map(inputs.workloadEntries) { _, view, fetch in
            let binding = gateways.lookUp(view.namespace, inputs, fetch).binding(view.labels, for: .workload)
            return binding.isEmpty ? nil : binding
        }
        let entries: MeshCollection<Workload> = graph.flatMap(inputs.workloadEntries) { key, view, fetch in
            let (selecting, selectingEntries) = services.members(view.namespace, view.labels, fetch)
            let around = surroundings.find(
                view.namespace, view.labels, network: view.endpoint.network, services: selecting,
                entries: selectingEntries, binding: fetch.get(entryBindings, key), fetch)
            return WorkloadBuilder.workload(view, around).map { [($0.uid, $0)] } ?? []
        }
        let inline: MeshCollection<Workload> = graph.flatMap(services.entries) { _, entry, fetch in
            Self.endpoints(of: entry, gateways.lookUp(entry.view.namespace, inputs, fetch)) {
                surroundings.find(
                    entry.view.namespace, entry.view.labels, network: $0.network, services: [:],
                    entries: [entry.view.key: entry], binding: $1, fetch)
            }
        }
        let slices: MeshCollection<Workload> = graph.flatMap(inputs.slices) { _, slice, fetch in
            guard slice.isUsable,
                let service = fetch.get(inputs.services, "\(slice.namespace)/\(slice.serviceName)")
            else { return [] }
            return WorkloadBuilder.workloads(
                slice, service: service, settings: inputs.settings(fetch), network: inputs.network(fetch)
            ).map { ($0.uid, $0) }
        }
        let networkGateways: MeshCollection<Workload> = graph.flatMap(gateways.networkGateways) { _, gateway, fetch in
            let workload = gateway.workload(inputs.settings(fetch))
            return [(workload.uid, workload)]
        }
        self.all = graph.join([pods, entries, inline, slices, networkGateways])
        self.byService = self.all.index { _, workload in workload.services.keys.map(\.description) }
        self.entryStatuses = graph.map(entryBindings) { key, binding, fetch in
            ObjectStatus(
                generation: fetch.get(inputs.workloadEntries, key)?.generation ?? 0, [binding.condition])
        }
    }

    private static func pods(
        _ graph: Graph, _ inputs: MeshInputs, _ gateways: GatewayCollections, _ services: ServiceCollections,
        _ surroundings: SurroundingsFinder
    ) -> MeshCollection<Workload> {
        let slicesByPod = inputs.slices.index { _, view in
            view.isUsable
                ? view.endpoints.filter { $0.targetKind == "Pod" }.map { "\($0.targetNamespace)/\($0.targetName)" }
                : []
        }
        return graph.flatMap(inputs.pods) { key, pod, fetch in
            // Neither looks anything up nor is looked at: most pods of a busy cluster have ended.
            if pod.hasEnded || pod.addresses?.isEmpty ?? true { return [] }
            var (selecting, entries) = services.members(pod.namespace, pod.labels, fetch)
            for (_, slice) in fetch.get(slicesByPod, key) where slice.namespace == pod.namespace && slice.names(pod) {
                let name = "\(slice.namespace)/\(slice.serviceName)"
                if selecting[name] == nil, let service = fetch.get(inputs.services, name), service.isRoutable,
                    service.selector.isEmpty
                {
                    selecting[name] = service
                }
            }
            // A waypoint's own pods stand behind no waypoint.
            let gateway = pod.labels[Names.gatewayName].map { "\(pod.namespace)/\($0)" }
            let instance = gateway.flatMap { fetch.get(gateways.waypoints, $0) }
            let isInstance = instance != nil || gateway.map { fetch.get(gateways.pending, $0) != nil } == true
            let binding =
                isInstance
                ? nil : gateways.lookUp(pod.namespace, inputs, fetch).binding(pod.labels, for: .workload)
            var around = surroundings.find(
                pod.namespace, pod.labels, network: pod.labels[Names.network], services: selecting,
                entries: entries, binding: binding, fetch)
            around.tunnel = instance?.tunnel
            if let own = pod.ownLocality {
                around.locality = own
            } else if !pod.node.isEmpty {
                around.locality = fetch.get(inputs.nodes, pod.node)?.locality ?? Locality()
            }
            return WorkloadBuilder.workload(pod, around).map { [($0.uid, $0)] } ?? []
        }
    }

    /// The endpoints that a ServiceEntry lists; without any, and when names are to be resolved, its hosts themselves.
    private static func endpoints(
        of entry: ResolvedEntry, _ lookUp: WaypointLookUp,
        _ around: (EndpointView, WaypointBinding?) -> WorkloadBuilder.Surroundings
    ) -> [(key: String, value: Workload)] {
        guard !entry.hosts.isEmpty else { return [] }
        let view = entry.view
        var workloads: [Workload] = []
        if !view.endpoints.isEmpty {
            var seen: [String: Int] = [:]
            for endpoint in view.endpoints {
                let binding = lookUp.binding(endpoint.labels, for: .workload)
                let workload = WorkloadBuilder.workload(
                    endpoint, of: view, repeated: seen[endpoint.address, default: 0], around(endpoint, binding))
                seen[endpoint.address, default: 0] += 1
                if let workload { workloads.append(workload) }
            }
        } else if view.selector == nil, [.dns, .dnsRoundRobin, .dynamicDNS].contains(view.resolution) {
            for (host, key) in zip(entry.hosts, entry.keys) {
                let endpoint = EndpointView(["address": .string(host.name)])
                var surroundings = around(endpoint, nil)
                surroundings.services = [.entry([key], view.ports)]
                if let workload = WorkloadBuilder.workload(endpoint, of: view, surroundings) {
                    workloads.append(workload)
                }
            }
        }
        return workloads.map { ($0.uid, $0) }
    }
}

/// Looks up what a workload's fields follow from, besides its own object.
struct SurroundingsFinder {
    let inputs: MeshInputs
    let gateways: GatewayCollections
    let services: ServiceCollections
    let policies: PolicyCollections

    func find(
        _ namespace: String, _ labels: [String: String], network: String?, services: [String: ServiceView],
        entries: [String: ResolvedEntry], binding: WaypointBinding?, _ fetch: Fetch
    ) -> WorkloadBuilder.Surroundings {
        let settings = self.inputs.settings(fetch)
        var around = WorkloadBuilder.Surroundings(settings: settings)
        around.network = network ?? self.inputs.network(fetch)
        if network != nil {
            around.networkGateway = self.gateways.gateway(of: around.network, self.inputs, fetch)
        }
        around.services = self.services.memberships(
            services: services, entries: entries, suffix: settings.domainSuffix)
        around.waypoint = binding?.address
        var waypoints: Set<String> = []
        if settings.requiresWaypoints {
            if let waypoint = binding?.primary { waypoints.insert(waypoint.key.description) }
            for key in services.keys {
                if let name = fetch.get(self.services.serviceBindings, key)?.primary?.key {
                    waypoints.insert(name.description)
                }
            }
            for key in entries.keys {
                if let name = fetch.get(self.services.entryBindings, key)?.primary?.key {
                    waypoints.insert(name.description)
                }
            }
        }
        around.policies = self.policies.keys(namespace, labels, waypoints: waypoints, fetch)
        return around
    }
}
