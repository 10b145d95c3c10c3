import MeshEnvoy
package import MeshModel

/// A pod with a sidecar, as far as its sidecar's configuration and its clients' follow from it.
package struct SidecarPod: Hashable, Sendable {
    package var namespace, name, uid, account: String
    package var labels: [String: String]
    package var addresses: [IPAddress]
    /// Its agent answers the application's questions for names.
    package var capturesNames: Bool

    package init(
        namespace: String, name: String, uid: String, account: String, labels: [String: String] = [:],
        addresses: [IPAddress] = [], capturesNames: Bool = false
    ) {
        (self.namespace, self.name, self.uid, self.account) = (namespace, name, uid, account)
        (self.labels, self.addresses, self.capturesNames) = (labels, addresses, capturesNames)
    }

    /// What injection labels a pod with whose sidecar takes the mesh's TLS.
    private static let label = "security.istio.io/tlsMode"

    /// Nil: it has none.
    init?(_ pod: PodView) {
        guard pod.labels[Self.label] == "istio", !pod.hasEnded, !pod.usesHostNetwork else { return nil }
        self.init(
            namespace: pod.namespace, name: pod.name, uid: pod.uid,
            account: pod.serviceAccount.isEmpty ? "default" : pod.serviceAccount, labels: pod.labels,
            addresses: pod.addresses ?? [], capturesNames: pod.capturesNames)
    }

    /// It takes tunnels itself; nothing stands before it that would.
    var takesTunnels: Bool { WorkloadBuilder.tunnel(self.labels, isCaptured: false).isNative }

    package var key: String { "\(self.namespace)/\(self.name)" }
}

extension InboundTLS {
    /// What PeerAuthentications say of a workload. As in ``PeerAuthenticationConverter``: its own object's word, else its
    /// namespace's, else the mesh's; of several the oldest. Modes of single ports only an object of its own has.
    ///
    /// - Parameters:
    ///   - namespace, root: the objects of the workload's namespace, and of the root namespace.
    init(
        labels: [String: String], isInRoot: Bool, namespace: [PeerAuthenticationView], root: [PeerAuthenticationView]
    ) {
        func general(_ views: [PeerAuthenticationView]) -> Mode? {
            let oldest = views.filter { $0.selector == nil }.min(by: PeerAuthenticationView.isOlder)
            return oldest.flatMap { Mode($0.mode) }
        }
        let own = isInRoot ? nil : namespace.filter { $0.selects(labels) }.min(by: PeerAuthenticationView.isOlder)
        let mode = own.flatMap { Mode($0.mode) } ?? general(namespace) ?? general(root) ?? .permissive
        self.init(mode, ports: (own?.portModes ?? [:]).compactMapValues { Mode($0) })
    }
}

extension InboundTLS.Mode {
    /// Nil: nothing is said.
    fileprivate init?(_ mode: PeerAuthenticationView.Mode) {
        switch mode {
        case .unset: return nil
        case .disable: self = .disable
        case .permissive: self = .permissive
        case .strict: self = .strict
        }
    }
}
