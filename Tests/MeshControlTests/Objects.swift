import KubeAPI
import MeshControl
import MeshModel

/// Objects as a cluster would have them, with as little as a test needs.
enum Make {
    static func pod(
        _ name: String, namespace: String = "ns1", ip: String? = "127.0.0.1", phase: String = "Running",
        isReady: Bool = true, labels: [String: String] = ["app": "a"], annotations: [String: String] = [:],
        node: String = "node1", ports: [String: Int] = [:], change: (inout JSONValue) -> Void = { _ in }
    ) -> KubeObject {
        var pod = KubeObject(
            .pods, namespace: namespace, name: name, labels: labels, annotations: annotations,
            [
                "spec": [
                    "serviceAccountName": "sa1", "nodeName": .string(node),
                    "containers": [
                        [
                            "name": "c",
                            "ports": .array(
                                ports.map { ["name": .string($0.key), "containerPort": .int(Int64($0.value))] }),
                        ]
                    ],
                ],
                "status": [
                    "phase": .string(phase),
                    "conditions": [["type": "Ready", "status": isReady ? "True" : "False"]],
                ],
            ])
        pod.json.set(["metadata", "uid"], to: .string("uid-\(name)"))
        if let ip { pod.json.set(["status", "podIP"], to: .string(ip)) }
        change(&pod.json)
        return pod
    }

    static func service(
        _ name: String, namespace: String = "ns1", ip: String = "10.0.0.1", selector: [String: String] = ["app": "a"],
        ports: JSONValue = [["name": "http", "port": 80, "targetPort": 8080]],
        annotations: [String: String] = [:], change: (inout JSONValue) -> Void = { _ in }
    ) -> KubeObject {
        var service = KubeObject(
            .services, namespace: namespace, name: name, annotations: annotations,
            ["spec": ["clusterIP": .string(ip), "ports": ports, "selector": JSONValue(selector)]])
        change(&service.json)
        return service
    }

    static func policy(
        _ name: String, namespace: String = "ns1", annotations: [String: String] = [:], _ spec: JSONValue
    )
        -> KubeObject
    {
        KubeObject(.authorizationPolicies, namespace: namespace, name: name, annotations: annotations, ["spec": spec])
    }

    static func entry(
        _ name: String, namespace: String = "ns1", hosts: [String] = ["a.example"], resolution: String = "STATIC",
        addresses: [String] = [], ports: JSONValue = [["number": 80, "name": "http", "protocol": "HTTP"]],
        endpoints: JSONValue? = nil, selector: [String: String]? = nil, labels: [String: String] = [:],
        annotations: [String: String] = [:], allocated: [(host: String, value: String)] = [],
        createdAt: String = "2026-01-01T00:00:00Z", change: (inout JSONValue) -> Void = { _ in }
    ) -> KubeObject {
        var spec: JSONValue = [
            "hosts": JSONValue(hosts), "resolution": .string(resolution), "ports": ports,
            "addresses": JSONValue(addresses),
        ]
        spec["endpoints"] = endpoints
        if let selector { spec["workloadSelector"] = ["labels": JSONValue(selector)] }
        var entry = KubeObject(
            .serviceEntries, namespace: namespace, name: name, labels: labels, annotations: annotations,
            ["spec": spec])
        entry.json.set(["metadata", "creationTimestamp"], to: .string(createdAt))
        entry.json.set(["metadata", "generation"], to: 7)
        if !allocated.isEmpty {
            entry.json.set(
                ["status", "addresses"],
                to: .array(allocated.map { ["host": .string($0.host), "value": .string($0.value)] }))
        }
        change(&entry.json)
        return entry
    }

    static func machine(
        _ name: String, namespace: String = "ns1", labels: [String: String] = [:],
        annotations: [String: String] = [:], _ spec: JSONValue
    ) -> KubeObject {
        KubeObject(
            .workloadEntries, namespace: namespace, name: name, labels: labels, annotations: annotations,
            ["spec": spec])
    }

