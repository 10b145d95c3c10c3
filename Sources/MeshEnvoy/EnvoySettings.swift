internal import MeshIdentity

/// What holds for the whole configuration of one Envoy waypoint.
package struct EnvoySettings: Hashable, Sendable {
    /// The mesh's own first, then its aliases.
    package var trustDomains: [String]
    /// Addresses of other networks lead nowhere here.
    package var network: String
    /// Whether its pods have IPv6 addresses.
    package var listensOnIPv6: Bool

    /// Where it takes HBONE, and where the node proxies of its endpoints do.
    package var listenPort: UInt16 = 15008
    package var tunnelPort: UInt16 = 15008

    package init(trustDomains: [String], network: String = "", listensOnIPv6: Bool = false) {
        self.trustDomains = trustDomains
        self.network = network
        self.listensOnIPv6 = listensOnIPv6
    }
}

/// What Envoy cannot do as it was asked for; what it does instead never lets more through.
package struct EnvoyProblem: Hashable, Sendable, CustomStringConvertible {
    /// A route or a policy, `<namespace>/<name>`, with its place in it.
    package var place: String
    package var text: String

    package init(_ place: String, _ text: String) {
        self.place = place
        self.text = text
    }

    package var description: String { "\(self.place): \(self.text)" }
}
