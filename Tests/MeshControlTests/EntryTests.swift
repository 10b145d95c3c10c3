import KubeAPI
import MeshControl
import MeshModel
import Testing

private func key(_ host: String, _ namespace: String = "ns1") -> NamespacedName {
    NamespacedName(namespace: namespace, name: host)
}

@Suite("ServiceEntries as services")
struct EntryServiceTests {
    @Test("31: addresses and blocks; one that cannot be read takes the whole object away, and the status says which")
    func addresses() {
        let mesh = Mesh()
        mesh.set(
            Make.entry(
                "e",
                addresses: ["10.0.0.0/24", "10.1.0.5/24", "10.2.0.1/32", "10.3.0.1", "2001:db8::1/128", "fd00::/64"]))
        let service = mesh.service("a.example")
        #expect(
            service?.addresses.map(\.description) == [
                "testnetwork/10.2.0.1", "testnetwork/10.3.0.1", "testnetwork/2001:db8::1",
            ])
        #expect(
            service?.blocks.map { "\($0.network)/\($0.cidr)" } == [
                "testnetwork/10.0.0.0/24", "testnetwork/10.1.0.0/24", "testnetwork/fd00::/64",
            ])
        #expect(service?.name == "e" && service?.ipFamilies == .automatic && service?.isCanonical == true)
        #expect(mesh.index.serviceEntryStatuses["ns1/e"] == nil)
        mesh.set(Make.entry("e", addresses: ["10.2.0.1", "nonsense"], endpoints: [["address": "1.1.1.1"]]))
        #expect(mesh.service("a.example") == nil && mesh.endpoint("e", "1.1.1.1") == nil)
        let said = mesh.index.serviceEntryStatuses["ns1/e"]
        #expect(said?.generation == 7 && said?.conditions.first?.reason == "InvalidAddress")
        #expect(said?.conditions.first?.message.contains("nonsense") == true)
    }

    @Test("ports: target and protocol come from the entry, never from the port's name; alternative names pass through")
    func ports() {
        let mesh = Mesh()
        mesh.set(
            Make.entry(
                "e",
                ports: [
                    ["number": 80, "name": "grpc-x", "protocol": "HTTP", "targetPort": 8080],
                    ["number": 443, "name": "x", "protocol": "TLS"], ["number": 9, "name": "y", "protocol": "MONGO"],
                ]
            ) { $0.set(["spec", "subjectAltNames"], to: ["spiffe://td/ns/a/sa/b"]) })
        #expect(
            mesh.service("a.example")?.ports == [
                ServicePort(port: 80, targetPort: 8080, appProtocol: .http11),
                ServicePort(port: 443, targetPort: 443, appProtocol: .tls),
                ServicePort(port: 9, targetPort: 9, appProtocol: .unknown),
            ])
        #expect(mesh.service("a.example")?.subjectAltNames == ["spiffe://td/ns/a/sa/b"])
    }

    @Test("32: allocated addresses count only for hosts that may have some")
    func allocated() {
        let given = [("a.example", "240.240.0.1"), ("a.example", "2001:2::1"), ("b.example", "240.240.0.2")]
            .map { (host: $0.0, value: $0.1) }
        func addresses(_ entry: KubeObject, _ host: String = "a.example") -> [String]? {
            let mesh = Mesh()
            mesh.set(entry)
            return mesh.service(host)?.addresses.map(\.address.description)
        }
        let hosts = ["a.example", "b.example"]
        let dns = Make.entry("e", hosts: hosts, resolution: "DNS", allocated: given)
        #expect(addresses(dns) == ["240.240.0.1", "2001:2::1"] && addresses(dns, "b.example") == ["240.240.0.2"])
        #expect(
            addresses(Make.entry("e", resolution: "DNS", addresses: ["10.9.9.9"], allocated: given)) == ["10.9.9.9"])
        #expect(addresses(Make.entry("e", resolution: "NONE", allocated: given)) == [])
        let optOut = ["networking.istio.io/enable-autoallocate-ip": "false"]
        #expect(addresses(Make.entry("e", resolution: "DNS", labels: optOut, allocated: given)) == [])
        let wildcard = [(host: "*.example", value: "240.240.0.3")]
        #expect(
            addresses(Make.entry("e", hosts: ["*.example"], resolution: "DNS", allocated: wildcard), "*.example") == [])
        #expect(
            addresses(
                Make.entry("e", hosts: ["*.example"], resolution: "DYNAMIC_DNS", allocated: wildcard), "*.example")
                == ["240.240.0.3"])
    }

    @Test("a host whose client has resolved it is passed through; else annotations say what is preferred")
    func balancing() {
        let mesh = Mesh()
        mesh.set(Make.entry("e", resolution: "NONE"))
        #expect(mesh.service("a.example")?.loadBalancing.mode == .passthrough)
        #expect(mesh.service("a.example")?.loadBalancing.healthPolicy == .allowAll)
        mesh.set(Make.entry("e", annotations: ["networking.istio.io/traffic-distribution": "PreferClose"]))
        #expect(mesh.service("a.example")?.loadBalancing.routingPreference == [.network, .region, .zone])
        mesh.set(
            Make.entry("e"),
            KubeObject(
                .namespaces, name: "ns1",
                annotations: ["networking.istio.io/traffic-distribution": "prefersamenode"]))
        #expect(mesh.service("a.example")?.loadBalancing.routingPreference.last == .node)
    }

    @Test("33: of two entries for a host the older has it, endpoints and all; when it goes, the other follows")
    func duplicates() {
        let mesh = Mesh()
        let old = Make.entry("old", endpoints: [["address": "1.1.1.1"]])
        let new = Make.entry("anew", endpoints: [["address": "2.2.2.2"]], createdAt: "2026-02-01T00:00:00Z")
        mesh.set(old, new)
        #expect(mesh.service("a.example")?.name == "old")
        #expect(mesh.endpoint("old", "1.1.1.1") != nil && mesh.endpoint("anew", "2.2.2.2") == nil)
        let said = mesh.index.serviceEntryStatuses["ns1/anew"]?.conditions.first
        #expect(said?.isTrue == false && said?.message.contains("belongs to ServiceEntry ns1/old") == true)
        mesh.remove(old)
        #expect(mesh.service("a.example")?.name == "anew" && mesh.endpoint("anew", "2.2.2.2") != nil)
        #expect(mesh.index.serviceEntryStatuses["ns1/anew"] == nil)
    }

    @Test("34: a Kubernetes Service has its own host name, whatever is older")
    func kubernetesFirst() {
        let mesh = Mesh()
        let host = "s.ns1.svc.company.com"
        let elsewhere = Make.entry("far", namespace: "ns2", hosts: [host])
        mesh.set(Make.entry("e", hosts: [host]), elsewhere, Make.service("s"))
        #expect(mesh.service(host)?.name == "s" && mesh.service(host)?.isCanonical == true)
        // The other namespace keeps its own, but it is not what third parties get.
        #expect(mesh.service(host, namespace: "ns2")?.isCanonical == false)
        mesh.remove(Make.service("s"))
        #expect(mesh.service(host)?.name == "e" && mesh.service(host)?.isCanonical == true)
    }

    @Test("35, 36: visibility by MeshConfig and by exportTo; only what everybody sees can be canonical")
    func visibility() throws {
        let mesh = Mesh()
        mesh.set(
            Make.entry("mine") { $0.set(["spec", "exportTo"], to: ["."]) },
            Make.entry("theirs", namespace: "ns2", createdAt: "2026-02-01T00:00:00Z"))
        #expect(mesh.service("a.example")?.visibility == .namespace)
        #expect(mesh.service("a.example")?.isCanonical == false)
        #expect(mesh.service("a.example", namespace: "ns2")?.isCanonical == true)
        #expect(mesh.index.serviceEntryStatuses["ns1/mine"]?.conditions.map(\.reason) == ["Namespace"])

        let config = """
            serviceEntryVisibility:
              defaultVisibility: PUBLIC
              policies:
              - visibility: NONE
                matchingRules: [{namespaceSelector: {matchLabels: {secret: "yes"}}}]
              - visibility: NAMESPACE
                matchingRules: [{namespaceSelector: {}}]
            """
        let settings = try MeshSettings().merging(meshConfig: config)
        mesh.configure { $0.entryVisibility = settings.entryVisibility }
        #expect(mesh.service("a.example", namespace: "ns2")?.visibility == .namespace)
        mesh.set(KubeObject(.namespaces, name: "ns2", labels: ["secret": "yes"]))
        #expect(mesh.service("a.example", namespace: "ns2") == nil)
        #expect(throws: InvalidMeshConfig.self) {
            try MeshSettings().merging(meshConfig: "serviceEntryVisibility: {defaultVisibility: SOME}")
        }
    }

    @Test("a wildcard without a waypoint is reported")
    func wildcard() {
        let mesh = Mesh()
        mesh.set(Make.entry("e", hosts: ["*.example"], resolution: "NONE"))
        #expect(mesh.service("*.example") != nil)
        let said = mesh.index.serviceEntryStatuses["ns1/e"]?.conditions
        #expect(said?.map(\.reason) == ["NoWaypointForWildcardService"] && said?.first?.isTrue == true)
    }
}

