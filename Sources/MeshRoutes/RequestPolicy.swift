package import MeshModel

/// An AuthorizationPolicy with all its layer-7 fields, in the API's own terms. `StringMatch` and the meaning of lists are
/// as in ``AuthorizationPolicy``: values of one list are OR-ed, lists of one source or operation AND-ed, no value of a
/// `not` list may match.
package struct RequestPolicy: Hashable, Sendable {
    package typealias StringMatch = AuthorizationPolicy.StringMatch

    package enum Action: UInt8, Hashable, Sendable { case allow = 0, deny, audit }

    package struct Rule: Hashable, Sendable {
        /// Any of them; none: everybody.
        package var from: [Source] = []
        /// Any of them; none: everything.
        package var to: [Operation] = []
        /// All of them.
        package var when: [Condition] = []
        package init() {}
    }

    package struct Source: Hashable, Sendable {
        package var principals: [StringMatch] = [], notPrincipals: [StringMatch] = []
        /// `<issuer>/<subject>` of a verified token.
        package var requestPrincipals: [StringMatch] = [], notRequestPrincipals: [StringMatch] = []
        package var namespaces: [StringMatch] = [], notNamespaces: [StringMatch] = []
        package var serviceAccounts: [AuthorizationPolicy.ServiceAccountMatch] = []
        package var notServiceAccounts: [AuthorizationPolicy.ServiceAccountMatch] = []
        package var trustDomains: [StringMatch] = [], notTrustDomains: [StringMatch] = []
        package var ipBlocks: [CIDR] = [], notIPBlocks: [CIDR] = []
        /// The client behind trusted proxies (`x-forwarded-for`).
        package var remoteIPBlocks: [CIDR] = [], notRemoteIPBlocks: [CIDR] = []
        package init() {}
    }

    package enum PathPattern: Hashable, Sendable {
        case text(StringMatch)
        /// `{*}` stands for one segment, `{**}` for any number, at the end.
        case template(String)
    }

    package struct Operation: Hashable, Sendable {
        /// Compared without regard to case.
        package var hosts: [StringMatch] = [], notHosts: [StringMatch] = []
        /// The service's ports.
        package var ports: [UInt16] = [], notPorts: [UInt16] = []
        package var methods: [StringMatch] = [], notMethods: [StringMatch] = []
        /// Compared with the normalised path, without the query.
        package var paths: [PathPattern] = [], notPaths: [PathPattern] = []
        package init() {}
    }

    package enum Attribute: Hashable, Sendable {
        case requestHeader(String)
        case sourceIP, remoteIP, sourceNamespace, sourceServiceAccount, sourceTrustDomain, sourcePrincipal
        case requestPrincipal, requestAudiences, requestPresenter
        case requestClaim([String])
        case destinationIP, destinationPort
        /// `connection.sni`.
        case serverName
    }

    package enum ConditionValue: Hashable, Sendable {
        case text(StringMatch)
        case block(CIDR)
        case port(UInt16)
        case serviceAccount(AuthorizationPolicy.ServiceAccountMatch)
    }

    package struct Condition: Hashable, Sendable {
        package var attribute: Attribute
        package var values: [ConditionValue]
        package var notValues: [ConditionValue]
        package init(attribute: Attribute, values: [ConditionValue] = [], notValues: [ConditionValue] = []) {
            self.attribute = attribute
            self.values = values
            self.notValues = notValues
        }
    }

    package var key: NamespacedName
    package var action: Action
    /// Any of them matches the policy; an ALLOW policy without rules allows nothing.
    package var rules: [Rule]
    package var isDryRun: Bool

    package init(key: NamespacedName, action: Action, rules: [Rule], isDryRun: Bool = false) {
        self.key = key
        self.action = action
        self.rules = rules
        self.isDryRun = isDryRun
    }
}
