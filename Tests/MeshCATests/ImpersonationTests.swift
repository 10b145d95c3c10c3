import MeshCA
import MeshChannel
import MeshIdentity
import Testing

struct FixedPods: PodDirectory {
    var pods: [String: PodFacts] = [:]
    /// `namespace/account@node`
    var live: Set<String> = []
    func pod(namespace: String, name: String) -> PodFacts? { self.pods["\(namespace)/\(name)"] }
    func hasLivePod(namespace: String, serviceAccount: String, node: String) -> Bool {
        self.live.contains("\(namespace)/\(serviceAccount)@\(node)")
    }
}

@Suite("Who may have whose identity")
struct ImpersonationTests {
    static let rule = ImpersonationRule(trustedAccounts: ["istio-system/ztunnel"], trustDomain: "cluster.local")
    static let pods = FixedPods(
        pods: ["istio-system/zt-1": PodFacts(uid: "u1", serviceAccount: "ztunnel", node: "n1")],
        live: ["ns/sa@n1", "ns/elsewhere@n2", "istio-system/ztunnel@n1"])
    static let wanted = "spiffe://cluster.local/ns/ns/sa/sa"

    static func caller(
        _ account: String = "ztunnel", pod: String? = "zt-1", uid: String = "u1"
    ) -> AuthenticatedCaller {
        AuthenticatedCaller(
            namespace: "istio-system", serviceAccount: account, pod: pod.map { .init(name: $0, uid: uid) })
    }

    static func refusal(
        _ requested: String = wanted, caller: AuthenticatedCaller = caller(), rule: ImpersonationRule = rule
    ) -> String? {
        do throws(ImpersonationRefusal) {
            _ = try rule.identity(for: caller, requested: requested, pods: Self.pods)
            return nil
        } catch {
            return error.description
        }
    }

    @Test("74: without trusted accounts nobody impersonates")
    func untrusted() {
        let rule = ImpersonationRule(trustedAccounts: [], trustDomain: "cluster.local")
        #expect(Self.refusal(rule: rule)?.contains("is not allowed to impersonate") == true)
        #expect(Self.refusal(caller: Self.caller("other"))?.contains("is not allowed to impersonate") == true)
    }

    @Test("75: no such pod on the node, also when one runs elsewhere")
    func absent() {
        #expect(Self.refusal("spiffe://cluster.local/ns/ns/sa/none")?.contains("no instances of ns/none") == true)
        #expect(Self.refusal("spiffe://cluster.local/ns/ns/sa/elsewhere")?.contains("found on node n1") == true)
    }

    @Test("76: a pod with the account on the caller's node")
    func present() throws {
        let identity = try Self.rule.identity(for: Self.caller(), requested: Self.wanted, pods: Self.pods)
        #expect(identity.description == Self.wanted)
    }

    @Test("77: not a workload identity of this mesh")
    func malformed() {
        for text in ["x", "spiffe://cluster.local/ns/ns", "spiffe://other/ns/ns/sa/sa", Self.wanted + ",DNS:evil"] {
            let refusal = Self.refusal(text)
            #expect(refusal != nil, "\(text)")
        }
        #expect(Self.refusal("x")?.contains("failed to validate") == true)
        #expect(Self.refusal("spiffe://other/ns/ns/sa/sa")?.contains("trust domain") == true)
    }

    @Test("78, 79, 80: the caller's own pod has to be the one of its token")
    func callerPod() {
        #expect(Self.refusal(caller: Self.caller(pod: "gone"))?.contains("not found") == true)
        #expect(Self.refusal(caller: Self.caller(pod: nil))?.contains("not bound to a pod") == true)
        #expect(Self.refusal(caller: Self.caller(uid: "u2"))?.contains("UID does not match") == true)
        let rule = ImpersonationRule(trustedAccounts: ["istio-system/fake"], trustDomain: "cluster.local")
        #expect(
            Self.refusal(caller: Self.caller("fake"), rule: rule)?.contains("ServiceAccount does not match") == true)
    }

    @Test("82: without a wish, the own identity; so too for everyone else")
    func own() throws {
        let node = try Self.rule.identity(for: Self.caller(), requested: "", pods: Self.pods)
        #expect(node.description == "spiffe://cluster.local/ns/istio-system/sa/ztunnel")
        let plain = AuthenticatedCaller(namespace: "ns", serviceAccount: "sa")
        #expect(try Self.rule.identity(for: plain, requested: Self.wanted, pods: Self.pods).description == Self.wanted)
    }
}
