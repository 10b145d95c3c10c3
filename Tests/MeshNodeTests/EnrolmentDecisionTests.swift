import KubeAPI
import MeshNode
import Testing

@Suite("The decision to enrol a pod")
struct EnrolmentDecisionTests {
    static func pod(
        _ mode: String? = nil, sidecar: Bool = false, hostNetwork: Bool = false, namespace: String = "shop"
    ) -> KubeObject {
        KubeObject(
            .pods, namespace: namespace, name: "web",
            labels: mode.map { ["istio.io/dataplane-mode": $0] } ?? [:],
            annotations: sidecar ? ["sidecar.istio.io/status": ""] : [:],
            ["spec": hostNetwork ? ["hostNetwork": true] : [:]])
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let namespace, pod: String?
        var sidecar = false
        var hostNetwork = false
        let wanted: EnrolmentDecision.Verdict
        var testDescription: String { "namespace \(self.namespace ?? "-") pod \(self.pod ?? "-"): \(self.wanted)" }
    }

    static let rows = [
        Row(namespace: "ambient", pod: nil, wanted: .enrolled),
        Row(namespace: "ambient", pod: "none", wanted: .notSelected),
        Row(namespace: "ambient", pod: "foo", wanted: .enrolled),
        Row(namespace: "ambient", pod: "ambient", wanted: .enrolled),
        Row(namespace: nil, pod: "ambient", wanted: .enrolled),
        Row(namespace: "none", pod: "ambient", wanted: .enrolled),
        Row(namespace: "none", pod: nil, wanted: .notSelected),
        Row(namespace: nil, pod: nil, wanted: .notSelected),
        Row(namespace: nil, pod: "foo", wanted: .notSelected),
        Row(namespace: "ambient", pod: "ambient", sidecar: true, wanted: .hasSidecar),
        Row(namespace: "ambient", pod: "ambient", hostNetwork: true, wanted: .hostNetwork),
        Row(namespace: "ambient", pod: "ambient", sidecar: true, hostNetwork: true, wanted: .hostNetwork),
    ]

    let decision = EnrolmentDecision(selectors: EnablementSelector.defaults, excludedNamespaces: ["kube-system"])

    @Test("follows the labels of pod and namespace", arguments: rows)
    func table(row: Row) {
        let labels = row.namespace.map { ["istio.io/dataplane-mode": $0] } ?? [:]
        let pod = Self.pod(row.pod, sidecar: row.sidecar, hostNetwork: row.hostNetwork)
        #expect(self.decision.verdict(pod, namespaceLabels: labels) == row.wanted)
    }

    @Test("keeps excluded namespaces out, whatever their labels say")
    func excluded() {
        let pod = Self.pod("ambient", namespace: "kube-system")
        #expect(
            self.decision.verdict(pod, namespaceLabels: ["istio.io/dataplane-mode": "ambient"]) == .excludedNamespace)
    }

    @Test("takes other selectors, and refuses ones that do not parse")
    func selectors() throws {
        let custom = try EnablementSelector.list([
            ["podSelector": ["matchLabels": ["mesh": "yes"]]],
            ["namespaceSelector": ["matchExpressions": [["key": "team", "operator": "In", "values": ["a", "b"]]]]],
        ])
        let decision = EnrolmentDecision(selectors: custom, excludedNamespaces: [])
        #expect(decision.verdict(Self.pod(), namespaceLabels: ["team": "b"]) == .enrolled)
        #expect(decision.verdict(Self.pod("ambient"), namespaceLabels: [:]) == .notSelected)
        #expect(throws: (any Error).self) {
            try EnablementSelector.list([["podSelector": ["matchExpressions": [["key": "a", "operator": "Is"]]]]])
        }
        #expect(throws: (any Error).self) { try EnablementSelector.list(["podSelector": [:]]) }
    }

    @Test("calls a namespace free only when no pod of it could be selected")
    func free() {
        let ambient = ["istio.io/dataplane-mode": "ambient"]
        #expect(self.decision.isFree("plain", labels: [:], hasOptedInPods: false))
        #expect(!self.decision.isFree("plain", labels: [:], hasOptedInPods: true))
        #expect(!self.decision.isFree("shop", labels: ambient, hasOptedInPods: false))
        #expect(self.decision.isFree("kube-system", labels: ambient, hasOptedInPods: true))
        let everything = EnrolmentDecision(
            selectors: [EnablementSelector(pod: .everything, namespace: .everything)], excludedNamespaces: [])
        #expect(!everything.isFree("plain", labels: [:], hasOptedInPods: false))
        #expect(self.decision.isOptedIn(ambient))
        #expect(!self.decision.isOptedIn(["istio.io/dataplane-mode": "none"]))
        #expect(!self.decision.isOptedIn([:]))
    }
}
