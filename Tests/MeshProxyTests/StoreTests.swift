import MeshDirectory
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshProxy
import MeshXDS
import Synchronization
import Testing

@Suite("The mesh's state")
struct StoreTests {
    private func vip(_ world: World, _ address: String, network: String = "", from namespace: String?) -> String? {
        world.state.service(at: NetworkAddress(network: network, address: IPAddress(address)!), from: namespace)?
            .service.key.description
    }

    private func key(_ name: String, _ namespace: String = "ns1") -> String { serviceKey(name, namespace).description }

    @Test("S1: of two services with one address the client's namespace wins; removing one leaves the other")
    func sharedAddress() {
        var world = World()
        world.add(service("a", "10.2.0.1", namespace: "ns1"), service("b", "10.2.0.1", namespace: "ns2"))
        #expect(self.vip(world, "10.2.0.1", from: "ns1") == self.key("a"))
        #expect(self.vip(world, "10.2.0.1", from: "ns2") == self.key("b", "ns2"))
        world.remove(self.key("a"))
        #expect(self.vip(world, "10.2.0.1", from: "ns1") == self.key("b", "ns2"))
    }

    @Test("the canonical service wins where no namespace decides, else the first")
    func canonical() {
        var world = World()
        world.add(service("a", "10.2.0.1", namespace: "ns1"))
        world.add(service("b", "10.2.0.1", namespace: "ns2") { $0.isCanonical = true })
        #expect(self.vip(world, "10.2.0.1", from: "ns3") == self.key("b", "ns2"))
        world.add(service("b", "10.2.0.1", namespace: "ns2"))
        #expect(self.vip(world, "10.2.0.1", from: "ns3") == self.key("a"))
    }

    @Test("S2: a service of namespace visibility is there for its namespace only")
    func visibility() {
        var world = World()
        world.add(service("a", "10.2.0.1") { $0.visibility = .namespace })
        #expect(self.vip(world, "10.2.0.1", from: "ns2") == nil)
        #expect(self.vip(world, "10.2.0.1", from: "ns1") == self.key("a"))
        #expect(self.vip(world, "10.2.0.1", from: nil) == self.key("a"))
    }

    private func block(_ text: String, network: String = "") -> (inout Service) -> Void {
        { $0.blocks = [NetworkBlock(network: network, cidr: CIDR(text)!)] }
    }

    @Test("S3: a hidden exact address falls through to a block")
    func hiddenExact() {
        var world = World()
        world.add(
            service("a", "10.2.0.1", namespace: "ns1") { $0.visibility = .namespace },
            service("b", namespace: "ns2", change: self.block("10.2.0.0/16")))
        #expect(self.vip(world, "10.2.0.1", from: "ns3") == self.key("b", "ns2"))
    }

    @Test("S4: of two services with one host name only visible ones count")
    func hostnames() {
        var world = World()
        world.add(
            service("x", namespace: "a") {
                $0.hostname = "api.example.com"
                $0.visibility = .namespace
            })
        world.add(service("x", namespace: "b") { $0.hostname = "api.example.com" })
        #expect(world.state.service(hostname: "api.example.com", from: "c")?.service.namespace == "b")
        #expect(world.state.service(hostname: "api.example.com", from: "a")?.service.namespace == "a")
    }

    @Test("S5: the longest block wins")
    func longest() {
        var world = World()
        world.add(service("a", change: self.block("10.2.0.0/16")), service("b", change: self.block("10.2.1.0/24")))
        #expect(self.vip(world, "10.2.1.7", from: "ns9") == self.key("b"))
        #expect(self.vip(world, "10.2.2.7", from: "ns9") == self.key("a"))
    }

    @Test("S6: but the client's namespace comes before length")
    func ownBlock() {
        var world = World()
        world.add(
            service("a", namespace: "ns1", change: self.block("10.2.0.0/16")),
            service("b", namespace: "ns2", change: self.block("10.2.1.0/24")))
        #expect(self.vip(world, "10.2.1.7", from: "ns1") == self.key("a"))
    }

    @Test("S7: an exact address comes before every block")
    func exactFirst() {
        var world = World()
        world.add(
            service("a", namespace: "ns1", change: self.block("10.2.1.0/24")),
            service("b", "10.2.1.7", namespace: "ns2"))
        #expect(self.vip(world, "10.2.1.7", from: "ns1") == self.key("b", "ns2"))
    }

    @Test("S8: a block counts on its network only")
    func blockNetwork() {
        var world = World()
        world.add(service("a", change: self.block("10.2.0.0/16", network: "net-a")))
        #expect(self.vip(world, "10.2.1.7", network: "net-b", from: "ns1") == nil)
        #expect(self.vip(world, "10.2.1.7", network: "net-a", from: "ns1") == self.key("a"))
    }

