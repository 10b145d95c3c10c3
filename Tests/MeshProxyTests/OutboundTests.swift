import MeshDirectory
import MeshIdentity
import MeshModel
import MeshProxy
import MeshTunnel
import Testing

@Suite("An outbound connection")
struct OutboundTests {
    @Test("O1: to nobody we know goes out as it is")
    func unknown() { #expect(World.withClient.route("1.2.3.4:80") == .tcp("1.2.3.4:80")) }

    @Test("O6: prefers its own network")
    func ownNetwork() {
        var world = World.withClient
        world.add(
            service("web", "10.2.0.1") {
                $0.loadBalancing.mode = .failover
                $0.loadBalancing.routingPreference = [.network]
            })
        world.add(
            workload("here", "10.1.0.2") { $0.serves("web") },
            workload("there") {
                $0.network = "remote"
                $0.networkGateway = gateway("10.22.1.1", port: 15009)
                $0.serves("web")
            })
        for _ in 0..<50 {
            #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:8080"))
        }
    }

    @Test("O8: to a workload outside the mesh is plain TCP, on any node", arguments: ["n1", "n2"])
    func plainWorkload(node: String) {
        var world = World.withClient
        world.add(
            workload("plain", "10.1.0.2") {
                $0.tunnelProtocol = .none
                $0.node = node
            })
        #expect(world.route("10.1.0.2:80") == .tcp("10.1.0.2:80"))
    }

    @Test("O9: to a mesh workload is HBONE to its own port, on any node", arguments: ["n1", "n2"])
    func meshWorkload(node: String) {
        var world = World.withClient
        world.add(workload("server", "10.1.0.2") { $0.node = node })
        #expect(world.route("10.1.0.2:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:80"))
    }

    @Test("O10: the source's own waypoint plays no part")
    func sourceWaypoint() {
        var world = World()
        world.add(workload("client", "10.1.0.1") { $0.waypoint = gateway("10.1.0.9") })
        world.add(workload("waypoint", "10.1.0.9"), workload("server", "10.1.0.2"))
        #expect(world.route("10.1.0.2:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:80"))
    }

    @Test("O11: to a workload goes through its waypoint")
    func workloadWaypoint() {
        var world = World.withClient
        world.add(
            workload("waypoint", "10.1.0.9"), workload("server", "10.1.0.2") { $0.waypoint = gateway("10.1.0.9") })
        #expect(world.route("10.1.0.2:80") == .hbone(peer: "10.1.0.9:15008", authority: "10.1.0.2:80"))
    }

    @Test("a waypoint itself reaches the workload behind it")
    func fromWaypoint() {
        var world = World()
        world.add(service("wp", "10.2.0.9", ports: [15008: 15008]))
        world.add(
            workload("waypoint", "10.1.0.9") { $0.serves("wp", [15008: 15008]) },
            workload("server", "10.1.0.2") { $0.waypoint = gateway("10.1.0.9") },
            workload("other", "10.1.0.3") { $0.waypoint = gateway(service: "wp") })
        let waypoint = pod("waypoint")
        #expect(
            world.route("10.1.0.2:80", from: "10.1.0.9:1", pod: waypoint)
                == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:80"))
        #expect(
            world.route("10.1.0.3:80", from: "10.1.0.9:1", pod: waypoint)
                == .hbone(peer: "10.1.0.3:15008", authority: "10.1.0.3:80"))
        // Only with its own address.
        #expect(
            world.route("10.1.0.2:80", from: "10.1.0.8:1", pod: waypoint)
                == .hbone(peer: "10.1.0.9:15008", authority: "10.1.0.2:80"))
    }

    @Test("O12: an IPv6 destination with an IPv4 waypoint keeps its own authority")
    func dualStackWaypoint() {
        var world = World.withClient
        world.add(
            workload("waypoint", "10.1.0.9", "fd00::9"),
            workload("server", "10.1.0.2", "fd00::2") { $0.waypoint = gateway("10.1.0.9") })
        #expect(world.route("[fd00::2]:80") == .hbone(peer: "10.1.0.9:15008", authority: "[fd00::2]:80"))
    }

    @Test("O13: to a service goes through its waypoint, untranslated")
    func serviceWaypoint() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1") { $0.waypoint = gateway("10.1.0.9") })
        world.add(workload("waypoint", "10.1.0.9"), workload("web", "10.1.0.2") { $0.serves("web") })
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.9:15008", authority: "10.2.0.1:80"))
    }

    @Test("a waypoint by service is one of its endpoints, at the port that it maps")
    func waypointService() {
        var world = World.withClient
        world.add(
            service("wp", "10.2.0.9", ports: [15008: 15018]),
            service("web", "10.2.0.1") { $0.waypoint = gateway(service: "wp") },
            service("api", "10.2.0.2") { $0.waypoint = gateway("10.2.0.9") })
        world.add(workload("waypoint", "10.1.0.9", "fd00::9") { $0.serves("wp", [:]) })
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.9:15018", authority: "10.2.0.1:80"))
        #expect(world.route("10.2.0.2:80") == .hbone(peer: "10.1.0.9:15018", authority: "10.2.0.2:80"))
    }

    @Test("a service's traffic never uses its workload's waypoint, nor the other way round")
    func waypointsApart() {
        var world = World.withClient
        world.add(
            service("web", "10.2.0.1"), service("api", "10.2.0.2") { $0.waypoint = gateway("10.1.0.9") })
        world.add(
            workload("waypoint", "10.1.0.9"),
            workload("web", "10.1.0.2") {
                $0.serves("web")
                $0.waypoint = gateway("10.1.0.9")
            },
            workload("api", "10.1.0.3") { $0.serves("api") })
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:8080"))
        #expect(world.route("10.1.0.3:80") == .hbone(peer: "10.1.0.3:15008", authority: "10.1.0.3:80"))
    }

    @Test("a waypoint that has no endpoint refuses: nothing goes past it")
    func noWaypoint() {
        var world = World.withClient
        world.add(
            service("web", "10.2.0.1") { $0.waypoint = gateway(service: "nowhere") },
            service("empty", "10.2.0.8"), service("api", "10.2.0.2") { $0.waypoint = gateway(service: "empty") })
        world.add(workload("server", "10.1.0.2") { $0.waypoint = gateway("10.1.0.77") })
        for destination in ["10.2.0.1:80", "10.2.0.2:80", "10.1.0.2:80"] {
            #expect(world.route(destination).isRefused("unknown waypoint"), "\(destination)")
        }
    }

    @Test("O14: to a service without endpoints is refused, never passed through")
    func noEndpoints() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        #expect(world.route("10.2.0.1:80").isRefused("no healthy upstream"))
        world.add(workload("web", "10.1.0.2") { $0.serves("web") })
        #expect(world.route("10.2.0.1:81").isRefused("port 81"))
    }

    @Test("O15: a named port leads to the endpoint that maps it")
    func namedPort() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1", ports: [80: 0, 8080: 0]))
        world.add(
            workload("a", "10.1.0.2") { $0.serves("web", [80: 1234]) },
            workload("b", "10.1.0.3") { $0.serves("web", [8080: 9999]) })
        for _ in 0..<50 {
            #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:1234"))
        }
    }

    @Test("O16: a shared host address is nobody's, but a service finds its workload")
    func hostNetwork() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        world.add(
            workload("a", "10.9.0.1") {
                $0.networkMode = .hostNetwork
                $0.tunnelProtocol = .none
            },
            workload("b", "10.9.0.1") {
                $0.networkMode = .hostNetwork
                $0.tunnelProtocol = .none
                $0.serves("web")
            })
        #expect(world.route("10.2.0.1:80") == .tcp("10.9.0.1:8080"))
        #expect(world.route("10.9.0.1:80") == .tcp("10.9.0.1:80"))
        let answer = world.snapshot.routeOutbound(
            OutboundQuestion(
                pod: pod("client"), source: IPEndpoint("10.1.0.1:1")!, destination: IPEndpoint("10.9.0.1:80")!))
        guard case .passthrough(_, let labels) = answer else {
            Issue.record("not passed through")
            return
        }
        #expect((labels as? FlowLabels)?.flow.destination == nil)
    }

    @Test("O17: a dual-stack workload is reached in the family that was dialled", arguments: ["10.1.0.2", "fd00::2"])
    func dualStack(address: String) {
        var world = World.withClient
        world.add(workload("plain", "10.1.0.2", "fd00::2") { $0.tunnelProtocol = .none })
        let target = IPEndpoint(address: IPAddress(address)!, port: 80).description
        #expect(world.route(target) == .tcp(target))
    }

    @Test(
        "O18, O19: the service's families choose the address",
        arguments: [
            (Service.IPFamilies.v6Only, "10.2.0.1:80", "[fd00::2]:15008"),
            (.v4Only, "10.2.0.1:80", "10.1.0.2:15008"), (.v4Only, "[fd02::1]:80", "10.1.0.2:15008"),
            (.dual, "10.2.0.1:80", "10.1.0.2:15008"), (.dual, "[fd02::1]:80", "[fd00::2]:15008"),
            (.automatic, "[fd02::1]:80", "[fd00::2]:15008"),
        ])
    func families(families: Service.IPFamilies, dialled: String, peer: String) {
        var world = World.withClient
        world.add(service("web", "10.2.0.1", "fd02::1") { $0.ipFamilies = families })
        world.add(workload("web", "10.1.0.2", "fd00::2") { $0.serves("web") })
        guard case .hbone(peer, _) = world.route(dialled) else {
            Issue.record("went \(world.route(dialled))")
            return
        }
    }

    @Test("O20: a passthrough service is left alone")
    func passthrough() {
        var world = World.withClient
        world.add(service("ext", "10.2.0.1") { $0.loadBalancing.mode = .passthrough })
        world.add(workload("web", "10.1.0.2") { $0.serves("ext") })
        #expect(world.route("10.2.0.1:80") == .tcp("10.2.0.1:80"))
    }

    @Test("O21: but a waypoint comes first")
    func passthroughWaypoint() {
        var world = World.withClient
        world.add(
            service("ext", "10.2.0.1") {
                $0.loadBalancing.mode = .passthrough
                $0.waypoint = gateway("10.1.0.9")
            })
        world.add(workload("waypoint", "10.1.0.9"))
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.9:15008", authority: "10.2.0.1:80"))
    }

    @Test(
        "O24: a loopback destination at one of the proxy's own ports is refused before anything is known",
        arguments: ["127.0.0.1:15001", "127.0.0.1:15006", "[::1]:15008"])
    func selfCall(destination: String) {
        #expect(World().route(destination).isRefused("recursive call"))
        #expect(World.withClient.route("127.0.0.1:8080") == .tcp("127.0.0.1:8080"))
    }

    @Test("L12: of a pod that the mesh does not know waits for it")
    func unknownPod() {
        #expect(World().route("1.2.3.4:80").waits("failed to fetch information about local workload"))
        var world = World()
        world.add(workload("client", "10.1.0.1") { $0.node = "n2" })
        #expect(world.route("1.2.3.4:80").waits("not known on this node"))
        // By exact name, never by address.
        #expect(World.withClient.route("1.2.3.4:80", pod: pod("client", "ns2")).waits("ns2/client"))
    }

    @Test("tries another endpoint when some were tried, and says when there is none left")
    func excluding() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        world.add(
            workload("a", "10.1.0.2") { $0.serves("web") }, workload("b", "10.1.0.3") { $0.serves("web") })
        for _ in 0..<20 {
            #expect(
                world.route("10.2.0.1:80", excluding: ["10.1.0.2"])
                    == .hbone(peer: "10.1.0.3:15008", authority: "10.1.0.3:8080"))
        }
        #expect(world.route("10.2.0.1:80", excluding: ["10.1.0.2", "10.1.0.3"]).isRefused("has been tried"))
        #expect(world.route("10.1.0.2:80", excluding: ["10.1.0.2"]).isRefused("has been tried"))
    }
}

