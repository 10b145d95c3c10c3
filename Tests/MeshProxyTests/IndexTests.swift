import MeshModel
import MeshProxy
import MeshTunnel
import Testing

@Suite("Finding a service by an address block")
struct IndexTests {
    private func block(_ text: String, network: String = "") -> NetworkBlock {
        NetworkBlock(network: network, cidr: CIDR(text)!)
    }

    private func found(_ world: World, _ address: String, from namespace: String? = "ns1", network: String = "")
        -> String?
    {
        world.state.service(
            at: NetworkAddress(network: network, address: IPAddress(address)!), from: namespace)?.service.name
    }

    @Test("S5, S6: the longest prefix, but the own namespace before any length")
    func longest() {
        var world = World()
        world.add(
            service("wide", namespace: "ns1") { $0.blocks = [self.block("10.0.0.0/8")] },
            service("middle", namespace: "ns2") { $0.blocks = [self.block("10.1.0.0/16")] },
            service("narrow", namespace: "ns3") { $0.blocks = [self.block("10.1.2.0/24"), self.block("::/0")] })
        #expect(self.found(world, "10.1.2.3", from: nil) == "narrow")
        #expect(self.found(world, "10.1.3.3", from: "ns9") == "middle")
        #expect(self.found(world, "10.9.9.9", from: "ns9") == "wide")
        #expect(self.found(world, "10.1.2.3", from: "ns1") == "wide")
        #expect(self.found(world, "11.0.0.1", from: nil) == nil)
    }

    @Test("S8, S9: only on its own network and in its own family")
    func apart() {
        var world = World()
        world.add(
            service("a") {
                $0.blocks = [self.block("10.0.0.0/8", network: "net-a"), self.block("0.0.0.0/0", network: "v4")]
            },
            service("b") { $0.blocks = [self.block("::/0", network: "v6")] })
        #expect(self.found(world, "10.0.0.1", network: "net-a") == "a")
        #expect(self.found(world, "10.0.0.1", network: "net-b") == nil)
        #expect(self.found(world, "10.0.0.1", network: "v6") == nil)
        #expect(self.found(world, "::1", network: "v4") == nil)
        #expect(self.found(world, "::1", network: "v6") == "b")
    }

    @Test("of two owners of one block: the own namespace, the canonical one, the first; a hidden one is passed over")
    func sharedBlock() {
        var world = World()
        world.add(
            service("hidden", namespace: "ns0") {
                $0.blocks = [self.block("10.0.0.0/8")]
                $0.visibility = .namespace
            },
            service("first", namespace: "ns2") { $0.blocks = [self.block("10.0.0.0/8")] },
            service("canonical", namespace: "ns3") {
                $0.blocks = [self.block("10.0.0.0/8")]
                $0.isCanonical = true
            })
        #expect(self.found(world, "10.0.0.1", from: "ns9") == "canonical")
        #expect(self.found(world, "10.0.0.1", from: "ns2") == "first")
        #expect(self.found(world, "10.0.0.1", from: "ns0") == "hidden")
    }

    @Test("a removed or changed block is forgotten; a snapshot that was taken before keeps it")
    func removal() {
        var world = World()
        world.add(
            service("a") { $0.blocks = [self.block("10.0.0.0/8"), self.block("10.0.0.0/8")] },
            service("b", namespace: "ns2") { $0.blocks = [self.block("10.0.0.0/8"), self.block("10.1.0.0/16")] })
        let before = world
        #expect(self.found(world, "10.0.0.1") == "a")
        world.remove("ns1/a.ns1.svc.cluster.local")
        #expect(self.found(world, "10.0.0.1") == "b")
        world.add(service("b", namespace: "ns2") { $0.blocks = [self.block("10.1.0.0/16")] })
        #expect(self.found(world, "10.0.0.1") == nil)
        #expect(self.found(world, "10.1.0.1") == "b")
        #expect(self.found(before, "10.0.0.1") == "a")
    }

    @Test("agrees with a search through all blocks, whatever they are")
    func property() {
        var random = Draws(seed: 7)
        for _ in 0..<30 {
            var world = World()
            var all: [(name: String, namespace: String, block: NetworkBlock, isCanonical: Bool)] = []
            for index in 0..<20 {
                let base = IPAddress(v4: 0x0a00_0000 | UInt32.random(in: 0..<256, using: &random) << 16)
                let block = NetworkBlock(
                    network: "", cidr: CIDR(base: base, prefixLength: Int.random(in: 8...24, using: &random))!)
                let namespace = "ns\(Int.random(in: 1...3, using: &random))"
                let isCanonical = Bool.random(using: &random)
                all.append(("s\(index)", namespace, block, isCanonical))
                world.add(
                    service("s\(index)", namespace: namespace) {
                        $0.blocks = [block]
                        $0.isCanonical = isCanonical
                    })
            }
            for _ in 0..<50 {
                let address = IPAddress(v4: 0x0a00_0000 | UInt32.random(in: 0..<(1 << 24), using: &random))
                func weight(_ one: (name: String, namespace: String, block: NetworkBlock, isCanonical: Bool)) -> Int {
                    (one.namespace == "ns1" ? 1000 : 0) + one.block.cidr.prefixLength * 2 + (one.isCanonical ? 1 : 0)
                }
                let best = all.filter { $0.block.cidr.contains(address) }.max { weight($0) < weight($1) }
                let chosen = self.found(world, "\(address)").flatMap { name in all.first { $0.name == name } }
                // Among equals the first owner of the same block counts; within one namespace that is what differs.
                #expect(chosen.map(weight) == best.map(weight))
            }
        }
    }
}

