import Foundation
import KubeAPI
import KubeClient
import MeshCLI
import Testing

/// The example of docs/cli.md, which whoever writes a waypoint reads.
private func documented() throws -> [UInt8] {
    let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("docs/cli.md")
    let text = try String(contentsOf: page, encoding: .utf8)
    let start = try #require(text.range(of: "```json\n")).upperBound
    let end = try #require(text.range(of: "\n```", range: start..<text.endIndex)).lowerBound
    return Array(text[start..<end].utf8)
}

@Suite("The dump of a waypoint")
struct ProxyConfigTests {
    private func config() throws -> WaypointDump { try WaypointDump(parsing: documented()) }

    @Test("as docs/cli.md shows it is read whole")
    func documentedExample() throws {
        let dump = try self.config()
        #expect(dump.waypoint == "shop/waypoint" && dump.trafficType == "service")
        #expect(dump.listeners.count == 2 && dump.routes.count == 1 && dump.clusters.count == 1)
        #expect(dump.endpoints.count == 1 && dump.certificates.count == 2)
        #expect(dump.bootstrap.table.lines.contains { $0.hasPrefix("workers") && $0.hasSuffix("2") })
    }

    @Test("is shown in the columns that are known")
    func tables() throws {
        let config = try self.config()
        let filter = ProxyConfigFilter()
        #expect(
            config.clusters(filter).table.lines == [
                "SERVICE FQDN                    PORT     SUBSET     DIRECTION     TYPE             DESTINATION RULE",
                "cart.shop.svc.cluster.local     80       -          inbound       leastRequest     -",
            ])
        #expect(
            config.listeners(filter).table.lines == [
                "LISTENER     CHAIN                              MATCH                    DESTINATION",
                "hbone        -                                  :15008 (HBONE)           -",
                "hbone        cart.shop.svc.cluster.local:80     10.43.0.7:80 (http1)     routes",
            ])
        #expect(
            config.endpoints(filter).table.lines == [
                "ENDPOINT           STATUS     OUTLIER CHECK     CLUSTER",
                "10.42.1.7:8080     -          -                 inbound-vip|80|http|cart.shop.svc.cluster.local",
            ])
        let routes = config.routes(filter).table.lines
        #expect(routes.count == 2 && routes[0].hasPrefix("NAME             VHOST NAME"))
        #expect(routes[1].hasPrefix("shop/split/0     cart.shop.svc.cluster.local:80     *           PathPrefix /api"))
        #expect(
            routes[1].hasSuffix(
                "HTTPRoute/shop/split     cart-v1.shop.svc.cluster.local:80 (9), refused: the service has no port 80 (1), "
                    + "URLRewrite, 2 retries"))
    }

    @Test("certificates are judged by the clock, and their serial numbers are hexadecimal")
    func secrets() throws {
        let format = ISO8601DateFormatter()
        let config = try self.config()
        let now = try #require(format.date(from: "2026-11-26T12:00:00Z"))
        let lines = config.secrets(now: now).table.lines
        #expect(lines.count == 3)
        #expect(lines[1].contains("Leaf             Available     true           7b"))
        #expect(lines[2].contains("Intermediate     Available     true           01"))
        let later = try #require(format.date(from: "2026-11-28T12:00:00Z"))
        #expect(config.secrets(now: later).table.lines[1].contains("false"))
    }

    @Test("filters narrow a list, and a list of nothing is its header")
    func filters() throws {
        let config = try self.config()
        var filter = ProxyConfigFilter()
        filter.fqdn = "CART.shop.svc.cluster.local"
        filter.port = 80
        #expect(config.clusters(filter).items.count == 1)
        filter.port = 81
        #expect(config.clusters(filter).table.lines.count == 1)
        filter = ProxyConfigFilter()
        filter.address = "10.42.1.7"
        filter.port = 8080
        #expect(config.endpoints(filter).items.count == 1)
        filter.port = 8081
        #expect(config.endpoints(filter).items.isEmpty)
        filter = ProxyConfigFilter()
        filter.address = "10.43.0.7"
        #expect(config.listeners(filter).items.count == 1)
    }

    @Test("a rule with several matches has several rows, and is one item of the JSON")
    func matches() throws {
        let config = try WaypointDump(
            parsing: Array(
                #"""
                {"waypoint":{"known":false},"routes":[{"service":"a/b","name":"a/r","kind":"GRPCRoute","port":null,"rules":[{"name":"x",
                "matches":[{"grpcService":"S","grpcMethod":"*","headers":["h=1"],"query":[]},{"exact":"/e","method":"GET","query":["q=~.*"]}],
                "backends":[],"filters":["RequestRedirect"]}]},
                {"service":"a/b","name":"a/t","kind":"TLSRoute","port":443,"serverNames":["x.example"],"backends":[{"service":"a/c","port":1,"weight":1}]}]}
                """#.utf8))
        let view = config.routes(ProxyConfigFilter())
        #expect(
            config.routes.map(\.match) == [
                "Call S/*, Header h=1", "Exact /e, Method GET, Query q=~.*", "SNI x.example",
            ])
        #expect(config.routes.map(\.name) == ["a/r/x", "a/r/x", "a/t"])
        #expect(config.routes.map(\.destination) == ["RequestRedirect", "RequestRedirect", "c:1"])
        #expect(view.items.count == 2 && view.table.lines.count == 4)
        #expect(config.clusters.isEmpty, "a list that is missing is empty")
        #expect(config.waypoint == nil)
    }

    @Test(
        "34: the dump of something else is named",
        arguments: [
            (#"{"workloads":[],"services":[]}"#, "ztunnel-config"), (#"{"configs":[]}"#, "Envoy"),
            ("<html>", "no JSON"), ("[]", "no JSON object"),
            (#"{}"#, "no member \"waypoint\""),
        ])
    func foreign(text: String, said: String) {
        #expect {
            try WaypointDump(parsing: Array(text.utf8))
        } throws: { "\($0)".contains(said) }
    }

    @Test("words for levels are brought into the one form that a process knows")
    func levels() throws {
        #expect(try LogLevels.normalised("warning") == "warn")
        #expect(try LogLevels.normalised("Critical") == "error")
        #expect(try LogLevels.normalised("mymod=trace,info") == "mymod=trace,info")
        #expect(try LogLevels.normalised("tunnel::pool:debug,dns=warning") == "tunnel::pool=debug,dns=warn")
        for bad in ["x", "", "a=", "=info", "a&b=info", "info,"] {
            #expect(throws: CommandError.self) { try LogLevels.normalised(bad) }
        }
    }
}

@Suite("The name of a pod")
struct PodReferenceTests {
    private func add(
        _ shop: Shop, _ name: String, labels: [String: String], isReady: Bool = false
    ) async throws {
        try await shop.cluster.create(
            .pods,
            KubeObject(
                .pods, namespace: "shop", name: name, labels: labels,
                ["spec": ["containers": [["name": "c", "image": "x"]]]]))
        guard isReady else { return }
        _ = try await shop.cluster.patch(
            .pods, namespace: "shop", name: name, subresource: "status",
            .merge(["status": ["conditions": [["type": "Ready", "status": "True"]]]]))
    }

    @Test("leads to a pod, by its own name or by what owns it; ready ones first")
    func resolves() async throws {
        let shop = try await Shop()
        try await self.add(shop, "cart.v1", labels: ["app": "cart"])
        try await self.add(shop, "cart-2", labels: ["app": "cart"], isReady: true)
        try await self.add(shop, "w-1", labels: ["gateway.networking.k8s.io/gateway-name": "waypoint"])
        try await shop.addService("cart")
        try await shop.cluster.create(
            .deployments,
            KubeObject(
                .deployments, namespace: "shop", name: "cart",
                [
                    "spec": [
                        "selector": ["matchLabels": ["app": "cart"]],
                        "template": [
                            "metadata": ["labels": ["app": "cart"]],
                            "spec": ["containers": [["name": "c", "image": "x"]]],
                        ],
                    ]
                ]))
        for (text, found) in [
            ("w-1.shop", "w-1"), ("w-1", "w-1"), ("cart.v1", "cart.v1"), ("cart.v1.shop", "cart.v1"),
            ("svc/cart.shop", "cart-2"),
            ("deploy/cart", "cart-2"), ("waypoint.shop", "w-1"), ("gateway/waypoint", "w-1"),
        ] {
            let pod = try await PodReference(parsing: text).pod(in: shop.cluster, defaultNamespace: "shop")
            #expect(pod.name == found, "\(text)")
        }
        let error = try await shop.refusal {
            _ = try await PodReference(parsing: "pod/nope.shop").pod(in: shop.cluster, defaultNamespace: "default")
        }
        #expect(error.contains("no pods match pod/nope in namespace shop"))
    }

    @Test("is refused when it names no kind with pods", arguments: ["secret/x", "deploy/", ""])
    func refused(text: String) {
        #expect(throws: CommandError.self) { try PodReference(parsing: text) }
    }
}