@Suite("Machines and endpoints outside Kubernetes")
struct EntryWorkloadTests {
    @Test("6: a pod in a ServiceEntry: its port of the same name wins, then the target port")
    func pods() {
        let mesh = Mesh()
        let ports: JSONValue = [
            ["number": 80, "name": "http", "protocol": "HTTP", "targetPort": 1234],
            ["number": 81, "name": "other", "protocol": "TCP", "targetPort": 4321],
            ["number": 82, "name": "third", "protocol": "TCP"],
        ]
        mesh.set(
            Make.entry("e", hosts: ["a.example", "b.example"], ports: ports, selector: ["app": "a"]),
            Make.pod("p", ports: ["http": 8080]), Make.pod("q", namespace: "ns2"))
        let expected = [
            ServicePort(port: 80, targetPort: 8080), ServicePort(port: 81, targetPort: 4321),
            ServicePort(port: 82, targetPort: 82),
        ]
        #expect(mesh.workload("p")?.services == [key("a.example"): expected, key("b.example"): expected])
        #expect(mesh.workload("q", namespace: "ns2")?.services.isEmpty == true)
    }

    @Test("20, 21: a machine: labels of spec and metadata, names, tunnel, identity, weight, locality")
    func machine() {
        let mesh = Mesh()
        mesh.set(
            Make.machine(
                "m", labels: ["networking.istio.io/tunnel": "http"],
                [
                    "address": "1.2.3.4", "serviceAccount": "vm", "weight": 5, "locality": "r/z/s",
                    "labels": ["app": "a", "version": "v3"],
                ]),
            Make.entry("e", selector: ["app": "a"]))
        let machine = mesh.machine("m")
        #expect(machine?.addresses.map(\.description) == ["1.2.3.4"] && machine?.isHealthy == true)
        #expect(machine?.serviceAccount == "vm" && machine?.capacity == 5)
        #expect(machine?.locality == Locality(region: "r", zone: "z", subzone: "s"))
        #expect(machine?.canonicalName == "a" && machine?.canonicalRevision == "v3" && machine?.workloadName == "m")
        #expect(machine?.tunnelProtocol == .hbone && machine?.isNativeTunnel == true)
        #expect(machine?.services == [key("a.example"): [ServicePort(port: 80, targetPort: 80)]])
        mesh.set(
            Make.machine(
                "m", labels: ["app": "other"], annotations: ["istio.io/autoRegistrationGroup": "group"],
                ["address": "vm.example", "labels": ["app": "a"]]))
        #expect(mesh.machine("m")?.hostname == "vm.example" && mesh.machine("m")?.addresses.isEmpty == true)
        #expect(mesh.machine("m")?.workloadName == "group" && mesh.machine("m")?.services.isEmpty == true)
    }

