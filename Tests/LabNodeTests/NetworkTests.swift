import Foundation
import KubeAPI
import LabNode
import Testing

@Suite("Service rules")
struct ServiceRulesTests {
    func rules(_ services: [KubeObject], _ slices: [KubeObject]) -> ServiceRules {
        ServiceRules(
            services: services, slices: slices, podCIDR: "10.42.1.0/24", clusterCIDR: "10.42.0.0/16",
            serviceCIDR: "10.43.0.0/16", nodeName: "n1")
    }
    static let web = KubeObject(
        .services, namespace: "shop", name: "web",
        [
            "spec": [
                "clusterIP": "10.43.0.9", "type": "NodePort",
                "ports": [["name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"]],
            ]
        ])
    static let dns = KubeObject(
        .services, namespace: "kube-system", name: "dns",
        ["spec": ["clusterIP": "10.43.0.10", "ports": [["port": 53, "protocol": "UDP"]]]])
    static func slice(_ service: String, _ namespace: String, _ port: JSONValue, _ endpoints: [JSONValue]) -> KubeObject {
        KubeObject(
            .endpointSlices, namespace: namespace, name: "\(service)-x",
            labels: ["kubernetes.io/service-name": service],
            ["addressType": "IPv4", "ports": [port], "endpoints": .array(endpoints)])
    }
    static let webSlice = slice(
        "web", "shop", ["name": "http", "port": 8080, "protocol": "TCP"],
        [
            ["addresses": ["10.42.1.3"], "conditions": ["ready": true]],
            ["addresses": ["10.42.0.2"], "conditions": ["ready": true]],
            ["addresses": ["10.42.0.3"], "conditions": ["ready": false]],
        ])

    @Test("send a service's connections to one of its ready endpoints")
    func endpoints() {
        let text = self.rules([Self.web], [Self.webSlice]).ruleset
        #expect(
            text.contains(
                "meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.42.0.2 . 8080, 1 : 10.42.1.3 . 8080 }"
            ))
        #expect(text.contains("elements = { 10.43.0.9 . tcp . 80 : goto port-0 }"))
        #expect(text.contains("elements = { tcp . 30080 : goto port-0 }"))
        #expect(!text.contains("10.42.0.3"))
    }

    @Test("refuse a service without endpoints")
    func dead() {
        let text = self.rules([Self.web], []).ruleset
        #expect(text.contains("set dead-cluster-ports {\n\t\ttype ipv4_addr . inet_proto . inet_service\n\t\telements = { 10.43.0.9 . tcp . 80 }"))
        #expect(text.contains("elements = { tcp . 30080 }"))
    }

    @Test("do not depend on the order of their input")
    func order() {
        let a = self.rules([Self.web, Self.dns], [Self.webSlice]).ruleset
        #expect(a == self.rules([Self.dns, Self.web], [Self.webSlice]).ruleset)
    }

    @Test("contain only addresses, whatever an object says")
    func hostile() {
        let evil = Self.slice(
            "web", "shop", ["name": "http", "port": 8080], [["addresses": ["1.1.1.1 }; flush ruleset"]]])
        #expect(self.rules([Self.web], [evil]).ports.first?.endpoints.isEmpty == true)
        #expect(!ServiceRules.isAddress("1.2.3"))
        #expect(!ServiceRules.isAddress("1.2.3.+4"))
    }

    @Test("are accepted by nft", .enabled(if: getuid() == 0))
    func accepted() async throws {
        let udp = Self.slice("dns", "kube-system", ["port": 5353, "protocol": "UDP"], [["addresses": ["10.42.0.9"]]])
        let sticky = KubeObject(
            .services, namespace: "shop", name: "sticky",
            ["spec": ["clusterIP": "10.43.0.11", "sessionAffinity": "ClientIP", "ports": [["name": "http", "port": 80]]]])
        let stickySlice = Self.slice(
            "sticky", "shop", ["name": "http", "port": 1, "protocol": "TCP"],
            [["addresses": ["10.42.0.4"]], ["addresses": ["10.42.0.5"]]])
        let commands = CommandRunner(processes: ProcessTable(reapsOrphans: false), networkNamespace: nil)
        for rules in [
            self.rules([], []), self.rules([Self.web, Self.dns, sticky], [Self.webSlice, udp, stickySlice]),
            self.rules([Self.web], []),
        ] {
            // In a namespace of its own, which is gone with the program.
            try await commands.check(
                ["unshare", "--net", "nft", "-f", "-"], input: Array(rules.ruleset.utf8))
        }
    }
}

