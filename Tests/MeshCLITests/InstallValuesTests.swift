import KubeAPI
import MeshCLI
import Testing

@Suite("Installation values")
struct InstallValuesTests {
    private func values(_ settings: [(String, String)]) throws -> InstallValues {
        var values = InstallValues()
        for (path, value) in settings { try values.set(path, to: value) }
        return values
    }

    private func object(_ kind: String, _ name: String, _ values: InstallValues) throws -> KubeObject {
        try #require(
            Components.render(values).flatMap(\.objects).first { $0.kind == kind && $0.name == name })
    }

    @Test("the Gateway API is installed only where nobody else did")
    func gatewayAPI() throws {
        var ours = try self.object(
            "CustomResourceDefinition", "gateways.gateway.networking.k8s.io", InstallValues())
        #expect(!Components.isForeign(ours))
        ours.json.set(["metadata", "annotations", "gateway.networking.k8s.io/bundle-version"], to: "v1.4.0")
        #expect(Components.isForeign(ours), "somebody applied the project's own over ours")
        ours.json.set(["metadata", "annotations"], to: nil)
        ours.json.set(["metadata", "labels"], to: nil)
        #expect(Components.isForeign(ours))
        var entry = try self.object(
            "CustomResourceDefinition", "serviceentries.networking.istio.io", InstallValues())
        entry.json.set(["metadata", "labels"], to: nil)
        #expect(!Components.isForeign(entry), "our own kinds are ours, whoever applied them first")
    }

    @Test("8: a platform decides where the plugin goes, and an explicit path wins")
    func platform() throws {
        let k3d = try values([("values.global.platform", "k3d")])
        #expect(k3d.binDir == "/bin")
        let own = try values([("values.global.platform", "k3d"), ("values.cni.cniBinDir", "/x/bin")])
        let volumes = try object("DaemonSet", "istio-cni-node", own).spec.at("template", "spec", "volumes")
        let paths = volumes?.array?.compactMap { $0.at("hostPath", "path")?.string }
        #expect(paths?.contains("/x/bin") == true)
        #expect(paths?.contains("/var/lib/rancher/k3s/agent/etc/cni/net.d") == true)
    }

    @Test("5, 6: a setting that nothing honours is refused by name")
    func refused() {
        #expect {
            try values([("values.cni.nope", "1")])
        } throws: { "\($0)".contains("values.cni.nope") && "\($0)".contains("values.cni.cniConfDir") }
        #expect {
            try values([("profile", "nope")])
        } throws: { "\($0)".contains("ambient") && "\($0)".contains("Nothing was applied") }
        #expect(throws: InstallValues.Invalid.self) { try values([("values.cni.cniConfDir", "relative")]) }
        #expect(throws: InstallValues.Invalid.self) { try values([("values.cni.ambient.dnsCapture", "maybe")]) }
    }

    @Test(
        "names are captured unless somebody says otherwise, and a change restarts the agents", arguments: [true, false])
    func dnsCapture(isOn: Bool) throws {
        let set = try values(isOn ? [] : [("values.cni.ambient.dnsCapture", "false")])
        #expect(
            try object("ConfigMap", "istio-cni-config", set).json.at("data", "AMBIENT_DNS_CAPTURE")?.string == "\(isOn)"
        )
        let template = try object("DaemonSet", "istio-cni-node", set).spec.at("template", "metadata", "annotations")
        #expect(template?["martlet.io/config"]?.string == "dnsCapture=\(isOn)")
    }

    @Test("an IstioOperator document is a list of settings")
    func operatorDocument() throws {
        var values = InstallValues()
        try values.apply(operator: [
            "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",
            "metadata": ["namespace": "mesh"],
            "spec": ["profile": "ambient", "values": ["ztunnel": ["terminationGracePeriodSeconds": 60]]],
        ])
        #expect(values.namespace == "mesh")
        #expect(values.gracePeriodSeconds == 60)
        #expect(throws: InstallValues.Invalid.self) { try values.apply(operator: ["kind": "Pod"]) }
    }

    @Test("11: rendering is the same every time, and every object has a type and a component")
    func deterministic() throws {
        let values = InstallValues()
        let first = try Components.render(values).flatMap(\.objects)
        #expect(try Components.render(values).flatMap(\.objects) == first)
        for object in first {
            #expect(Components.type(of: object) != nil, "\(object.kind) has no type")
            #expect(object.labels[Components.componentLabel] != nil)
            #expect(!object.json.description.contains("${"), "\(object.key) has a value that was not filled in")
        }
        #expect(Set(first.map(\.kind)).isSuperset(of: ["DaemonSet", "Deployment", "CustomResourceDefinition"]))
    }

    @Test("environment variables go to the component that they name")
    func environment() throws {
        let values = try values([("values.ztunnel.env.FOO", "bar"), ("values.ztunnel.logLevel", "debug")])
        let list = try object("DaemonSet", "ztunnel", values).spec.at("template", "spec", "containers")?[0]?["env"]?
            .array
        #expect(list?.contains(["name": "FOO", "value": "bar"]) == true)
        #expect(list?.contains(["name": "RUST_LOG", "value": "debug"]) == true)
    }

    @Test(
        "other names of the mesh reach the control plane and the node proxies",
        arguments: ["{old.example,older.example}", "old.example, older.example", "[\"old.example\",\"older.example\"]"])
    func trustDomainAliases(list: String) throws {
        let values = try values([("meshConfig.trustDomainAliases", list)])
        #expect(
            try object("ConfigMap", "istio", values).json.at("data", "mesh")?.string
                == "rootNamespace: istio-system\ntrustDomain: cluster.local\ntrustDomainAliases: [old.example, older.example]\n"
                + "defaultConfig:\n  proxyMetadata:\n    ISTIO_META_ENABLE_HBONE: \"true\"\n"
        )
        #expect(
            try environmentOfProxy(values).contains([
                "name": "TRUST_DOMAIN_ALIASES", "value": "old.example,older.example",
            ]))
        for broken in ["{a,,b}", "{spiffe://a}", "A.example", "{a b"] {
            #expect(throws: InstallValues.Invalid.self) {
                try self.values([("meshConfig.trustDomainAliases", broken)])
            }
        }
    }

    @Test("a list of names in a file is one, too")
    func aliasesInFile() throws {
        var values = InstallValues()
        try values.apply(operator: [
            "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",
            "spec": ["meshConfig": ["trustDomainAliases": ["a.example", "b.example"]]],
        ])
        #expect(values.trustDomainAliases == ["a.example", "b.example"])
    }

    @Test("node proxies look at revocation lists when they are told to, and the ConfigMap may come later")
    func revocations() throws {
        let name: JSONValue = "istio-ca-crl"
        for isOn in [false, true] {
            let values = try values([("values.ztunnel.peerCaCrl.enabled", "\(isOn)")])
            let pod = try #require(object("DaemonSet", "ztunnel", values).spec.at("template", "spec"))
            #expect(
                pod["volumes"]?.array?.contains(["name": name, "configMap": ["name": name, "optional": true]]) == isOn)
            let path: JSONValue = "/var/run/secrets/istio-ca-crl"
            #expect(
                pod["containers"]?[0]?["volumeMounts"]?.array?
                    .contains(["name": name, "mountPath": path, "readOnly": true]) == isOn)
            #expect(
                try environmentOfProxy(values)
                    .contains(["name": "CRL_PATH", "value": "/var/run/secrets/istio-ca-crl/ca-crl.pem"]) == isOn)
        }
    }

    private func environmentOfProxy(_ values: InstallValues) throws -> [JSONValue] {
        try #require(
            object("DaemonSet", "ztunnel", values).spec.at("template", "spec", "containers")?[0]?["env"]?.array)
    }

    @Test("the node agent may drain for as long as Kubernetes lets it live, and no profile forbids its work")
    func nodeAgent() throws {
        let cases: [([(String, String)], String)] = [
            ([], "60"), ([("values.cni.terminationGracePeriodSeconds", "300")], "300"),
        ]
        for (settings, seconds) in cases {
            let agent = try object("DaemonSet", "istio-cni-node", values(settings))
            let pod = try #require(agent.spec.at("template", "spec"))
            #expect(pod["terminationGracePeriodSeconds"]?.description == seconds)
            let container = try #require(pod["containers"]?[0])
            #expect(
                container["env"]?.array?.contains(
                    ["name": "TERMINATION_GRACE_PERIOD_SECONDS", "value": .string(seconds)]) == true)
            #expect(container.at("securityContext", "appArmorProfile", "type")?.string == "Unconfined")
        }
        #expect(throws: InstallValues.Invalid.self) {
            try values([("values.cni.terminationGracePeriodSeconds", "10")])
        }
        let lenient = try object(
            "DaemonSet", "istio-cni-node", values([("values.cni.ambient.reconcileIptablesOnStartup", "false")]))
        #expect(
            lenient.spec.at("template", "spec", "containers")?[0]?["env"]?.array?.contains(
                ["name": "AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", "value": "false"]) == true)
    }

    @Test("both served versions of a kind have the same schema")
    func versions() throws {
        let versions = try object(
            "CustomResourceDefinition", "authorizationpolicies.security.istio.io", InstallValues()
        )
        .spec["versions"]?.array
        #expect(versions?.compactMap { $0["name"]?.string } == ["v1", "v1beta1"])
        #expect(versions?[0]["schema"] == versions?[1]["schema"])
        #expect(versions?.compactMap { $0["storage"]?.bool } == [true, false])
    }
}

@Suite("Readiness")
struct ReadinessTests {
    @Test(
        "of a DaemonSet needs every eligible node, updated and ready",
        arguments: [
            (
                ["observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2],
                true
            ),
            (
                ["observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2],
                false
            ),
            (["observedGeneration": 2, "desiredNumberScheduled": 0], false),
            (
                ["observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 1],
                false
            ),
        ] as [(JSONValue, Bool)])
    func daemonSet(status: JSONValue, isReady: Bool) {
        let object = KubeObject(["kind": "DaemonSet", "metadata": ["generation": 2], "status": status])
        #expect((Readiness.of(object) == .ready) == isReady)
    }

    @Test("names what keeps a pod back")
    func trouble() {
        let pod = KubeObject([
            "status": [
                "phase": "Pending",
                "containerStatuses": [
                    ["name": "a", "state": ["waiting": ["reason": "ErrImagePull", "message": "no such image"]]]
                ],
            ]
        ])
        #expect(Readiness.trouble(of: pod) == "container a: ErrImagePull: no such image")
    }
}
