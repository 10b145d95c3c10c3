internal import KubeAPI
internal import MeshControl
internal import MeshProto
internal import MeshXDS

/// A generated cluster, its index, and an xDS snapshot with one wildcard client.
final class Bench {
    enum Change: String, CaseIterable {
        case podAddress = "one pod gets another address"
        case podReady = "one pod becomes unready, or ready again"
        case serviceSelector = "one service selects other pods"
        case policy = "one policy for an application changes"
        case waypoint = "one namespace gets a waypoint, or loses it"
    }

    private let size: Size
    private let index = MeshIndex(MeshSettings())
    private var snapshot = XDSSnapshot()
    private var session: XDSSession
    private var changed: [String: EncodedResource?] = [:]
    private var changedPolicies: [String: EncodedResource?] = [:]
    private var round = 0

    init(_ size: Size) {
        self.size = size
        var nonces = 0
        self.session = XDSSession {
            nonces += 1
            return String(nonces)
        }
        self.index.workloads.observe { [unowned self] in
            for change in $0 {
                self.changed.updateValue(change.new.map { EncodedResource(.workload($0)) }, forKey: change.key)
            }
        }
        self.index.meshServices.observe { [unowned self] in
            for change in $0 {
                self.changed.updateValue(change.new.map { EncodedResource(.service($0)) }, forKey: change.key)
            }
        }
        self.index.policies.observe { [unowned self] in
            for change in $0 {
                self.changedPolicies.updateValue(change.new.map { EncodedResource($0) }, forKey: change.key)
            }
        }
    }

    private static func time(_ body: () -> Void) -> Duration { ContinuousClock().measure(body) }

    /// Objects as the API gives them, turned into what the mesh reads of them.
    func feed() -> Duration {
        Self.time {
            for number in 0..<self.size.namespaces {
                let object = KubeObject(.namespaces, name: "ns-\(number)")
                self.index.namespaces.set(object.key, NamespaceView(object))
            }
            for number in 0..<self.size.nodes {
                let object = KubeObject(
                    .nodes, name: "node-\(number)",
                    labels: ["topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z\(number % 3)"])
                self.index.nodes.set(object.key, NodeView(object))
            }
            for number in 0..<self.size.services {
                let object = Generated.service(number, namespaces: self.size.namespaces)
                self.index.services.set(object.key, ServiceView(object))
            }
            for number in 0..<self.size.workloads {
                let object = self.pod(number)
                self.index.pods.set(object.key, PodView(object))
            }
            self.setPolicy(port: 80)
        }
    }

    private func pod(_ number: Int, address: Int? = nil, isReady: Bool = true) -> KubeObject {
        Generated.pod(number, address: address ?? number, isReady: isReady, self.size)
    }

    private func setPolicy(port: Int) {
        let object = Generated.policy(port: port)
        self.index.authorizationPolicies.set(object.key, PolicyView(object))
    }

    /// Everything derived once, and every resource encoded.
    func build() -> Duration { Self.time { self.index.settle() } }

    func publish() -> Duration { Self.time { self.advance() } }

    private func advance() {
        self.snapshot.advance([XDSType.address: self.changed, XDSType.authorization: self.changedPolicies])
        self.changed = [:]
        self.changedPolicies = [:]
    }

    func connect() -> Duration {
        Self.time {
            for type in [XDSType.address, XDSType.authorization] {
                var request = XDSSession.Request()
                request.node.id = "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local"
                request.typeURL = type
                _ = try? self.session.receive(request, self.snapshot)
            }
        }
    }

    /// From the changed object to the answer for one client, without the debounce.
    func measure(_ change: Change, rounds: Int) -> (median: Duration, worst: Duration, resources: Int) {
        var times: [Duration] = []
        var resources = 0
        for _ in 0..<rounds {
            self.round += 1
            let apply = self.prepare(change)
            times.append(
                Self.time {
                    apply()
                    self.index.settle()
                    self.advance()
                    let responses = (try? self.session.push(self.snapshot)) ?? []
                    resources = responses.reduce(0) { $0 + $1.resources.count + $1.removedResources.count }
                })
        }
        times.sort()
        return (times[times.count / 2], times[times.count - 1], resources)
    }