    @Test("23: a machine without an address exists; its health check can say that it is ill")
    func healthAndAddress() {
        let mesh = Mesh()
        mesh.set(Make.machine("m", ["network": "far"]))
        #expect(mesh.machine("m")?.addresses.isEmpty == true && mesh.machine("m")?.hostname == "")
        #expect(mesh.machine("m")?.network == "far")
        var ill = Make.machine("m", ["address": "1.2.3.4"])
        ill.json.set(["status", "conditions"], to: [["type": "Healthy", "status": "False"]])
        mesh.set(ill)
        #expect(mesh.machine("m")?.isHealthy == false)
        mesh.set(Make.machine("m", ["address": "unix:///run/x.sock"]))
        #expect(mesh.machine("m") == nil)
    }

    @Test("a Kubernetes Service selects a machine; a port's name is looked up in the machine's ports")
    func serviceSelectsMachine() {
        let mesh = Mesh()
        mesh.set(
            Make.service(
                "s",
                ports: [
                    ["name": "plain", "port": 80, "targetPort": 8080],
                    ["name": "moved", "port": 81, "targetPort": 8081],
                    ["name": "named", "port": 82, "targetPort": "web"],
                    ["name": "lost", "port": 83, "targetPort": "nowhere"],
                ]),
            Make.machine(
                "m", ["address": "1.2.3.4", "labels": ["app": "a"], "ports": ["moved": 9999, "web": 7777]]))
        #expect(
            mesh.machine("m")?.services[key("s.ns1.svc.company.com")] == [
                ServicePort(port: 80, targetPort: 8080), ServicePort(port: 81, targetPort: 9999),
                ServicePort(port: 82, targetPort: 7777),
            ])
    }

    @Test("18: names to resolve, one workload for each host; 19: listed endpoints, each with its own facts")
    func endpoints() {
        let mesh = Mesh()
        mesh.set(Make.entry("dns", hosts: ["a.example", "b.example"], resolution: "DNS"))
        #expect(mesh.endpoint("dns", "a.example")?.hostname == "a.example")
        #expect(mesh.endpoint("dns", "a.example")?.services.keys.map(\.name) == ["a.example"])
        #expect(mesh.endpoint("dns", "b.example")?.services.keys.map(\.name) == ["b.example"])
        mesh.set(
            Make.gateway("w", labels: ["istio.io/waypoint-for": "workload"]),
            Make.entry(
                "fixed", hosts: ["c.example"],
                endpoints: [
                    ["address": "1.1.1.1", "weight": 3, "ports": ["http": 8080], "network": "far"],
                    ["address": "2.2.2.2", "labels": ["istio.io/use-waypoint": "w"], "serviceAccount": "x"],
                    ["address": "2.2.2.2", "ports": ["http": 8081]],
                ]))
        let (one, two) = (mesh.endpoint("fixed", "1.1.1.1"), mesh.endpoint("fixed", "2.2.2.2"))
        #expect(one?.capacity == 3 && one?.services[key("c.example")]?.map(\.targetPort) == [8080])
        #expect(one?.network == "far" && one?.waypoint == nil && one?.workloadName == "fixed")
        #expect(two?.serviceAccount == "x" && two?.waypoint != nil)
        // No network of its own: the cluster's, and not its neighbour's.
        #expect(two?.network == "testnetwork")
        // The same address on another port is another endpoint.
        #expect(mesh.endpoint("fixed", "2.2.2.2#2")?.services[key("c.example")]?.map(\.targetPort) == [8081])
    }

    @Test("policies find machines and listed endpoints by their labels")
    func policies() {
        let mesh = Mesh()
        mesh.set(
            Make.policy("sel", ["selector": ["matchLabels": ["app": "a"]], "rules": [[:]]]),
            Make.machine("m", ["address": "1.2.3.4", "labels": ["app": "a"]]),
            Make.entry("e", endpoints: [["address": "1.1.1.1"]], labels: ["app": "a"]))
        #expect(mesh.machine("m")?.authorizationPolicies.map(\.description) == ["ns1/sel"])
        #expect(mesh.endpoint("e", "1.1.1.1")?.authorizationPolicies.map(\.description) == ["ns1/sel"])
    }

    @Test("one changed object changes what looked at it, and nothing else")
    func changes() {
        let mesh = Mesh()
        mesh.set(
            Make.entry("e", selector: ["app": "a"]), Make.entry("f", hosts: ["f.example"], selector: ["app": "b"]),
            Make.pod("p"), Make.pod("q", labels: ["app": "b"]), Make.machine("m", ["labels": ["app": "a"]]))
        let changed = mesh.set(
            Make.entry("e", ports: [["number": 81, "name": "http", "protocol": "HTTP"]], selector: ["app": "a"]))
        #expect(
            changed == [
                "ns1/a.example", "cluster0//Pod/ns1/p", "cluster0/networking.istio.io/WorkloadEntry/ns1/m",
            ])
        #expect(mesh.set(Make.entry("e", selector: ["app": "nobody"])).count == 3)
    }
}
