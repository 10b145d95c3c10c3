import MeshModel
import MeshProxy
import Testing

@Suite("Host names that applications give us by SOCKS5")
struct NamesOfApplicationsTests {
    @Test("mean what the pod's own question would get")
    func names() {
        var world = World.withClient
        world.add(service("web", "10.2.0.1"), service("web", "10.2.0.2", namespace: "ns2"), service("none"))
        let snapshot = world.snapshot
        func addresses(_ host: String) -> [String]? {
            snapshot.addresses(of: host, for: pod("client")).map { $0.map(\.description) }
        }
        #expect(addresses("web") == ["10.2.0.1"])
        #expect(addresses("web.ns2") == ["10.2.0.2"])
        #expect(addresses("WEB.ns1.svc.cluster.local.") == ["10.2.0.1"])
        // Known, with no pod behind it; not the resolver's business.
        #expect(addresses("none") == [])
        #expect(addresses("web.example.org") == nil)
        #expect(addresses("not a name") == nil)
        #expect(addresses("") == nil)
    }
}