    @Test("S9: families stay apart")
    func families() {
        var world = World()
        world.add(service("a", change: self.block("::/0")))
        #expect(self.vip(world, "10.2.1.7", from: "ns1") == nil)
    }

    private func endpoints(_ world: World, _ name: String = "web") -> [String] {
        (world.state.service(serviceKey(name))?.endpoints ?? []).map(\.workload.workload.name).sorted()
    }

    @Test("S10: endpoints that come before their service are kept, and counted when they are healthy")
    func early() {
        var world = World()
        world.add(
            workload("a", "10.1.0.2") { $0.serves("web") },
            workload("b", "10.1.0.3") {
                $0.serves("web")
                $0.isHealthy = false
            })
        #expect(world.state.stagedServices.mapValues { $0.count } == [serviceKey("web"): 2])
        world.add(service("web", "10.2.0.1"))
        #expect(self.endpoints(world) == ["a"])
        #expect(world.state.stagedServices.isEmpty)
    }

    @Test("S11: a waiting entry disappears with its last endpoint; removing again is nothing")
    func staged() {
        var world = World()
        world.add(workload("a", "10.1.0.2") { $0.serves("web") }, workload("b", "10.1.0.3") { $0.serves("web") })
        world.remove("cluster//Pod/ns1/a")
        #expect(world.state.stagedServices[serviceKey("web")] == ["cluster//Pod/ns1/b"])
        world.remove("cluster//Pod/ns1/b")
        #expect(world.state.stagedServices.isEmpty)
        world.remove("cluster//Pod/ns1/b", "nobody", "a/b/c/d", "ns1/unknown")
        #expect(world.state.stagedServices.isEmpty)
    }

    @Test("S12: an endpoint that is no longer healthy is gone, and comes back when all are allowed")
    func unhealthy() {
        var world = World()
        world.add(service("web", "10.2.0.1"))
        world.add(workload("a", "10.1.0.2") { $0.serves("web") })
        #expect(self.endpoints(world) == ["a"])
        world.add(
            workload("a", "10.1.0.2") {
                $0.serves("web")
                $0.isHealthy = false
            })
        #expect(self.endpoints(world) == [])
        world.add(service("web", "10.2.0.1") { $0.loadBalancing.healthPolicy = .allowAll })
        #expect(self.endpoints(world) == ["a"])
    }

    @Test("S13: removed and added in one update means added")
    func removedAndAdded() {
        var world = World()
        world.add(service("web", "10.2.0.1"))
        world.add(workload("a", "10.1.0.2") { $0.serves("web") })
        world.state.apply(
            upserted: [.workload(workload("a", "10.1.0.7") { $0.serves("web") })], removed: ["cluster//Pod/ns1/a"])
        #expect(self.endpoints(world) == ["a"])
        #expect(self.at(world, "10.1.0.7") == "a")
        #expect(self.at(world, "10.1.0.2") == nil)
    }

    private func at(_ world: World, _ address: String, network: String = "") -> String? {
        world.state.workload(at: NetworkAddress(network: network, address: IPAddress(address)!))?.workload.name
    }

    @Test("S14: of two workloads with one address a pod wins, then a tunnel, then the later; removal reveals the other")
    func sharedWorkloadAddress() {
        var world = World()
        world.add(
            workload("pod", "10.1.0.2") { $0.tunnelProtocol = .none },
            workload("entry", "10.1.0.2") { $0.uid = "cluster/networking.istio.io/WorkloadEntry/ns1/entry" })
        #expect(self.at(world, "10.1.0.2") == "pod")
        world.add(workload("mesh", "10.1.0.2"))
        #expect(self.at(world, "10.1.0.2") == "mesh")
        world.add(workload("later", "10.1.0.2"))
        #expect(self.at(world, "10.1.0.2") == "later")
        world.remove("cluster//Pod/ns1/later")
        #expect(self.at(world, "10.1.0.2") == "mesh")
        world.remove("cluster//Pod/ns1/mesh", "cluster//Pod/ns1/pod")
        #expect(self.at(world, "10.1.0.2") == "entry")
        world.remove("cluster/networking.istio.io/WorkloadEntry/ns1/entry")
        #expect(self.at(world, "10.1.0.2") == nil)
    }

