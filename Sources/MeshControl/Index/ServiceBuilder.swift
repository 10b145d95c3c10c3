package import MeshModel

/// Service object → mesh service.
package enum ServiceBuilder {
    package static func hostname(_ service: ServiceView, suffix: String) -> String {
        "\(service.name).\(service.namespace).svc.\(suffix)"
    }

    /// Nil for an ExternalName service: there is nothing to route to.
    package static func service(
        _ view: ServiceView, namespace: NamespaceView?, network: String, suffix: String
    ) -> MeshModel.Service? {
        if view.type == "ExternalName" { return nil }
        var service = MeshModel.Service(
            name: view.name, namespace: view.namespace, hostname: Self.hostname(view, suffix: suffix))
        service.addresses = view.clusterIPs.compactMap { IPAddress($0) }
            .map { NetworkAddress(network: network, address: $0) }
        service.ports = view.ports.map { port in
            let target: UInt16 = if case .number(let number) = port.target { number } else { 0 }
            return ServicePort(port: port.number, targetPort: target, appProtocol: Self.appProtocol(port))
        }
        switch view.ipFamilies {
        case let families where families.count > 1: service.ipFamilies = .dual
        case ["IPv4"]: service.ipFamilies = .v4Only
        case ["IPv6"]: service.ipFamilies = .v6Only
        default: service.ipFamilies = .automatic
        }
        service.loadBalancing = Self.loadBalancing(view, namespace)
        service.isCanonical = true
        return service
    }

    static func loadBalancing(_ view: ServiceView, _ namespace: NamespaceView?) -> LoadBalancing {
        var balancing = LoadBalancing()
        if view.publishesNotReady { balancing.healthPolicy = .allowAll }
        if view.internalTrafficPolicy == "Local" {
            balancing.routingPreference = [.node]
            balancing.mode = .strict
            return balancing
        }
        // The first that says something decides, even when it says "any".
        let preference: Preference
        if let own = Preference(spec: view.trafficDistribution) {
            preference = own
        } else if let annotation = view.distributionAnnotation {
            preference = Preference(annotation: annotation)
        } else if let annotation = namespace?.distributionAnnotation {
            preference = Preference(annotation: annotation)
        } else {
            preference = .any
        }
        switch preference {
        case .any: break
        case .sameZone:
            balancing.routingPreference = [.network, .region, .zone]
            balancing.mode = .failover
        case .sameNode:
            balancing.routingPreference = [.network, .region, .zone, .subzone, .node]
            balancing.mode = .failover
        }
        return balancing
    }

    private enum Preference {
        case any, sameZone, sameNode

        init?(spec text: String) {
            switch text {
            case "PreferClose", "PreferSameZone": self = .sameZone
            case "PreferSameNode": self = .sameNode
            default: return nil
            }
        }

        init(annotation text: String) {
            switch text.lowercased() {
            case "preferclose", "prefersamezone": self = .sameZone
            case "prefersamenode": self = .sameNode
            default: self = .any
            }
        }
    }

    /// From `appProtocol`, else from the port's name, else from well-known numbers.
    static func appProtocol(_ port: ServiceView.Port) -> ServicePort.AppProtocol {
        if port.transport != "TCP" { return .unknown }
        switch port.appProtocol {
        case "kubernetes.io/h2c": return .http2
        case "kubernetes.io/ws": return .http11
        case "kubernetes.io/wss": return .tls
        case let name?: return Self.named(name.lowercased())
        case nil: break
        }
        let name = port.name.lowercased()
        if name.isEmpty {
            // Servers that speak first must not be sniffed: SMTP, DNS; MySQL and Mongo have no number on the wire.
            return port.number == 25 || port.number == 53 ? .tcp : .unknown
        }
        if name == "grpc-web" || name.hasPrefix("grpc-web-") { return .unknown }
        return Self.named(String(name.prefix { $0 != "-" }))
    }

    private static func named(_ name: String) -> ServicePort.AppProtocol {
        switch name {
        case "http": .http11
        case "http2": .http2
        case "grpc": .grpc
        case "https", "tls": .tls
        case "tcp": .tcp
        default: .unknown
        }
    }
}
