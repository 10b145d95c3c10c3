import KubeAPI
import KubeClient
import MeshCLI
import Testing

@Suite("martlet describe")
struct DescribeTests {
    private func pod(_ shop: Shop, labels: [String: String] = [:], isCaptured: Bool = true) async throws {
        try await shop.cluster.create(
            .pods,
            KubeObject(
                .pods, namespace: "shop", name: "cart-1", labels: labels.merging(["app": "cart"]) { $1 },
                annotations: isCaptured ? ["ambient.istio.io/redirection": "enabled"] : [:],
                ["spec": ["serviceAccountName": "cart", "containers": [["name": "c", "image": "x"]]]]))
    }

    private func policy(_ shop: Shop, _ name: String, _ spec: JSONValue) async throws {
        try await shop.cluster.create(
            .authorizationPolicies,
            KubeObject(.authorizationPolicies, namespace: "shop", name: name, ["spec": spec]))
    }

    private func page(_ shop: Shop, pod: Bool = false) async throws -> [String] {
        let collected = Collected()
        let describe = Describe(cluster: shop.cluster, rootNamespace: "istio-system", output: collected.output)
        if pod {
            try await describe.pod(try await shop.cluster.get(.pods, namespace: "shop", name: "cart-1"))
        } else {
            try await describe.service(try await shop.cluster.get(.services, namespace: "shop", name: "cart"))
        }
        return collected.lines
    }

    @Test("a service without anything has no waypoint")
    func bare() async throws {
        let shop = try await Shop()
        try await shop.addService("cart")
        #expect(
            try await self.page(shop) == [
                "Service: cart.shop", "   Port: - 80/TCP, port 80 of the pods", "   Waypoint: none",
            ])
    }

    @Test("policies for HTTP are enforced by the waypoint, or said to be not enforced")
    func servicePolicies() async throws {
        let shop = try await Shop()
        try await shop.addService("cart", labels: ["istio.io/use-waypoint": "w"])
        try await self.policy(
            shop, "deny", ["action": "DENY", "targetRefs": [["group": "", "kind": "Service", "name": "cart"]]])
        try await self.policy(shop, "other", ["targetRefs": [["group": "", "kind": "Service", "name": "other"]]])
        var lines = try await self.page(shop)
        #expect(lines.contains { $0.contains("Waypoint: shop/w (its label): it does not exist") })
        #expect(
            lines.contains(
                "   AuthorizationPolicy: shop/deny (DENY, attached to it; NOT enforced: there is no waypoint)"))
        try await shop.addGateway("w", conditions: [condition()])
        try await self.policy(
            shop, "gate",
            ["targetRefs": [["group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "w"]]])
        lines = try await self.page(shop)
        #expect(lines.contains("   Waypoint: shop/w (its label): programmed"))
        #expect(lines.contains("   AuthorizationPolicy: shop/deny (DENY, attached to it; enforced by the waypoint)"))
        #expect(
            lines.contains(
                "   AuthorizationPolicy: shop/gate (ALLOW, attached to its waypoint; enforced by the waypoint)"))
        #expect(!lines.contains { $0.contains("shop/other") })
    }

    @Test("a waypoint for other traffic is not used")
    func trafficType() async throws {
        let shop = try await Shop()
        try await shop.addService("cart", labels: ["istio.io/use-waypoint": "w"])
        try await shop.addGateway("w", labels: ["istio.io/waypoint-for": "workload"], conditions: [condition()])
        #expect(try await self.page(shop).contains { $0.contains("NOT used, it is for traffic of type workload") })
    }

    @Test("a captured pod is part of the mesh, and its policies are the node proxy's")
    func captured() async throws {
        let shop = try await Shop()
        try await self.pod(shop)
        try await shop.addService("cart")
        try await self.policy(shop, "mine", ["selector": ["matchLabels": ["app": "cart"]], "action": "DENY"])
        try await self.policy(shop, "inert", ["selector": [:]])
        try await self.policy(shop, "all", [:])
        let lines = try await self.page(shop, pod: true)
        #expect(lines.contains("   Mesh: captured: traffic goes through the node proxy of its node"))
        #expect(lines.contains("   Identity: ns/shop/sa/cart"))
        #expect(lines.contains("   AuthorizationPolicy: shop/mine (DENY, selects it; enforced by the node proxy)"))
        #expect(
            lines.contains("   AuthorizationPolicy: shop/all (ALLOW, of its namespace; enforced by the node proxy)"))
        #expect(!lines.contains { $0.contains("shop/inert") })
        #expect(lines.contains("Service: cart.shop"))
    }

    @Test(
        "a pod that is not captured says why",
        arguments: [
            (Optional("ambient"), [String: String](), "NOT captured although it asks for it"),
            (nil, [:], "neither it nor its namespace"),
            ("ambient", ["istio.io/dataplane-mode": "none"], "its label istio.io/dataplane-mode is none"),
        ])
    func outside(mode: String?, labels: [String: String], said: String) async throws {
        let shop = try await Shop(mode: mode)
        try await self.pod(shop, labels: labels, isCaptured: false)
        #expect(try await self.page(shop, pod: true)[1].contains(said))
    }
}
