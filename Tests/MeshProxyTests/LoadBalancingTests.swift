import MeshDirectory
import MeshModel
import MeshProxy
import MeshTunnel
import Testing

@Suite("Choosing an endpoint")
struct LoadBalancingTests {
    /// Endpoint addresses that come up in many draws.
    private func drawn(_ world: World, _ destination: String = "10.2.0.1:80", times: Int = 300) -> [String: Int] {
        var counts: [String: Int] = [:]
        let snapshot = world.snapshot
        var random = Draws(seed: 1)
        for _ in 0..<times {
            let answer = snapshot.route(
                OutboundQuestion(
                    pod: pod("client"), source: IPEndpoint("10.1.0.1:1")!, destination: IPEndpoint(destination)!),
                using: &random)
            switch Route(answer) {
            case .hbone(let peer, _): counts[String(peer.split(separator: ":")[0]), default: 0] += 1
            case .tcp(let to): counts[to, default: 0] += 1
            case .doubleHBONE(let peer, _): counts["through \(peer)", default: 0] += 1
            case .resolve, .waits: counts["not decided", default: 0] += 1
            case .refused(let text):
                counts[text.contains("network") ? "other network" : "none", default: 0] += 1
            }
        }
        return counts
    }

    @Test("L1: zero capacity is never chosen")
    func capacity() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        world.add(
            workload("a", "10.1.0.2") {
                $0.serves("web")
                $0.capacity = 100
            },
            workload("b", "10.1.0.3") {
                $0.serves("web")
                $0.capacity = 0
            })
        #expect(self.drawn(world).keys.sorted() == ["10.1.0.2"])
    }

    private func weighted(_ weights: (UInt32, UInt32), single: String? = nil) -> World {
        var world = World.withClient
        world.add(
            service("web", "10.2.0.1") {
                $0.weightedWaypoints = [
                    WeightedWaypoint(destination: gateway("10.1.0.8"), weight: weights.0),
                    WeightedWaypoint(destination: gateway("10.1.0.9"), weight: weights.1),
                ]
                $0.waypoint = single.map { gateway($0) }
            })
        world.add(workload("wa", "10.1.0.8"), workload("wb", "10.1.0.9"), workload("wc", "10.1.0.10"))
        return world
    }

    @Test("L1: a waypoint of weight zero is never chosen")
    func zeroWaypoint() {
        #expect(self.drawn(self.weighted((100, 0)), times: 50) == ["10.1.0.8": 50])
        #expect(self.drawn(self.weighted((0, 100)), times: 50) == ["10.1.0.9": 50])
    }

    @Test("L2: without any weight the single waypoint is used, or none")
    func allZero() {
        #expect(self.drawn(self.weighted((0, 0), single: "10.1.0.10"), times: 50) == ["10.1.0.10": 50])
        #expect(self.drawn(self.weighted((0, 0)), times: 50) == ["none": 50])
    }

    @Test("L3: weights are proportions")
    func proportions() {
        let first = self.drawn(self.weighted((75, 25)), times: 10_000)["10.1.0.8"] ?? 0
        #expect((7000...8000).contains(first))
    }

    /// A client at network "", region r1, zone z1, and four endpoints: same zone, same region, elsewhere on the
    /// network, and r1/z1 on another network.
    private func regions(
        _ mode: LoadBalancing.Mode, client: Locality = Locality(region: "r1", zone: "z1"), network: String = "",
        zones: Bool = true
    ) -> World {
        var world = World()
        world.add(
            workload("client", "10.1.0.1") {
                $0.locality = client
                $0.network = network
            })
        world.add(
            service("web", "10.2.0.1") {
                $0.addresses.append(NetworkAddress(network: network, address: IPAddress("10.2.0.1")!))
                $0.loadBalancing.mode = mode
                $0.loadBalancing.routingPreference = [.network, .region, .zone]
            })
        func endpoint(_ name: String, _ address: String, _ network: String, _ region: String, _ zone: String) {
            world.add(
                workload(name, address) {
                    $0.network = network
                    $0.locality = Locality(region: region, zone: zone)
                    $0.serves("web")
                })
        }
        if zones { endpoint("zone", "10.1.0.2", "", "r1", "z1") }
        endpoint("region", "10.1.0.3", "", "r1", "z2")
        endpoint("net", "10.1.0.4", "", "r2", "z1")
        endpoint("far", "10.1.0.5", "other", "r1", "z1")
        world.add(
            workload("nowhere") { $0.serves("web") })
        return world
    }

    @Test("L4: strict without a full match chooses nobody")
    func strictNone() {
        #expect(self.drawn(self.regions(.strict, zones: false), times: 50) == ["none": 50])
    }

    @Test("L5: strict chooses the full match only")
    func strictOne() { #expect(self.drawn(self.regions(.strict)).keys.sorted() == ["10.1.0.2"]) }

    @Test("L6: failover with no match at all chooses anybody who has an address")
    func failoverNone() {
        let counts = self.drawn(self.regions(.failover, client: Locality(region: "r9"), network: "mine"))
        #expect(counts.keys.sorted() == ["other network"])
        let ranks = self.ranks(client: Locality(region: "r9"), network: "mine")
        #expect(Set(ranks) == [0])
    }

    @Test("L7: failover prefers network and region together")
    func failoverRegion() {
        let counts = self.drawn(self.regions(.failover, client: Locality(region: "r1", zone: "z9")))
        #expect(counts.keys.sorted() == ["10.1.0.2", "10.1.0.3"])
    }

    @Test("L8: failover keeps to the own network whatever the region")
    func failoverNetwork() {
        let counts = self.drawn(self.regions(.failover, client: Locality(region: "r9", zone: "z9")))
        #expect(counts.keys.sorted() == ["10.1.0.2", "10.1.0.3", "10.1.0.4"])
    }

    /// Of zone, region, net, far.
    private func ranks(client: Locality, network: String) -> [Int?] {
        let me = workload("client", "10.1.0.1") {
            $0.locality = client
            $0.network = network
        }
        return [("", "r1", "z1"), ("", "r1", "z2"), ("", "r2", "z1"), ("other", "r1", "z1")].map { net, region, zone in
            ClientPlace(me).rank(
                [.network, .region, .zone],
                ClientPlace(
                    workload("e", "10.1.0.2") {
                        $0.network = net
                        $0.locality = Locality(region: region, zone: zone)
                    }), isStrict: false)
        }
    }

    @Test("L9: on a network without endpoints region and zone still count, on any network")
    func failoverElsewhere() {
        #expect(self.ranks(client: Locality(region: "r1", zone: "z1"), network: "mine") == [2, 1, 0, 2])
        #expect(self.ranks(client: Locality(region: "r1", zone: "z1"), network: "") == [5, 4, 3, 2])
    }

    @Test("L10: an endpoint without address, host name and usable gateway is never chosen")
    func unreachable() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        world.add(
            workload("a", "10.1.0.2") { $0.serves("web") },
            workload("b") { $0.serves("web") },
            workload("c") {
                // A gateway counts only from another network.
                $0.networkGateway = gateway("10.22.1.1")
                $0.serves("web")
            })
        #expect(self.drawn(world).keys.sorted() == ["10.1.0.2"])
    }

    @Test("L11: the endpoint's port, then the service's, then the application tunnel's")
    func ports() {
        var world = World.withClient
        world.add(
            service("web", "10.2.0.1"), service("wp", "10.2.0.9", ports: [:]),
            service("api", "10.2.0.2") { $0.waypoint = gateway(service: "wp", port: 80) })
        world.add(workload("web", "10.1.0.2") { $0.serves("web", [80: 9090]) })
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:9090"))
        world.add(workload("web", "10.1.0.2") { $0.serves("web", [:]) })
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:8080"))
        world.add(
            workload("wp", "10.1.0.9") {
                $0.serves("wp", [:])
                $0.applicationTunnel = ApplicationTunnel(handoff: .proxyProtocol, port: 15088)
            })
        #expect(world.route("10.2.0.2:80") == .hbone(peer: "10.1.0.9:80", authority: "10.2.0.2:80"))
    }

    @Test("all endpoints of a plain service come up about equally often")
    func uniform() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        for index in 2..<6 { world.add(workload("w\(index)", "10.1.0.\(index)") { $0.serves("web") }) }
        let counts = self.drawn(world, times: 4000)
        #expect(counts.count == 4)
        for (_, count) in counts { #expect((850...1150).contains(count)) }
    }
}
