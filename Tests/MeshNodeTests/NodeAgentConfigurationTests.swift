import MeshModel
import MeshNode
import Testing

@Suite("The node agent's configuration")
struct NodeAgentConfigurationTests {
    func read(_ environment: [String: String]) throws -> NodeAgentConfiguration {
        try NodeAgentConfiguration(
            environment: environment.merging(["NODE_NAME": "n1"]) { mine, _ in mine }, executable: "/usr/bin/martlet")
    }

    @Test("has the reference's defaults")
    func defaults() throws {
        let configuration = try self.read([:])
        #expect(configuration.decision.selectors == EnablementSelector.defaults)
        #expect(configuration.decision.excludedNamespaces == ["kube-system"])
        #expect(configuration.zdsSocket == "/var/run/ztunnel/ztunnel.sock")
        #expect(configuration.hostNamespacePath == "/host/proc/1/ns/net")
        #expect(configuration.installer.plugin == "/usr/bin/martlet-cni")
        #expect(configuration.installer.ownedName == nil)
        #expect(configuration.healthPort == 8000)
        #expect(configuration.monitoringPort == 15014)
        #expect(try self.read(["ALLOW_SWITCH_TO_HOST_NS": "false"]).hostNamespacePath == nil)
    }

    @Test("takes selectors as YAML, and both names of the owned file")
    func values() throws {
        let selectors = """
            - podSelector:
                matchLabels: {mesh: "yes"}
            - namespaceSelector:
                matchLabels: {team: a}
            """
        let configuration = try self.read([
            "AMBIENT_ENABLEMENT_SELECTOR": selectors, "ISTIO_OWNED_CNI_CONFIG": "true",
            "ISTIO_OWNED_CNI_CONF_FILENAME": "01-mine.conflist", "EXCLUDE_NAMESPACES": "a, b,",
            "AMBIENT_IPV6": "false",
        ])
        #expect(configuration.decision.selectors.count == 2)
        #expect(configuration.installer.ownedName == "01-mine.conflist")
        #expect(configuration.decision.excludedNamespaces == ["a", "b"])
        #expect(configuration.probeSources == [IPAddress("169.254.7.127")!])
    }

    @Test(
        "refuses what it cannot use, naming the variable and what was wanted",
        arguments: [
            ["NODE_NAME": ""], ["AMBIENT_IPV6": "perhaps"], ["MONITORING_PORT": "0"],
            ["HOST_PROBE_SNAT_IP": "fd00::1"], ["AMBIENT_DRAIN_SECONDS": "-1"],
            ["AMBIENT_ENABLEMENT_SELECTOR": "- podSelector: {matchExpressions: [{key: a, operator: Is}]}"],
        ])
    func refused(environment: [String: String]) {
        #expect { try self.read(environment) } throws: { error in
            "\(error)".contains(environment.keys.first!)
        }
    }

    @Test("reads a pod's own wishes, and warns about what it cannot read")
    func annotations() throws {
        let configuration = try self.read([:])
        let (rules, warnings) = configuration.rules(for: [
            "ambient.istio.io/bypass-inbound-capture": "true", "ambient.istio.io/dns-capture": "f",
            "istio.io/reroute-virtual-interfaces": "vnet0, k6t-eth0,bad\"name",
        ])
        #expect(rules.isIngress && !rules.isDNSCaptured)
        #expect(rules.virtualInterfaces == ["vnet0", "k6t-eth0"])
        #expect(warnings.count == 1)
        let (defaults, more) = configuration.rules(for: ["ambient.istio.io/dns-capture": "maybe"])
        #expect(defaults.isDNSCaptured)
        #expect(more.count == 1)
    }
}
