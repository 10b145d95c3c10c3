import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("Waypoints")
struct WaypointTests {
    static let hostname = GatewayAddress(
        destination: .hostname(NamespacedName(namespace: "ns1", name: "waypoint.example")), hbonePort: 15008)
    static let use = ["istio.io/use-waypoint": "w"]

    static func labelled(_ service: KubeObject, _ labels: [String: String]) -> KubeObject {
        var service = service
        service.json.set(["metadata", "labels"], to: JSONValue(labels))
        return service
    }
    static func service(_ labels: [String: String]) -> KubeObject { Self.labelled(Make.service("s"), labels) }
    static func namespace(_ labels: [String: String], annotations: [String: String] = [:]) -> KubeObject {
        KubeObject(.namespaces, name: "ns1", labels: labels, annotations: annotations)
    }
    static func bound(_ mesh: Mesh) -> MeshModel.Service? { mesh.service("s.ns1.svc.company.com") }
    static func status(_ mesh: Mesh) -> StatusCondition? { mesh.index.serviceStatuses["ns1/s"]?.conditions.first }

    /// An address at which nobody is.
    static func nowhere(_ host: String, in namespace: String = "ns1") -> GatewayAddress {
        GatewayAddress(destination: .hostname(NamespacedName(namespace: namespace, name: host)), hbonePort: 15008)
    }
    /// Without what only waypoints are told.
    static func toClients(_ events: Set<String>) -> Set<String> {
        events.filter { !$0.hasPrefix("rules ") && !$0.hasPrefix("waypoint ") }
    }
    static let nowhereYet = Self.nowhere("w.ns1.svc.company.com")

    @Test(
        "37, 38: without an address nobody is served past it and the status says so; a host name is better than an address"
    )
    func readiness() {
        let mesh = Mesh()
        mesh.set(Make.gateway("w", addresses: nil), Self.service(Self.use))
        #expect(Self.bound(mesh)?.waypoint == Self.nowhereYet)
        #expect(Self.status(mesh)?.isTrue == false && Self.status(mesh)?.reason == "WaypointIsNotReady")
        #expect(Self.toClients(mesh.set(Make.gateway("w"))) == ["ns1/s.ns1.svc.company.com"])
        #expect(Self.bound(mesh)?.waypoint == Self.hostname)
        #expect(Self.status(mesh)?.isTrue == true && Self.status(mesh)?.message.contains("ns1/w") == true)
        mesh.set(Make.gateway("w", addresses: [["value": "10.0.0.200"]]))
        let address = NetworkAddress(network: "testnetwork", address: IPAddress("10.0.0.200")!)
        #expect(Self.bound(mesh)?.waypoint?.destination == .address(address))
        mesh.remove(Make.gateway("w"))
        #expect(Self.bound(mesh)?.waypoint == Self.nowhereYet && Self.status(mesh)?.reason == "WaypointIsNotReady")
    }

    @Test("a waypoint that is deployed under another name is not there under that name")
    func pendingName() {
        let mesh = Mesh()
        mesh.set(
            Make.gateway("w", annotations: ["gateway.istio.io/name-override": "other"], addresses: nil),
            Self.service(Self.use))
        #expect(Self.bound(mesh)?.waypoint == Self.nowhere("other.ns1.svc.company.com"))
    }

    @Test("48: an address that comes and is the promised name changes nothing for clients")
    func promised() {
        let mesh = Mesh()
        mesh.set(Self.service(Self.use))
        let name: JSONValue = [["type": "Hostname", "value": "w.ns1.svc.company.com"]]
        #expect(Self.toClients(mesh.set(Make.gateway("w", addresses: name))) == [])
        #expect(Self.status(mesh)?.reason == "WaypointAccepted")
        #expect(Self.toClients(mesh.remove(Make.gateway("w"))) == [])
        #expect(Self.status(mesh)?.reason == "WaypointIsNotReady")
    }