@Suite("A tunnel's request")
struct TunnelRequestTests {
    private func tunnel(_ world: World, _ destination: String, from source: String = "10.1.0.1:40000") throws
        -> TunnelRoute
    {
        let answer = world.snapshot.routeOutbound(
            OutboundQuestion(
                pod: pod("client"), source: IPEndpoint(source)!, destination: IPEndpoint(destination)!))
        guard case .tunnel(let route) = answer else { throw Failure() }
        return route
    }
    private struct Failure: Error {}

    private func header(_ route: TunnelRoute, _ name: String) -> String? {
        route.headers.first { $0.name == name }?.value
    }

    @Test("O22: says for whom, and for which service if one is known")
    func forwarded() throws {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        world.add(workload("web", "10.1.0.2") { $0.serves("web") })
        #expect(
            self.header(try self.tunnel(world, "10.1.0.2:80"), "forwarded") == "for=\"10.1.0.1:40000\"")
        #expect(
            self.header(try self.tunnel(world, "10.2.0.1:80", from: "[fd00::1]:4"), "forwarded")
                == "for=\"[fd00::1]:4\";host=web.ns1.svc.cluster.local")
    }

    @Test("O23: carries no network on a single tunnel")
    func network() throws {
        var world = World()
        world.settings.network = "test-network"
        world.add(
            workload("client", "10.1.0.1") { $0.network = "test-network" },
            workload("server", "10.1.0.2") { $0.network = "test-network" })
        #expect(self.header(try self.tunnel(world, "10.1.0.2:80"), "x-forwarded-network") == nil)
    }

    @Test("carries the source's baggage and a fresh trace")
    func headers() throws {
        var world = World()
        world.add(
            workload("client", "10.1.0.1") { $0.locality = Locality(region: "r", zone: "z") },
            workload("server", "10.1.0.2"))
        let route = try self.tunnel(world, "10.1.0.2:80")
        #expect(
            self.header(route, "baggage")
                == "k8s.cluster.name=Kubernetes,k8s.namespace.name=ns1,k8s.deployment.name=client-deployment,"
                + "service.name=client,service.version=v1,cloud.region=r,cloud.availability_zone=z")
        let trace = try #require(self.header(route, "traceparent"))
        #expect(trace.wholeMatch(of: /00-[0-9a-f]{32}-[0-9a-f]{16}-00/) != nil)
        #expect(self.header(try self.tunnel(world, "10.1.0.2:80"), "traceparent") != trace)
    }

    @Test("proves the pod's identity and expects the endpoint's, or one that the service names")
    func identities() throws {
        var world = World()
        world.add(workload("client", "10.1.0.1") { $0.trustDomain = "td1" })
        world.add(
            service("web", "10.2.0.1") {
                $0.subjectAltNames = ["spiffe://other/ns/x/sa/y", "not an identity"]
                $0.waypoint = nil
            })
        world.add(workload("web", "10.1.0.2") { $0.serves("web") })
        let byService = try self.tunnel(world, "10.2.0.1:80")
        #expect(byService.source.description == "spiffe://td1/ns/ns1/sa/client")
        #expect(
            byService.expected.map(\.description) == [
                "spiffe://other/ns/x/sa/y", "spiffe://cluster.local/ns/ns1/sa/web",
            ])
        #expect(
            try self.tunnel(world, "10.1.0.2:80").expected.map(\.description)
                == ["spiffe://cluster.local/ns/ns1/sa/web"])
    }

    @Test("through a waypoint expects the waypoint, not the workload behind it")
    func waypointIdentity() throws {
        var world = World.withClient
        world.add(service("wp", "10.2.0.9", ports: [15008: 15008]) { $0.subjectAltNames = ["spiffe://o/ns/x/sa/y"] })
        world.add(
            service("web", "10.2.0.1") {
                $0.waypoint = gateway(service: "wp")
                $0.subjectAltNames = ["spiffe://never/ns/x/sa/y"]
            })
        world.add(workload("waypoint", "10.1.0.9") { $0.serves("wp", [:]) })
        #expect(
            try self.tunnel(world, "10.2.0.1:80").expected.map(\.description) == [
                "spiffe://o/ns/x/sa/y", "spiffe://cluster.local/ns/ns1/sa/waypoint",
            ])
    }
}
