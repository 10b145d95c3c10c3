import KubeAPI
import MeshCollections
import MeshModel
import MeshRoutes

/// How the endpoints of services are chosen: from DestinationRules and XBackendTrafficPolicies.
struct BalancingCollections {
    let ruleStatuses: MeshCollection<ObjectStatus>
    let policyStatuses: MeshCollection<PlacedStatus>
    private let byHost: Index<Rule, String>
    private let policiesByTarget: Index<BackendTrafficPolicyView, String>
    private let inputs: MeshInputs

    private struct Rule: Equatable {
        var key: NamespacedName
        var createdAt: String
        var host: String
        var balancing: BackendBalancing
        /// Parts that a waypoint does not do.
        var ignored: [String]
        /// For some clients only, which a waypoint cannot tell apart by their labels.
        var isForEveryClient: Bool
    }

    init(_ graph: Graph, _ inputs: MeshInputs, _ services: ServiceCollections) {
        let rules: MeshCollection<Rule> = graph.map(inputs.destinationRules) { _, view, fetch in
            var balancing = BackendBalancing()
            var ignored = BalancingReader.read(view.policy, &balancing)
            if view.hasSubsets { ignored.append("subsets") }
            if view.hasSelector { ignored.append("workloadSelector, so the whole rule") }
            let suffix = inputs.settings(fetch).domainSuffix
            // A short name is a Service of the rule's own namespace.
            let host = view.host.contains(".") ? view.host : "\(view.host).\(view.key.namespace).svc.\(suffix)"
            return Rule(
                key: view.key, createdAt: view.createdAt, host: host, balancing: balancing, ignored: ignored,
                isForEveryClient: !view.hasSelector)
        }
        self.byHost = rules.index { _, rule in rule.isForEveryClient ? [rule.host] : [] }
        self.policiesByTarget = inputs.backendTrafficPolicies.index { _, view in
            view.targets.compactMap {
                GateTarget($0, namespace: view.key.namespace, rootNamespace: "")?.text
            }
        }
        self.inputs = inputs
        self.ruleStatuses = graph.map(rules) { _, rule, fetch in
            let generation = fetch.get(inputs.destinationRules, rule.key.description)?.generation ?? 0
            let served = fetch.get(services.byHost, rule.host).filter { $0.value.waypoint != nil }
            // Nothing of ours reads a rule for a service without a waypoint.
            if served.isEmpty { return nil }
            let message =
                rule.ignored.isEmpty
                ? "waypoints follow this rule" : "waypoints do not follow \(rule.ignored.joined(separator: ", "))"
            return ObjectStatus(
                generation: generation,
                [
                    StatusCondition(
                        "WaypointAccepted", rule.isForEveryClient,
                        reason: rule.ignored.isEmpty ? "Accepted" : "UnsupportedValue", message: message)
                ])
        }
        self.policyStatuses = graph.map(inputs.backendTrafficPolicies) { _, view, fetch in
            PlacedStatus(
                generation: view.generation,
                zip(view.targets, view.references).compactMap { target, reference in
                    Self.place(target, reference, view, services, inputs, fetch)
                })
        }
    }

    private static func place(
        _ target: PolicyView.Target, _ reference: JSONValue, _ view: BackendTrafficPolicyView,
        _ services: ServiceCollections, _ inputs: MeshInputs, _ fetch: Fetch
    ) -> PlacedStatus.Place? {
        guard target.kind == "Service", target.group.isEmpty else { return nil }
        let key = "\(view.key.namespace)/\(target.name)"
        let condition: StatusCondition
        if fetch.get(inputs.services, key) == nil {
            condition = StatusCondition(
                "Accepted", false, reason: "TargetNotFound", message: "Service \(key) does not exist")
        } else if let waypoint = fetch.get(services.serviceBindings, key)?.primary {
            let hint = view.hasSession ? "; sessionPersistence here is not followed, a route's is" : ""
            condition = StatusCondition(
                "Accepted", true, reason: "Accepted",
                message: "waypoint \(waypoint.key) keeps to the retry budget\(hint)")
        } else {
            condition = StatusCondition(
                "Accepted", false, reason: "TargetNotFound",
                message: "Service \(key) has no waypoint, so nothing keeps to this policy")
        }
        return PlacedStatus.Place(reference: reference, conditions: [condition])
    }

    /// The rule of the service's own namespace counts first, then that of the waypoint's, then the mesh's.
    func balancing(
        _ service: MeshModel.Service, waypoint: NamespacedName, target: GateTarget, _ fetch: Fetch
    ) -> BackendBalancing {
        let rules = fetch.get(self.byHost, service.hostname).map(\.value)
        let root = self.inputs.settings(fetch).rootNamespace
        var balancing = BackendBalancing()
        for namespace in [service.namespace, waypoint.namespace, root] {
            let here = rules.filter { $0.key.namespace == namespace }
            guard let first = here.min(by: { ($0.createdAt, $0.key.name) < ($1.createdAt, $1.key.name) }) else {
                continue
            }
            balancing = first.balancing
            break
        }
        let policies = fetch.get(self.policiesByTarget, target.text).map(\.value)
        if let policy = policies.min(by: { ($0.createdAt, $0.key.name) < ($1.createdAt, $1.key.name) }),
            let retries = policy.retries
        {
            BalancingReader.read(retries: retries, &balancing)
        }
        return balancing
    }
}