    @Test("S15: a service that is sent again keeps its endpoints")
    func resent() {
        var world = World()
        world.add(service("web", "10.2.0.1"))
        world.add(workload("a", "10.1.0.2") { $0.serves("web") })
        world.add(service("web", "10.2.0.5"))
        #expect(self.endpoints(world) == ["a"])
        #expect(self.vip(world, "10.2.0.1", from: nil) == nil)
        #expect(self.vip(world, "10.2.0.5", from: nil) == self.key("web"))
    }

    @Test("S17: a policy that became a selector's no longer applies by namespace")
    func policyScope() {
        var world = World()
        world.add(workload("server", "10.1.0.2"))
        world.add(denyAll(.namespace))
        #expect(world.plaintext("10.1.0.2:80").isRefused(401))
        world.add(denyAll(.workloadSelector))
        #expect(world.plaintext("10.1.0.2:80") == .admitted("10.1.0.2:80"))
    }

    @Test("S18: many endpoints in one update lay their service out once")
    func oneLayout() {
        var world = World()
        world.add(service("web", "10.2.0.1"))
        let before = world.state.serviceLayouts
        world.state.apply(
            upserted: (0..<100).map { index in
                .workload(workload("w\(index)", "10.1.1.\(index)") { $0.serves("web") })
            }, removed: [])
        #expect(world.state.serviceLayouts == before + 1)
        #expect(self.endpoints(world).count == 100)
    }

    @Test("X7: a removed workload leaves every service")
    func removedWorkload() {
        var world = World()
        world.add(service("web", "10.2.0.1"), service("api", "10.2.0.2"))
        world.add(
            workload("a", "10.1.0.2") {
                $0.serves("web")
                $0.serves("api")
            })
        world.remove("cluster//Pod/ns1/a")
        #expect(self.endpoints(world, "web") == [])
        #expect(self.endpoints(world, "api") == [])
        #expect(world.state.allWorkloads.isEmpty)
    }

    @Test("a workload that leaves a service by being sent again leaves it")
    func leftService() {
        var world = World()
        world.add(service("web", "10.2.0.1"))
        world.add(workload("a", "10.1.0.2") { $0.serves("web") })
        world.add(workload("a", "10.1.0.2"))
        #expect(self.endpoints(world) == [])
    }

    @Test("a published snapshot does not change any more")
    func immutable() {
        var world = World.withClient
        world.add(workload("server", "10.1.0.2"))
        let snapshot = world.snapshot
        world.remove("cluster//Pod/ns1/server")
        #expect(snapshot.state.workload(uid: "cluster//Pod/ns1/server") != nil)
        #expect(world.snapshot.state.workload(uid: "cluster//Pod/ns1/server") == nil)
    }

    @Test("what workloads have in common is kept once, and for as long as one of them has it")
    func sharedFacts() throws {
        func pod(_ name: String, node: String = "n1", account: String = "default") -> Workload {
            var workload = Workload(uid: name)
            workload.name = name
            workload.namespace = "ns1"
            workload.workloadName = "web"
            workload.serviceAccount = account
            workload.node = node
            return workload
        }
        var world = World()
        world.add(pod("a"), pod("b"), pod("c", node: "n2"))
        #expect(world.state.sharedFacts == (commons: 1, sites: 2))
        let (a, c) = try (
            #require(world.state.workload(uid: "a")).workload, #require(world.state.workload(uid: "c")).workload
        )
        #expect(a.common === c.common)
        #expect(a.site !== c.site)

        world.add(pod("a", account: "other"))
        #expect(world.state.sharedFacts == (commons: 2, sites: 2))
        #expect(world.state.workload(uid: "b")?.workload.serviceAccount == "default")
        world.remove("a", "c")
        #expect(world.state.sharedFacts == (commons: 1, sites: 1))
        world.remove("b")
        #expect(world.state.sharedFacts == (commons: 0, sites: 0))
    }

    @Test("of three at one address the best answers, then the next, whichever leaves first")
    func threeAtOneAddress() {
        var world = World()
        func uid() -> String? {
            world.state.workload(at: NetworkAddress(network: "", address: IPAddress("10.1.0.1")!))?.workload.uid
        }
        func entry(_ uid: String) -> Workload {
            var workload = Workload(uid: uid)
            workload.addresses = [IPAddress("10.1.0.1")!]
            return workload
        }
        world.add(entry("c//Pod/ns/pod"), entry("c/external/one"), entry("c/external/two"))
        #expect(uid() == "c//Pod/ns/pod")
        world.remove("c//Pod/ns/pod")
        #expect(uid() == "c/external/two")
        world.remove("c/external/one")
        #expect(uid() == "c/external/two")
        world.remove("c/external/two")
        #expect(uid() == nil)
    }