@Suite("Choosing between busy and failing endpoints")
struct EndpointLoadTests {
    /// `web` with endpoints 10.1.0.2 and up.
    private func world(_ count: Int, change: (inout Service) -> Void = { _ in }) -> World {
        var world = World.withClient
        world.add(service("web", "10.2.0.1", change: change))
        for index in 0..<count { world.add(workload("w\(index)", "10.1.0.\(index + 2)") { $0.serves("web") }) }
        return world
    }

    private func drawn(_ world: World, _ book: EndpointBook, times: Int = 2000) -> [String: Int] {
        var counts: [String: Int] = [:]
        var random = Draws(seed: 3)
        let snapshot = world.snapshot
        for _ in 0..<times {
            let answer = snapshot.route(
                OutboundQuestion(
                    pod: pod("client"), source: IPEndpoint("10.1.0.1:1")!, destination: IPEndpoint("10.2.0.1:80")!),
                book: book, using: &random)
            if case .hbone(let peer, _) = Route(answer) {
                counts[String(peer.split(separator: ":")[0]), default: 0] += 1
            } else {
                counts["none", default: 0] += 1
            }
        }
        return counts
    }

    @Test("of two drawn the one with fewer connections: the busiest of four is hardly chosen, the idle one mostly")
    func leastRequest() {
        let book = EndpointBook { 0 }
        for (address, count) in [("10.1.0.2", 9), ("10.1.0.3", 5), ("10.1.0.4", 5)] {
            for _ in 0..<count { book.began(IPAddress(address)!) }
        }
        let counts = self.drawn(self.world(4), book)
        // Only when every draw hits it, once in 4^7.
        #expect(counts["10.1.0.2"] ?? 0 <= 2)
        // It wins whenever it is one of the two.
        #expect((900...1100).contains(counts["10.1.0.5"] ?? 0))
    }

    @Test("at rest capacities are proportions, and a larger endpoint carries more before it counts as busier")
    func capacity() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"))
        for (name, address, capacity) in [("a", "10.1.0.2", UInt32(3)), ("b", "10.1.0.3", 1)] {
            world.add(
                workload(name, address) {
                    $0.serves("web")
                    $0.capacity = capacity
                })
        }
        let book = EndpointBook { 0 }
        #expect((1400...1600).contains(self.drawn(world, book)["10.1.0.2"] ?? 0))
        for _ in 0..<2 { book.began(IPAddress("10.1.0.2")!) }
        book.began(IPAddress("10.1.0.3")!)
        // 2 of 3 is less than 1 of 1; the other is chosen only when all eight draws hit it: once in 65 536.
        #expect(self.drawn(world, book)["10.1.0.3"] ?? 0 <= 1)
    }

    @Test("a failing endpoint is passed over; when all fail, one of them is tried all the same")
    func ejected() {
        var now: UInt64 = 1
        let book = EndpointBook { now }
        func fail(_ address: String) {
            for _ in 0..<EndpointBook.failuresMax {
                now += 1
                book.failed(IPAddress(address)!)
            }
        }
        let world = self.world(3)
        fail("10.1.0.2")
        #expect(self.drawn(world, book).keys.sorted() == ["10.1.0.3", "10.1.0.4"])
        fail("10.1.0.3")
        fail("10.1.0.4")
        #expect(self.drawn(world, book).keys.sorted() == ["10.1.0.2", "10.1.0.3", "10.1.0.4"])
    }

    @Test("a service that prefers its own zone goes elsewhere while everybody there fails")
    func zoneFails() {
        var now: UInt64 = 1
        let book = EndpointBook { now }
        var world = World()
        world.add(workload("client", "10.1.0.1") { $0.locality.zone = "z1" })
        world.add(
            service("web", "10.2.0.1") {
                $0.loadBalancing.mode = .failover
                $0.loadBalancing.routingPreference = [.zone]
            })
        for (index, zone) in ["z1", "z2"].enumerated() {
            world.add(
                workload(zone, "10.1.0.\(index + 2)") {
                    $0.serves("web")
                    $0.locality.zone = zone
                })
        }
        #expect(self.drawn(world, book).keys.sorted() == ["10.1.0.2"])
        for _ in 0..<EndpointBook.failuresMax {
            now += 1
            book.failed(IPAddress("10.1.0.2")!)
        }
        #expect(self.drawn(world, book).keys.sorted() == ["10.1.0.3"])
    }

    @Test("clients at different places have their own ranking of one service")
    func places() {
        var world = World(node: nil)
        for zone in 1...20 {
            world.add(
                workload("client\(zone)", "10.3.0.\(zone)") { $0.locality.zone = "z\(zone)" },
                workload("w\(zone)", "10.1.0.\(zone)") {
                    $0.serves("web")
                    $0.locality.zone = "z\(zone)"
                })
        }
        world.add(
            service("web", "10.2.0.1") {
                $0.loadBalancing.mode = .strict
                $0.loadBalancing.routingPreference = [.zone]
            })
        for _ in 0..<3 {
            for zone in 1...20 {
                #expect(
                    world.route("10.2.0.1:80", from: "10.3.0.\(zone):1", pod: pod("client\(zone)"))
                        == .hbone(peer: "10.1.0.\(zone):15008", authority: "10.1.0.\(zone):8080"))
            }
        }
    }
}
