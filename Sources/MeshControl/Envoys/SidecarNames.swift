import MeshCollections
import MeshDNS
import MeshEnvoy
import MeshModel
import MeshXDS

/// The names that agents beside sidecars answer for their applications: a table for all, and one of its own for each
/// namespace that sees something else.
///
///     services, endpoints of headless ones ─▶ named ┬─▶ the table of what everybody sees
///     pods that capture names ─▶ namespaces ────────┴─▶ the tables of namespaces with names of their own
///
/// Nothing of it is made before there is a pod whose names are captured.
struct SidecarNames {
    /// By ``EnvoyKey``.
    let resources: MeshCollection<EnvoyResource>

    /// A service under its name.
    struct Named: Equatable {
        var hostname, namespace: String
        var entry: NameTable.Entry
        var isEverywhere, isCanonical: Bool
    }

    init(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ pods: MeshCollection<SidecarPod>,
        _ services: ServiceCollections, _ workloads: WorkloadCollections
    ) {
        let namespaces: MeshCollection<Bool> = graph.flatMap(pods) { _, pod, _ in
            pod.capturesNames ? [(pod.namespace, true)] : []
        }
        let any = namespaces.index { _, _ in [""] }
        let used: MeshCollection<Bool> = graph.value { fetch in fetch.has(any, "") }
        let named: MeshCollection<Named> = graph.map(services.all) { key, service, fetch in
            guard fetch.get(used, "") == true, let settings = fetch.get(settings, "") else { return nil }
            return Self.named(service, network: settings.mesh.network) {
                fetch.get(workloads.byService, key).map(\.value)
            }
        }
        let everywhere = named.index { _, named in named.isEverywhere ? [""] : [] }
        let byNamespace = named.index { _, named in [named.namespace] }
        let byHost = named.index { _, named in [named.hostname] }
        let mesh: MeshCollection<EnvoyResource> = graph.flatMap(used) { _, used, fetch in
            guard used else { return [] }
            return Self.element(SidecarLayer.mesh, Self.table(fetch.get(everywhere, "").map(\.value), from: nil))
        }
        let own: MeshCollection<EnvoyResource> = graph.flatMap(namespaces) { namespace, _, fetch in
            let mine = fetch.get(byNamespace, namespace).map(\.value)
            // Whose names are nobody else's is well served by the table for all.
            guard mine.contains(where: { !$0.isEverywhere || fetch.get(byHost, $0.hostname).count > 1 }) else {
                return []
            }
            let others = fetch.get(everywhere, "").map(\.value).filter { $0.namespace != namespace }
            return Self.element(SidecarLayer.namespace(namespace), Self.table(others + mine, from: namespace))
        }
        self.resources = graph.join([mesh, own])
    }

    private static func element(_ layer: String, _ table: NameTable) -> [(key: String, value: EnvoyResource)] {
        let resource = EnvoyResource(table)
        return [(EnvoyKey(layer, resource).text, resource)]
    }

    /// With virtual addresses in this network, or those of the endpoints of a headless service of the cluster. Sidecars
    /// carry no IPv6, so nobody is told addresses of that kind. Nil: the name is for the resolver.
    static func named(_ service: MeshModel.Service, network: String, _ endpoints: () -> [Workload]) -> Named? {
        var addresses = service.addresses.filter { $0.network == network }.map(\.address)
        if service.isHeadless {
            let all = service.loadBalancing.healthPolicy == .allowAll
            addresses = endpoints().filter { ($0.isHealthy || all) && $0.network == network }
                .compactMap { $0.addresses.first { !$0.isV6 } }
        }
        // One order, whatever the order of endpoints: an equal table is no change.
        let unique = Set(addresses.filter { !$0.isV6 }).sorted { $0.description < $1.description }
        guard !unique.isEmpty else { return nil }
        let entry =
            service.isOfCluster
            ? NameTable.Entry(
                unique, registry: .kubernetes, shortName: service.name, namespace: service.namespace)
            : NameTable.Entry(unique)
        return Named(
            hostname: service.hostname.lowercased(), namespace: service.namespace, entry: entry,
            isEverywhere: service.visibility == .everywhere, isCanonical: service.isCanonical)
    }

    /// Of several services of one name: the client's namespace's, the canonical one, the first namespace's by name. The node
    /// proxy decides alike.
    /// - Parameter namespace: the client's; nil: of none that has such a name.
    static func table(_ services: [Named], from namespace: String?) -> NameTable {
        func isBetter(_ a: Named, _ b: Named) -> Bool {
            let (own, other) = (a.namespace == namespace, b.namespace == namespace)
            if own != other { return own }
            return a.isCanonical != b.isCanonical ? a.isCanonical : a.namespace < b.namespace
        }
        var best: [String: Named] = [:]
        for service in services {
            if let held = best[service.hostname], !isBetter(service, held) { continue }
            best[service.hostname] = service
        }
        return NameTable(best.mapValues(\.entry))
    }
}
