import MeshModel
import MeshRoutes
import Testing

@Suite("What the access log says of a request that passes")
struct GateNoteTests {
    private let match = PolicyMatch(
        policy: NamespacedName(namespace: "shop", name: "watch"), rule: 0, action: .audit)

    @Test("nothing, an audit, a policy on trial that would refuse")
    func note() {
        var decision = GateDecision(verdict: .permit(by: nil))
        #expect(decision.note == nil)
        decision.audit = self.match
        #expect(decision.note == "rbac_audit_matched_policy[ns[shop]-policy[watch]-rule[0]]")
        decision.audit = nil
        decision.dryRun = [self.match]
        decision.dryRunRefuses = false
        #expect(decision.note == nil)
        decision.dryRunRefuses = true
        #expect(decision.note == "rbac_dry_run_denied[ns[shop]-policy[watch]-rule[0]]")
    }
}