    /// A waypoint with an address unless told otherwise.
    static func gateway(
        _ name: String, namespace: String = "ns1", labels: [String: String] = [:],
        annotations: [String: String] = [:], className: String = "istio-waypoint", from: JSONValue? = nil,
        port: Int64 = 15008, protocolName: String = "HBONE",
        addresses: JSONValue? = [
            ["type": "IPAddress", "value": "10.0.0.200"], ["type": "Hostname", "value": "waypoint.example"],
        ], change: (inout JSONValue) -> Void = { _ in }
    ) -> KubeObject {
        var listener: JSONValue = [
            "name": "mesh", "port": .int(port), "protocol": .string(protocolName),
        ]
        if let from { listener["allowedRoutes"] = ["namespaces": from] }
        var gateway = KubeObject(
            .gateways, namespace: namespace, name: name, labels: labels, annotations: annotations,
            ["spec": ["gatewayClassName": .string(className), "listeners": [listener]]])
        if let addresses { gateway.json.set(["status", "addresses"], to: addresses) }
        change(&gateway.json)
        return gateway
    }

    static func route(
        _ name: String, kind: ResourceType = .httpRoutes, namespace: String = "ns1", parents: JSONValue? = nil,
        createdAt: String = "2026-01-01T00:00:00Z", hostnames: [String] = [], _ rules: JSONValue
    ) -> KubeObject {
        let service: JSONValue = [["group": "", "kind": "Service", "name": "s"]]
        var spec: JSONValue = ["parentRefs": parents ?? service, "rules": rules]
        if !hostnames.isEmpty { spec["hostnames"] = JSONValue(hostnames) }
        var route = KubeObject(kind, namespace: namespace, name: name, ["spec": spec])
        route.json.set(["metadata", "creationTimestamp"], to: .string(createdAt))
        route.json.set(["metadata", "generation"], to: 4)
        return route
    }

    static func peer(
        _ name: String, namespace: String = "ns1", mode: String?, ports: [String: String] = [:],
        selector: [String: String]? = nil, createdAt: String = "2026-01-01T00:00:00Z"
    ) -> KubeObject {
        var spec: JSONValue = [:]
        if let mode { spec["mtls"] = ["mode": .string(mode)] }
        if !ports.isEmpty { spec["portLevelMtls"] = .object(ports.mapValues { ["mode": .string($0)] }) }
        if let selector { spec["selector"] = ["matchLabels": JSONValue(selector)] }
        var peer = KubeObject(.peerAuthentications, namespace: namespace, name: name, ["spec": spec])
        peer.json.set(["metadata", "creationTimestamp"], to: .string(createdAt))
        return peer
    }
}

/// An index with the settings of the acceptance cases, and what changed in each round.
final class Mesh {
    let index: MeshIndex
    private(set) var events: Set<String> = []

    init() {
        var settings = MeshSettings()
        settings.clusterID = "cluster0"
        settings.domainSuffix = "company.com"
        settings.waypoints.image = "hub/martlet:1"
        settings.waypoints.envoyImage = "hub/proxy:1"
        self.index = MeshIndex(settings)
        self.index.workloads.observe { [unowned self] in self.events.formUnion($0.map(\.key)) }
        self.index.meshServices.observe { [unowned self] in self.events.formUnion($0.map(\.key)) }
        self.index.policies.observe { [unowned self] in self.events.formUnion($0.map(\.key)) }
        self.index.serviceRules.observe { [unowned self] in self.events.formUnion($0.map { "rules \($0.key)" }) }
        self.index.envoyResources.observe { [unowned self] in self.events.formUnion($0.map { "envoy \($0.key)" }) }
        self.index.waypointRules.observe { [unowned self] in self.events.formUnion($0.map { "waypoint \($0.key)" }) }
        self.set(
            KubeObject(
                .namespaces, name: "istio-system", labels: ["topology.istio.io/network": "testnetwork"]))
    }

    /// Applies objects and answers the names that changed.
    @discardableResult
    func set(_ objects: KubeObject...) -> Set<String> {
        self.events = []
        for object in objects { self.feed(object) }
        self.index.settle()
        return self.events
    }

