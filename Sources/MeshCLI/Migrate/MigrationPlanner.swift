import KubeAPI
import MeshInjection

/// Objects → ``MigrationPlan``. Pure: asks nobody.
///
/// What is enforced after the move is what the node proxy and waypoints of this mesh enforce: docs/control-plane.md.
package struct MigrationPlanner: Sendable {
    let input: MigrationInput

    private static let injection = "istio-injection"
    private static let revision = "istio.io/rev"
    private static let mode = "istio.io/dataplane-mode"
    private static let redirection = "ambient.istio.io/redirection"
    private static let inject = "sidecar.istio.io/inject"

    /// - Parameter names: of namespaces that exist; none: all that have sidecars, or get them.
    package static func plan(_ input: MigrationInput, namespaces names: [String] = []) -> MigrationPlan {
        let planner = MigrationPlanner(input: input)
        let all = input.namespaces.sorted { $0.name < $1.name }
        let chosen =
            names.isEmpty ? all.filter { planner.state($0) == .sidecar } : all.filter { names.contains($0.name) }
        return MigrationPlan(namespaces: chosen.map(planner.migration))
    }

    private func migration(_ namespace: KubeObject) -> NamespaceMigration {
        var migration = NamespaceMigration(name: namespace.name, state: self.state(namespace))
        if migration.state == .ambient { return migration }
        for key in [Self.injection, Self.revision] {
            // `istio-injection: disabled` asks for no sidecars, which stays true.
            if let value = namespace.labels[key], value != "disabled" { migration.labelsRemoved[key] = value }
        }
        if namespace.labels[Self.mode] != "ambient" { migration.labelsSet[Self.mode] = "ambient" }
        let pods = self.pods(namespace.name)
        migration.restarts = Self.restarts(pods.filter(Self.hasSidecar))
        let home = self.home(namespace)
        var policies = PolicyMigration(
            input: self.input, namespace: namespace.name, pods: pods, waypoint: home.name)
        policies.judge()
        migration.findings = policies.findings + self.podFindings(pods)
        if !policies.waypointReasons.isEmpty {
            migration.waypoint = WaypointNeed(
                namespace: home.namespace, name: home.name, exists: home.exists, isUsed: home.isUsed,
                reasons: policies.waypointReasons)
        }
        return migration
    }

    private func state(_ namespace: KubeObject) -> NamespaceMigration.State {
        let pods = self.pods(namespace.name)
        let labels = namespace.labels
        let asks =
            labels[Self.injection] == "enabled" || (labels[Self.injection] == nil && labels[Self.revision] != nil)
        // A namespace with both labels gets sidecars; a revision beside `ambient` names only who looks after it.
        let isAmbient = labels[Self.mode] == "ambient"
        if labels[Self.injection] == "enabled" || (asks && !isAmbient) || pods.contains(where: Self.hasSidecar) {
            return .sidecar
        }
        return isAmbient ? .ambient : .outside
    }

    private func pods(_ namespace: String) -> [KubeObject] {
        self.input.pods.filter { pod in
            pod.namespace == namespace && !pod.isBeingDeleted
                && !["Succeeded", "Failed"].contains(pod.status["phase"]?.string)
        }
    }

    /// What is injected says so; a container called istio-proxy have node proxies and waypoints, too.
    static func hasSidecar(_ pod: KubeObject) -> Bool {
        !self.isGateway(pod)
            && (pod.annotations["sidecar.istio.io/status"] != nil || pod.labels["security.istio.io/tlsMode"] == "istio")
    }

    /// A proxy for others: a waypoint, or a gateway that was injected whole.
    private static func isGateway(_ pod: KubeObject) -> Bool {
        pod.labels["gateway.networking.k8s.io/gateway-name"] != nil
            || pod.annotations["inject.istio.io/templates"]?.contains("gateway") ?? false
    }

    /// The waypoint that the namespace's label leads to, else the one that `martlet waypoint apply` would make.
    private func home(_ namespace: KubeObject) -> (namespace: String, name: String, exists: Bool, isUsed: Bool) {
        let label = namespace.labels[Waypoint.useLabel].flatMap { $0 == Waypoint.reservedName ? nil : $0 }
        let place = label == nil ? namespace.name : namespace.labels[Waypoint.useNamespaceLabel] ?? namespace.name
        let here = self.input.gateways.filter {
            $0.namespace == place && Waypoint.classNames.contains($0.spec["gatewayClassName"]?.string ?? "")
        }.map(\.name).sorted()
        let name = label ?? (here.contains("waypoint") ? "waypoint" : here.first ?? "waypoint")
        return (place, name, here.contains(name), label != nil)
    }

    // MARK: pods

    private static func restarts(_ pods: [KubeObject]) -> [Restart] {
        Dictionary(grouping: pods, by: Self.workload).map { Restart(workload: $0.key, pods: $0.value.count) }
            .sorted { $0.workload < $1.workload }
    }

    /// `Deployment/cart`: what is restarted to restart the pod.
    private static func workload(of pod: KubeObject) -> String {
        let owner = PodOwner(pod)
        return "\(owner.kind)/\(owner.name)"
    }

    /// One finding for each workload and trouble, however many pods it has.
    private func podFindings(_ pods: [KubeObject]) -> [MigrationFinding] {
        var findings: [MigrationFinding] = []
        let workloads = Dictionary(grouping: pods.filter { !Self.isGateway($0) }, by: Self.workload)
        for (workload, pods) in workloads.sorted(by: { $0.key < $1.key }) {
            let parts = workload.split(separator: "/", maxSplits: 1).map(String.init)
            func find(_ verdict: MigrationFinding.Verdict, _ text: String) {
                findings.append(
                    MigrationFinding(kind: parts[0], key: "\(pods[0].namespace)/\(parts[1])", verdict, text))
            }
            if pods.contains(where: { $0.spec["hostNetwork"]?.bool == true }) {
                find(.note, "is on the node's own network: in neither kind of mesh")
                continue
            }
            if pods.contains(where: { $0.labels[Self.mode] == "none" }) {
                find(.note, "its label \(Self.mode)=none keeps it out of the node proxy's hands")
                continue
            }
            if pods.allSatisfy({ $0.annotations[Self.redirection] == "enabled" }) { continue }
            guard pods.contains(where: Self.hasSidecar) else {
                find(.note, "has no sidecar today and will be captured; its label \(Self.mode)=none would keep it out")
                continue
            }
            if pods.contains(where: { $0.labels[Self.inject] == "true" }) {
                find(.edit, "the label \(Self.inject)=true of its pod template goes on asking for a sidecar: remove it")
            }
            let annotations = Set(pods.flatMap(\.annotations.keys)).filter {
                $0.hasPrefix("traffic.sidecar.istio.io/") || $0 == "proxy.istio.io/config"
            }
            if !annotations.isEmpty {
                find(.lost, "annotations that only sidecars know: \(annotations.sorted().joined(separator: ", "))")
            }
        }
        return findings
    }
}
