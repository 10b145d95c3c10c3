import KubeAPI
import KubeClient
import MeshCLI
import Testing

@Suite("martlet waypoint generate")
struct WaypointGenerateTests {
    @Test("is the object that the article shows")
    func article() throws {
        let text = try Waypoint(name: "", namespace: "bar-2", trafficType: "service").object.json.yaml
        #expect(
            text == """
                apiVersion: gateway.networking.k8s.io/v1
                kind: Gateway
                metadata:
                  labels:
                    istio.io/waypoint-for: service
                  name: waypoint
                  namespace: bar-2
                spec:
                  gatewayClassName: istio-waypoint
                  listeners:
                  - name: mesh
                    port: 15008
                    protocol: HBONE

                """)
    }

    @Test("14: labels and namespace are there only when they were asked for")
    func bare() throws {
        let bare = try Waypoint(name: "w", namespace: nil).object
        #expect(bare.metadata == ["name": "w"])
        let all = try Waypoint(name: "w", namespace: nil, trafficType: "all", revision: "canary").object
        #expect(all.labels == ["istio.io/waypoint-for": "all", "istio.io/rev": "canary"])
    }

    @Test("15, 16: refuses a traffic type that does not exist, and the reserved name")
    func refused() {
        #expect {
            try Waypoint(name: "w", namespace: nil, trafficType: "bogus")
        } throws: {
            "\($0)".contains("bogus") && "\($0)".contains("service, workload, all, none")
        }
        #expect {
            try Waypoint(name: "none", namespace: nil)
        } throws: { "\($0)".contains("none") }
    }
}

@Suite("martlet waypoint apply")
struct WaypointApplyTests {
    private func apply(
        _ shop: Shop, _ collected: Collected, name: String = "waypoint", namespace: String = "shop",
        enrolled: [WaypointApply.Enrolment] = [], overwrites: Bool = false, wait: Duration? = nil
    ) async throws {
        try await WaypointApply(
            cluster: shop.cluster, waypoint: Waypoint(name: name, namespace: namespace), namespace: namespace,
            enrolled: enrolled, overwrites: overwrites, wait: wait, output: collected.output
        ).run()
    }

