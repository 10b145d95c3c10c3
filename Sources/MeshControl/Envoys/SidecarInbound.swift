import MeshCollections
import MeshEnvoy
import MeshModel
import MeshRoutes
import MeshXDS

/// The way from outside to applications with a sidecar: which ports they have, who may come, and how.
struct SidecarInbound {
    let resources: MeshCollection<EnvoyResource>
    let problems: MeshCollection<[EnvoyProblem]>
    /// Keys of issuers that only sidecars ask for.
    let keySources: MeshCollection<WantedKeys>

    /// A policy without targets, and for which pods it is.
    private struct Rule: Equatable {
        var content: GateElement.Content
        var selector: [String: String]?

        func selects(_ labels: [String: String]) -> Bool {
            self.selector.map { $0.allSatisfy { labels[$0.key] == $0.value } } ?? true
        }
    }

    init(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ pods: MeshCollection<SidecarPod>,
        _ inputs: MeshInputs, _ services: ServiceCollections, _ workloads: WorkloadCollections,
        _ telemetries: Index<TelemetryView, String>
    ) {
        let rules = Self.rules(graph, settings, inputs)
        // Keys are `<kind>|<namespace>/<name>`.
        let byNamespace = rules.index { key, _ in
            [key.split(separator: "|").last.map { String($0.prefix { $0 != "/" }) } ?? ""]
        }
        let peers = inputs.peerAuthentications.index { _, view in [view.namespace] }
        let parts: MeshCollection<SidecarPart> = graph.map(pods) { key, pod, fetch in
            guard var settings = fetch.get(settings, "") else { return nil }
            let mesh = inputs.settings(fetch)
            let (root, namespace) = (mesh.rootNamespace, pod.namespace)
            let scopes = root == namespace ? [root] : [root, namespace]
            settings.accessLog = TelemetryReader.sidecarLog(
                scopes.map { fetch.get(telemetries, $0).map(\.value) }, mesh)
            let found = scopes.flatMap { fetch.get(byNamespace, $0).map(\.value) }
            let tls = InboundTLS(
                labels: pod.labels, isInRoot: root == namespace, namespace: fetch.get(peers, namespace).map(\.value),
                root: fetch.get(peers, root).map(\.value))
            let workload = fetch.get(workloads.all, "\(mesh.clusterID)//Pod/\(key)")
            let listener = InboundListener(
                key, ports: Self.ports(workload) { fetch.get(services.all, $0.description) }, tls: tls,
                tunnelled: pod.takesTunnels ? pod.addresses : [],
                Self.gate(found.filter { $0.selects(pod.labels) }.map(\.content)), settings)
            var part = SidecarPart(problems: listener.problems)
            part.add(SidecarLayer.pod(key), listener.resources)
            return part
        }
        (self.resources, self.problems) = SidecarPart.split(graph, parts)
        self.keySources = graph.flatMap(inputs.requestAuthentications) { _, view, fetch in
            guard fetch.get(settings, "") != nil else { return [] }
            return TokenPolicyConverter.sources(view, forSidecars: true).map {
                ($0.source.key, WantedKeys(source: $0.source, timeout: $0.timeout))
            }
        }
    }

    private static func rules(
        _ graph: Graph, _ settings: MeshCollection<SidecarSettings>, _ inputs: MeshInputs
    ) -> MeshCollection<Rule> {
        let policies: MeshCollection<Rule> = graph.flatMap(inputs.authorizationPolicies) { key, view, fetch in
            guard fetch.get(settings, "") != nil,
                let element = RequestPolicyConverter.element(view, inputs.settings(fetch), forSidecars: true)
            else { return [] }
            return [("policy|\(key)", Rule(content: element.content, selector: view.selector))]
        }
        let tokens: MeshCollection<Rule> = graph.flatMap(inputs.requestAuthentications) { key, view, fetch in
            guard fetch.get(settings, "") != nil,
                let element = TokenPolicyConverter.element(
                    view, inputs.settings(fetch), forSidecars: true,
                    keys: { fetch.get(inputs.keySets, $0.key) })
            else { return [] }
            return [("tokens|\(key)", Rule(content: element.content, selector: view.selector))]
        }
        return graph.join([policies, tokens])
    }

    private static func gate(_ contents: [GateElement.Content]) -> TrafficGate {
        var gate = TrafficGate()
        var reasons: [String] = []
        for content in contents {
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

    /// Ports of the application that services lead to. Where two services disagree about what is spoken there, somebody
    /// has to look.
    private static func ports(
        _ workload: Workload?, _ service: (NamespacedName) -> MeshModel.Service?
    ) -> [InboundListener.Port] {
        var found: [UInt16: ServicePort.AppProtocol] = [:]
        for (key, ports) in (workload?.services ?? [:]).sorted(by: { $0.key.description < $1.key.description }) {
            let declared = service(key)?.distinctPorts ?? []
            for port in ports {
                let spoken = declared.first { $0.port == port.port }?.appProtocol ?? .unknown
                found[port.targetPort] = found[port.targetPort].map { $0 == spoken ? spoken : .unknown } ?? spoken
            }
        }
        return found.sorted { $0.key < $1.key }.map { .init($0.key, $0.value) }
    }
}