    private func feed(_ object: KubeObject) {
        switch object.kind {
        case "Pod": self.index.pods.set(object.key, PodView(object))
        case "Service": self.index.services.set(object.key, ServiceView(object))
        case "Namespace": self.index.namespaces.set(object.key, NamespaceView(object))
        case "Node": self.index.nodes.set(object.key, NodeView(object))
        case "EndpointSlice": self.index.slices.set(object.key, SliceView(object))
        case "ServiceEntry": self.index.serviceEntries.set(object.key, ServiceEntryView(object))
        case "WorkloadEntry": self.index.workloadEntries.set(object.key, WorkloadEntryView(object))
        case "Gateway": self.index.gateways.set(object.key, GatewayView(object))
        case "GatewayClass": self.index.gatewayClasses.set(object.key, GatewayClassView(object))
        case "ConfigMap": self.index.overlays.set(object.key, OverlayView(object))
        case "AuthorizationPolicy": self.index.authorizationPolicies.set(object.key, PolicyView(object))
        case "PeerAuthentication":
            self.index.peerAuthentications.set(object.key, PeerAuthenticationView(object))
        case "RequestAuthentication":
            self.index.requestAuthentications.set(object.key, RequestAuthenticationView(object))
        case "RateLimit": self.index.rateLimits.set(object.key, RateLimitView(object))
        case "DestinationRule": self.index.destinationRules.set(object.key, DestinationRuleView(object))
        case "VirtualService": self.index.virtualServices.set(object.key, VirtualServiceView(object))
        case "XBackendTrafficPolicy":
            self.index.backendTrafficPolicies.set(object.key, BackendTrafficPolicyView(object))
        case "Telemetry": self.index.telemetries.set(object.key, TelemetryView(object))
        default:
            guard let kind = RouteKind.allCases.first(where: { $0.name == object.kind }) else {
                preconditionFailure(object.kind)
            }
            self.index.routes[kind]?.set(object.key, RouteView(kind, object))
        }
    }

    /// Applies changes to the settings.
    func configure(_ change: (inout MeshSettings) -> Void) {
        var settings = self.index.settings[""] ?? MeshSettings()
        change(&settings)
        self.index.settings.set("", settings)
        self.index.settle()
    }

    /// Removes an object and answers the names that changed.
    @discardableResult
    func remove(_ object: KubeObject) -> Set<String> {
        self.events = []
        switch object.kind {
        case "Pod": self.index.pods.remove(object.key)
        case "Service": self.index.services.remove(object.key)
        case "ServiceEntry": self.index.serviceEntries.remove(object.key)
        case "WorkloadEntry": self.index.workloadEntries.remove(object.key)
        case "Gateway": self.index.gateways.remove(object.key)
        case "EndpointSlice": self.index.slices.remove(object.key)
        case "ConfigMap": self.index.overlays.remove(object.key)
        default:
            for (kind, routes) in self.index.routes where kind.name == object.kind { routes.remove(object.key) }
        }
        self.index.settle()
        return self.events
    }

    @discardableResult
    func removePeer(_ key: String) -> Set<String> {
        self.events = []
        self.index.peerAuthentications.remove(key)
        self.index.settle()
        return self.events
    }

    func workload(_ pod: String, namespace: String = "ns1") -> Workload? {
        self.index.workloads["cluster0//Pod/\(namespace)/\(pod)"]
    }

    func machine(_ name: String, namespace: String = "ns1") -> Workload? {
        self.index.workloads["cluster0/networking.istio.io/WorkloadEntry/\(namespace)/\(name)"]
    }

    func endpoint(_ entry: String, _ address: String, namespace: String = "ns1") -> Workload? {
        self.index.workloads["cluster0/networking.istio.io/ServiceEntry/\(namespace)/\(entry)/\(address)"]
    }

    func service(_ host: String, namespace: String = "ns1") -> MeshModel.Service? {
        self.index.meshServices["\(namespace)/\(host)"]
    }

    func policies(_ pod: String) -> [String] { self.workload(pod)?.authorizationPolicies.map(\.description) ?? ["-"] }
}
