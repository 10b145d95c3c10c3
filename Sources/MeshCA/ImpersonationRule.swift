public import MeshChannel
public import MeshIdentity

/// What the rule asks about pods. Answers come from the control plane's own watch.
public protocol PodDirectory: Sendable {
    func pod(namespace: String, name: String) -> PodFacts?
    /// Whether a pod that has not ended, with this account, is bound to this node.
    func hasLivePod(namespace: String, serviceAccount: String, node: String) -> Bool
}

public struct PodFacts: Hashable, Sendable {
    public var uid, serviceAccount, node: String
    public init(uid: String, serviceAccount: String, node: String) {
        self.uid = uid
        self.serviceAccount = serviceAccount
        self.node = node
    }
}

/// Which identity a caller may have a certificate for.
///
/// Everyone: its own. A node proxy (a trusted account, calling from a live pod): also that of any pod that lives on
/// the same node, because it speaks for them there. A stolen node proxy token is therefore worth the identities of
/// one node.
public struct ImpersonationRule: Sendable {
    /// `namespace/serviceAccount`, `istio-system/ztunnel` as a rule.
    public var trustedAccounts: Set<String>
    public var trustDomain: String

    public init(trustedAccounts: Set<String>, trustDomain: String) {
        self.trustedAccounts = trustedAccounts
        self.trustDomain = trustDomain
    }

    /// - Parameter requested: the SPIFFE URI asked for; empty asks for the caller's own identity.
    public func identity(
        for caller: AuthenticatedCaller, requested: String, pods: some PodDirectory
    ) throws(ImpersonationRefusal) -> WorkloadIdentity {
        let own = WorkloadIdentity(
            trustDomain: self.trustDomain, namespace: caller.namespace, serviceAccount: caller.serviceAccount)
        if requested.isEmpty || requested == own.description { return own }
        guard self.trustedAccounts.contains(caller.account) else {
            throw ImpersonationRefusal("caller \(caller.account) is not allowed to impersonate")
        }
        let wanted: WorkloadIdentity
        do {
            wanted = try WorkloadIdentity(spiffe: requested)
        } catch {
            throw ImpersonationRefusal("failed to validate impersonated identity: \(error)")
        }
        guard wanted.trustDomain == self.trustDomain else {
            throw ImpersonationRefusal(
                "failed to validate impersonated identity: \(wanted) is not of trust domain \(self.trustDomain)")
        }
        guard let claimed = caller.pod else {
            throw ImpersonationRefusal("the token of \(caller.account) is not bound to a pod")
        }
        guard let pod = pods.pod(namespace: caller.namespace, name: claimed.name) else {
            throw ImpersonationRefusal("pod \(caller.namespace)/\(claimed.name) not found")
        }
        guard pod.uid == claimed.uid else {
            throw ImpersonationRefusal(
                "pod found, but UID does not match: the token says \(claimed.uid), the pod is \(pod.uid)")
        }
        guard pod.serviceAccount == caller.serviceAccount else {
            throw ImpersonationRefusal(
                "pod found, but ServiceAccount does not match: the pod runs as \(pod.serviceAccount)")
        }
        guard !pod.node.isEmpty,
            pods.hasLivePod(namespace: wanted.namespace, serviceAccount: wanted.serviceAccount, node: pod.node)
        else {
            throw ImpersonationRefusal(
                "no instances of \(wanted.namespace)/\(wanted.serviceAccount) found on node \(pod.node)")
        }
        return wanted
    }
}

/// For our log; the caller learns only that it failed.
public struct ImpersonationRefusal: Error, Hashable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
