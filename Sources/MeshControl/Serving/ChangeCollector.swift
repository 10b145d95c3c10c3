import MeshCollections
import MeshEnvoy
import MeshModel
import MeshRoutes

/// Gathers what one round of the index changed. Belongs to the control plane's actor.
final class ChangeCollector {
    struct Changes {
        var addresses: [MeshAddress] = []
        var removedAddresses: [String] = []
        var policies: [AuthorizationPolicy] = []
        var removedPolicies: [NamespacedName] = []
        var serviceRules: [ServedRules] = []
        var removedServiceRules: [NamespacedName] = []
        var waypointRules: [WaypointRules] = []
        var removedWaypoints: [NamespacedName] = []
        var envoys: [(key: EnvoyKey, resource: EnvoyResource?)] = []
        var envoyProblems: [(gateway: String, problems: [EnvoyProblem])] = []
        var sidecars: [(pod: NamespacedName, sidecar: SidecarPod?)] = []
        var runners: [(gateway: NamespacedName, runners: WaypointRunners?)] = []
        var keys: [(key: String, keys: WantedKeys?)] = []
        var statuses: [(kind: StatusWriter.Kind, key: String, status: ObjectStatus?)] = []
        var reports: [(kind: GatewayStatusWriter.Kind, key: String, report: GatewayReport?)] = []
        var plans: [(key: String, plan: GatewayPlan?)] = []
        var placed: [(kind: PlacedStatusWriter.Kind, key: String, status: PlacedStatus?)] = []
    }
    private var changes = Changes()

    init(_ index: MeshIndex) {
        index.workloads.observe { [weak self] in
            for change in $0 { self?.address(change.key, change.new.map { .workload($0) }) }
        }
        index.meshServices.observe { [weak self] in
            for change in $0 { self?.address(change.key, change.new.map { .service($0) }) }
        }
        index.policies.observe { [weak self] in for change in $0 { self?.policy(change.key, change.new) } }
        let statuses: [(StatusWriter.Kind, MeshCollection<ObjectStatus>)] = [
            (.services, index.serviceStatuses), (.serviceEntries, index.serviceEntryStatuses),
            (.workloadEntries, index.workloadEntryStatuses), (.authorizationPolicies, index.policyStatuses),
            (.peerAuthentications, index.peerAuthenticationStatuses),
            (.requestAuthentications, index.requestAuthenticationStatuses), (.rateLimits, index.rateLimitStatuses),
            (.destinationRules, index.destinationRuleStatuses), (.virtualServices, index.virtualServiceStatuses),
        ]
        for (kind, collection) in statuses {
            collection.observe { [weak self] in
                for change in $0 { self?.changes.statuses.append((kind, change.key, change.new)) }
            }
        }
        self.follow(gatewaysOf: index)
        self.follow(rulesOf: index)
    }

    private func follow(gatewaysOf index: MeshIndex) {
        for (kind, collection) in [
            (GatewayStatusWriter.Kind.gateway, index.gatewayReports), (.gatewayClass, index.gatewayClassReports),
        ] {
            collection.observe { [weak self] in
                for change in $0 { self?.changes.reports.append((kind, change.key, change.new)) }
            }
        }
        index.gatewayPlans.observe { [weak self] in
            for change in $0 { self?.changes.plans.append((change.key, change.new)) }
        }
    }

    /// For waypoints.
    private func follow(rulesOf index: MeshIndex) {
        index.serviceRules.observe { [weak self] in
            for change in $0 {
                if let new = change.new {
                    self?.changes.serviceRules.append(new)
                } else if let name = NamespacedName(change.key) {
                    self?.changes.removedServiceRules.append(name)
                }
            }
        }
        index.waypointRules.observe { [weak self] in
            for change in $0 {
                if let new = change.new {
                    self?.changes.waypointRules.append(new)
                } else if let name = NamespacedName(change.key) {
                    self?.changes.removedWaypoints.append(name)
                }
            }
        }
        index.envoyResources.observe { [weak self] in
            for change in $0 {
                if let key = EnvoyKey(change.key) { self?.changes.envoys.append((key, change.new)) }
            }
        }
        index.envoyProblems.observe { [weak self] in
            for change in $0 { self?.changes.envoyProblems.append((change.key, change.new ?? [])) }
        }
        index.sidecarPods.observe { [weak self] in
            for change in $0 {
                if let pod = NamespacedName(change.key) { self?.changes.sidecars.append((pod, change.new)) }
            }
        }
        index.waypointRunners.observe { [weak self] in
            for change in $0 {
                if let gateway = NamespacedName(change.key) { self?.changes.runners.append((gateway, change.new)) }
            }
        }
        index.keySources.observe { [weak self] in
            for change in $0 { self?.changes.keys.append((change.key, change.new)) }
        }
        var placed: [(PlacedStatusWriter.Kind, MeshCollection<PlacedStatus>)] = [
            (.backendTrafficPolicies, index.backendTrafficPolicyStatuses)
        ]
        for (route, collection) in index.routeStatuses { placed.append((.init(route), collection)) }
        for (kind, collection) in placed {
            collection.observe { [weak self] in
                for change in $0 { self?.changes.placed.append((kind, change.key, change.new)) }
            }
        }
    }

    private func address(_ key: String, _ new: MeshAddress?) {
        if let new { self.changes.addresses.append(new) } else { self.changes.removedAddresses.append(key) }
    }

    private func policy(_ key: String, _ new: AuthorizationPolicy?) {
        if let new {
            self.changes.policies.append(new)
        } else if let name = NamespacedName(key) {
            self.changes.removedPolicies.append(name)
        }
    }

    func take() -> Changes {
        defer { self.changes = Changes() }
        return self.changes
    }
}
