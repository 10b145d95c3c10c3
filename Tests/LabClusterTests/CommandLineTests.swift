import ArgumentParser
import LabCluster
import Testing

@Suite("The lab's command line")
struct CommandLineTests {
    private func create(_ arguments: String...) throws -> Lab.CreateOptions {
        try #require(try LabCommand.parseAsRoot(BooleanFlags.normalized(["create"] + arguments)) as? CreateCommand)
            .options()
    }

    @Test("takes a k3d tutorial's command as typed, with and without the word cluster")
    func tutorial() throws {
        let arguments = [
            "create", "--api-port", "6550", "-p", "9080:80@loadbalancer", "-p", "9443:443@loadbalancer", "--agents",
            "4",
            "--k3s-arg", "--disable=traefik@server:*",
        ]
        for prefix in [[], ["cluster"]] {
            let command = try #require(try LabCommand.parseAsRoot(prefix + arguments) as? CreateCommand)
            let options = try command.options()
            #expect(options.name == "k3s-default" && options.agents == 4 && options.apiPort == 6550)
            #expect(options.ports.map(\.port) == [9080, 9443] && options.ports.map(\.target) == [80, 443])
            #expect(options.arguments == [.nothing])
        }
    }

    @Test("takes booleans as k3d writes them")
    func booleans() throws {
        #expect(try self.create("--wait=false").waits == false)
        #expect(try self.create("--kubeconfig-switch-context=false").switchesContext == false)
        #expect(try self.create("--kubeconfig-update-default=true").updatesKubeconfig)
        #expect(try self.create("--timeout", "1m30s").timeout == .seconds(90))
    }

    @Test(
        "refuses what it cannot do, with the reason",
        arguments: [
            (["--servers", "3"], "one server"), (["--image", "rancher/k3s"], "cannot be honoured"),
            (["--volume", "/a:/b"], "hostPath"), (["--k3s-arg", "--flannel-backend=none@server:*"], "no k3s"),
            (["--k3s-arg", "--disable=coredns@server:*"], "cannot run without coredns"),
            (["-p", "53:53/udp@loadbalancer"], "only TCP"), (["-p", "banana"], "no port"),
            (["-p", "80:80@moon"], "no node filter"), (["--api-port", "0"], "PORT or HOST:PORT"),
            (["--subnet", "banana"], "no network"),
        ])
    func refusals(arguments: [String], reason: String) throws {
        let command = try #require(try LabCommand.parseAsRoot(["create"] + arguments) as? CreateCommand)
        let error = #expect(throws: LabError.self) { try command.options() }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
    }

    @Test(
        "reads port maps",
        arguments: [
            ("9080:80", "127.0.0.1", 9080, 80), ("8080:80@loadbalancer", "127.0.0.1", 8080, 80),
            ("0.0.0.0:8080:80/tcp@agent:0", "0.0.0.0", 8080, 80), ("443", "127.0.0.1", 443, 443),
        ])
    func portMaps(text: String, host: String, port: Int, target: Int) throws {
        let mapping = try PortMapping(text)
        #expect(mapping.host == host && mapping.port == port && mapping.target == target)
    }
}

@Suite("A cluster's specification")
struct LabSpecTests {
    private func spec(_ name: String = "k3s-default", agents: Int = 4) throws -> LabSpec {
        try LabSpec(
            name: name, agents: agents, subnet: LabSpec.subnetDefaults[0], apiHost: "127.0.0.1", apiPort: 6550,
            ports: [])
    }

    @Test("names and numbers nodes as k3d and k3s do")
    func names() throws {
        let spec = try self.spec()
        #expect(spec.nodes.map { spec.nodeName($0) }.first == "k3d-k3s-default-server-0")
        #expect(spec.nodes.map { spec.nodeName($0) }.last == "k3d-k3s-default-agent-3")
        #expect(spec.nodes.map { spec.nodeIP($0) }.first == "172.28.0.2")
        #expect(spec.nodes.map { spec.podCIDR($0).description } == (0...4).map { "10.42.\($0).0/24" })
        #expect(spec.context == "k3d-k3s-default")
        #expect(spec.bridge.utf8.count == 8)
    }

    @Test(
        "refuses names that are none",
        arguments: ["", "Upper", "-a", "a-", "a/b", "..", String(repeating: "a", count: 33)])
    func badNames(name: String) { #expect(throws: LabError.self) { try self.spec(name) } }

    @Test("labels and taints the nodes that a filter names")
    func filters() throws {
        var spec = try self.spec()
        try spec.apply(K3sArgument("--node-label=disk=ssd@agent:1,2"))
        #expect(spec.nodes.map { $0.labels["disk"] } == [nil, nil, "ssd", "ssd", nil])
        #expect(throws: LabError.self) { try spec.apply(K3sArgument("--node-label=disk=ssd@agent:9")) }
    }

    @Test("networks overlap when one contains the other")
    func overlap() throws {
        let network = try #require(IPv4Network("172.28.0.0/16"))
        #expect(network.overlaps(try #require(IPv4Network("172.28.5.0/24"))))
        #expect(network.overlaps(try #require(IPv4Network("172.16.0.0/12"))))
        #expect(!network.overlaps(try #require(IPv4Network("172.29.0.0/16"))))
        #expect(IPv4Network("1.2.3.4/33") == nil && IPv4Network("1.2.3/8") == nil)
    }
}
