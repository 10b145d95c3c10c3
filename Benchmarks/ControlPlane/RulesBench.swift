internal import KubeAPI
internal import MeshControl
internal import MeshProto
internal import MeshXDS

/// Routes at services behind one waypoint, the waypoint's stream, and one route that changes.
final class RulesBench {
    private let routes: Int
    private let services: Int
    private let index = MeshIndex(MeshSettings())
    private var snapshot = XDSSnapshot()
    private var session: XDSSession
    private var changed: [String: EncodedResource?] = [:]
    private var bytes = 0

    /// - Parameter services: over which the routes are spread.
    init(routes: Int, services: Int) {
        self.routes = routes
        self.services = services
        var nonces = 0
        self.session = XDSSession(for: .waypoint("ns/w")) {
            nonces += 1
            return String(nonces)
        }
        self.index.serviceRules.observe { [unowned self] in
            for change in $0 {
                let resource = change.new.map { EncodedResource($0.rules, for: $0.waypoints) }
                self.changed.updateValue(resource, forKey: change.key)
            }
        }
    }

    /// Everything listed once, as at a start.
    func build() -> Duration {
        let gatewayClass = KubeObject(
            .gatewayClasses, name: "istio-waypoint",
            ["spec": ["controllerName": .string(GatewayClassView.waypointController)]])
        self.index.gatewayClasses.set(gatewayClass.key, GatewayClassView(gatewayClass))
        let gateway = KubeObject(
            .gateways, namespace: "ns", name: "w",
            [
                "spec": [
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [["name": "mesh", "port": 15008, "protocol": "HBONE"]],
                ],
                "status": ["addresses": [["type": "Hostname", "value": "w.ns.svc.cluster.local"]]],
            ])
        self.index.gateways.set(gateway.key, GatewayView(gateway))
        let namespace = KubeObject(.namespaces, name: "ns", labels: ["istio.io/use-waypoint": "w"])
        self.index.namespaces.set(namespace.key, NamespaceView(namespace))
        return ContinuousClock().measure {
            for number in 0..<self.services {
                let service = KubeObject(
                    .services, namespace: "ns", name: "s\(number)",
                    [
                        "spec": [
                            "clusterIP": .string("10.0.\(number / 250).\(number % 250 + 1)"), "ports": [["port": 80]],
                        ]
                    ])
                self.index.services.set(service.key, ServiceView(service))
            }
            for number in 0..<self.routes { self.set(number, version: 0) }
            self.index.settle()
            self.advance()
            var request = XDSSession.Request()
            request.node.id = "waypoint~10.0.0.1~w.ns~ns.svc.cluster.local"
            request.typeURL = XDSType.serviceRules
            _ = try? self.session.receive(request, self.snapshot)
        }
    }

    private func set(_ number: Int, version: Int) {
        let service = "s\(number % self.services)"
        let route = KubeObject(
            .httpRoutes, namespace: "ns", name: "r\(number)",
            [
                "spec": [
                    "parentRefs": [["group": "", "kind": "Service", "name": .string(service)]],
                    "rules": [
                        [
                            "matches": [
                                [
                                    "path": ["type": "PathPrefix", "value": .string("/app/\(number)")],
                                    "headers": [["name": "x-version", "value": .string(String(version))]],
                                ]
                            ],
                            "backendRefs": [["name": .string(service), "port": 80]],
                        ]
                    ],
                ]
            ])
        self.index.routes[.http]?.set(route.key, RouteView(.http, route))
    }

    private func advance() {
        self.bytes = self.changed.values.reduce(0) { $0 + ($1?.message.resource.value.count ?? 0) }
        self.snapshot.advance([XDSType.serviceRules: self.changed])
        self.changed = [:]
    }

    /// From the changed object to the answer for the waypoint, without the pace at which rules are published.
    func measure(rounds: Int) -> (median: Duration, worst: Duration, bytes: Int) {
        var times: [Duration] = []
        for round in 1...rounds {
            times.append(
                ContinuousClock().measure {
                    self.set(round * 97 % self.routes, version: round)
                    self.index.settle()
                    self.advance()
                    _ = try? self.session.push(self.snapshot)
                })
        }
        times.sort()
        return (times[times.count / 2], times[times.count - 1], self.bytes)
    }
}