@Suite("A CNI chain")
struct CNIChainTests {
    @Test("is the first valid file in the order of names")
    func primary() throws {
        let directory = NSTemporaryDirectory() + "cni-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        func write(_ name: String, _ text: String) throws {
            try Data(text.utf8).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
        }
        #expect(throws: CNIChain.Invalid.self) { try CNIChain.primary(in: directory) }
        try write("00-broken.conflist", "{")
        try write("02-mesh.conflist", #"{"cniVersion":"1.0.0","name":"m","plugins":[{"type":"ptp"},{"type":"istio-cni"}]}"#)
        try write("10-lab.conflist", CNIChain.standard(podCIDR: "10.42.0.0/24", dataDirectory: "/d").description)
        let found = try CNIChain.primary(in: directory)
        #expect(found.path.hasSuffix("02-mesh.conflist"))
        #expect(found.chain.plugins.count == 2)
    }

    @Test("tells each plugin the list's name and version and the result before it")
    func input() throws {
        let chain = try CNIChain(parsing: CNIChain.standard(podCIDR: "10.42.3.0/24", dataDirectory: "/d").encoded)
        let port = try #require(chain.plugins.last)
        let input = chain.input(port, previous: ["ips": []], portMappings: [["hostPort": 80, "containerPort": 8080]])
        #expect(input["name"] == "lab")
        #expect(input["cniVersion"] == "1.0.0")
        #expect(input["prevResult"] == ["ips": []])
        #expect(input.at("runtimeConfig", "portMappings") == [["hostPort": 80, "containerPort": 8080]])
    }

    @Test("refuses plugin names that are paths", arguments: ["../x", "a/b", ".."])
    func traversal(type: String) {
        #expect(throws: CNIChain.Invalid.self) {
            try CNIChain(parsing: Array(#"{"name":"n","plugins":[{"type":"\#(type)"}]}"#.utf8))
        }
    }
}

@Suite("A pod's small files")
struct PodFilesTests {
    let pod = KubeObject(["kind": "Pod", "metadata": ["name": "a", "namespace": "foo"], "spec": ["dnsPolicy": "ClusterFirst"]])

    @Test("resolv.conf asks the cluster")
    func cluster() {
        let text = PodFiles.resolvConf(
            self.pod, clusterDNS: "10.43.0.10", clusterDomain: "cluster.local", node: "nameserver 1.1.1.1\n")
        #expect(
            text == "search foo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.43.0.10\noptions ndots:5\n")
    }

    @Test("dnsPolicy Default takes the node's; dnsConfig adds to any")
    func node() {
        var pod = self.pod
        pod.json.set(["spec", "dnsPolicy"], to: "Default")
        pod.json.set(["spec", "dnsConfig"], to: ["options": [["name": "ndots", "value": "1"]]])
        let text = PodFiles.resolvConf(pod, clusterDNS: "10.43.0.10", clusterDomain: "x", node: "nameserver 1.1.1.1\n")
        #expect(text == "nameserver 1.1.1.1\noptions ndots:1\n")
    }

    @Test("hosts names the pod and its aliases")
    func hosts() {
        var pod = self.pod
        pod.json.set(["spec", "hostAliases"], to: [["ip": "1.2.3.4", "hostnames": ["x", "y"]]])
        let text = PodFiles.hosts(pod, addresses: ["10.42.0.5"], clusterDomain: "cluster.local")
        #expect(text.contains("10.42.0.5\ta\n"))
        #expect(text.contains("1.2.3.4\tx\ty\n"))
    }
}
