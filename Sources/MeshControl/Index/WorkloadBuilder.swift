package import MeshModel

/// Pods, machines outside Kubernetes and endpoint slices → workloads.
package enum WorkloadBuilder {
    /// A service that a workload belongs to, with what is needed to list its ports there.
    package enum Membership: Hashable, Sendable {
        case service(NamespacedName, [ServiceView.Port])
        /// Each of the hosts is a service.
        case entry([NamespacedName], [ServiceEntryView.Port])
    }

    package struct Surroundings: Hashable, Sendable {
        package var settings: MeshSettings
        package var network = ""
        package var networkGateway: GatewayAddress?
        package var locality = Locality()
        package var services: [Membership] = []
        package var policies: [NamespacedName] = []
        package var waypoint: GatewayAddress?
        package var tunnel: ApplicationTunnel?
        package init(settings: MeshSettings) { self.settings = settings }

        func start(_ uid: String, name: String, namespace: String) -> Workload {
            var workload = Workload(uid: uid)
            workload.name = name
            workload.namespace = namespace
            workload.network = self.network
            workload.networkGateway = self.networkGateway
            workload.trustDomain = self.settings.trustDomain
            workload.clusterID = self.settings.clusterID
            workload.locality = self.locality
            workload.authorizationPolicies = self.policies
            workload.waypoint = self.waypoint
            workload.applicationTunnel = self.tunnel
            return workload
        }
    }

    /// Nil when the pod has ended, has no address yet, or has one that cannot be read.
    package static func workload(_ pod: PodView, _ around: Surroundings) -> Workload? {
        guard !pod.hasEnded, let addresses = pod.addresses, !addresses.isEmpty else { return nil }
        var workload = around.start(
            "\(around.settings.clusterID)//Pod/\(pod.namespace)/\(pod.name)", name: pod.name,
            namespace: pod.namespace)
        workload.addresses = addresses
        (workload.tunnelProtocol, workload.isNativeTunnel) = Self.tunnel(pod.labels, isCaptured: pod.isCaptured)
        workload.serviceAccount = pod.serviceAccount.isEmpty ? "default" : pod.serviceAccount
        workload.node = pod.node
        workload.workloadName = Naming.workloadName(pod)
        workload.canonicalName = Naming.canonicalName(pod.labels, workloadName: workload.workloadName)
        workload.canonicalRevision = Naming.canonicalRevision(pod.labels)
        workload.isHealthy = pod.isReady && !pod.isBeingDeleted
        workload.networkMode = pod.usesHostNetwork ? .hostNetwork : .standard
        for membership in around.services {
            switch membership {
            case .service(let key, let ports):
                workload.services[key] = ports.compactMap { port in
                    guard port.transport == "TCP" else { return nil }
                    switch port.target {
                    case .number(let number): return ServicePort(port: port.number, targetPort: number)
                    case .name(let name):
                        return pod.ports[name].map { ServicePort(port: port.number, targetPort: $0) }
                    }
                }
            case .entry(let keys, let ports):
                let list = ports.filter(\.isTCP).map {
                    ServicePort(port: $0.number, targetPort: pod.ports[$0.name] ?? $0.target ?? $0.number)
                }
                for key in keys { workload.services[key] = list }
            }
        }
        return workload
    }

    /// A machine with an object of its own.
    package static func workload(_ entry: WorkloadEntryView, _ around: Surroundings) -> Workload? {
        var workload = around.start(
            "\(around.settings.clusterID)/networking.istio.io/WorkloadEntry/\(entry.namespace)/\(entry.name)",
            name: entry.name, namespace: entry.namespace)
        guard Self.place(entry.endpoint, &workload) else { return nil }
        (workload.tunnelProtocol, workload.isNativeTunnel) = Self.tunnel(
            entry.labels, isCaptured: entry.isCaptured)
        workload.workloadName = Naming.workloadName(entry)
        workload.canonicalName = Naming.canonicalName(entry.labels, workloadName: workload.workloadName)
        workload.canonicalRevision = Naming.canonicalRevision(entry.labels)
        workload.isHealthy = entry.isHealthy
        Self.join(&workload, around.services, entry.endpoint)
        return workload
    }

    /// An endpoint written inside a ServiceEntry. Labels, tunnel and names are the object's.
    /// - Parameter repeated: how many endpoints before it have the same address.
    package static func workload(
        _ endpoint: EndpointView, of entry: ServiceEntryView, repeated: Int = 0, _ around: Surroundings
    ) -> Workload? {
        let suffix = repeated == 0 ? "" : "#\(repeated + 1)"
        var workload = around.start(
            "\(around.settings.clusterID)/networking.istio.io/ServiceEntry/\(entry.namespace)/\(entry.name)/"
                + endpoint.address + suffix,
            name: entry.name, namespace: entry.namespace)
        guard Self.place(endpoint, &workload) else { return nil }
        (workload.tunnelProtocol, workload.isNativeTunnel) = Self.tunnel(entry.labels, isCaptured: entry.isCaptured)
        workload.workloadName = entry.name
        workload.canonicalName = Naming.canonicalName(entry.labels, workloadName: entry.name)
        workload.canonicalRevision = Naming.canonicalRevision(entry.labels)
        Self.join(&workload, around.services, endpoint)
        return workload
    }

    /// False for what is no network address: a socket in a file system.
    private static func place(_ endpoint: EndpointView, _ workload: inout Workload) -> Bool {
        if let address = IPAddress(endpoint.address) {
            workload.addresses = [address]
        } else if endpoint.address.hasPrefix("unix:") || endpoint.address.contains("/") {
            return false
        } else {
            workload.hostname = endpoint.address
        }
        if !endpoint.serviceAccount.isEmpty { workload.serviceAccount = endpoint.serviceAccount }
        workload.capacity = endpoint.weight ?? 1
        workload.locality = endpoint.locality
        return true
    }

    private static func join(_ workload: inout Workload, _ services: [Membership], _ endpoint: EndpointView) {
        for membership in services {
            switch membership {
            case .service(let key, let ports):
                workload.services[key] = ports.compactMap { port in
                    guard port.transport == "TCP" else { return nil }
                    switch port.target {
                    case .number(let number):
                        return ServicePort(port: port.number, targetPort: endpoint.ports[port.name] ?? number)
                    case .name(let name):
                        return endpoint.ports[name].map { ServicePort(port: port.number, targetPort: $0) }
                    }
                }
            case .entry(let keys, let ports):
                let list = ports.filter(\.isTCP).map {
                    ServicePort(port: $0.number, targetPort: endpoint.ports[$0.name] ?? $0.target ?? $0.number)
                }
                for key in keys { workload.services[key] = list }
            }
        }
    }

    /// The node agent's annotation says HBONE; so does the label of a workload that speaks it itself.
    static func tunnel(
        _ labels: [String: String], isCaptured: Bool
    ) -> (protocol: Workload.TunnelProtocol, isNative: Bool) {
        let isNative = (labels["networking.istio.io/tunnel"] ?? "").split(separator: ",").contains {
            $0.filter { $0 != " " } == "http"
        }
        return (isCaptured || isNative ? .hbone : .none, isNative)
    }

    /// Endpoints that are no pods, such as the API server's: addresses that others may share, without identity.
    package static func workloads(
        _ slice: SliceView, service: ServiceView, settings: MeshSettings, network: String
    ) -> [Workload] {
        guard slice.isUsable, service.isRoutable else { return [] }
        var ports: [ServicePort] = []
        for port in slice.ports {
            guard let own = service.ports.first(where: { $0.name == port.name && $0.transport == "TCP" }) else {
                continue
            }
            ports.append(ServicePort(port: own.number, targetPort: port.number))
        }
        let key = NamespacedName(
            namespace: service.namespace,
            name: ServiceBuilder.hostname(service, suffix: settings.domainSuffix))
        var around = Surroundings(settings: settings)
        around.network = network
        var seen: Set<String> = []
        var workloads: [Workload] = []
        for endpoint in slice.endpoints where endpoint.targetKind != "Pod" {
            guard let first = endpoint.addresses.first, seen.insert(first).inserted else { continue }
            let addresses = endpoint.addresses.compactMap { IPAddress($0) }
            guard addresses.count == endpoint.addresses.count else { continue }
            var workload = around.start(
                "\(settings.clusterID)/discovery.k8s.io/EndpointSlice/\(slice.namespace)/\(slice.name)/\(first)",
                name: slice.name, namespace: slice.namespace)
            workload.addresses = addresses
            workload.networkMode = .hostNetwork
            workload.isHealthy = endpoint.isReady
            workload.services = [key: ports]
            workloads.append(workload)
        }
        return workloads
    }
}
