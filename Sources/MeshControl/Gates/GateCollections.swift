import MeshCollections
import MeshModel
import MeshRoutes

/// What has to be fetched for tokens.
package struct WantedKeys: Hashable, Sendable {
    package var source: KeySource
    package var timeout: Duration

    package init(source: KeySource, timeout: Duration) {
        self.source = source
        self.timeout = timeout
    }
}

/// Policies with targets, and the gates that they come to.
struct GateCollections {
    enum Kind: String { case policy, tokens, rate }

    /// By `<kind>|<namespace>/<name>`.
    let elements: MeshCollection<GateElement>
    let keySources: MeshCollection<WantedKeys>
    private let byTarget: Index<GateElement, String>

    init(_ graph: Graph, _ inputs: MeshInputs) {
        let policies: MeshCollection<GateElement> = graph.flatMap(inputs.authorizationPolicies) { key, view, fetch in
            RequestPolicyConverter.element(view, inputs.settings(fetch)).map { [(Self.key(.policy, key), $0)] } ?? []
        }
        let tokens: MeshCollection<GateElement> = graph.flatMap(inputs.requestAuthentications) { key, view, fetch in
            TokenPolicyConverter.element(view, inputs.settings(fetch)) { fetch.get(inputs.keySets, $0.key) }
                .map { [(Self.key(.tokens, key), $0)] } ?? []
        }
        let rates: MeshCollection<GateElement> = graph.flatMap(inputs.rateLimits) { key, view, fetch in
            [(Self.key(.rate, key), RateLimitConverter.element(view, inputs.settings(fetch)))]
        }
        self.elements = graph.join([policies, tokens, rates])
        self.byTarget = self.elements.index { _, element in element.targets }
        self.keySources = graph.flatMap(inputs.requestAuthentications) { _, view, _ in
            TokenPolicyConverter.sources(view).map {
                ($0.source.key, WantedKeys(source: $0.source, timeout: $0.timeout))
            }
        }
    }

    private static func key(_ kind: Kind, _ key: String) -> String { "\(kind.rawValue)|\(key)" }

    func caveat(_ kind: Kind, _ key: String, _ fetch: Fetch) -> GateElement.Caveat? {
        fetch.get(self.elements, Self.key(kind, key))?.caveat
    }

    /// What `targets` come to: every policy once, in the order of names.
    func gate(_ targets: [GateTarget], _ fetch: Fetch) -> TrafficGate {
        var found: [String: GateElement.Content] = [:]
        for target in targets {
            for (key, element) in fetch.get(self.byTarget, target.text) { found[key] = element.content }
        }
        var gate = TrafficGate()
        var reasons: [String] = []
        for (_, content) in found.sorted(by: { $0.key < $1.key }) {
            switch content {
            case .policy(let policy): gate.policies.append(policy)
            case .tokens(let policy): gate.tokens.append(policy)
            case .rate(let limit): gate.rateLimits.append(limit)
            case .closed(let reason): reasons.append(reason)
            }
        }
        if !reasons.isEmpty { gate.closedBecause = reasons.joined(separator: "; ") }
        return gate
    }

    /// `WaypointAccepted` for each object of a kind with targets.
    func statuses<View: Equatable>(
        _ graph: Graph, _ kind: Kind, _ views: Input<View>, _ targets: PolicyTargets,
        _ parts: @escaping (View) -> (targets: [PolicyView.Target], namespace: String, generation: Int64)
    ) -> MeshCollection<ObjectStatus> {
        graph.map(views) { key, view, fetch in
            let (list, namespace, generation) = parts(view)
            let caveat = self.caveat(kind, key, fetch)
            return ObjectStatus(
                generation: generation, [targets.condition(list, namespace: namespace, caveat: caveat, fetch)])
        }
    }
}