    @Test("J11: makes the Gateway and labels the namespace")
    func journey() async throws {
        let shop = try await Shop()
        let collected = Collected()
        try await self.apply(shop, collected, enrolled: [.namespace("shop")])
        #expect(
            collected.lines == [
                "✅ waypoint shop/waypoint applied",
                "✅ namespace shop labeled with \"istio.io/use-waypoint: waypoint\"",
            ])
        #expect(collected.notices.isEmpty)
        #expect(try await shop.label(.namespaces, "shop", "istio.io/use-waypoint") == "waypoint")
        #expect(try await shop.label(.namespaces, "shop", "istio.io/dataplane-mode") == "ambient", "others stay")
        let gateway = try await shop.cluster.get(.gateways, namespace: "shop", name: "waypoint")
        #expect(gateway.spec["gatewayClassName"]?.string == "istio-waypoint")
    }

    @Test("18: applied, ready, labelled: in that order, and why it is not ready meanwhile")
    func waits() async throws {
        let shop = try await Shop()
        let collected = Collected()
        try await shop.cluster.create(
            .pods,
            KubeObject(
                .pods, namespace: "shop", name: "waypoint-1",
                labels: ["gateway.networking.k8s.io/gateway-name": "waypoint"],
                ["spec": ["containers": [["name": "istio-proxy", "image": "martlet"]]]]))
        async let applied: Void = self.apply(
            shop, collected, enrolled: [.namespace("shop")], wait: .seconds(120))
        func awaitNotice(_ text: String) async throws {
            let started = ContinuousClock.now
            while !collected.notices.contains(where: { $0.contains(text) }) {
                try #require(ContinuousClock.now - started < .seconds(60), "\(collected.notices) lack \(text)")
                try await Task.sleep(for: .milliseconds(10))
            }
        }
        try await awaitNotice("Programmed is Unknown (Pending): Waiting for controller; pod waypoint-1:")
        let isLabelled = try await shop.label(.namespaces, "shop", "istio.io/use-waypoint")
        #expect(isLabelled == nil, "before it is ready nothing is sent to it")
        try await shop.setConditions(
            "waypoint", [condition(status: "False", reason: "AddressNotAssigned", message: "no address")])
        try await awaitNotice("Programmed is False (AddressNotAssigned): no address")
        // Of an older generation: says nothing about the present one.
        try await shop.setConditions("waypoint", [condition(generation: 0)])
        try await awaitNotice("has not looked at its last change")
        try await shop.setConditions("waypoint", [condition()])
        try await applied
        #expect(
            collected.lines == [
                "✅ waypoint shop/waypoint applied", "✅ waypoint shop/waypoint is ready!",
                "✅ namespace shop labeled with \"istio.io/use-waypoint: waypoint\"",
            ])
    }

    @Test("20: names the waypoint and the reason when it is not ready in time")
    func late() async throws {
        let shop = try await Shop()
        let error = try await shop.refusal {
            try await self.apply(shop, Collected(), enrolled: [.namespace("shop")], wait: .milliseconds(1))
        }
        #expect(error.contains("shop/waypoint") && error.contains("Waiting for controller"))
        #expect(try await shop.label(.namespaces, "shop", "istio.io/use-waypoint") == nil)
    }

    @Test("19: a label that is there stays, the waypoint is applied all the same")
    func labelled() async throws {
        let shop = try await Shop()
        try await self.apply(shop, Collected(), enrolled: [.namespace("shop")])
        let collected = Collected()
        try await self.apply(shop, collected, name: "second", enrolled: [.namespace("shop")])
        #expect(collected.lines == ["✅ waypoint shop/second applied"])
        #expect(collected.notices.count == 1 && collected.notices[0].contains("--overwrite"))
        #expect(try await shop.label(.namespaces, "shop", "istio.io/use-waypoint") == "waypoint")
        try await self.apply(shop, collected, name: "second", enrolled: [.namespace("shop")], overwrites: true)
        #expect(try await shop.label(.namespaces, "shop", "istio.io/use-waypoint") == "second")
    }

    @Test("warns when the namespace is not part of the mesh, and goes on")
    func outside() async throws {
        let shop = try await Shop(mode: nil)
        let collected = Collected()
        try await self.apply(shop, collected, enrolled: [.namespace("shop")])
        #expect(collected.notices.count == 1)
        #expect(collected.notices[0].contains("kubectl label namespace shop istio.io/dataplane-mode=ambient"))
        #expect(collected.lines.count == 2)
    }

    @Test("labels one service when that was asked for")
    func service() async throws {
        let shop = try await Shop()
        try await shop.addService("cart", labels: ["istio.io/use-waypoint-namespace": "elsewhere"])
        let collected = Collected()
        try await self.apply(shop, collected, enrolled: [try .init(parsing: "svc/cart")])
        #expect(collected.lines.last == "✅ service cart labeled with \"istio.io/use-waypoint: waypoint\"")
        #expect(try await shop.label(.services, "cart", "istio.io/use-waypoint") == "waypoint")
        #expect(try await shop.label(.services, "cart", "istio.io/use-waypoint-namespace") == nil)
        let error = try await shop.refusal {
            try await self.apply(shop, collected, name: "other", enrolled: [try .init(parsing: "service/none")])
        }
        #expect(error.contains("service none does not exist"))
        #expect(try await shop.cluster.find(.gateways, namespace: "shop", name: "other") == nil, "nothing was changed")
        #expect(throws: CommandError.self) { try WaypointApply.Enrolment(parsing: "deployment/cart") }
        #expect(throws: CommandError.self) { try WaypointApply.Enrolment(parsing: "cart") }
    }

    @Test("names a namespace that does not exist")
    func noNamespace() async throws {
        let shop = try await Shop()
        let error = try await shop.refusal { try await self.apply(shop, Collected(), namespace: "nope") }
        #expect(error.contains("namespace \"nope\" does not exist"))
    }

    @Test("17: says that the Gateway API is missing")
    func noGatewayAPI() async throws {
        let shop = try await Shop(kinds: false)
        let error = try await shop.refusal { try await self.apply(shop, Collected()) }
        #expect(error.contains("gateways.gateway.networking.k8s.io"))
        let listing = try await shop.refusal {
            try await WaypointList(cluster: shop.cluster, namespace: nil, output: Collected().output).run()
        }
        #expect(listing.contains("gateways.gateway.networking.k8s.io"))
    }

    @Test("fields of another manager are not taken over")
    func conflict() async throws {
        let shop = try await Shop()
        _ = try await shop.cluster.patch(
            .gateways, namespace: "shop", name: "waypoint", subresource: nil,
            .apply(
                KubeObject(
                    .gateways, namespace: "shop", name: "waypoint",
                    [
                        "spec": [
                            "gatewayClassName": "other",
                            "listeners": [["name": "mesh", "port": 15008, "protocol": "HBONE"]],
                        ]
                    ]
                ).json, fieldManager: "somebody", force: false))
        let error = try await shop.refusal { try await self.apply(shop, Collected()) }
        #expect(error.contains("shop/waypoint") && error.contains("somebody"))
    }
}

