package import MeshModel

/// A TCPRoute or TLSRoute that is attached to a service.
package struct StreamRoute: Hashable, Sendable {
    package var name: NamespacedName
    /// Of the service; nil: every port.
    package var port: UInt16?
    /// As ``HTTPRoute/clientNamespace``.
    package var clientNamespace: String?
    /// Server names of a TLSRoute, exact or `*.suffix`; none: any, and every TCPRoute.
    package var serverNames: [String]
    package var isTLS: Bool
    package var backends: [StreamBackend]

    package init(
        name: NamespacedName, port: UInt16?, clientNamespace: String? = nil, serverNames: [String] = [], isTLS: Bool,
        backends: [StreamBackend]
    ) {
        self.name = name
        self.port = port
        self.clientNamespace = clientNamespace
        self.serverNames = serverNames
        self.isTLS = isTLS
        self.backends = backends
    }
}

package struct StreamBackend: Hashable, Sendable {
    package var destination: RouteDestination
    package var weight: UInt32

    package init(destination: RouteDestination, weight: UInt32 = 1) {
        self.destination = destination
        self.weight = weight
    }
}
