import MeshDirectory
import MeshIdentity
import MeshModel
import MeshProxy
import MeshTunnel
import Testing

@Suite("An outbound connection to another network")
struct NetworkTests {
    /// The service `web` at 10.2.0.1 with one endpoint `far` on network "remote".
    private func world(
        gateway: GatewayAddress? = gateway("10.22.1.1", port: 15009, network: "remote"),
        change: (inout Service) -> Void = { _ in }
    ) -> World {
        var world = World.withClient
        world.add(
            service("web", "10.2.0.1") {
                $0.hostname = "example.com"
                $0.subjectAltNames = ["spiffe://cluster.local/ns/ns1/sa/far"]
                change(&$0)
            })
        world.add(
            workload("far") {
                $0.network = "remote"
                $0.networkGateway = gateway
                $0.services[NamespacedName(namespace: "ns1", name: "example.com")] = [
                    ServicePort(port: 80, targetPort: 8080)
                ]
            },
            workload("gateway", "10.22.1.1", namespace: "istio-system") { $0.network = "remote" })
        return world
    }

    private func tunnel(_ world: World, _ destination: String = "10.2.0.1:80") throws -> TunnelRoute {
        let answer = world.snapshot.routeOutbound(
            OutboundQuestion(
                pod: pod("client"), source: IPEndpoint("10.1.0.1:40000")!, destination: IPEndpoint(destination)!))
        guard case .tunnel(let route) = answer else { throw NoTunnel(description: "\(Route(answer))") }
        return route
    }
    private struct NoTunnel: Error, CustomStringConvertible { var description: String }

    @Test("O2: without a gateway is refused, with the network's name")
    func noGateway() {
        var world = self.world(gateway: nil)
        #expect(world.route("10.2.0.1:80").isRefused("no healthy upstream"), "neither an address nor a gateway")
        world.add(
            workload("far", "10.5.0.1") {
                $0.network = "remote"
                $0.services[NamespacedName(namespace: "ns1", name: "example.com")] = []
            })
        #expect(world.route("10.2.0.1:80").isRefused("network \"remote\", for which no gateway"))
    }

