import KubeAPI
import MeshCLI
import Testing

@Suite("martlet x migrate --dry-run")
struct MigrationTests {
    private static let mesh: [String: String] = ["istio-injection": "enabled"]

    /// A namespace `shop` with a service `cart`, and one pod behind it.
    private func shop(labels: [String: String] = Self.mesh, sidecar: Bool = true) -> MigrationInput {
        var input = MigrationInput(rootNamespace: "istio-system")
        input.namespaces = [KubeObject(.namespaces, name: "shop", labels: labels)]
        input.pods = [self.pod("cart-5d8f-x2x4z", sidecar: sidecar)]
        input.services = [
            KubeObject(.services, namespace: "shop", name: "cart", ["spec": ["selector": ["app": "cart"]]])
        ]
        return input
    }

    private func pod(
        _ name: String, sidecar: Bool = true, labels: [String: String] = [:], annotations: [String: String] = [:],
        owner: JSONValue = ["kind": "ReplicaSet", "name": "cart-5d8f", "controller": true], spec: JSONValue = [:]
    ) -> KubeObject {
        var pod = KubeObject(
            .pods, namespace: "shop", name: name,
            labels: ["app": "cart", "pod-template-hash": "5d8f"].merging(labels) { $1 },
            annotations: annotations.merging(sidecar ? ["sidecar.istio.io/status": "{}"] : [:]) { $1 },
            ["spec": spec])
        pod.json.set(["metadata", "ownerReferences"], to: [owner])
        return pod
    }

    private func policy(_ spec: JSONValue) -> KubeObject { self.policy(.authorizationPolicies, spec) }

    private func policy(_ type: ResourceType, _ spec: JSONValue) -> KubeObject { self.policy(type, "p", spec) }

    private func policy(
        _ type: ResourceType, _ name: String, namespace: String = "shop", _ spec: JSONValue
    ) -> KubeObject {
        KubeObject(type, namespace: namespace, name: name, ["spec": spec])
    }

    private func one(_ input: MigrationInput) throws -> NamespaceMigration {
        try #require(MigrationPlanner.plan(input, namespaces: ["shop"]).namespaces.first)
    }

    private func finding(_ policy: KubeObject) throws -> MigrationFinding {
        var input = self.shop()
        input.policies = [policy]
        return try #require(try self.one(input).findings.first { $0.kind == policy.kind })
    }

