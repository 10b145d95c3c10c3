import MeshDNS
import MeshModel
import Testing

@Suite("A table of names")
struct NameTableTests {
    private static func address(_ text: String) -> IPAddress { IPAddress(text)! }

    private static let table = NameTable([
        "Web.shop.svc.cluster.local.": .init(
            [Self.address("10.0.0.1")], registry: .kubernetes, shortName: "web", namespace: "shop"),
        "api.example.com": .init([Self.address("240.240.0.1"), Self.address("2001:2::1")]),
        "*.wild.example.com": .init([Self.address("240.240.0.2")]),
    ])

    private func answer(
        _ text: String, isV6: Bool = false, searchDomains: [String] = [], namespace: String = "shop"
    ) -> MeshAnswer? {
        var random = Draws(seed: 1)
        return MeshNameResolver(clusterDomain: "cluster.local", searchDomains: searchDomains).answer(
            name(text), isV6: isV6, for: DNSClient(namespace: namespace, network: ""), in: Self.table, using: &random)
    }

    @Test("knows names whatever their case and with or without a dot at the end")
    func forms() {
        for text in ["web.shop.svc.cluster.local", "WEB.shop.svc.cluster.local", "web.shop", "web"] {
            #expect(self.answer(text)?.addresses == [Self.address("10.0.0.1")], "\(text)")
        }
        #expect(self.answer("web", namespace: "other") == nil, "short names are those of the client's namespace")
        #expect(self.answer("unknown.example.com") == nil)
    }

    @Test("answers each family with its own addresses, and the other with none")
    func families() {
        #expect(self.answer("api.example.com")?.addresses == [Self.address("240.240.0.1")])
        #expect(self.answer("api.example.com", isV6: true)?.addresses == [Self.address("2001:2::1")])
        #expect(self.answer("web", isV6: true)?.addresses == [])
    }

    @Test("knows names below a wildcard, and not the wildcard's own parent")
    func wildcards() {
        #expect(self.answer("a.wild.example.com")?.addresses == [Self.address("240.240.0.2")])
        #expect(self.answer("a.b.wild.example.com")?.hostname == "*.wild.example.com")
        #expect(self.answer("wild.example.com") == nil)
    }

    @Test("whole names are found below a search domain of the client's own, single words are not")
    func searchDomains() {
        let searches = ["shop.svc.cluster.local", "corp.example"]
        let found = self.answer("api.example.com.corp.example", searchDomains: searches)
        #expect(found?.addresses == [Self.address("240.240.0.1")])
        #expect(found?.alias == name("api.example.com"))
        #expect(self.answer("api.example.com.corp.example") == nil)
        #expect(self.answer("web.corp.example", searchDomains: searches) == nil, "somebody's own name")
    }
}
