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
    private func config() throws -> ProxyConfig { try ProxyConfig(parsing: documented()) }

    @Test("as docs/cli.md shows it is read whole")
    func documentedExample() throws {
        let dump = try self.config().dump
        #expect(dump.waypoint == "shop/waypoint" && dump.trafficType == "service")
        #expect(dump.listeners.count == 2 && dump.routes.count == 1 && dump.clusters.count == 1)
        #expect(dump.endpoints.count == 1 && dump.certificates.count == 1)
        #expect(dump.routes[0].destinations.map(\.weight) == [9, 1])
        #expect(dump.settings == ["WAYPOINT_WORKER_THREADS": "2"])
    }

    @Test("is shown in the columns that are known")
    func tables() throws {
        let config = try self.config()
        let filter = ProxyConfigFilter()
        #expect(
            config.clusters(filter).table.lines == [
                "SERVICE FQDN                    PORT     SUBSET     DIRECTION     TYPE              DESTINATION RULE",
                "cart.shop.svc.cluster.local     80       -          inbound       LEAST_REQUEST     shop/cart",
            ])
        #expect(
            config.listeners(filter).table.lines
                == [
                    "LISTENER     CHAIN                                   MATCH                                      DESTINATION",
                    "hbone        shop/cart.shop.svc.cluster.local:80     cart.shop.svc.cluster.local:80 (HTTP)      routes",
                    "admin        -                                       127.0.0.1:15000                            -",
                ].map { $0 })
        #expect(
            config.endpoints(filter).table.lines == [
                "ENDPOINT           STATUS      OUTLIER CHECK     CLUSTER",
                "10.42.1.7:8080     HEALTHY     OK                inbound|80||cart.shop.svc.cluster.local",
            ])
        let routes = config.routes(filter).table.lines
        #expect(routes[0].hasPrefix("NAME             VHOST NAME"))
        #expect(
            routes[1].contains(
                "cart.shop.svc.cluster.local:80     *           PathPrefix /api     HTTPRoute/shop/split"))
        #expect(routes[1].hasSuffix("refused: the service has no port 80, URLRewrite /"))
    }

    @Test("certificates are judged by the clock, and their serial numbers are hexadecimal")
    func secrets() throws {
        let format = ISO8601DateFormatter()
        let config = try self.config()
        let now = try #require(format.date(from: "2026-11-26T12:00:00Z"))
        let lines = config.secrets(now: now).table.lines
        #expect(lines.count == 3)
        #expect(lines[1].contains("Leaf     Available     true           7b"))
        #expect(lines[2].contains("Root     Available     true           01"))
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
        filter.status = "healthy"
        #expect(config.endpoints(filter).items.count == 1)
        filter.port = 8081
        #expect(config.endpoints(filter).items.isEmpty)
        filter = ProxyConfigFilter()
        filter.port = 15008
        #expect(config.listeners(filter).items.count == 1)
    }

    @Test("members that we do not know stay in the JSON")
    func unknownMembers() throws {
        let config = try ProxyConfig(
            parsing: Array(
                #"{"waypoint":"a/b","clusters":[{"service":"a/c","port":1,"direction":"inbound","type":"X","new":7}]}"#
                    .utf8))
        #expect(config.clusters(ProxyConfigFilter()).items[0]["new"] == 7)
        #expect(config.dump.routes.isEmpty, "a list that is missing is empty")
    }

    @Test(
        "34: the dump of something else is named",
        arguments: [
            (#"{"workloads":[],"services":[]}"#, "ztunnel-config"), (#"{"configs":[]}"#, "Envoy"),
            (#"{"waypoint":"a/b","clusters":[{"service":1}]}"#, ".clusters[0].service"), ("<html>", "no JSON"),
            (#"{}"#, "no member \"waypoint\""),
        ])
    func foreign(text: String, said: String) {
        #expect {
            try ProxyConfig(parsing: Array(text.utf8))
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
