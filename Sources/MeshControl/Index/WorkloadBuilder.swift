package import MeshModel

/// Pods and endpoint slices → workloads.
package enum WorkloadBuilder {
    /// A service that a pod belongs to, with what is needed to list its ports there.
    package struct Membership: Hashable, Sendable {
        package var key: NamespacedName
        package var ports: [ServiceView.Port]
        package init(key: NamespacedName, ports: [ServiceView.Port]) {
            self.key = key
            self.ports = ports
        }
    }

    package struct Surroundings: Hashable, Sendable {
        package var settings: MeshSettings
        package var network = ""
        package var locality = Locality()
        package var services: [Membership] = []
        package var policies: [NamespacedName] = []
        package init(settings: MeshSettings) { self.settings = settings }
    }

    /// Nil when the pod has ended, has no address yet, or has one that cannot be read.
    package static func workload(_ pod: PodView, _ around: Surroundings) -> Workload? {
        guard !pod.hasEnded, let addresses = pod.addresses, !addresses.isEmpty else { return nil }
        var workload = Workload(uid: "\(around.settings.clusterID)//Pod/\(pod.namespace)/\(pod.name)")
        workload.name = pod.name
        workload.namespace = pod.namespace
        workload.addresses = addresses
        workload.network = around.network
        (workload.tunnelProtocol, workload.isNativeTunnel) = Self.tunnel(pod.labels, isCaptured: pod.isCaptured)
        workload.trustDomain = around.settings.trustDomain
        workload.serviceAccount = pod.serviceAccount.isEmpty ? "default" : pod.serviceAccount
        workload.node = pod.node
        workload.workloadName = Naming.workloadName(pod)
        workload.canonicalName = Naming.canonicalName(pod.labels, workloadName: workload.workloadName)
        workload.canonicalRevision = Naming.canonicalRevision(pod.labels)
        workload.kind = .pod
        workload.isHealthy = pod.isReady && !pod.isBeingDeleted
        workload.networkMode = pod.usesHostNetwork ? .hostNetwork : .standard
        workload.clusterID = around.settings.clusterID
        workload.locality = around.locality
        workload.authorizationPolicies = around.policies
        for membership in around.services {
            workload.services[membership.key] = membership.ports.compactMap { port in
                guard port.transport == "TCP" else { return nil }
                switch port.target {
                case .number(let number): return ServicePort(port: port.number, targetPort: number)
                case .name(let name):
                    return pod.ports[name].map { ServicePort(port: port.number, targetPort: $0) }
                }
            }
        }
        return workload
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
        guard slice.isUsable else { return [] }
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
        var seen: Set<String> = []
        var workloads: [Workload] = []
        for endpoint in slice.endpoints where endpoint.targetKind != "Pod" {
            guard let first = endpoint.addresses.first, seen.insert(first).inserted else { continue }
            let addresses = endpoint.addresses.compactMap { IPAddress($0) }
            guard addresses.count == endpoint.addresses.count else { continue }
            var workload = Workload(
                uid: "\(settings.clusterID)/discovery.k8s.io/EndpointSlice/\(slice.namespace)/\(slice.name)/\(first)")
            workload.name = slice.name
            workload.namespace = slice.namespace
            workload.addresses = addresses
            workload.network = network
            workload.trustDomain = settings.trustDomain
            workload.networkMode = .hostNetwork
            workload.isHealthy = endpoint.isReady
            workload.clusterID = settings.clusterID
            workload.services = [key: ports]
            workloads.append(workload)
        }
        return workloads
    }
}
