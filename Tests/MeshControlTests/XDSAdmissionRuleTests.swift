import MeshChannel
import MeshControl
import Testing

@Suite("Who may read the mesh's state")
struct XDSAdmissionRuleTests {
    let rule = XDSAdmissionRule(nodeProxies: ["istio-system/ztunnel"])

    @Test("a node proxy, whatever it says or does not say of itself, as long as it is true")
    func nodeProxy() throws {
        let caller = AuthenticatedCaller(namespace: "istio-system", serviceAccount: "ztunnel")
        for metadata in [
            [:], ["NAMESPACE": "istio-system"], ["NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "ztunnel"],
            ["SERVICE_ACCOUNT": ""],
        ] { try self.rule.check(caller, metadata) }
    }

    @Test(
        "no other account, not even one of that name elsewhere",
        arguments: [("shop", "web"), ("shop", "ztunnel"), ("istio-system", "istiod"), ("istio-system", "default")])
    func others(namespace: String, account: String) {
        let caller = AuthenticatedCaller(namespace: namespace, serviceAccount: account)
        let refusal = #expect(throws: XDSAdmissionRule.Refusal.self) {
            try self.rule.check(caller, ["NAMESPACE": namespace, "SERVICE_ACCOUNT": account])
        }
        #expect(refusal?.description.contains("\(namespace)/\(account) is no node proxy") == true)
        #expect(refusal?.description.contains("CA_TRUSTED_NODE_ACCOUNTS") == true)
    }

    @Test(
        "not as somebody else",
        arguments: [["NAMESPACE": "shop"], ["NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "web"]])
    func pretenders(metadata: [String: String]) {
        let caller = AuthenticatedCaller(namespace: "istio-system", serviceAccount: "ztunnel")
        let refusal = #expect(throws: XDSAdmissionRule.Refusal.self) { try self.rule.check(caller, metadata) }
        #expect(refusal?.description.contains("istio-system/ztunnel") == true)
    }

    @Test("a waypoint as the Gateway that its account runs, in its own namespace")
    func waypoints() throws {
        let rule = XDSAdmissionRule(
            nodeProxies: ["istio-system/ztunnel"], waypoints: { $0 == "shop/w" ? ["w", "w2"] : [] })
        let caller = AuthenticatedCaller(namespace: "shop", serviceAccount: "w")
        #expect(try rule.check(caller, ["GATEWAY_NAME": "w2", "NAMESPACE": "shop"]) == .waypoint("shop/w2"))
        #expect(throws: Never.self) { try rule.check(caller, [:], isOpening: true) }
        for metadata in [[:], ["GATEWAY_NAME": "x"], ["GATEWAY_NAME": "w", "NAMESPACE": "other"]] {
            #expect(throws: XDSAdmissionRule.Refusal.self) { try rule.check(caller, metadata) }
        }
        let elsewhere = AuthenticatedCaller(namespace: "other", serviceAccount: "w")
        #expect(throws: XDSAdmissionRule.Refusal.self) { try rule.check(elsewhere, ["GATEWAY_NAME": "w"]) }
        let proxy = AuthenticatedCaller(namespace: "istio-system", serviceAccount: "ztunnel")
        #expect(try rule.check(proxy, ["GATEWAY_NAME": "w"]) == .nodeProxy)
    }

    @Test("an Envoy waypoint is served Envoy's configuration")
    func envoys() throws {
        let rule = XDSAdmissionRule(
            nodeProxies: [], waypoints: { _ in ["w", "e"] }, runsEnvoy: { $0.description == "shop/e" })
        let caller = AuthenticatedCaller(namespace: "shop", serviceAccount: "w")
        #expect(try rule.check(caller, ["GATEWAY_NAME": "e"]) == .envoy("shop/e"))
        #expect(try rule.check(caller, ["GATEWAY_NAME": "w"]) == .waypoint("shop/w"))
    }

    @Test("callers are shown by the address that they have")
    func peers() {
        #expect(readable(peer: "ipv6:[::ffff:10.1.0.9]:4711") == "ipv4:10.1.0.9:4711")
        for peer in ["ipv4:10.1.0.9:1", "ipv6:[fd00::1]:2", "ipv6:[::ffff:0:1]:3", "unix:/x"] {
            #expect(readable(peer: peer) == peer)
        }
    }
}
