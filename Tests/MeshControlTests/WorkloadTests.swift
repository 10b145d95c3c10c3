import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("Pods and workloads")
struct WorkloadTests {
    @Test("1: which phases give a workload, and its health")
    func phases() {
        let mesh = Mesh()
        mesh.set(Make.pod("p", ip: nil, phase: "Pending"))
        #expect(mesh.workload("p") == nil)
        mesh.set(Make.pod("p", phase: "Pending", isReady: false))
        #expect(mesh.workload("p")?.isHealthy == false)
        mesh.set(Make.pod("p", isReady: false))
        #expect(mesh.workload("p")?.isHealthy == false)
        mesh.set(Make.pod("p"))
        #expect(mesh.workload("p")?.isHealthy == true)
        for phase in ["Failed", "Succeeded"] {
            mesh.set(Make.pod("p", phase: phase))
            #expect(mesh.workload("p") == nil)
        }
    }

    @Test("2: a pod that is being deleted is unhealthy")
    func deleting() {
        let mesh = Mesh()
        mesh.set(Make.pod("p") { $0.set(["metadata", "deletionTimestamp"], to: "2026-01-01T00:00:00Z") })
        #expect(mesh.workload("p")?.isHealthy == false)
    }

    @Test("3: names come from the owner, without what a generation appends")
    func owners() {
        let cases: [(kind: String, owner: String, labels: [String: String], name: String)] = [
            ("ReplicaSet", "rs-xyz", ["pod-template-hash": "xyz"], "rs"),
            ("ReplicaSet", "rs-xyz", [:], "rs-xyz"),
            ("Job", "job-12345678", [:], "job"), ("Job", "job-1", [:], "job-1"),
            ("StatefulSet", "db", [:], "db"),
        ]
        for (kind, owner, labels, name) in cases {
            let mesh = Mesh()
            mesh.set(
                Make.pod("p", labels: labels) {
                    $0.set(["metadata", "generateName"], to: "x-")
                    $0.set(
                        ["metadata", "ownerReferences"],
                        to: [["kind": .string(kind), "name": .string(owner), "controller": true]])
                })
            let workload = mesh.workload("p")
            #expect(workload?.workloadName == name && workload?.canonicalName == name, "\(owner)")
            #expect(workload?.kind == .pod)
        }
    }

    @Test("4: canonical names from labels")
    func canonical() {
        let mesh = Mesh()
        mesh.set(Make.pod("p", labels: ["app": "foo"]))
        #expect(mesh.workload("p")?.canonicalName == "foo" && mesh.workload("p")?.canonicalRevision == "latest")
        mesh.set(
            Make.pod("p", labels: ["app": "foo", "app.kubernetes.io/name": "bar", "version": "v2"]))
        #expect(mesh.workload("p")?.canonicalName == "bar" && mesh.workload("p")?.canonicalRevision == "v2")
    }

    @Test("5: named target ports are the pod's; an unknown name drops that port only")
    func namedPorts() {
        let mesh = Mesh()
        mesh.set(
            Make.service(
                "s",
                ports: [
                    ["name": "a", "port": 80, "targetPort": "80-target"],
                    ["name": "b", "port": 81, "targetPort": "none"],
                ]),
            Make.pod("p", ports: ["80-target": 8080]))
        let key = NamespacedName(namespace: "ns1", name: "s.ns1.svc.company.com")
        #expect(mesh.workload("p")?.services == [key: [ServicePort(port: 80, targetPort: 8080)]])
    }

    @Test("7: locality from the node, if it is known")
    func locality() {
        let mesh = Mesh()
        mesh.set(
            KubeObject(
                .nodes, name: "node1",
                labels: [
                    "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z",
                    "topology.istio.io/subzone": "s",
                ]), Make.pod("p"), Make.pod("q", node: "other"))
        #expect(mesh.workload("p")?.locality == Locality(region: "r", zone: "z", subzone: "s"))
        #expect(mesh.workload("q")?.locality == Locality())
    }

    @Test("8, 61: selector policies of the own and the root namespace, sorted; wider ones are not listed")
    func policies() {
        let mesh = Mesh()
        let selector: JSONValue = ["selector": ["matchLabels": ["app": "a"]], "rules": [[:]]]
        mesh.set(
            Make.pod("p"), Make.pod("q", labels: ["app": "b"]), Make.policy("sel", selector),
            Make.policy("root", namespace: "istio-system", selector), Make.policy("wide", ["rules": [[:]]]))
        #expect(mesh.policies("p") == ["istio-system/root", "ns1/sel"])
        #expect(mesh.policies("q") == [])
        let changed = mesh.set(
            Make.policy("root", namespace: "istio-system", ["selector": ["matchLabels": ["app": "b"]], "rules": [[:]]]))
        #expect(changed == ["cluster0//Pod/ns1/p", "cluster0//Pod/ns1/q"])
        #expect(mesh.policies("p") == ["ns1/sel"] && mesh.policies("q") == ["istio-system/root"])
    }

