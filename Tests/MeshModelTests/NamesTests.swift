import MeshIdentity
import MeshModel
import Testing

@Suite("A namespaced name")
struct NamespacedNameTests {
    @Test("is two parts with a slash between; the namespace may be empty", arguments: ["a/b", "/b", "a/b.c"])
    func accepted(text: String) { #expect(NamespacedName(text)?.description == text) }

    @Test("has exactly one slash and something after it", arguments: ["", "a", "a/", "/", "a/b/c", "a//b"])
    func refused(text: String) { #expect(NamespacedName(text) == nil) }
}

@Suite("A workload identity")
struct WorkloadIdentityTests {
    @Test("reads a SPIFFE URI and writes it back")
    func roundTrip() throws {
        let identity = try WorkloadIdentity(spiffe: "spiffe://cluster.local/ns/shop/sa/cart")
        #expect(identity == WorkloadIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart"))
        #expect(identity.description == "spiffe://cluster.local/ns/shop/sa/cart")
        #expect(identity.principal == "cluster.local/ns/shop/sa/cart")
    }

    @Test(
        "C14: refuses what is not exactly that form",
        arguments: [
            "", "td/ns/a/sa/b", "SPIFFE://td/ns/a/sa/b", "spiffe:/td/ns/a/sa/b", "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa", "spiffe://td/ns/a/b/sa", "spiffe://td/sa/a/ns/b", "spiffe://td/ns/a/sa/b/c",
            " spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/b?x", "spiffe://td/ns/a/sa/b#x", "spiffe://td/ns/a/sa/%62",
            "spiffe://td/ns/a/sa/b\u{0}", "spiffe://td:1/ns/a/sa/b",
            // Stricter than the reference, which lets parts be empty: an identity with no name proves nothing.
            "spiffe://td/ns//sa/", "spiffe:///ns/a/sa/b",
            // Swift calls the Kelvin sign equal to K; a certificate must not.
            "spiffe://td/ns/a/sa/\u{212A}",
        ])
    func refused(uri: String) {
        #expect(throws: InvalidIdentity.self) { try WorkloadIdentity(spiffe: uri) }
    }
}

@Suite("A mesh address")
struct MeshAddressTests {
    @Test("is named by uid or by namespace and host name")
    func names() {
        #expect(MeshAddress.workload(Workload(uid: "k//Pod/a/b")).resourceName == "k//Pod/a/b")
        #expect(
            MeshAddress.service(Service(name: "web", namespace: "shop", hostname: "web.shop.svc")).resourceName
                == "shop/web.shop.svc")
    }

    @Test("a workload starts with the wire's defaults")
    func defaults() {
        let workload = Workload(uid: "x")
        #expect(workload.identity.description == "spiffe://cluster.local/ns//sa/default")
        #expect(workload.clusterID == "Kubernetes")
        #expect(workload.capacity == 1)
        #expect(workload.isHealthy)
    }
}
