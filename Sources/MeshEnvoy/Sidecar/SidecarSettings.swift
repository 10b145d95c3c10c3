package import MeshRoutes

/// What holds for all sidecars of the mesh.
package struct SidecarSettings: Hashable, Sendable {
    package var mesh: EnvoySettings
    /// What is no service of the mesh is reached as it is (`ALLOW_ANY`), or not at all (`REGISTRY_ONLY`).
    package var allowsUnknown = true
    /// Lines of what clients send; nil: none.
    package var accessLog: AccessLogStyle?
    /// Connections come redirected, by rules of the pod's network namespace. Else every listener takes its own.
    package var isRedirected = true

    package var outboundPort: UInt16 = 15001
    package var inboundPort: UInt16 = 15006

    package init(_ mesh: EnvoySettings) { self.mesh = mesh }

    /// Of the proxy itself at any address, so that no service can have a listener there.
    package static let ownPorts: Set<UInt16> = [15001, 15006, 15008, 15020, 15021, 15090]

    /// Where what is no service of the mesh goes.
    var elsewhere: String { self.allowsUnknown ? EnvoyNames.passthrough : EnvoyNames.blackHole }
}

/// Which connections a sidecar takes for its application (PeerAuthentication).
package struct InboundTLS: Hashable, Sendable {
    package enum Mode: Hashable, Sendable {
        /// As they come; mutual TLS is the application's own business.
        case disable
        /// Mutual TLS of the mesh, and anything else.
        case permissive
        /// Mutual TLS of the mesh only.
        case strict
    }
    package var mode: Mode
    /// By the application's port.
    package var ports: [UInt16: Mode]

    package init(_ mode: Mode = .permissive, ports: [UInt16: Mode] = [:]) {
        self.mode = mode
        self.ports = ports
    }

    func mode(of port: UInt16) -> Mode { self.ports[port] ?? self.mode }
}

/// How sidecars tell one another that the TLS is the mesh's: application protocols that no application asks for (Istio's).
enum SidecarProtocols {
    static let streams = ["istio", "istio-peer-exchange"]
    static let requests = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
    static var all: [String] { self.streams + self.requests }
}
