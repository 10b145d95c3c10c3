package import MeshModel

/// Who asks: names are short and services visible relative to this.
package struct DNSClient: Hashable, Sendable {
    package var namespace, network: String

    package init(namespace: String, network: String) {
        self.namespace = namespace
        self.network = network
    }
}

/// A service that a name means, as one client sees it.
package struct NamedService: Sendable {
    package var hostname: String
    /// What the service says about itself; true for a family about which it says nothing.
    package var isV4, isV6: Bool
    /// Of the asked family and the client's network: its virtual addresses, or of a headless one those of its endpoints.
    package var addresses: [IPAddress]

    package init(hostname: String, isV4: Bool = true, isV6: Bool = true, addresses: [IPAddress]) {
        self.hostname = hostname
        self.isV4 = isV4
        self.isV6 = isV6
        self.addresses = addresses
    }
}

/// What the resolution may ask about the mesh. The node proxy answers from one snapshot.
package protocol MeshNameTable {
    /// - Parameter hostname: in lower case; may begin with `*.`, and then means exactly that.
    func service(hostname: String, for client: DNSClient, isV6: Bool) -> NamedService?
    /// How many labels the wildcard host names of the mesh have, the star counted: only those are tried. Ascending.
    var wildcardLabelCounts: [Int] { get }
}

/// What the mesh answers to a question for addresses.
package struct MeshAnswer: Hashable, Sendable {
    package static let ttlSeconds: UInt32 = 30
    /// More would not fit a TCP message of IPv6 addresses; a headless service may have more pods.
    package static let addressesMax = 2000

    /// The name of the addresses where it is not the question's.
    package var alias: DNSName?
    /// None: the name is known, but has no address of this kind.
    package var addresses: [IPAddress]
    /// The last labels of the question that make the zone's name in a negative answer.
    package var zoneLabels: Int
    package var ttlSeconds = Self.ttlSeconds
    /// For the log: the service's host name, and whether its families exclude the question's.
    package var hostname: String
    package var isFamilyExcluded = false

    package init(alias: DNSName? = nil, addresses: [IPAddress], zoneLabels: Int, hostname: String) {
        self.alias = alias
        self.addresses = addresses
        self.zoneLabels = zoneLabels
        self.hostname = hostname
    }
}