    @Test("without policies: a label, and a rollout")
    func plain() throws {
        let migration = try self.one(self.shop())
        #expect(migration.state == .sidecar && migration.isReady && migration.waypoint == nil)
        #expect(migration.restarts == [Restart(workload: "Deployment/cart", pods: 1)])
        #expect(
            migration.commands == [
                "kubectl label namespace shop --overwrite istio-injection- istio.io/dataplane-mode=ambient",
                "kubectl rollout restart -n shop deployment/cart",
            ])
    }

    @Test("only namespaces with sidecars are shown when none is named")
    func chosen() {
        var input = self.shop()
        input.namespaces += [
            KubeObject(.namespaces, name: "ambient", labels: ["istio.io/dataplane-mode": "ambient"]),
            KubeObject(.namespaces, name: "revision", labels: ["istio.io/rev": "canary"]),
            KubeObject(.namespaces, name: "outside"),
        ]
        #expect(MigrationPlanner.plan(input).namespaces.map(\.name) == ["revision", "shop"])
        let named = MigrationPlanner.plan(input, namespaces: ["ambient", "outside"]).namespaces
        #expect(named.map(\.state) == [.ambient, .outside])
    }

    @Test("a namespace of the node proxy whose pods still have sidecars is not done yet")
    func half() throws {
        let input = self.shop(labels: ["istio.io/dataplane-mode": "ambient"])
        let migration = try self.one(input)
        #expect(migration.state == .sidecar && migration.labelsSet.isEmpty && migration.labelsRemoved.isEmpty)
        #expect(migration.commands == ["kubectl rollout restart -n shop deployment/cart"])
        #expect(
            try self.one(self.shop(labels: ["istio.io/dataplane-mode": "ambient"], sidecar: false)).state == .ambient)
    }

    @Test(
        "node proxies, waypoints and gateways have a container of that name and no sidecar; captured pods are where they belong"
    )
    func others() throws {
        let proxy: JSONValue = ["containers": [["name": "istio-proxy"]]]
        var input = self.shop(labels: ["istio.io/dataplane-mode": "ambient"], sidecar: false)
        input.pods = [
            self.pod("ztunnel-1", sidecar: false, labels: ["istio.io/dataplane-mode": "none"], spec: proxy),
            self.pod("w-1", sidecar: false, labels: ["gateway.networking.k8s.io/gateway-name": "w"], spec: proxy),
            self.pod("edge-1", annotations: ["inject.istio.io/templates": "gateway"], spec: proxy),
        ]
        #expect(try self.one(input).state == .ambient)
        #expect(MigrationPlanner.plan(input).namespaces.isEmpty)
        input.pods = [
            self.pod("a", owner: ["kind": "StatefulSet", "name": "a", "controller": true]),
            self.pod("b", sidecar: false, annotations: ["ambient.istio.io/redirection": "enabled"]), input.pods[1],
        ]
        let migration = try self.one(input)
        #expect(migration.restarts == [Restart(workload: "StatefulSet/a", pods: 1)] && migration.findings.isEmpty)
    }

    @Test("a policy of connections goes on")
    func layer4() throws {
        let spec: JSONValue = [
            "rules": [
                [
                    "from": [["source": ["principals": ["a"], "ipBlocks": ["10.0.0.0/8"]]]],
                    "to": [["operation": ["ports": ["80"]]]], "when": [["key": "source.namespace", "values": ["b"]]],
                ]
            ]
        ]
        let finding = try self.finding(self.policy(spec))
        #expect(finding.verdict == .kept && finding.targets.isEmpty)
    }

    @Test(
        "a policy of requests needs a waypoint, and says which attribute does",
        arguments: [
            (["to": [["operation": ["methods": ["GET"]]]]], "methods"),
            (["to": [["operation": ["notPaths": ["/a"]]]]], "notPaths"),
            (["from": [["source": ["requestPrincipals": ["*"]]]]], "requestPrincipals"),
            (["from": [["source": ["remoteIpBlocks": ["10.0.0.0/8"]]]]], "remoteIpBlocks"),
            (["when": [["key": "request.headers[x]", "values": ["y"]]]], "request.headers[x]"),
        ] as [(JSONValue, String)])
    func layer7(rule: JSONValue, attribute: String) throws {
        var input = self.shop()
        input.policies = [self.policy(["action": "DENY", "rules": [rule]])]
        let migration = try self.one(input)
        let finding = try #require(migration.findings.first)
        #expect(finding.verdict == .edit && finding.text.hasPrefix("asks for \(attribute), "))
        #expect(
            finding.targets == [.init(group: "gateway.networking.k8s.io", kind: "Gateway", name: "waypoint")])
        let waypoint = try #require(migration.waypoint)
        #expect(!waypoint.exists && waypoint.reasons == ["AuthorizationPolicy/shop/p"])
        #expect(migration.commands.first == "martlet waypoint apply -n shop --enroll-namespace --wait")
        #expect(!migration.isReady)
    }

    @Test("a selector becomes the services that lead to its pods")
    func selected() throws {
        let rule: JSONValue = ["to": [["operation": ["methods": ["GET"]]]]]
        let policy = self.policy(["selector": ["matchLabels": ["app": "cart", "v": "1"]], "rules": [rule]])
        var input = self.shop()
        input.policies = [policy]
        input.pods = [self.pod("cart-1", labels: ["v": "1"]), self.pod("cart-2", labels: ["v": "2"])]
        let finding = try #require(try self.one(input).findings.first)
        #expect(finding.targets == [.service("cart")])
        #expect(finding.text.hasSuffix("cart leads to pods that the policy does not select, too"))
        input.services = []
        let lost = try #require(try self.one(input).findings.first)
        #expect(lost.verdict == .lost && lost.text.contains("--for workload"))
    }

    @Test("in the mesh's namespace a policy of requests is for all waypoints")
    func root() throws {
        let finding = try self.finding(
            self.policy(
                .authorizationPolicies, "all", namespace: "istio-system",
                ["rules": [["to": [["operation": ["methods": ["GET"]]]]]]]))
        #expect(
            finding.targets == [.init(group: "gateway.networking.k8s.io", kind: "GatewayClass", name: "istio-waypoint")]
        )
    }

    @Test("with a waypoint, a policy by caller would see the waypoint instead")
    func callers() throws {
        let byCaller = self.policy(
            .authorizationPolicies, "caller", ["rules": [["from": [["source": ["namespaces": ["foo"]]]]]]])
        var input = self.shop()
        input.policies = [byCaller]
        #expect(try self.one(input).isReady)
        input.policies.append(self.policy(.requestAuthentications, "tokens", ["jwtRules": [["issuer": "i"]]]))
        let finding = try #require(try self.one(input).findings.first { $0.key == "shop/caller" })
        #expect(finding.verdict == .edit && finding.text.contains("serviceAccounts: [shop/waypoint]"))
    }

    @Test(
        "what nothing does anything about is lost",
        arguments: [
            (.authorizationPolicies, ["action": "CUSTOM", "rules": [[:]]], "CUSTOM is not supported"),
            (.authorizationPolicies, ["action": "AUDIT", "rules": [[:]]], "AUDIT is not supported"),
            (.peerAuthentications, ["mtls": ["mode": "DISABLE"]], "DISABLE is not supported"),
            (
                .peerAuthentications, ["mtls": ["mode": "STRICT"], "portLevelMtls": ["80": ["mode": "DISABLE"]]],
                "DISABLE of port 80"
            ),
            (.virtualServices, ["hosts": ["cart"]], "waypoints do not follow VirtualServices"),
            (.virtualServices, ["hosts": ["cart.shop.svc.cluster.local"], "gateways": ["mesh", "g"]], "waypoints do"),
            (.virtualServices, ["hosts": ["reviews.elsewhere"]], "clients of this namespace no longer follow it"),
            (
                .destinationRules,
                ["host": "cart", "subsets": [["name": "v1"]], "trafficPolicy": ["tls": ["mode": "SIMPLE"]]],
                "not followed: subsets, trafficPolicy.tls"
            ),
            (.telemetries, ["selector": ["matchLabels": ["app": "cart"]]], "is for selected workloads"),
        ] as [(ResourceType, JSONValue, String)])
    func lost(type: ResourceType, spec: JSONValue, said: String) throws {
        let finding = try self.finding(self.policy(type, spec))
        #expect(finding.verdict == .lost && finding.text.hasPrefix(said), "\(finding.text)")
    }

    @Test(
        "EnvoyFilters, Sidecars and WasmPlugins are lost",
        arguments: ["EnvoyFilter", "Sidecar", "WasmPlugin", "ProxyConfig"])
    func foreign(kind: String) throws {
        let type = ResourceType(group: "x", version: "v1", plural: "x", kind: kind, isNamespaced: true)
        #expect(try self.finding(self.policy(type, [:])).verdict == .lost)
    }

    @Test(
        "what is followed as before is kept",
        arguments: [
            (.peerAuthentications, ["mtls": ["mode": "STRICT"]]), (.peerAuthentications, [:]),
            (.virtualServices, ["hosts": ["cart"], "gateways": ["edge"]]),
            (.destinationRules, ["host": "cart", "trafficPolicy": ["tls": ["mode": "ISTIO_MUTUAL"]]]),
            (.destinationRules, ["host": "cart", "trafficPolicy": ["loadBalancer": ["simple": "RANDOM"]]]),
        ] as [(ResourceType, JSONValue)])
    func kept(type: ResourceType, spec: JSONValue) throws {
        #expect(try self.finding(self.policy(type, spec)).verdict == .kept)
    }

    @Test("balancing is a waypoint's matter")
    func balancing() throws {
        var input = self.shop()
        input.policies = [
            self.policy(.destinationRules, ["host": "cart", "trafficPolicy": ["outlierDetection": [:]]])
        ]
        input.gateways = [
            KubeObject(
                .gateways, namespace: "shop", name: "waypoint", ["spec": ["gatewayClassName": "istio-waypoint"]])
        ]
        #expect(try self.one(input).waypoint?.exists == true)
        #expect(try self.one(input).waypoint?.isUsed == false)
    }

    @Test("pods that are no part of it, or ask for a sidecar themselves, are named")
    func pods() throws {
        var input = self.shop()
        let job: JSONValue = ["kind": "StatefulSet", "name": "db", "controller": true]
        input.pods = [
            self.pod("cart-1", labels: ["sidecar.istio.io/inject": "true"]),
            self.pod("db-0", sidecar: false, owner: job),
            self.pod(
                "agent", annotations: ["traffic.sidecar.istio.io/excludeOutboundPorts": "3306"],
                owner: ["kind": "DaemonSet", "name": "agent", "controller": true]),
            self.pod(
                "host", sidecar: false, owner: ["kind": "DaemonSet", "name": "host", "controller": true],
                spec: ["hostNetwork": true]),
        ]
        let found = try self.one(input).findings.map { "\($0.kind) \($0.key) \($0.verdict)" }
        #expect(
            found == [
                "DaemonSet shop/agent lost", "DaemonSet shop/host note", "Deployment shop/cart edit",
                "StatefulSet shop/db note",
            ])
    }

    @Test("the page says what to do, in its order")
    func page() {
        var input = self.shop()
        input.policies = [self.policy(["rules": [["to": [["operation": ["methods": ["GET"]]]]]]])]
        let collected = Collected()
        MigrationPage.print(MigrationPlanner.plan(input), collected.output)
        #expect(
            collected.lines == [
                "Namespace shop: from sidecars to the node proxy", "  - label istio-injection=enabled",
                "  + label istio.io/dataplane-mode=ambient",
                "  Waypoint shop/waypoint (to be made), needed by: AuthorizationPolicy/shop/p", "",
                "  VERDICT   OBJECT                       WHAT BECOMES OF IT",
                "  edit      AuthorizationPolicy shop/p   asks for methods, which only a waypoint sees: the node proxy "
                    + "leaves such rules out and refuses what they allow; targetRefs: Gateway waypoint "
                    + "(gateway.networking.k8s.io)",
                "", "  Restart Deployment/cart: 1 pod with a sidecar", "",
                "  Look after 1 object first (edit, lost). Then, in this order:",
                "    martlet waypoint apply -n shop --enroll-namespace --wait",
                "    kubectl label namespace shop --overwrite istio-injection- istio.io/dataplane-mode=ambient",
                "    kubectl rollout restart -n shop deployment/cart",
            ])
    }

    @Test("the stable form has everything that the page has")
    func json() {
        var input = self.shop()
        input.policies = [self.policy(["rules": [["to": [["operation": ["methods": ["GET"]]]]]]])]
        let json = MigrationPlanner.plan(input).json
        #expect(json["ready"] == false)
        let namespace = json["namespaces"]?[0]
        #expect(namespace?["state"] == "sidecar" && namespace?.at("labels", "remove") == ["istio-injection"])
        #expect(namespace?["findings"]?[0]?["verdict"] == "edit")
        #expect(namespace?["findings"]?[0]?["targetRefs"]?[0]?["name"] == "waypoint")
        #expect(namespace?.at("waypoint", "neededBy") == ["AuthorizationPolicy/shop/p"])
    }

    @Test("a cluster is read as it is, also without Istio's other kinds")
    func read() async throws {
        let shop = try await Shop(mode: nil)
        try await shop.addService("cart")
        try await shop.cluster.create(
            .peerAuthentications,
            KubeObject(
                .peerAuthentications, namespace: "shop", name: "strict", ["spec": ["mtls": ["mode": "STRICT"]]]))
        let input = try await MigrationInput.read(shop.cluster, rootNamespace: "istio-system")
        #expect(input.services.map(\.key).contains("shop/cart"))
        #expect(input.policies.map { "\($0.kind)/\($0.key)" } == ["PeerAuthentication/shop/strict"])
    }
}