@Suite("martlet waypoint list, status and delete")
struct WaypointTableTests {
    private func list(_ shop: Shop, namespace: String?) async throws -> [String] {
        let collected = Collected()
        try await WaypointList(cluster: shop.cluster, namespace: namespace, output: collected.output).run()
        return collected.lines
    }

    private func status(
        _ shop: Shop, namespace: String? = "shop", names: [String] = [], wait: Duration? = nil,
        _ collected: Collected
    ) async throws {
        try await WaypointStatus(
            cluster: shop.cluster, namespace: namespace, names: names, wait: wait, output: collected.output
        ).run()
    }

    private func delete(
        _ shop: Shop, _ names: [String] = [], all: Bool = false, revision: String? = nil, unenrols: Bool = false,
        _ collected: Collected = Collected()
    ) async throws -> [String] {
        try await WaypointDelete(
            cluster: shop.cluster, namespace: "shop", names: names, all: all, revision: revision, unenrols: unenrols,
            output: collected.output
        ).run()
        return collected.lines
    }

    @Test("21: a waypoint without the label is one for services; Gateways of others are no waypoints")
    func lists() async throws {
        let shop = try await Shop()
        try await shop.addGateway("ingress", class: "istio")
        #expect(try await self.list(shop, namespace: "shop") == ["No waypoints found."])
        try await shop.addNamespace("bar")
        try await shop.addGateway("waypoint", conditions: [condition()])
        try await shop.addGateway(
            "l4only", labels: ["istio.io/rev": "canary", "istio.io/waypoint-for": "none"],
            conditions: [condition(status: "False")])
        try await shop.addGateway("b", in: "bar")
        #expect(
            try await self.list(shop, namespace: "shop") == [
                "NAME         REVISION     TRAFFIC TYPE     PROGRAMMED",
                "l4only       canary       none             False",
                "waypoint     default      service          True",
            ])
        #expect(
            try await self.list(shop, namespace: nil) == [
                "NAMESPACE     NAME         REVISION     TRAFFIC TYPE     PROGRAMMED",
                "bar           b            default      service          Unknown",
                "shop          l4only       canary       none             False",
                "shop          waypoint     default      service          True",
            ])
    }

    @Test("a Gateway without any condition is not programmed")
    func noCondition() {
        let condition = GatewayCondition(of: KubeObject(.gateways, namespace: "shop", name: "w"))
        #expect(!condition.isProgrammed && condition.status == "Unknown")
        #expect(condition.trouble.contains("no control plane has looked at it yet"))
    }

    @Test("status shows each waypoint's own condition, once")
    func shows() async throws {
        let shop = try await Shop()
        try await shop.addGateway(
            "a", conditions: [condition("Accepted", reason: "Accepted"), condition(message: "ok")])
        try await shop.addGateway("b")
        try await shop.addGateway("c", conditions: [condition("Accepted", reason: "Accepted", message: "seen")])
        let collected = Collected()
        try await self.status(shop, collected)
        #expect(
            collected.lines == [
                "NAME     STATUS      TYPE           REASON         MESSAGE",
                "a        True        Programmed     Programmed     ok",
                "b        Unknown     Programmed     Pending        Waiting for controller",
                "c        True        Accepted       Accepted       seen",
            ])
        let one = Collected()
        try await self.status(shop, namespace: nil, names: ["a"], wait: .seconds(60), one)
        #expect(one.lines.count == 2 && one.lines[1].hasPrefix("shop"))
        #expect(one.notices.isEmpty, "it looks at once")
        let error = try await shop.refusal { try await self.status(shop, names: ["x"], Collected()) }
        #expect(error.contains("no waypoint shop/x"))
    }

    @Test("status that waits in vain shows the table all the same, and fails with the reason")
    func statusLate() async throws {
        let shop = try await Shop()
        try await shop.addGateway(
            "a", conditions: [condition(status: "False", reason: "Pending", message: "no address")])
        let collected = Collected()
        let error = try await shop.refusal { try await self.status(shop, wait: .milliseconds(1), collected) }
        #expect(error.contains("shop/a") && error.contains("no address"))
        #expect(collected.lines.count == 2)
    }

    @Test("22: deletes waypoints by name; what is missing or somebody else's is not found")
    func deletes() async throws {
        let shop = try await Shop()
        try await shop.addGateway("a")
        try await shop.addGateway("ingress", class: "istio")
        #expect(
            try await self.delete(shop, ["a", "missing", "ingress"]) == [
                "waypoint shop/a deleted", "waypoint shop/missing not found", "waypoint shop/ingress not found",
            ])
        try await shop.addGateway("b")
        try await shop.addGateway("c", labels: ["istio.io/rev": "canary"])
        #expect(try await self.delete(shop, revision: "canary") == ["waypoint shop/c deleted"])
        #expect(try await self.delete(shop, all: true) == ["waypoint shop/b deleted"])
        #expect(try await self.delete(shop, all: true) == ["No waypoints found."])
        #expect(try await shop.cluster.list(.gateways, namespace: "shop").items.map(\.name) == ["ingress"])
    }

    @Test("23: names or --all or a revision, one of them")
    func usage() async throws {
        let shop = try await Shop()
        #expect(try await shop.refusal { _ = try await self.delete(shop) }.contains("--all"))
        #expect(try await shop.refusal { _ = try await self.delete(shop, ["x"], all: true) }.contains("together"))
    }

    @Test("says who still asks for a waypoint that is gone, or lets them go")
    func users() async throws {
        let shop = try await Shop()
        try await shop.addNamespace("near", labels: ["istio.io/use-waypoint": "a"])
        try await shop.addNamespace(
            "far", labels: ["istio.io/use-waypoint": "a", "istio.io/use-waypoint-namespace": "shop"])
        try await shop.addService("cart", labels: ["istio.io/use-waypoint": "a"])
        try await shop.addGateway("a")
        let collected = Collected()
        _ = try await self.delete(shop, ["a"], collected)
        #expect(collected.notices.count == 2, "\(collected.notices)")
        #expect(collected.notices[0].contains("namespace far still asks for waypoint shop/a"))
        #expect(collected.notices[1].contains("kubectl label service cart -n shop istio.io/use-waypoint-"))
        try await shop.addGateway("a")
        let lines = try await self.delete(shop, ["a"], unenrols: true)
        #expect(lines.count == 3, "\(lines)")
        #expect(try await shop.label(.services, "cart", "istio.io/use-waypoint") == nil)
        #expect(try await shop.label(.namespaces, "near", "istio.io/use-waypoint") == "a", "another waypoint")
    }
}