    @Test("11: endpoints of a service without selector: the pod itself, or a workload of the slice")
    func slices() {
        func slice(_ target: JSONValue?) -> KubeObject {
            var endpoint: JSONValue = ["addresses": ["127.0.0.1"], "conditions": ["ready": true]]
            endpoint["targetRef"] = target
            return KubeObject(
                .endpointSlices, namespace: "ns1", name: "slice", labels: ["kubernetes.io/service-name": "s"],
                [
                    "addressType": "IPv4", "endpoints": [endpoint],
                    "ports": [["name": "http", "port": 8080, "protocol": "TCP"]],
                ])
        }
        let mesh = Mesh()
        mesh.set(Make.service("s", selector: [:]), Make.pod("p"))
        mesh.set(slice(["kind": "Pod", "name": "p", "namespace": "ns1", "uid": "uid-p"]))
        let key = NamespacedName(namespace: "ns1", name: "s.ns1.svc.company.com")
        #expect(mesh.workload("p")?.services[key]?.map(\.targetPort) == [8080])
        let uid = "cluster0/discovery.k8s.io/EndpointSlice/ns1/slice/127.0.0.1"
        #expect(mesh.index.workloads[uid] == nil)
        mesh.set(slice(nil))
        #expect(mesh.workload("p")?.services[key] == nil)
        #expect(mesh.index.workloads[uid]?.services[key]?.map(\.targetPort) == [8080])
        #expect(mesh.index.workloads[uid]?.networkMode == .hostNetwork)
    }

    @Test("12: host network")
    func hostNetwork() {
        let mesh = Mesh()
        mesh.set(
            Make.service("a"), Make.service("b"), Make.pod("p") { $0.set(["spec", "hostNetwork"], to: true) })
        #expect(mesh.workload("p")?.networkMode == .hostNetwork && mesh.workload("p")?.services.count == 2)
    }

    @Test("13: the API server")
    func apiServer() {
        let mesh = Mesh()
        mesh.set(
            Make.service(
                "kubernetes", namespace: "default", selector: [:],
                ports: [["name": "https", "port": 443, "targetPort": 6443]]),
            KubeObject(
                .endpointSlices, namespace: "default", name: "kubernetes",
                labels: ["kubernetes.io/service-name": "kubernetes"],
                [
                    "addressType": "IPv4", "endpoints": [["addresses": ["172.18.0.5"]]],
                    "ports": [["name": "https", "port": 6443, "protocol": "TCP"]],
                ]))
        let workload = mesh.index.workloads["cluster0/discovery.k8s.io/EndpointSlice/default/kubernetes/172.18.0.5"]
        #expect(workload?.isHealthy == true && workload?.networkMode == .hostNetwork)
        #expect(
            workload?.services[NamespacedName(namespace: "default", name: "kubernetes.default.svc.company.com")]
                == [ServicePort(port: 443, targetPort: 6443)])
    }

    @Test("16: a selector that no longer matches touches the service and its pods only")
    func selectorChange() {
        let mesh = Mesh()
        mesh.set(Make.service("s"), Make.pod("p"), Make.pod("other", labels: ["app": "x"]))
        let changed = mesh.set(Make.service("s", ip: "10.0.0.2", selector: ["app": "nobody"]))
        #expect(changed == ["ns1/s.ns1.svc.company.com", "cluster0//Pod/ns1/p"])
        #expect(mesh.set(Make.pod("p")).isEmpty)
    }

    @Test("17: a new network name reaches everything")
    func network() {
        let mesh = Mesh()
        mesh.set(Make.service("s"), Make.pod("p"))
        #expect(mesh.workload("p")?.network == "testnetwork")
        let changed = mesh.set(
            KubeObject(.namespaces, name: "istio-system", labels: ["topology.istio.io/network": "next"]))
        #expect(changed == ["ns1/s.ns1.svc.company.com", "cluster0//Pod/ns1/p"])
        #expect(mesh.workload("p")?.network == "next")
    }

    @Test("the tunnel: captured pods, and those that speak HBONE themselves")
    func tunnel() {
        let mesh = Mesh()
        mesh.set(
            Make.pod("plain", annotations: ["ambient.istio.io/redirection": "pending"]),
            Make.pod("captured", annotations: ["ambient.istio.io/redirection": "enabled"]),
            Make.pod("native", labels: ["networking.istio.io/tunnel": "x, http"]))
        #expect(mesh.workload("plain")?.tunnelProtocol == Workload.TunnelProtocol.none)
        #expect(
            mesh.workload("captured")?.tunnelProtocol == .hbone && mesh.workload("captured")?.isNativeTunnel == false)
        #expect(mesh.workload("native")?.tunnelProtocol == .hbone && mesh.workload("native")?.isNativeTunnel == true)
    }
}

