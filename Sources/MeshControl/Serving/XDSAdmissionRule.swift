package import MeshChannel

/// Who may follow the mesh's state, and as whom.
///
/// The state names every workload, service and policy of the mesh. Only a node proxy has use for all of it: it carries
/// the connections of any pod to any other. So only the accounts of node proxies are served, the same ones that may
/// have certificates of other workloads (`CA_TRUSTED_NODE_ACCOUNTS`): an account that is trusted to speak for the
/// workloads of a node learns nothing new from it. Every other account, an application's own above all, is refused.
/// The reference serves whoever has a valid token.
///
/// And a caller is served as the node it is: what its node metadata says of its namespace and account has to be what its
/// token proves.
package struct XDSAdmissionRule: Sendable {
    /// `namespace/serviceAccount`, `istio-system/ztunnel` as a rule.
    package var nodeProxies: Set<String>

    package init(nodeProxies: Set<String>) { self.nodeProxies = nodeProxies }

    /// Told to the caller too: it says nothing that the caller does not know about itself.
    package struct Refusal: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    package func check(_ caller: AuthenticatedCaller, _ metadata: [String: String]) throws(Refusal) {
        guard self.nodeProxies.contains(caller.account) else {
            throw Refusal(
                description:
                    "service account \(caller.account) is no node proxy of this mesh and may not read its "
                    + "state; the control plane's CA_TRUSTED_NODE_ACCOUNTS names those that may")
        }
        if let namespace = metadata["NAMESPACE"], namespace != caller.namespace {
            throw Refusal(
                description: "the node says namespace \(namespace), the token is of \(caller.account)")
        }
        if let account = metadata["SERVICE_ACCOUNT"], !account.isEmpty, account != caller.serviceAccount {
            throw Refusal(
                description: "the node says service account \(account), the token is of \(caller.account)")
        }
    }
}
