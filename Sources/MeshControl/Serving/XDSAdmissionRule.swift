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
/// And a caller is served as the node it is: what its node metadata says of its namespace and account has to be what its
/// token proves.
package struct XDSAdmissionRule: Sendable {
    /// `namespace/serviceAccount`, `istio-system/ztunnel` as a rule.
    package var nodeProxies: Set<String>
    /// By account, `namespace/serviceAccount`: names of the Gateways in that namespace that run as it.
    package var waypoints: @Sendable (String) -> Set<String>
    package var runsEnvoy: @Sendable (NamespacedName) -> Bool

    package init(
        nodeProxies: Set<String>, waypoints: @escaping @Sendable (String) -> Set<String> = { _ in [] },
        runsEnvoy: @escaping @Sendable (NamespacedName) -> Bool = { _ in false }
    ) {
        self.nodeProxies = nodeProxies
        self.waypoints = waypoints
        self.runsEnvoy = runsEnvoy
    }

    /// Told to the caller too: it says nothing that the caller does not know about itself.
    package struct Refusal: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// - Parameter isOpening: the caller has not said yet who it is.
    @discardableResult
    package func check(
        _ caller: AuthenticatedCaller, _ metadata: [String: String], isOpening: Bool = false
    ) throws(Refusal) -> XDSAdmission {
        let isNodeProxy = self.nodeProxies.contains(caller.account)
        let gateways = isNodeProxy ? [] : self.waypoints(caller.account)
        guard isNodeProxy || !gateways.isEmpty else {
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
}
