package import MeshModel
package import MeshNameService

/// How captured name queries of a node's pods are served.
package struct DNSSettings: Hashable, Sendable {
    /// `ISTIO_META_DNS_PROXY_ADDR`; nil is `localhost`, see ``DNSListening``.
    package var address: IPAddress?
    package var port: UInt16 = 15053
    /// `CLUSTER_DOMAIN`
    package var clusterDomain = "cluster.local"
    /// `PREFERED_SERVICE_NAMESPACE` (the name is Istio's): among services of one host name, after the client's namespace
    /// and the canonical one.
    package var preferredNamespace: String?
    /// SO_MARK of every socket, so that our own questions are not captured again.
    package var mark: UInt32 = 1337
    package var isIPv6Enabled = true
    /// The successor of this process binds beside it.
    package var reusesPort = true
    /// The node's, for pods that the control plane has not named yet.
    package var network = ""
    package var limits = DNSLimits()

    package init() {}

    var listening: DNSListening {
        var listening = DNSListening()
        (listening.address, listening.port) = (self.address, self.port)
        (listening.mark, listening.isIPv6Enabled) = (self.mark, self.isIPv6Enabled)
        (listening.reusesPort, listening.limits) = (self.reusesPort, self.limits)
        return listening
    }
}
