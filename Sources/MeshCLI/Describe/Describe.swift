package import KubeAPI
package import KubeClient

/// `describe`: everything that decides about the traffic of one pod or service, on one page: capture, identity, waypoint,
/// routes, and the policies with who enforces them.
///
/// What the control plane found is read from the objects' statuses, so that the page cannot disagree with it.
package struct Describe: Sendable {
    package let cluster: any KubeCluster
    /// Namespace of the mesh.
    package let rootNamespace: String
    package let output: Output

    package init(cluster: any KubeCluster, rootNamespace: String, output: Output) {
        self.cluster = cluster
        self.rootNamespace = rootNamespace
        self.output = output
    }

    private static func old(_ type: ResourceType) -> ResourceType {
        ResourceType(
            group: type.group, version: "v1alpha2", plural: type.plural, kind: type.kind, isNamespaced: true)
    }
    /// Of each kind the versions that clusters serve, the newest first.
    private static let routeTypes: [[ResourceType]] = [
        [.httpRoutes], [.grpcRoutes], [.tlsRoutes, old(.tlsRoutes)], [.tcpRoutes, old(.tcpRoutes)],
    ]
    /// What is attached by reference, to a service or to its waypoint.
    private static let attachedTypes: [ResourceType] = [
        .authorizationPolicies, .requestAuthentications, .rateLimits, .backendTrafficPolicies, .telemetries,
    ]

    // MARK: a pod

    package func pod(_ pod: KubeObject) async throws {
        let namespace = try await self.cluster.get(.namespaces, namespace: nil, name: pod.namespace)
        self.output.line("Pod: \(pod.name).\(pod.namespace)")
        self.say("Mesh", Self.capture(pod, namespace))
        self.say("Node", pod.spec["nodeName"]?.string ?? "not scheduled")
        self.say("Identity", "ns/\(pod.namespace)/sa/\(pod.spec["serviceAccountName"]?.string ?? "default")")
        try await self.binding(of: pod, namespace, serving: ["workload", "all"])
        try await self.workloadPolicies(pod)
        let services = try await self.cluster.list(.services, namespace: pod.namespace).items
            .filter { Self.selects($0.spec["selector"]?.stringMap ?? [:], pod.labels) }.sorted { $0.name < $1.name }
        if services.isEmpty { self.say("Services", "none selects it") }
        for service in services { try await self.service(service) }
    }

    /// Whether its traffic goes through the node proxy, and if not, why.
    private static func capture(_ pod: KubeObject, _ namespace: KubeObject) -> String {
        let modeLabel = "istio.io/dataplane-mode"
        if pod.annotations["ambient.istio.io/redirection"] == "enabled" {
            return "captured: traffic goes through the node proxy of its node"
        }
        let hasSidecar = ["containers", "initContainers"].contains { list in
            pod.spec[list]?.array?.contains { $0["name"]?.string == "istio-proxy" } ?? false
        }
        if hasSidecar { return "has a proxy of its own (container istio-proxy)" }
        if pod.spec["hostNetwork"]?.bool == true { return "not part of it: it is on the node's own network" }
        if let own = pod.labels[modeLabel], own != "ambient" {
            return "not part of it: its label \(modeLabel) is \(own)"
        }
        guard pod.labels[modeLabel] == "ambient" || namespace.labels[modeLabel] == "ambient" else {
            return "not part of it: neither it nor its namespace has the label \(modeLabel)=ambient"
        }
        return "NOT captured although it asks for it; look at: kubectl logs -n istio-system -l k8s-app=istio-cni-node"
    }

    private func workloadPolicies(_ pod: KubeObject) async throws {
        for type in [ResourceType.peerAuthentications, .authorizationPolicies] {
            for policy in try await self.all([type])
            where [pod.namespace, self.rootNamespace].contains(policy.namespace) && Self.targets(policy).isEmpty {
                let scope: String
                if let selector = policy.spec["selector"] {
                    // Of an empty selector the data plane makes nothing.
                    let labels = selector["matchLabels"]?.stringMap ?? [:]
                    guard !labels.isEmpty, Self.selects(labels, pod.labels) else { continue }
                    scope = "selects it"
                } else {
                    scope = policy.namespace == self.rootNamespace ? "of the whole mesh" : "of its namespace"
                }
                let detail = Self.effect(policy).map { "\($0), " } ?? ""
                self.say(type.kind, "\(policy.key) (\(detail)\(scope); enforced by the node proxy)")
            }
        }
    }

    // MARK: a service

    package func service(_ service: KubeObject) async throws {
        let namespace = try await self.cluster.get(.namespaces, namespace: nil, name: service.namespace)
        self.output.line("Service: \(service.name).\(service.namespace)")
        for port in service.spec["ports"]?.array ?? [] {
            let number = port["port"]?.int ?? 0
            let target = port["targetPort"]?.int.map(String.init) ?? port["targetPort"]?.string ?? String(number)
            let kind = port["appProtocol"]?.string ?? port["protocol"]?.string ?? "TCP"
            self.say("Port", "\(port["name"]?.string ?? "-") \(number)/\(kind), port \(target) of the pods")
        }
        let waypoint = try await self.binding(of: service, namespace, serving: ["service", "all"])
        try await self.routes(of: service)
        try await self.servicePolicies(service, waypoint)
    }

    private func routes(of service: KubeObject) async throws {
        for versions in Self.routeTypes {
            for route in try await self.all(versions) {
                let parents = (route.spec["parentRefs"]?.array ?? []).filter {
                    Self.isReference($0, of: route, to: service)
                }
                guard !parents.isEmpty else { continue }
                let ports = parents.compactMap { $0["port"]?.int.map(String.init) }
                var words = route.key
                if !ports.isEmpty { words += " (port \(ports.joined(separator: ", ")))" }
                if route.namespace != service.namespace { words += " for clients in \(route.namespace)" }
                let statuses = (route.status["parents"]?.array ?? []).filter { parent in
                    parent["parentRef"].map { Self.isReference($0, of: route, to: service) } ?? false
                }
                let bad = statuses.flatMap { $0["conditions"]?.array ?? [] }.filter {
                    ["Accepted", "ResolvedRefs"].contains($0["type"]?.string) && $0["status"]?.string != "True"
                }
                words += statuses.isEmpty ? ": nobody has accepted it yet" : bad.isEmpty ? ": accepted" : ""
                for condition in bad { words += ": " + Self.words(condition) }
                self.say(route.kind, words)
            }
        }
    }

    private static func isReference(_ parent: JSONValue, of route: KubeObject, to service: KubeObject) -> Bool {
        parent["kind"]?.string == "Service" && parent["name"]?.string == service.name
            && (parent["namespace"]?.string ?? route.namespace) == service.namespace
    }

    private func servicePolicies(_ service: KubeObject, _ waypoint: (namespace: String, name: String)?) async throws {
        for type in Self.attachedTypes {
            for policy in try await self.all([type]) {
                let scopes = Self.targets(policy).compactMap { target -> String? in
                    let name = target["name"]?.string
                    switch target["kind"]?.string {
                    case "Service":
                        return policy.namespace == service.namespace && name == service.name ? "attached to it" : nil
                    case "Gateway":
                        guard let waypoint, policy.namespace == waypoint.namespace, name == waypoint.name else {
                            return nil
                        }
                        return "attached to its waypoint"
                    case "GatewayClass":
                        guard waypoint != nil, policy.namespace == self.rootNamespace, name == Waypoint.className else {
                            return nil
                        }
                        return "attached to all waypoints"
                    default: return nil
                    }
                }
                guard let scope = scopes.first else { continue }
                let detail = Self.effect(policy).map { "\($0), " } ?? ""
                let enforced =
                    waypoint == nil ? "NOT enforced: there is no waypoint" : "enforced by the waypoint"
                self.say(type.kind, "\(policy.key) (\(detail)\(scope); \(enforced))")
                for condition in policy.status["conditions"]?.array ?? [] where condition["status"]?.string != "True" {
                    self.output.line("      \(Self.words(condition))")
                }
            }
        }
    }

    // MARK: waypoints

    /// Says which waypoint the labels lead to and what became of it.
    @discardableResult
    private func binding(
        of object: KubeObject, _ namespace: KubeObject, serving types: Set<String>
    ) async throws -> (namespace: String, name: String)? {
        let carrier = object.labels[Waypoint.useLabel] != nil ? object : namespace
        guard let name = carrier.labels[Waypoint.useLabel] else {
            self.say("Waypoint", "none")
            return nil
        }
        let origin = carrier == object ? "its label" : "label of the namespace"
        guard name != Waypoint.reservedName else {
            self.say("Waypoint", "none (\(origin) says so)")
            return nil
        }
        let home = carrier.labels[Waypoint.useNamespaceLabel] ?? object.namespace
        let title = "\(home)/\(name) (\(origin))"
        guard let gateway = try await self.cluster.find(.gateways, namespace: home, name: name) else {
            self.say(
                "Waypoint",
                "\(title): it does not exist; make it with: martlet waypoint apply -n \(home) --name \(name)")
            return nil
        }
        let traffic = gateway.labels[Waypoint.forLabel] ?? "service"
        guard types.contains(traffic) else {
            // A namespace's waypoint for services is nothing that a pod misses.
            let isOwn = carrier == object || object.kind == "Service"
            self.say(
                "Waypoint", isOwn ? "\(title): NOT used, it is for traffic of type \(traffic)" : "none for its address")
            return nil
        }
        let condition = GatewayCondition(of: gateway)
        let bound = object.status["conditions"]?.array?.first { $0["type"]?.string == "istio.io/WaypointBound" }
        self.say("Waypoint", "\(title): \(condition.isProgrammed ? "programmed" : condition.trouble)")
        if let bound { self.output.line("      \(Self.words(bound))") }
        return (home, name)
    }

    // MARK: helpers

    /// Of all namespaces, by the first version that is served; none when the cluster does not have the kind.
    private func all(_ versions: [ResourceType]) async throws -> [KubeObject] {
        for type in versions {
            do {
                return try await self.cluster.list(type).items
                    .sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
            } catch let error as StatusError where error.isNotFound {
                continue
            }
        }
        return []
    }

    private func say(_ title: String, _ text: String) { self.output.line("   \(title): \(text)") }

    private static func selects(_ selector: [String: String], _ labels: [String: String]) -> Bool {
        !selector.isEmpty && selector.allSatisfy { labels[$0.key] == $0.value }
    }

    private static func targets(_ policy: KubeObject) -> [JSONValue] {
        (policy.spec["targetRefs"]?.array ?? []) + (policy.spec["targetRef"].map { [$0] } ?? [])
    }

    /// `DENY`, `STRICT`; nil for a kind that has no such word.
    private static func effect(_ policy: KubeObject) -> String? {
        switch policy.kind {
        case "AuthorizationPolicy": policy.spec["action"]?.string ?? "ALLOW"
        case "PeerAuthentication": policy.spec.at("mtls", "mode")?.string ?? "UNSET"
        default: nil
        }
    }

    private static func words(_ condition: JSONValue) -> String {
        let message = condition["message"]?.string.map { ": \($0)" } ?? ""
        return "\(condition["type"]?.string ?? "?") is \(condition["status"]?.string ?? "?") "
            + "(\(condition["reason"]?.string ?? "?"))\(message)"
    }
}
