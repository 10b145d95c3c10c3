import MeshCollections
import MeshModel

/// Policies for the node proxy, who is subject to which, and what their objects' statuses say.
struct PolicyCollections {
    /// By `<namespace>/<name>`.
    let all: MeshCollection<AuthorizationPolicy>
    let statuses: MeshCollection<ObjectStatus>
    let peerStatuses: MeshCollection<ObjectStatus>

    private let inputs: MeshInputs
    /// Selectors of policies that the node proxy really gets.
    private let selectors: Index<Selector, String>
    private let peersByNamespace: Index<PeerAuthenticationView, String>
    private let allowances: MeshCollection<AuthorizationPolicy>

    private struct Selector: Equatable {
        var namespace: String
        var labels: [String: String]
    }

    init(
        _ graph: Graph, _ inputs: MeshInputs, _ gateways: GatewayCollections, _ services: ServiceCollections,
        _ gates: GateCollections
    ) {
        self.inputs = inputs
        let peers = inputs.peerAuthentications
        let peersByNamespace = peers.index { _, view in [view.namespace] }
        func peersIn(_ namespace: String, _ fetch: Fetch) -> [PeerAuthenticationView] {
            fetch.get(peersByNamespace, namespace).map(\.value)
        }
        let hasPeers: MeshCollection<Bool> = graph.value { fetch in !fetch.all(peers).isEmpty }
        let strict: MeshCollection<AuthorizationPolicy> = graph.flatMap(hasPeers) { _, isNeeded, fetch in
            let policy = PeerAuthenticationConverter.staticStrict(inputs.settings(fetch))
            return isNeeded ? [(policy.key.description, policy)] : []
        }
        let converted: MeshCollection<AuthorizationPolicy> = graph.flatMap(peers) { _, view, fetch in
            let settings = inputs.settings(fetch)
            let parentIsStrict = PeerAuthenticationConverter.parentIsStrict(
                namespace: peersIn(view.namespace, fetch), root: peersIn(settings.rootNamespace, fetch))
            return PeerAuthenticationConverter.converted(view, parentIsStrict: parentIsStrict, settings)
                .map { [($0.key.description, $0)] } ?? []
        }
        self.peersByNamespace = peersByNamespace
        self.peerStatuses = graph.map(peers) { _, view, fetch in
            ObjectStatus(
                generation: view.generation,
                [
                    PeerAuthenticationStatus.condition(
                        view, siblings: peersIn(view.namespace, fetch),
                        rootNamespace: inputs.settings(fetch).rootNamespace)
                ])
        }

        let outcomes: MeshCollection<AuthorizationConverter.Outcome> = graph.map(inputs.authorizationPolicies) {
            _, view, fetch in AuthorizationConverter.convert(view, inputs.settings(fetch))
        }
        let written: MeshCollection<AuthorizationPolicy> = graph.map(outcomes) { _, outcome, _ in outcome.policy }
        let selectors: MeshCollection<Selector> = graph.map(inputs.authorizationPolicies) { key, view, fetch in
            guard let labels = view.selector, fetch.get(outcomes, key)?.policy != nil else { return nil }
            return Selector(namespace: view.namespace, labels: labels)
        }
        self.selectors = selectors.index { _, selector in MeshInputs.filing(selector.namespace, selector.labels) }
        self.allowances = WaypointAllowance.collection(graph, inputs, gateways)
        self.all = graph.join([strict, converted, self.allowances, written])
        self.statuses = graph.map(inputs.authorizationPolicies) { key, view, fetch in
            let targets = PolicyTargets(inputs: inputs, gateways: gateways, services: services)
            return ObjectStatus(
                generation: view.generation,
                [
                    fetch.get(outcomes, key)?.condition,
                    targets.condition(
                        view.targets, namespace: view.namespace, caveat: gates.caveat(.policy, key, fetch), fetch),
                ])
        }
    }

    /// The selector-scoped policies of one workload, in the order that clients expect.
    /// - Parameter waypoints: its own and its services'.
    func keys(
        _ namespace: String, _ labels: [String: String], waypoints: Set<String>, _ fetch: Fetch
    ) -> [NamespacedName] {
        let settings = self.inputs.settings(fetch)
        var attached: Set<String> = []
        for home in Set([namespace, settings.rootNamespace]) {
            for (key, value) in labels {
                for (name, selector) in fetch.get(self.selectors, MeshInputs.file(home, key, value))
                where selector.labels.allSatisfy({ labels[$0.key] == $0.value }) { attached.insert(name) }
            }
        }
        var keys = attached.sorted().compactMap { NamespacedName($0) }
        keys += PeerAuthenticationConverter.keys(
            labels: labels, isInRoot: namespace == settings.rootNamespace,
            namespace: fetch.get(self.peersByNamespace, namespace).map(\.value),
            root: fetch.get(self.peersByNamespace, settings.rootNamespace).map(\.value), settings)
        guard settings.requiresWaypoints else { return keys }
        for waypoint in waypoints.sorted() {
            guard let name = NamespacedName(waypoint) else { continue }
            let key = WaypointAllowance.key(name)
            if fetch.get(self.allowances, key.description) != nil { keys.append(key) }
        }
        return keys
    }
}

/// "Only through the waypoint": per waypoint an ALLOW policy for its service accounts, for what stands behind it.
/// Made only when the mesh asks for it.
enum WaypointAllowance {
    static func key(_ waypoint: NamespacedName) -> NamespacedName {
        NamespacedName(
            namespace: waypoint.namespace, name: "istio_allow_waypoint_\(waypoint.namespace)_\(waypoint.name)")
    }

    static func collection(
        _ graph: Graph, _ inputs: MeshInputs, _ gateways: GatewayCollections
    ) -> MeshCollection<AuthorizationPolicy> {
        let byGateway = inputs.pods.index { _, pod in
            pod.labels[Names.gatewayName].map { ["\(pod.namespace)/\($0)"] } ?? []
        }
        return graph.flatMap(gateways.waypoints) { key, waypoint, fetch in
            let settings = inputs.settings(fetch)
            guard settings.requiresWaypoints else { return [] }
            let accounts = Set(fetch.get(byGateway, key).map(\.value.serviceAccount)).sorted()
            if accounts.isEmpty { return [] }
            var match = AuthorizationPolicy.Match()
            match.principals = accounts.map {
                .exact("\(settings.trustDomain)/ns/\(waypoint.key.namespace)/sa/\($0)")
            }
            let policy = AuthorizationPolicy(
                key: Self.key(waypoint.key), scope: .workloadSelector, action: .allow,
                rules: [.init(clauses: [.init(matches: [match])])])
            return [(policy.key.description, policy)]
        }
    }
}
