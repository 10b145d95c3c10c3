import KubeAPI

/// What becomes of the policies and routes that concern one namespace.
struct PolicyMigration {
    let input: MigrationInput
    let namespace: String
    let pods: [KubeObject]
    /// Name of the waypoint that the namespace has or will have.
    let waypoint: String
    private(set) var findings: [MigrationFinding] = []
    private(set) var waypointReasons: [String] = []
    /// AuthorizationPolicies that allow or refuse by who calls: with a waypoint in between that is the waypoint.
    private var byCaller: [KubeObject] = []

    init(input: MigrationInput, namespace: String, pods: [KubeObject], waypoint: String) {
        self.input = input
        self.namespace = namespace
        self.pods = pods
        self.waypoint = waypoint
    }

    mutating func judge() {
        for object in self.input.policies.sorted(by: { ($0.kind, $0.key) < ($1.kind, $1.key) }) {
            let isOurs = object.namespace == self.namespace || object.namespace == self.input.rootNamespace
            switch object.kind {
            case "AuthorizationPolicy" where isOurs: self.authorization(object)
            case "PeerAuthentication" where isOurs: self.peers(object)
            case "RequestAuthentication" where isOurs: self.tokens(object)
            case "Telemetry" where isOurs: self.telemetry(object)
            case "VirtualService": self.routes(object, isOurs: isOurs)
            case "DestinationRule": self.destinations(object, isOurs: isOurs)
            case "Sidecar" where isOurs:
                self.find(object, .lost, "limits what sidecars know and reach; the node proxy does not follow it")
            case "EnvoyFilter", "WasmPlugin", "ProxyConfig":
                guard isOurs else { continue }
                self.find(object, .lost, "is for Envoy in a sidecar; nothing follows it")
            default: continue
            }
        }
        self.callersBehindWaypoint()
        self.findings.sort { ($0.kind, $0.key) < ($1.kind, $1.key) }
    }

    private mutating func find(
        _ object: KubeObject, _ verdict: MigrationFinding.Verdict, _ text: String,
        targets: [MigrationFinding.Target] = []
    ) {
        self.findings.append(MigrationFinding(object, verdict, text, targets: targets))
    }

    private mutating func needsWaypoint(_ object: KubeObject) {
        self.waypointReasons.append("\(object.kind)/\(object.key)")
    }

    private static func targets(_ policy: KubeObject) -> [JSONValue] {
        (policy.spec["targetRefs"]?.array ?? []) + (policy.spec["targetRef"].map { [$0] } ?? [])
    }

    private static func words(_ targets: [JSONValue]) -> String {
        targets.map { "\($0["kind"]?.string ?? "?") \($0["name"]?.string ?? "?")" }.joined(separator: ", ")
    }

    // MARK: who may

    private mutating func authorization(_ policy: KubeObject) {
        let targets = Self.targets(policy)
        let action = policy.spec["action"]?.string ?? "ALLOW"
        if !targets.isEmpty {
            self.find(policy, .note, "sidecars do not look at it; the waypoint of \(Self.words(targets)) does")
            return
        }
        switch action {
        case "ALLOW", "DENY": break
        case "CUSTOM":
            self.find(
                policy, .lost,
                "CUSTOM is not supported: the node proxy does nothing about it, a waypoint would refuse everything")
            return
        default:
            self.find(policy, .lost, "\(action) is not supported: nobody does anything about it")
            return
        }
        if policy.annotations["istio.io/dry-run"] == "true" {
            self.find(policy, .note, "is tried out only, which the node proxy does not report: it is left aside")
            return
        }
        let attributes = RequestAttributes.of(policy.spec["rules"]?.array ?? [])
        if attributes.isEmpty {
            self.find(policy, .kept, "enforced by the node proxy")
            if RequestAttributes.namesCallers(policy.spec["rules"]?.array ?? []) { self.byCaller.append(policy) }
            return
        }
        self.needsWaypoint(policy)
        let meanwhile =
            action == "ALLOW"
            ? "the node proxy leaves such rules out and refuses what they allow"
            : "the node proxy refuses by what is left of such rules, which may be more, or nothing"
        self.attach(
            policy, "asks for \(attributes.sorted().joined(separator: ", ")), which only a waypoint sees: \(meanwhile)")
    }