    private func prepare(_ change: Change) -> () -> Void {
        let round = self.round
        switch change {
        case .podAddress:
            let object = self.pod(round * 97 % self.size.workloads, address: 8_000_000 + round)
            return { self.index.pods.set(object.key, PodView(object)) }
        case .podReady:
            let object = self.pod(7, isReady: round % 2 == 0)
            return { self.index.pods.set(object.key, PodView(object)) }
        case .serviceSelector:
            let number = round % self.size.services
            let object = Generated.service(
                number, namespaces: self.size.namespaces, selecting: (number + self.size.namespaces * round))
            return { self.index.services.set(object.key, ServiceView(object)) }
        case .policy: return { self.setPolicy(port: 80 + round) }
        case .waypoint:
            let labels = round % 2 == 0 ? [:] : ["istio.io/use-waypoint": "w"]
            let gateway = Generated.waypoint()
            let namespace = KubeObject(.namespaces, name: "ns-0", labels: labels)
            return {
                self.index.gateways.set(gateway.key, GatewayView(gateway))
                self.index.namespaces.set(namespace.key, NamespaceView(namespace))
            }
        }
    }
}

/// Objects as a busy cluster has them.
enum Generated {
    static func app(_ service: Int) -> String { "app-\(service)" }

    static func service(_ number: Int, namespaces: Int, selecting: Int? = nil) -> KubeObject {
        KubeObject(
            .services, namespace: "ns-\(number % namespaces)", name: "svc-\(number)",
            labels: ["app": app(number), "team": "t\(number % 17)"],
            [
                "spec": [
                    "clusterIP": .string("10.\(128 + number / 65536).\(number / 256 % 256).\(number % 256)"),
                    "ports": [
                        ["name": "http", "port": 80, "targetPort": 8080],
                        ["name": "grpc", "port": 9090, "targetPort": "grpc"],
                    ],
                    "selector": ["app": .string(app(selecting ?? number))],
                ]
            ])
    }

    static func pod(_ number: Int, address: Int, isReady: Bool, _ size: Size) -> KubeObject {
        let service = number % size.services
        let name = "app-\(service)-7d4b9c\(service % 10)-\(number)"
        var pod = KubeObject(
            .pods, namespace: "ns-\(service % size.namespaces)", name: name,
            labels: [
                "app": app(service), "pod-template-hash": "7d4b9c\(service % 10)", "version": "v1",
                "team": "t\(service % 17)",
            ],
            annotations: ["ambient.istio.io/redirection": "enabled"],
            [
                "spec": [
                    "serviceAccountName": .string("sa-\(service)"), "nodeName": .string("node-\(number % size.nodes)"),
                    "containers": [
                        ["name": "c", "ports": [["name": "grpc", "containerPort": 9090]]]
                    ],
                ],
                "status": [
                    "phase": "Running",
                    "conditions": [["type": "Ready", "status": isReady ? "True" : "False"]],
                    "podIPs": [
                        ["ip": .string("10.\(address / 65536 % 128).\(address / 256 % 256).\(address % 256)")]
                    ],
                ],
            ])
        pod.json.set(["metadata", "uid"], to: .string("uid-\(number)"))
        pod.json.set(["metadata", "generateName"], to: .string("app-\(service)-7d4b9c-"))
        return pod
    }

    static func policy(port: Int) -> KubeObject {
        KubeObject(
            .authorizationPolicies, namespace: "ns-0", name: "policy",
            [
                "spec": [
                    "selector": ["matchLabels": ["app": "app-0"]],
                    "rules": [["to": [["operation": ["ports": [.string(String(port % 60000))]]]]]],
                ]
            ])
    }

    static func waypoint() -> KubeObject {
        KubeObject(
            .gateways, namespace: "ns-0", name: "w", labels: ["istio.io/waypoint-for": "all"],
            [
                "spec": [
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [["name": "mesh", "port": 15008, "protocol": "HBONE"]],
                ],
                "status": ["addresses": [["type": "Hostname", "value": "w.ns-0.svc.cluster.local"]]],
            ])
    }
}
