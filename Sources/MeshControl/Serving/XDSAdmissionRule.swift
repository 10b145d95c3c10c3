package import MeshChannel
package import MeshModel
package import MeshXDS

/// Who may follow the mesh's state, and as whom.
///
/// The state names every workload, service and policy of the mesh. Only a node proxy has use for all of it: it carries
/// the connections of any pod to any other. So only the accounts of node proxies are served, the same ones that may
/// have certificates of other workloads (`CA_TRUSTED_NODE_ACCOUNTS`): an account that is trusted to speak for the
/// workloads of a node learns nothing new from it. Every other account, an application's own above all, is refused.
/// The reference serves whoever has a valid token.
///
/// A waypoint is served what is for it: as the Gateway that its node metadata names (`GATEWAY_NAME`), if its token is of
/// an account that this Gateway runs as, in its namespace. What it is served, our own rules or Envoy's configuration, the
/// Gateway's class decides.
///
/// A sidecar is served what its namespace may see, and what is for its pod: with a token that was made for just this pod, if
/// the pod has a sidecar. The reference serves any pod whose account has the token's name.
///
/// And a caller is served as the node it is: what its node metadata says of its namespace and account has to be what its
/// token proves.
package struct XDSAdmissionRule: Sendable {
    /// `namespace/serviceAccount`, `istio-system/ztunnel` as a rule.
    package var nodeProxies: Set<String>
    /// By account, `namespace/serviceAccount`: names of the Gateways in that namespace that run as it.
    package var waypoints: @Sendable (String) -> Set<String>
    package var runsEnvoy: @Sendable (NamespacedName) -> Bool
    /// The pod of this name, if it has a sidecar.
    package var sidecar: @Sendable (NamespacedName) -> SidecarPod?

    package init(
        nodeProxies: Set<String>, waypoints: @escaping @Sendable (String) -> Set<String> = { _ in [] },
        runsEnvoy: @escaping @Sendable (NamespacedName) -> Bool = { _ in false },
        sidecar: @escaping @Sendable (NamespacedName) -> SidecarPod? = { _ in nil }
    ) {
        self.nodeProxies = nodeProxies
        self.waypoints = waypoints
        self.runsEnvoy = runsEnvoy
        self.sidecar = sidecar
    }

    /// Told to the caller too: it says nothing that the caller does not know about itself.
    package struct Refusal: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// - Parameter node: the node's id; empty: the caller has not said yet who it is.
    @discardableResult
    package func check(
        _ caller: AuthenticatedCaller, _ metadata: [String: String], node: String = "", isOpening: Bool = false
    ) throws(Refusal) -> XDSAdmission {
        let isNodeProxy = self.nodeProxies.contains(caller.account)
        let gateways = isNodeProxy ? [] : self.waypoints(caller.account)
        let sidecar = isNodeProxy ? nil : self.sidecar(of: caller)
        guard isNodeProxy || !gateways.isEmpty || sidecar != nil else {
            throw Refusal(
                description:
                    "service account \(caller.account) is no node proxy of this mesh, nor a waypoint's, and may not read "
                    + "its state; the control plane's CA_TRUSTED_NODE_ACCOUNTS names the node proxies")
        }
        if let namespace = metadata["NAMESPACE"], namespace != caller.namespace {
            throw Refusal(
                description: "the node says namespace \(namespace), the token is of \(caller.account)")
        }
        if let account = metadata["SERVICE_ACCOUNT"], !account.isEmpty, account != caller.serviceAccount {
            throw Refusal(
                description: "the node says service account \(account), the token is of \(caller.account)")
        }
        if isNodeProxy { return .nodeProxy }
        if let sidecar, gateways.isEmpty || node.hasPrefix("sidecar~") {
            if !isOpening { try Self.check(node, is: sidecar) }
            return .sidecar(sidecar.key)
        }
        let name = metadata["GATEWAY_NAME"] ?? ""
        if isOpening { return .waypoint("\(caller.namespace)/\(name)") }
        guard gateways.contains(name) else {
            throw Refusal(
                description: name.isEmpty
                    ? "the node metadata of a waypoint have to name its Gateway (GATEWAY_NAME)"
                    : "service account \(caller.account) does not run Gateway \(name), but "
                        + gateways.sorted().joined(separator: ", "))
        }
        let gateway = NamespacedName(namespace: caller.namespace, name: name)
        return self.runsEnvoy(gateway) ? .envoy(gateway.description) : .waypoint(gateway.description)
    }

    /// The pod that the token was made for, if it has a sidecar.
    private func sidecar(of caller: AuthenticatedCaller) -> SidecarPod? {
        guard let pod = caller.pod,
            let known = self.sidecar(NamespacedName(namespace: caller.namespace, name: pod.name)),
            known.uid == pod.uid, known.account == caller.serviceAccount
        else { return nil }
        return known
    }

    /// `sidecar~<ip>~<pod>.<namespace>~<domain>`
    private static func check(_ node: String, is pod: SidecarPod) throws(Refusal) {
        let parts = node.split(separator: "~", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "sidecar", parts[2] == "\(pod.name).\(pod.namespace)" else {
            throw Refusal(description: "the node says \(node), the token is of the sidecar of pod \(pod.key)")
        }
    }
}