@Suite("Services")
struct ServiceTests {
    static func service(
        _ change: (inout JSONValue) -> Void, annotations: [String: String] = [:], namespace: KubeObject? = nil
    )
        -> MeshModel.Service?
    {
        let mesh = Mesh()
        if let namespace { mesh.set(namespace) }
        mesh.set(Make.service("s", annotations: annotations, change: change))
        return mesh.index.meshServices["ns1/s.ns1.svc.company.com"]
    }

    @Test("25, 26, 27: addresses, canonical, protocols; headless and external names")
    func plain() {
        let plain = Self.service { _ in }
        #expect(plain?.addresses.map(\.description) == ["testnetwork/10.0.0.1"])
        #expect(
            plain?.isCanonical == true
                && plain?.ports == [ServicePort(port: 80, targetPort: 8080, appProtocol: .http11)])
        #expect(Self.service { $0.set(["spec", "clusterIPs"], to: ["10.0.0.1", "None", ""]) }?.addresses.count == 1)
        #expect(Self.service { $0.set(["spec", "clusterIP"], to: "None") }?.addresses.isEmpty == true)
        #expect(Self.service { $0.set(["spec", "type"], to: "ExternalName") } == nil)
    }

    @Test("28, 29: traffic distribution; nothing leaks from one service to another")
    func distribution() {
        typealias Scope = LoadBalancing.Scope
        let zone: [Scope] = [.network, .region, .zone]
        for value in ["PreferClose", "PreferSameZone"] {
            let balancing = Self.service { $0.set(["spec", "trafficDistribution"], to: .string(value)) }?.loadBalancing
            #expect(balancing?.routingPreference == zone && balancing?.mode == .failover)
        }
        let node = Self.service { $0.set(["spec", "trafficDistribution"], to: "PreferSameNode") }?.loadBalancing
        #expect(node?.routingPreference == zone + [.subzone, .node])
        let namespace = KubeObject(
            .namespaces, name: "ns1", annotations: ["networking.istio.io/traffic-distribution": "preferclose"])
        #expect(Self.service({ _ in }, namespace: namespace)?.loadBalancing.routingPreference == zone)
        let own = Self.service(
            { _ in }, annotations: ["networking.istio.io/traffic-distribution": "Any"], namespace: namespace)
        #expect(own?.loadBalancing == LoadBalancing())
        let all = Self.service {
            $0.set(["spec", "trafficDistribution"], to: "PreferSameZone")
            $0.set(["spec", "publishNotReadyAddresses"], to: true)
        }
        #expect(all?.loadBalancing.healthPolicy == .allowAll)
        let local = Self.service { $0.set(["spec", "internalTrafficPolicy"], to: "Local") }?.loadBalancing
        #expect(local?.routingPreference == [.node] && local?.mode == .strict)
    }

    @Test(
        "application protocols",
        arguments: [
            (#"{"name": "grpc-x", "port": 1}"#, ServicePort.AppProtocol.grpc),
            (#"{"name": "grpc-web-x", "port": 1}"#, .unknown), (#"{"name": "https", "port": 1}"#, .tls),
            (#"{"name": "TCP-db", "port": 1}"#, .tcp), (#"{"name": "foo", "port": 1}"#, .unknown),
            (#"{"port": 25}"#, .tcp), (#"{"port": 3306}"#, .unknown),
            (#"{"name": "http", "port": 1, "protocol": "UDP"}"#, .unknown),
            (#"{"name": "foo", "port": 1, "appProtocol": "kubernetes.io/h2c"}"#, .http2),
            (#"{"name": "http", "port": 1, "appProtocol": "GRPC"}"#, .grpc),
        ])
    func protocols(port text: String, expected: ServicePort.AppProtocol) throws {
        let port = try JSONValue(parsing: text)
        #expect(Self.service { $0.set(["spec", "ports"], to: [port]) }?.ports.map(\.appProtocol) == [expected])
    }
}
