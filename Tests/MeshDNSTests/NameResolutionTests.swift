import MeshDNS
import MeshModel
import Testing

private struct Table: MeshNameTable {
    var services: [String: [String]]
    func service(hostname: String, for client: DNSClient, isV6: Bool) -> NamedService? {
        self.services[hostname].map { addresses in
            NamedService(
                hostname: hostname, addresses: addresses.map { IPAddress($0)! }.filter { $0.isV6 == isV6 })
        }
    }
    var wildcardLabelCounts: [Int] {
        Set(self.services.keys.filter { $0.hasPrefix("*.") }.map { $0.split(separator: ".").count }).sorted()
    }
}

@Suite("What a name means in the mesh")
struct NameResolutionTests {
    private func answer(
        _ text: String, _ services: [String: [String]], isV6: Bool = false, domain: String = "cluster.local",
        isIPv6Enabled: Bool = true
    ) -> MeshAnswer? {
        var random = Draws(seed: 1)
        return MeshNameResolver(clusterDomain: domain, isIPv6Enabled: isIPv6Enabled).answer(
            name(text), isV6: isV6, for: DNSClient(namespace: "ns1", network: ""), in: Table(services: services),
            using: &random)
    }

    @Test(
        "short, half and full names of a service",
        arguments: [
            ("web", true), ("web.ns1", true), ("web.ns1.svc", true), ("web.ns1.svc.cluster.local", true),
            ("WEB.NS1.svc.Cluster.Local", true), ("web.ns1.svc.cluster", false), ("web.ns2", false), ("eb", false),
        ])
    func forms(text: String, isKnown: Bool) {
        let found = self.answer(text, ["web.ns1.svc.cluster.local": ["10.0.0.1"]])
        #expect((found != nil) == isKnown)
        #expect(found?.alias == nil)
    }

    @Test("with a search domain behind, an alias leads to the name that was meant")
    func search() {
        let services = ["web.ns1.svc.cluster.local": ["10.0.0.1"], "www.google.com": ["1.2.3.4"]]
        for search in ["ns1.svc.cluster.local", "svc.cluster.local", "cluster.local"] {
            #expect(self.answer("www.google.com.\(search)", services)?.alias == name("www.google.com"))
        }
        #expect(self.answer("web.ns1.ns1.svc.cluster.local", services)?.alias == name("web.ns1"))
        #expect(self.answer("www.google.com.ns2.svc.cluster.local", services) == nil, "not a search domain of ours")
        #expect(self.answer("ns1.svc.cluster.local", services) == nil, "nothing is left of it")
    }

    @Test("the closest wildcard counts, an exact name before any, and only whole labels")
    func wildcards() {
        let services = [
            "*.example.org": ["1.0.0.1"], "*.b.example.org": ["1.0.0.2"], "a.b.example.org": ["1.0.0.3"],
        ]
        #expect(self.answer("x.example.org", services)?.hostname == "*.example.org")
        #expect(self.answer("x.y.example.org", services)?.hostname == "*.example.org")
        #expect(self.answer("x.b.example.org", services)?.hostname == "*.b.example.org")
        #expect(self.answer("a.b.example.org", services)?.hostname == "a.b.example.org")
        #expect(self.answer("example.org", services) == nil)
        #expect(self.answer("xexample.org", services) == nil)
        #expect(self.answer("x.example.org.ns1.svc.cluster.local", services)?.alias == nil)
    }

    @Test("IPv6 switched off means no IPv6 answers, not no answer")
    func noIPv6() {
        let found = self.answer("web", ["web.ns1.svc.cluster.local": ["fd00::1"]], isV6: true, isIPv6Enabled: false)
        #expect(found?.isFamilyExcluded == true && found?.addresses == [])
    }

    @Test("another cluster domain, written with dots around")
    func domain() {
        #expect(
            self.answer("web", ["web.ns1.svc.my.mesh": ["10.0.0.1"]], domain: ".My.Mesh.")?.addresses.count == 1)
    }

    @Test("a name of the greatest length costs no more than its labels")
    func long() {
        let text = Array(repeating: "a", count: 120).joined(separator: ".")
        #expect(self.answer(text, ["*.a": ["1.0.0.1"]])?.hostname == "*.a")
    }

    @Test("the root and odd bytes are nobody's")
    func odd() {
        #expect(self.answer(".", ["": ["1.0.0.1"]]) == nil)
    }
}
