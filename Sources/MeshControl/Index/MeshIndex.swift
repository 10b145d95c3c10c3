package import MeshCollections
package import MeshModel

/// From Kubernetes objects to the mesh: which workloads, services and policies there are. Pure and synchronous; the
/// owner feeds objects in and calls ``settle()``.
package final class MeshIndex {
    private let graph = Graph()
    package let settings: Input<MeshSettings>
    package let namespaces: Input<NamespaceView>
    package let nodes: Input<NodeView>
    package let pods: Input<PodView>
    package let services: Input<ServiceView>
    package let slices: Input<SliceView>
    package let authorizationPolicies: Input<PolicyView>
    package let peerAuthentications: Input<PeerAuthenticationView>

    /// By uid.
    package let workloads: MeshCollection<Workload>
    /// By `<namespace>/<hostname>`.
    package let meshServices: MeshCollection<MeshModel.Service>
    /// By `<namespace>/<name>`.
    package let policies: MeshCollection<AuthorizationPolicy>
    /// By `<namespace>/<name>`: what to write into the status.
    package let outcomes: MeshCollection<AuthorizationConverter.Outcome>

    package init(_ initial: MeshSettings) {
        let graph = self.graph
        self.settings = graph.input()
        self.namespaces = graph.input()
        self.nodes = graph.input()
        self.pods = graph.input()
        self.services = graph.input()
        self.slices = graph.input()
        self.authorizationPolicies = graph.input()
        self.peerAuthentications = graph.input()
        self.settings.set("", initial)
        let (settings, namespaces, nodes) = (self.settings, self.namespaces, self.nodes)
        let (services, slices, policies) = (self.services, self.slices, self.authorizationPolicies)
        func current(_ fetch: Fetch) -> MeshSettings { fetch.get(settings, "") ?? initial }

        let network = graph.value { fetch in
            fetch.get(namespaces, current(fetch).rootNamespace)?.labels["topology.istio.io/network"] ?? ""
        }
        self.meshServices = graph.flatMap(services) { _, view, fetch in
            ServiceBuilder.service(
                view, namespace: fetch.get(namespaces, view.namespace), network: fetch.get(network, "") ?? "",
                suffix: current(fetch).domainSuffix
            ).map { [($0.key.description, $0)] } ?? []
        }

        let peers = self.peerAuthentications
        let peersByNamespace = peers.index { _, view in [view.namespace] }
        func peersIn(_ namespace: String, _ fetch: Fetch) -> [PeerAuthenticationView] {
            fetch.get(peersByNamespace, namespace).map(\.value)
        }
        let strict: MeshCollection<AuthorizationPolicy> = graph.flatMap(
            graph.value { fetch in !fetch.all(peers).isEmpty }
        ) { _, isNeeded, fetch in
            let policy = PeerAuthenticationConverter.staticStrict(current(fetch))
            return isNeeded ? [(policy.key.description, policy)] : []
        }
        let converted: MeshCollection<AuthorizationPolicy> = graph.flatMap(peers) { _, view, fetch in
            let settings = current(fetch)
            let parentIsStrict = PeerAuthenticationConverter.parentIsStrict(
                namespace: peersIn(view.namespace, fetch), root: peersIn(settings.rootNamespace, fetch))
            return PeerAuthenticationConverter.converted(view, parentIsStrict: parentIsStrict, settings)
                .map { [($0.key.description, $0)] } ?? []
        }
        self.outcomes = graph.map(policies) { _, view, fetch in
            AuthorizationConverter.convert(view, current(fetch))
        }
        let written: MeshCollection<AuthorizationPolicy> = graph.map(self.outcomes) { _, outcome, _ in outcome.policy }
        self.policies = graph.join([strict, converted, written])

        // A pod looks for the services and policies that select it under each of its own labels.
        let servicesByLabel = services.index { _, view in
            Self.firstLabel(view.selector).map { ["\(view.namespace)|\($0)"] } ?? []
        }
        let selectorPolicies = policies.index { _, view in
            view.hasTargets ? [] : Self.firstLabel(view.selector ?? [:]).map { ["\(view.namespace)|\($0)"] } ?? []
        }
        let slicesByPod = slices.index { _, view in
            view.isUsable
                ? view.endpoints.filter { $0.targetKind == "Pod" }.map { "\($0.targetNamespace)/\($0.targetName)" }
                : []
        }
        let podWorkloads: MeshCollection<Workload> = graph.flatMap(self.pods) { _, pod, fetch in
            let settings = current(fetch)
            var around = WorkloadBuilder.Surroundings(settings: settings)
            around.network = fetch.get(network, "") ?? ""
            if !pod.node.isEmpty { around.locality = fetch.get(nodes, pod.node)?.locality ?? Locality() }
            var members: [String: ServiceView] = [:]
            for (key, value) in pod.labels {
                for (name, service) in fetch.get(servicesByLabel, "\(pod.namespace)|\(key)=\(value)")
                where service.selects(pod.labels) { members[name] = service }
            }
            for (_, slice) in fetch.get(slicesByPod, pod.key)
            where slice.namespace == pod.namespace && slice.names(pod) {
                let key = "\(slice.namespace)/\(slice.serviceName)"
                if let service = fetch.get(services, key), service.selector.isEmpty { members[key] = service }
            }
            around.services = members.values.filter { $0.type != "ExternalName" }.sorted { $0.key < $1.key }.map {
                WorkloadBuilder.Membership(
                    key: NamespacedName(
                        namespace: $0.namespace,
                        name: ServiceBuilder.hostname($0, suffix: settings.domainSuffix)), ports: $0.ports)
            }
            var attached: Set<String> = []
            for namespace in Set([pod.namespace, settings.rootNamespace]) {
                for (key, value) in pod.labels {
                    for (name, view) in fetch.get(selectorPolicies, "\(namespace)|\(key)=\(value)")
                    where view.selects(pod.labels)
                        && AuthorizationConverter.convert(view, settings).policy != nil
                    { attached.insert(name) }
                }
            }
            around.policies = attached.sorted().compactMap { NamespacedName($0) }
            around.policies += PeerAuthenticationConverter.keys(
                labels: pod.labels, isInRoot: pod.namespace == settings.rootNamespace,
                namespace: peersIn(pod.namespace, fetch), root: peersIn(settings.rootNamespace, fetch), settings)
            return WorkloadBuilder.workload(pod, around).map { [($0.uid, $0)] } ?? []
        }
        let sliceWorkloads: MeshCollection<Workload> = graph.flatMap(slices) { _, slice, fetch in
            guard slice.isUsable,
                let service = fetch.get(services, "\(slice.namespace)/\(slice.serviceName)")
            else { return [] }
            return WorkloadBuilder.workloads(
                slice, service: service, settings: current(fetch), network: fetch.get(network, "") ?? ""
            ).map { ($0.uid, $0) }
        }
        self.workloads = graph.join([podWorkloads, sliceWorkloads])
    }

    /// The least `key=value` of a selector: an object is filed under one label, and tested for the others.
    private static func firstLabel(_ selector: [String: String]) -> String? {
        selector.min { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    }

    package func settle() { self.graph.settle() }
}