    private mutating func tokens(_ policy: KubeObject) {
        let targets = Self.targets(policy)
        self.needsWaypoint(policy)
        if !targets.isEmpty {
            self.find(policy, .kept, "enforced by the waypoint of \(Self.words(targets))")
        } else {
            self.attach(policy, "tokens are checked by waypoints only")
        }
    }

    /// Says what the policy's `targetRefs` have to be.
    private mutating func attach(_ policy: KubeObject, _ text: String) {
        if policy.namespace == self.input.rootNamespace {
            self.find(
                policy, .edit, "\(text). In the mesh's namespace a policy is attached to all waypoints",
                targets: [
                    .init(group: "gateway.networking.k8s.io", kind: "GatewayClass", name: Waypoint.className)
                ])
            return
        }
        let labels = policy.spec.at("selector", "matchLabels")?.stringMap ?? [:]
        if labels.isEmpty {
            self.find(
                policy, .edit, text,
                targets: [.init(group: "gateway.networking.k8s.io", kind: "Gateway", name: self.waypoint)])
            return
        }
        let services = self.services(of: labels)
        if services.isEmpty {
            self.find(
                policy, .lost,
                "\(text). No Service leads to its pods: they need a waypoint of their own (martlet waypoint apply "
                    + "-n \(self.namespace) --for workload --name NAME), and the policy that Gateway as its target")
            return
        }
        let others = services.filter { service in
            self.pods.contains { pod in
                Self.selects(service, pod) && !labels.allSatisfy { pod.labels[$0.key] == $0.value }
            }
        }.map(\.name)
        let more =
            others.isEmpty
            ? "" : ". \(others.joined(separator: ", ")) leads to pods that the policy does not select, too"
        self.find(policy, .edit, text + more, targets: services.map { .service($0.name) })
    }

    /// The services that lead to pods with these labels: to running ones, else by what they select.
    private func services(of labels: [String: String]) -> [KubeObject] {
        let own = self.input.services.filter { $0.namespace == self.namespace }.sorted { $0.name < $1.name }
        let pods = self.pods.filter { pod in labels.allSatisfy { pod.labels[$0.key] == $0.value } }
        let leading = own.filter { service in pods.contains { Self.selects(service, $0) } }
        if !leading.isEmpty { return leading }
        return own.filter { service in
            let selector = service.spec["selector"]?.stringMap ?? [:]
            return !selector.isEmpty && labels.allSatisfy { selector[$0.key] == $0.value }
        }
    }

    private static func selects(_ service: KubeObject, _ pod: KubeObject) -> Bool {
        let selector = service.spec["selector"]?.stringMap ?? [:]
        return !selector.isEmpty && selector.allSatisfy { pod.labels[$0.key] == $0.value }
    }

    /// Behind a waypoint the node proxy sees the waypoint, and not who called it.
    private mutating func callersBehindWaypoint() {
        guard !self.waypointReasons.isEmpty else { return }
        for policy in self.byCaller {
            guard let index = self.findings.firstIndex(where: { $0.kind == policy.kind && $0.key == policy.key })
            else { continue }
            let isDeny = policy.spec["action"]?.string == "DENY"
            self.findings.remove(at: index)
            self.attach(
                policy,
                "what comes through the waypoint arrives as the waypoint's: attach a copy to it"
                    + (isDeny
                        ? ""
                        : ", and let this one allow serviceAccounts: [\(self.namespace)/\(self.waypoint)] as well"))
        }
    }

    private mutating func peers(_ policy: KubeObject) {
        let mode = policy.spec.at("mtls", "mode")?.string
        let ports = (policy.spec["portLevelMtls"]?.object ?? [:]).filter { $0.value["mode"]?.string == "DISABLE" }.keys
        if mode == "DISABLE" || !ports.isEmpty {
            let which = mode == "DISABLE" ? "DISABLE" : "DISABLE of port \(ports.sorted().joined(separator: ", "))"
            self.find(
                policy, .lost,
                "\(which) is not supported and means PERMISSIVE: plaintext is accepted, and mesh clients come encrypted"
            )
        } else {
            self.find(policy, .kept, "\(mode ?? "UNSET"), enforced by the node proxy")
        }
    }