    @Test("a change in a large mesh does not touch the rest of it")
    func large() {
        var world = World()
        let workloads = (0..<20_000).map { index in
            MeshAddress.workload(
                workload("w\(index)", "10.\(index >> 16).\(index >> 8 & 255).\(index & 255)") {
                    $0.node = "n2"
                    $0.serves("s\(index % 1000)")
                })
        }
        let services = (0..<1000).map { MeshAddress.service(service("s\($0)", "172.16.\($0 >> 8).\($0 & 255)")) }
        world.state.apply(upserted: workloads + services, removed: [])
        let layouts = world.state.serviceLayouts
        // Every change follows a copy, as after each published snapshot. Rebuilding 20 000 entries a hundred times
        // would take minutes in a debug build.
        let took = ContinuousClock().measure {
            for index in 0..<100 {
                let published = world.state
                world.add(workload("w\(index)", "10.200.0.\(index)") { $0.serves("s\(index)") })
                withExtendedLifetime(published) {}
            }
        }
        #expect(world.state.serviceLayouts - layouts == 100)
        #expect(took < .seconds(20))
    }
}

func denyAll(_ scope: AuthorizationPolicy.Scope) -> AuthorizationPolicy {
    AuthorizationPolicy(
        key: NamespacedName(namespace: "ns1", name: "deny"), scope: scope, action: .deny,
        rules: [.init(clauses: [])])
}

@Suite("The directory")
struct DirectoryTests {
    private final class Seen: Sendable {
        let snapshots = Mutex<[MeshSnapshot]>([])
        let added = Mutex<[WorkloadIdentity]>([])
        let removed = Mutex<[WorkloadIdentity]>([])
    }

    private func directory(_ seen: Seen) -> MeshDirectory<MeshSnapshot> {
        let world = World()
        return MeshDirectory(
            nodeName: "n1", settings: RoutingSettings(), flows: world.flows,
            published: { snapshot in seen.snapshots.withLock { $0.append(snapshot) } },
            identitiesChanged: { added, removed in
                seen.added.withLock { $0 += added.sorted { $0.description < $1.description } }
                seen.removed.withLock { $0 += removed.sorted { $0.description < $1.description } }
            })
    }

    @Test("publishes nothing before the mesh is known completely, then once per update")
    func publishing() async {
        let seen = Seen()
        let directory = self.directory(seen)
        await directory.apply(.addresses(upserted: [.workload(workload("a", "10.1.0.1"))], removed: []))
        await directory.apply(.policies(upserted: [denyAll(.namespace)], removed: []))
        #expect(seen.snapshots.withLock { $0.count } == 0)
        async let waited: Void = directory.waitUntilSynced()
        await directory.synced()
        await waited
        #expect(seen.snapshots.withLock { $0.count } == 1)
        #expect(seen.snapshots.withLock { $0[0].identity(of: pod("a")) } != nil)
        await directory.apply(.addresses(upserted: [], removed: ["cluster//Pod/ns1/a"]))
        #expect(seen.snapshots.withLock { $0.count } == 2)
        #expect(seen.snapshots.withLock { $0[1].identity(of: pod("a")) } == nil)
        #expect(seen.snapshots.withLock { $0[0].identity(of: pod("a")) } != nil)
    }

    @Test("C10, C11: tells the identities of this node's mesh workloads, each once, and when the last is gone")
    func identities() async {
        let seen = Seen()
        let directory = self.directory(seen)
        let shared = { (name: String, node: String) in
            MeshAddress.workload(
                workload(name, "10.1.0.1") {
                    $0.serviceAccount = "shared"
                    $0.node = node
                })
        }
        await directory.apply(.addresses(upserted: [shared("remote", "n2")], removed: []))
        #expect(seen.added.withLock { $0.isEmpty })
        await directory.apply(.addresses(upserted: [shared("a", "n1")], removed: []))
        await directory.apply(.addresses(upserted: [shared("b", "n1")], removed: []))
        #expect(seen.added.withLock { $0.map(\.serviceAccount) } == ["shared"])
        await directory.apply(
            .addresses(upserted: [.workload(workload("plain", "10.1.0.9") { $0.tunnelProtocol = .none })], removed: []))
        #expect(seen.added.withLock { $0.count } == 1)
        await directory.apply(.addresses(upserted: [], removed: ["cluster//Pod/ns1/a"]))
        #expect(seen.removed.withLock { $0.isEmpty })
        await directory.apply(.addresses(upserted: [], removed: ["cluster//Pod/ns1/b"]))
        #expect(seen.removed.withLock { $0.map(\.serviceAccount) } == ["shared"])
    }
}