    @Test("O3: goes to the gateway's address and port, for the service by name")
    func gatewayByAddress() throws {
        #expect(
            self.world().route("10.2.0.1:80") == .doubleHBONE(peer: "10.22.1.1:15009", authority: "example.com:80"))
    }

    @Test("O4: goes to a pod of the gateway's service, at the port that it maps")
    func gatewayByHostname() {
        var world = self.world(gateway: gateway(service: "gw", namespace: "istio-system", port: 15009))
        world.add(service("gw", namespace: "istio-system", ports: [15009: 15008]))
        world.add(
            workload("gwpod", "127.0.0.5", namespace: "istio-system") {
                $0.network = "remote"
                $0.services[serviceKey("gw", "istio-system")] = [ServicePort(port: 15009, targetPort: 15008)]
            })
        #expect(world.route("10.2.0.1:80") == .doubleHBONE(peer: "127.0.0.5:15008", authority: "example.com:80"))
    }

    @Test("another pod of the gateway is tried, and the end is said")
    func otherGateway() {
        var world = self.world(gateway: gateway(service: "gw", port: 15008))
        world.add(service("gw", ports: [15008: 15008]))
        for index in 5...6 {
            world.add(
                workload("gw\(index)", "10.22.2.\(index)") {
                    $0.network = "remote"
                    $0.serves("gw", [:])
                })
        }
        for _ in 0..<20 {
            #expect(
                world.route("10.2.0.1:80", excluding: ["10.22.2.5"])
                    == .doubleHBONE(peer: "10.22.2.6:15008", authority: "example.com:80"))
        }
        #expect(world.route("10.2.0.1:80", excluding: ["10.22.2.5", "10.22.2.6"]).isRefused("has been tried"))
    }

    @Test("a gateway that nobody knows is refused with its name")
    func unknownGateway() {
        #expect(
            self.world(gateway: gateway("10.22.9.9", network: "remote")).route("10.2.0.1:80")
                .isRefused("unknown network gateway"))
        #expect(
            self.world(gateway: gateway(service: "nobody")).route("10.2.0.1:80").isRefused("ns1/nobody"))
    }

    @Test("O5: a waypoint on another network is reached through its gateway, for the original service")
    func remoteWaypoint() throws {
        var world = self.world { $0.waypoint = gateway(service: "wp") }
        world.add(
            service("wp", "10.2.0.9", ports: [15008: 15008]) {
                $0.subjectAltNames = ["spiffe://cluster.local/ns/ns1/sa/waypoint"]
            })
        world.add(
            workload("waypoint") {
                $0.network = "remote"
                $0.networkGateway = gateway("10.22.1.1", port: 15009, network: "remote")
                $0.serves("wp", [15008: 15008])
            })
        let route = try self.tunnel(world)
        #expect(route.peer == IPEndpoint("10.22.1.1:15009") && route.authority == "example.com:80")
        #expect(route.inner?.expected.map(\.serviceAccount) == ["waypoint"])
        #expect(route.headers.contains { $0.name == "forwarded" && $0.value.hasSuffix(";host=example.com") })
    }

    @Test("O6, O7: prefers a healthy endpoint here, else goes through the gateway", arguments: [true, false])
    func failover(isHealthy: Bool) {
        var world = self.world {
            $0.loadBalancing.mode = .failover
            $0.loadBalancing.routingPreference = [.network]
        }
        world.add(
            workload("near", "10.1.0.2") {
                $0.isHealthy = isHealthy
                $0.services[NamespacedName(namespace: "ns1", name: "example.com")] = [
                    ServicePort(port: 80, targetPort: 8080)
                ]
            })
        let expected =
            isHealthy
            ? Route.hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:8080")
            : .doubleHBONE(peer: "10.22.1.1:15009", authority: "example.com:80")
        for _ in 0..<50 { #expect(world.route("10.2.0.1:80") == expected) }
    }

    @Test("W9: without a preference endpoints here and there are both used")
    func both() {
        var world = self.world()
        world.add(
            workload("near", "10.1.0.2") {
                $0.services[NamespacedName(namespace: "ns1", name: "example.com")] = []
            })
        let routes = Set((0..<100).map { _ in "\(world.route("10.2.0.1:80"))" })
        #expect(routes.count == 2)
        // The one here was tried: through the gateway. Both were: the end.
        #expect(
            world.route("10.2.0.1:80", excluding: ["10.1.0.2"])
                == .doubleHBONE(peer: "10.22.1.1:15009", authority: "example.com:80"))
        #expect(world.route("10.2.0.1:80", excluding: ["10.1.0.2", "10.22.1.1"]).isRefused("has been tried"))
    }

    @Test("the gateway proves itself outside, the workload inside; only names that the service lists count there")
    func identities() throws {
        let route = try self.tunnel(self.world())
        #expect(route.expected.map(\.description) == ["spiffe://cluster.local/ns/istio-system/sa/gateway"])
        #expect(route.inner?.expected.map(\.description) == ["spiffe://cluster.local/ns/ns1/sa/far"])
    }

    @Test("a service that lists no identities has none to prove: refused, with the reason")
    func nobodyToProve() {
        #expect(self.world { $0.subjectAltNames = [] }.route("10.2.0.1:80").isRefused("subject alternative names"))
        #expect(self.world { $0.subjectAltNames = ["x"] }.route("10.2.0.1:80").isRefused("subject alternative names"))
    }

    @Test("O23: the inner request names our network, the outer one does not")
    func forwardedNetwork() throws {
        var world = World()
        world.settings.network = "test-network"
        world.add(
            workload("client", "10.1.0.1") { $0.network = "test-network" },
            workload("far") {
                $0.network = "remote"
                $0.networkGateway = gateway("10.22.1.1", network: "remote")
                $0.serves("web")
            }, workload("gateway", "10.22.1.1") { $0.network = "remote" })
        world.add(
            service("web") {
                $0.addresses = [NetworkAddress(network: "test-network", address: IPAddress("10.2.0.1")!)]
                $0.subjectAltNames = ["spiffe://cluster.local/ns/ns1/sa/far"]
            })
        let route = try self.tunnel(world)
        #expect(!route.headers.contains { $0.name == "x-forwarded-network" })
        #expect(route.inner?.headers.first { $0.name == "x-forwarded-network" }?.value == "test-network")
    }

    @Test("W8: the answer's baggage and the proven identity say who the gateway chose")
    func labels() throws {
        let route = try self.tunnel(self.world())
        #expect((route.labels as? FlowLabels)?.flow.destination?.name == "far")
        let identity = try WorkloadIdentity(spiffe: "spiffe://cluster.local/ns/ns1/sa/far")
        let labels = try #require(route.inner?.labels([("baggage", "service.name=real,k8s.pod.name=p")], identity))
        let flow = try #require((labels as? FlowLabels)?.flow)
        #expect(flow.destination?.name == "real" && flow.destinationIdentity == identity)
        #expect(flow.service?.hostname == "example.com" && flow.source?.name == "client" && flow.isMutualTLS)
        #expect(route.inner?.labels([], identity) == nil)
    }

    @Test("a workload's waypoint on another network cannot be asked for by name: refused")
    func workloadsWaypoint() {
        var world = World.withClient
        world.add(
            workload("server", "10.1.0.2") { $0.waypoint = gateway(service: "wp") },
            workload("waypoint", "10.5.0.9") {
                $0.network = "remote"
                $0.serves("wp", [15008: 15008])
            })
        world.add(service("wp", ports: [15008: 15008]))
        #expect(world.route("10.1.0.2:80").isRefused("only services are reached across networks"))
    }
}
