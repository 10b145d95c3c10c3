import MeshModel
import MeshRoutes
import Testing

@Suite("What a waypoint is told")
struct ServiceRulesTests {
    /// Attached to nothing else, a service is served with plain balancing and no gate.
    @Test func defaults() {
        let rules = ServiceRules(key: NamespacedName(namespace: "shop", name: "web.shop.svc.cluster.local"))
        #expect(rules.gate.closedBecause == nil)
        #expect(rules.balancing.choice == .leastRequest)
        #expect(HTTPMatch().path == .prefix("/"))
    }
}