    @Test("a waypoint that does not take a kind of traffic does not keep it from others, ready or not")
    func notItsTraffic() {
        let mesh = Mesh()
        mesh.set(
            Self.namespace(Self.use), Self.service([:]), Make.pod("inherits"),
            Make.pod("names", labels: ["istio.io/use-waypoint": "w"]))
        func refused(_ traffic: String?) -> [Bool] {
            if let traffic {
                mesh.set(Make.gateway("w", labels: ["istio.io/waypoint-for": traffic], addresses: nil))
            }
            return [Self.bound(mesh)?.waypoint, mesh.workload("inherits")?.waypoint, mesh.workload("names")?.waypoint]
                .map { $0 != nil }
        }
        // Nobody knows what a waypoint that does not exist would take: most take services.
        #expect(refused(nil) == [true, false, true])
        #expect(refused("service") == [true, false, false])
        #expect(refused("workload") == [false, true, true])
        #expect(refused("all") == [true, true, true])
        #expect(refused("none") == [false, false, false])
        #expect(refused("future") == [true, true, true])
    }

    @Test("the pods of a waypoint that is not ready stand behind no waypoint")
    func pendingInstance() {
        let mesh = Mesh()
        mesh.set(
            Self.namespace(Self.use), Make.gateway("w", labels: ["istio.io/waypoint-for": "all"], addresses: nil),
            Make.pod("p", labels: ["gateway.networking.k8s.io/gateway-name": "w"]), Make.pod("q"))
        #expect(mesh.workload("p")?.waypoint == nil && mesh.workload("q")?.waypoint == Self.nowhereYet)
    }

    @Test("40: the object's label beats its namespace's, also by failing; none means none and says nothing")
    func precedence() {
        let mesh = Mesh()
        mesh.set(Make.gateway("w"), Self.namespace(Self.use), Self.service([:]))
        #expect(Self.bound(mesh)?.waypoint == Self.hostname)
        mesh.set(Self.service(["istio.io/use-waypoint": "none"]))
        #expect(Self.bound(mesh)?.waypoint == nil && Self.status(mesh) == nil)
        for name in ["missing", ""] {
            mesh.set(Self.service(["istio.io/use-waypoint": name]))
            let stand = name.isEmpty ? "unnamed-waypoint.invalid" : "missing.ns1.svc.company.com"
            #expect(Self.bound(mesh)?.waypoint == Self.nowhere(stand))
            #expect(Self.status(mesh)?.reason == "WaypointIsNotReady")
        }
    }