    private mutating func telemetry(_ policy: KubeObject) {
        if policy.spec["selector"] != nil {
            self.find(policy, .lost, "is for selected workloads, which only sidecars know; attach it with targetRefs")
        } else {
            self.find(policy, .note, "followed by waypoints only; the node proxy always logs and counts connections")
        }
    }

    // MARK: where it goes

    /// The namespace's services among the hosts, and whether there are others.
    private func services(_ hosts: [String], from namespace: String) -> (own: [String], others: Bool) {
        var own: [String] = []
        var others = false
        for host in hosts {
            let parts = host.split(separator: ".").map(String.init)
            let home = parts.count > 1 ? parts[1] : namespace
            let isKubernetes = parts.count <= 2 || parts[2] == "svc"
            if isKubernetes, home == self.namespace, let name = parts.first {
                own.append(name)
            } else {
                others = true
            }
        }
        return (own, others)
    }

    private func isVisible(_ object: KubeObject) -> Bool {
        let to = object.spec["exportTo"]?.array?.compactMap(\.string) ?? []
        return to.isEmpty || to.contains("*") || to.contains(self.namespace)
            || (to.contains(".") && object.namespace == self.namespace)
    }

    private mutating func routes(_ object: KubeObject, isOurs: Bool) {
        let gateways = object.spec["gateways"]?.array?.compactMap(\.string) ?? ["mesh"]
        guard gateways.contains("mesh") else {
            if isOurs { self.find(object, .kept, "is for gateways only (\(gateways.joined(separator: ", ")))") }
            return
        }
        let hosts = object.spec["hosts"]?.array?.compactMap(\.string) ?? []
        let (own, others) = self.services(hosts, from: object.namespace)
        if !own.isEmpty {
            self.needsWaypoint(object)
            self.find(
                object, .lost,
                "waypoints do not follow VirtualServices: traffic goes as if it did not exist. Attach an HTTPRoute, "
                    + "GRPCRoute, TLSRoute or TCPRoute to Service \(own.joined(separator: ", ")) instead")
        } else if others, isOurs || self.isVisible(object) {
            self.find(
                object, isOurs ? .lost : .note,
                "clients of this namespace no longer follow it: routes of \(hosts.joined(separator: ", ")) are the "
                    + "matter of a waypoint of that service")
        }
    }

    private mutating func destinations(_ object: KubeObject, isOurs: Bool) {
        let host = object.spec["host"]?.string ?? ""
        let (own, _) = self.services([host], from: object.namespace)
        guard !own.isEmpty else {
            if isOurs || self.isVisible(object) {
                self.find(
                    object, isOurs ? .lost : .note,
                    "clients of this namespace no longer follow it: \(host) is the matter of a waypoint of that service"
                )
            }
            return
        }
        var ignored = (object.spec["trafficPolicy"]?.object ?? [:]).filter { name, value in
            switch name {
            case "loadBalancer", "retryBudget", "outlierDetection", "connectionPool": false
            // What tunnels do anyhow.
            case "tls": !["ISTIO_MUTUAL", ""].contains(value["mode"]?.string ?? "")
            default: true
            }
        }.keys.map { "trafficPolicy.\($0)" }
        for name in ["subsets", "workloadSelector"] where object.spec[name] != nil { ignored.append(name) }
        let asksWaypoint = (object.spec["trafficPolicy"]?.object ?? [:]).keys.contains {
            ["loadBalancer", "retryBudget", "outlierDetection", "connectionPool"].contains($0)
        }
        if asksWaypoint { self.needsWaypoint(object) }
        if !ignored.isEmpty {
            self.find(object, .lost, "not followed: \(ignored.sorted().joined(separator: ", "))")
        } else {
            self.find(object, .kept, asksWaypoint ? "followed by the waypoint" : "says what tunnels do anyhow")
        }
    }
}
