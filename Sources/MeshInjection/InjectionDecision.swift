package import KubeAPI

/// Whether a pod gets a sidecar, and why.
package enum InjectionDecision: Hashable, Sendable {
    case injects(String)
    case skips(String)

    package var injects: Bool { if case .injects = self { true } else { false } }
    package var reason: String {
        switch self {
        case .injects(let reason), .skips(let reason): reason
        }
    }

    /// Never injected, whatever their labels say.
    package static let systemNamespaces: Set<String> = [
        "kube-system", "kube-public", "kube-node-lease", "local-path-storage",
    ]
    static let label = "sidecar.istio.io/inject"

    /// The rules inside of the webhook; which pods it is asked about at all is its configuration's to say.
    ///
    /// - Parameter pod: with `metadata` and `spec`; a template of a pod is none less.
    package init(pod: KubeObject, namespace: String, _ settings: InjectionSettings) {
        if pod.spec["hostNetwork"]?.bool == true {
            self = .skips("the pod uses the node's network (hostNetwork)")
            return
        }
        if Self.systemNamespaces.contains(namespace) {
            self = .skips("\(namespace) is a namespace of the system")
            return
        }
        if pod.annotations[SidecarInjector.status] != nil {
            self = .skips("the pod has a sidecar already")
            return
        }
        // The label beats the annotation.
        for (kind, map) in [("label", pod.labels), ("annotation", pod.annotations)] {
            guard let text = map[Self.label], !text.isEmpty else { continue }
            self =
                Words.boolean(text) == true
                ? .injects("\(kind) \(Self.label)=\(text)") : .skips("\(kind) \(Self.label)=\(text)")
            return
        }
        if settings.neverInject.contains(where: { $0.matches(pod.labels) }) {
            self = .skips("neverInjectSelector of the injector's configuration")
        } else if settings.alwaysInject.contains(where: { $0.matches(pod.labels) }) {
            self = .injects("alwaysInjectSelector of the injector's configuration")
        } else {
            self =
                settings.injectsByDefault
                ? .injects("policy: enabled in the injector's configuration")
                : .skips("policy: disabled in the injector's configuration")
        }
    }
}