    @Test("41: another namespace's waypoint has to admit it")
    func crossNamespace() throws {
        let mesh = Mesh()
        let labels = ["istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "infra"]
        mesh.set(Self.namespace(["team": "a"]), Self.service(labels))
        func reason(_ from: JSONValue?) -> String? {
            mesh.set(Make.gateway("w", namespace: "infra", from: from))
            return Self.status(mesh)?.reason
        }
        #expect(reason(nil) == "AttachmentDenied" && reason(["from": "Same"]) == "AttachmentDenied")
        // It would not know what to do with this service; past it the service's policies would not be asked.
        #expect(Self.bound(mesh)?.waypoint == Self.nowhere("w.waypoint-refuses.invalid", in: "infra"))
        #expect(reason(["from": "None"]) == "AttachmentDenied")
        #expect(reason(["from": "All"]) == "WaypointAccepted")
        #expect(reason(["from": "Selector", "selector": ["matchLabels": ["team": "a"]]]) == "WaypointAccepted")
        #expect(reason(["from": "Selector", "selector": ["matchLabels": ["team": "b"]]]) == "AttachmentDenied")
        let broken: JSONValue = ["matchExpressions": [["key": "team", "operator": "Like"]]]
        #expect(reason(["from": "Selector", "selector": broken]) == "AttachmentDenied")
    }

    @Test("9, 46: services need a waypoint for services, workloads one for workloads")
    func traffic() {
        let mesh = Mesh()
        mesh.set(Make.pod("p", labels: ["app": "a", "istio.io/use-waypoint": "w"]), Self.service(Self.use))
        mesh.set(
            Make.machine("direct", labels: Self.use, ["address": "1.1.1.1"]),
            Make.machine("plain", ["address": "1.1.1.2"]))
        for (traffic, service, workload) in [
            ("service", true, false), ("workload", false, true), ("all", true, true), ("none", false, false),
            ("future", false, false),
        ] {
            mesh.set(Make.gateway("w", labels: ["istio.io/waypoint-for": traffic]))
            // A word that we cannot read is no reason to serve anybody past the waypoint.
            let other = traffic == "future" ? Self.nowhere("w.waypoint-for-unknown.invalid") : nil
            #expect(Self.bound(mesh)?.waypoint == (service ? Self.hostname : other), "\(traffic)")
            #expect(mesh.workload("p")?.waypoint == (workload ? Self.hostname : other), "\(traffic)")
            if !service { #expect(Self.status(mesh)?.reason == "UnsupportedTrafficType") }
            let said = mesh.index.workloadEntryStatuses["ns1/direct"]?.conditions.first
            #expect(said?.reason == (workload ? "WaypointAccepted" : "UnsupportedTrafficType"))
        }
        // The class's word counts where the Gateway says nothing.
        mesh.set(
            KubeObject(.gatewayClasses, name: "istio-waypoint", labels: ["istio.io/waypoint-for": "workload"]),
            Make.gateway("w"))
        #expect(mesh.workload("p")?.waypoint == Self.hostname)
        // Inherited and of the wrong kind: no trouble.
        mesh.set(Make.gateway("w", labels: ["istio.io/waypoint-for": "service"]), Self.namespace(Self.use))
        #expect(mesh.index.workloadEntryStatuses["ns1/plain"] == nil)
    }

    @Test("10, 47: a waypoint's own pods have none, and take connections as its binding says")
    func instance() {
        let mesh = Mesh()
        mesh.set(
            Self.namespace(Self.use),
            KubeObject(
                .gatewayClasses, name: "istio-waypoint",
                annotations: ["ambient.istio.io/waypoint-inbound-binding": "PROXY/15088"]),
            Make.gateway("w", labels: ["istio.io/waypoint-for": "all"]),
            Make.pod("p", labels: ["gateway.networking.k8s.io/gateway-name": "w"]), Make.pod("q"))
        #expect(mesh.workload("p")?.waypoint == nil && mesh.workload("q")?.waypoint == Self.hostname)
        #expect(mesh.workload("p")?.applicationTunnel == ApplicationTunnel(handoff: .proxyProtocol, port: 15088))
        for nonsense in ["PROXY/x", "OTHER", "PROXY/1/2"] {
            mesh.set(Make.gateway("w", annotations: ["ambient.istio.io/waypoint-inbound-binding": nonsense]))
            #expect(mesh.workload("p")?.applicationTunnel == nil)
        }
    }

    @Test("47: with a binding, the listener on its port says who may attach")
    func bindingListener() {
        let mesh = Mesh()
        let labels = ["istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "infra"]
        mesh.set(
            Self.service(labels),
            Make.gateway(
                "w", namespace: "infra", annotations: ["ambient.istio.io/waypoint-inbound-binding": "PROXY/15088"],
                from: ["from": "All"], port: 15088, protocolName: "istio.io/PROXY"))
        #expect(Self.status(mesh)?.reason == "WaypointAccepted")
    }

    @Test("30: ingress: the label's value counts while a waypoint is attached")
    func ingress() {
        let mesh = Mesh()
        mesh.set(Make.gateway("w"))
        for (value, isOn) in [("true", true), ("1", true), ("false", false), ("maybe", false)] {
            mesh.set(Self.service(Self.use.merging(["istio.io/ingress-use-waypoint": value]) { $1 }))
            #expect(Self.bound(mesh)?.ingressUsesWaypoint == isOn, "\(value)")
            #expect(Self.status(mesh)?.message.contains(isOn ? "will traverse" : "set the label") == true)
        }
        mesh.set(Self.service(["istio.io/ingress-use-waypoint": "true"]))
        #expect(Self.bound(mesh)?.ingressUsesWaypoint == false)
    }

    @Test("43, 44: a canary takes its share; one that cannot keeps the primary alone and is explained")
    func canary() {
        let mesh = Mesh()
        mesh.set(Make.gateway("w"), Make.gateway("c", addresses: [["type": "Hostname", "value": "canary.example"]]))
        func weights(_ weight: String?, canary: String = "c") -> [UInt32]? {
            var service = Self.service(Self.use.merging(["istio.io/use-waypoint-canary": canary]) { $1 })
            if let weight {
                service.json.set(
                    ["metadata", "annotations"], to: ["istio.io/use-waypoint-canary-weight": .string(weight)])
            }
            mesh.set(service)
            return Self.bound(mesh)?.weightedWaypoints.map(\.weight)
        }
        #expect(weights("20") == [80, 20] && weights(nil) == [100, 0])
        #expect(Self.bound(mesh)?.waypoint == Self.hostname)
        for wrong in ["abc", "-1", "101"] {
            #expect(weights(wrong) == [])
            #expect(
                Self.status(mesh)?.isTrue == true && Self.status(mesh)?.message.contains("CanaryInvalidWeight") == true)
        }
        #expect(weights("20", canary: "w") == [] && Self.status(mesh)?.message.contains("CanarySameAsPrimary") == true)
        #expect(weights("20", canary: "x") == [] && Self.status(mesh)?.message.contains("WaypointIsNotReady") == true)
        // Inherited, unless the object names a waypoint of its own.
        mesh.set(
            Self.namespace(
                Self.use.merging(["istio.io/use-waypoint-canary": "c"]) { $1 },
                annotations: ["istio.io/use-waypoint-canary-weight": "30"]))
        mesh.set(Self.service([:]))
        #expect(Self.bound(mesh)?.weightedWaypoints.map(\.weight) == [70, 30])
        mesh.set(Self.service(Self.use))
        #expect(Self.bound(mesh)?.weightedWaypoints == [])
    }

    @Test("42: what only its namespace sees keeps to its namespace's waypoints")
    func namespaceVisible() {
        let mesh = Mesh()
        let far = ["istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "infra"]
        mesh.set(Make.gateway("w", namespace: "infra", from: ["from": "All"]), Make.gateway("w"))
        func entry(_ labels: [String: String], _ exportTo: JSONValue) -> String? {
            mesh.set(Make.entry("e", labels: labels) { $0.set(["spec", "exportTo"], to: exportTo) })
            return mesh.index.serviceEntryStatuses["ns1/e"]?.conditions.first?.reason
        }
        #expect(entry(far, ["."]) == "CrossNamespaceWaypointForbidden")
        #expect(mesh.service("a.example")?.waypoint == Self.nowhere("w.waypoint-refuses.invalid", in: "infra"))
        #expect(entry(Self.use, ["."]) == "WaypointAccepted" && entry(far, ["*"]) == "WaypointAccepted")
    }

    @Test("the Service of a waypoint stands behind none")
    func managed() {
        let mesh = Mesh()
        mesh.set(
            Make.gateway("w"), Self.namespace(Self.use),
            Self.service(["gateway.istio.io/managed": "istio.io-mesh-controller"]))
        #expect(Self.bound(mesh)?.waypoint == nil && Self.status(mesh) == nil)
    }

    @Test("49: only through the waypoint: its accounts, and who is behind it")
    func allowance() {
        let mesh = Mesh()
        let gateway = ["gateway.networking.k8s.io/gateway-name": "w"]
        mesh.set(Make.gateway("w"), Self.service(Self.use), Make.pod("p"), Make.pod("wp", labels: gateway))
        #expect(mesh.policies("p") == [])
        mesh.configure { $0.requiresWaypoints = true }
        let key = "ns1/istio_allow_waypoint_ns1_w"
        #expect(mesh.policies("p") == [key] && mesh.policies("wp") == [])
        let match = mesh.index.policies[key]?.rules.first?.clauses.first?.matches.first
        #expect(match?.principals == [.exact("cluster.local/ns/ns1/sa/sa1")])
    }
}

@Suite("Networks")
struct NetworkTests {
    static func remote(_ address: JSONValue, protocolName: String = "HBONE") -> KubeObject {
        Make.gateway(
            "remote", namespace: "istio-system", labels: ["topology.istio.io/network": "far"],
            annotations: ["gateway.istio.io/service-account": "eastwest"], className: "istio-remote",
            protocolName: protocolName, addresses: nil
        ) { $0.set(["spec", "addresses"], to: [address]) }
    }

    @Test("22: workloads of another network are reached through its gateway, by address or by name")
    func gateway() {
        let mesh = Mesh()
        mesh.set(Make.machine("m", ["address": "1.1.1.1", "network": "far"]))
        #expect(mesh.machine("m")?.networkGateway == nil)
        mesh.set(Self.remote(["type": "IPAddress", "value": "9.9.9.9"]))
        #expect(
            mesh.machine("m")?.networkGateway
                == GatewayAddress(
                    destination: .address(NetworkAddress(network: "far", address: IPAddress("9.9.9.9")!)),
                    hbonePort: 15008))
        let workload = mesh.index.workloads["NetworkGateway/far/9.9.9.9/15008"]
        #expect(workload?.network == "far" && workload?.serviceAccount == "eastwest")
        #expect(workload?.namespace == "istio-system" && workload?.tunnelProtocol == Workload.TunnelProtocol.none)
        mesh.set(Self.remote(["type": "Hostname", "value": "gw.example"]))
        #expect(
            mesh.machine("m")?.networkGateway?.destination
                == .hostname(NamespacedName(namespace: "istio-system", name: "gw.example")))
        #expect(mesh.index.workloads["NetworkGateway/far/gw.example/15008"]?.hostname == "gw.example")
        // Nobody there speaks HBONE.
        mesh.set(Self.remote(["type": "IPAddress", "value": "9.9.9.9"], protocolName: "TLS"))
        #expect(mesh.machine("m")?.networkGateway == nil)
        #expect(mesh.index.workloads["NetworkGateway/far/9.9.9.9/0"] != nil)
    }

    @Test("a pod's own label names its network")
    func podLabel() {
        let mesh = Mesh()
        mesh.set(
            Self.remote(["value": "9.9.9.9"]), Make.pod("near"),
            Make.pod("far", labels: ["app": "a", "topology.istio.io/network": "far"]),
            Make.pod("same", labels: ["topology.istio.io/network": "testnetwork"]))
        #expect(mesh.workload("near")?.network == "testnetwork" && mesh.workload("near")?.networkGateway == nil)
        #expect(mesh.workload("far")?.network == "far" && mesh.workload("far")?.networkGateway != nil)
        #expect(mesh.workload("same")?.networkGateway == nil)
    }

    @Test(
        "a pod's own label names its place, with dots for slashes",
        arguments: [
            "topology.istio.io/locality", "istio-locality",
        ])
    func locality(label: String) {
        let mesh = Mesh()
        mesh.set(
            KubeObject(.nodes, name: "node1", labels: ["topology.kubernetes.io/region": "other"]),
            Make.pod("p", labels: [label: "r.z.s"]), Make.pod("q", labels: [label: "r"]))
        #expect(mesh.workload("p")?.locality == Locality(region: "r", zone: "z", subzone: "s"))
        #expect(mesh.workload("q")?.locality == Locality(region: "r"))
    }
}
