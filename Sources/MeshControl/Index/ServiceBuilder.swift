package import MeshModel

/// Service object or ServiceEntry host → mesh service.
package enum ServiceBuilder {
    package static func hostname(_ service: ServiceView, suffix: String) -> String {
        "\(service.name).\(service.namespace).svc.\(suffix)"
    }

    /// Nil for an ExternalName service: there is nothing to route to.
    package static func service(
        _ view: ServiceView, namespace: NamespaceView?, network: String, suffix: String, binding: WaypointBinding?
    ) -> MeshModel.Service? {
        guard view.isRoutable else { return nil }
        var service = MeshModel.Service(
            name: view.name, namespace: view.namespace, hostname: Self.hostname(view, suffix: suffix))
        service.addresses = view.clusterIPs.compactMap { IPAddress($0) }
            .map { NetworkAddress(network: network, address: $0) }
        service.ports = view.ports.map { port in
            let target: UInt16 = if case .number(let number) = port.target { number } else { 0 }
            return ServicePort(port: port.number, targetPort: target, appProtocol: AppProtocols.of(port))
        }
        switch view.ipFamilies {
        case let families where families.count > 1: service.ipFamilies = .dual
        case ["IPv4"]: service.ipFamilies = .v4Only
        case ["IPv6"]: service.ipFamilies = .v6Only
        default: service.ipFamilies = .automatic
        }
        service.loadBalancing = TrafficDistribution.loadBalancing(view, namespace)
        service.isCanonical = true
        Self.bind(&service, binding)
        return service
    }

    /// One host of a ServiceEntry.
    package static func service(
        _ host: ResolvedEntry.Host, of entry: ResolvedEntry, namespace: NamespaceView?, network: String,
        binding: WaypointBinding?
    ) -> MeshModel.Service {
        let view = entry.view
        var service = MeshModel.Service(name: view.name, namespace: view.namespace, hostname: host.name)
        for block in view.addresses ?? [] {
            if block.prefixLength == block.base.bitWidth {
                service.addresses.append(NetworkAddress(network: network, address: block.base))
            } else {
                service.blocks.append(NetworkBlock(network: network, cidr: block))
            }
        }
        if view.mayAllocate(host.name) {
            service.addresses = view.allocated.filter { $0.host == host.name }
                .map { NetworkAddress(network: network, address: $0.address) }
        }
        service.ports = view.ports.map {
            ServicePort(
                port: $0.number, targetPort: $0.target ?? $0.number, appProtocol: AppProtocols.named($0.protocolName))
        }
        service.subjectAltNames = view.subjectAltNames
        service.loadBalancing = TrafficDistribution.loadBalancing(view, namespace)
        service.isCanonical = host.isCanonical
        service.visibility = entry.visibility == .namespace ? .namespace : .everywhere
        Self.bind(&service, binding)
        return service
    }

    private static func bind(_ service: inout MeshModel.Service, _ binding: WaypointBinding?) {
        guard let binding else { return }
        service.waypoint = binding.address
        service.weightedWaypoints = binding.weighted
        service.ingressUsesWaypoint = binding.primary != nil && binding.ingress == .on
    }
}

/// Which endpoints a service prefers, from the fields and annotations that ask for it.
enum TrafficDistribution {
    static func loadBalancing(_ view: ServiceView, _ namespace: NamespaceView?) -> LoadBalancing {
        var balancing = LoadBalancing()
        if view.publishesNotReady { balancing.healthPolicy = .allowAll }
        if view.internalTrafficPolicy == "Local" {
            balancing.routingPreference = [.node]
            balancing.mode = .strict
            return balancing
        }
        // The first that says something decides, even when it says "any".
        let preference =
            Preference(spec: view.trafficDistribution)
            ?? Preference(annotation: view.distributionAnnotation ?? namespace?.distributionAnnotation)
        Self.apply(preference, to: &balancing)
        return balancing
    }

    /// A ServiceEntry has no field for it, only the annotations; one whose client has resolved the host already
    /// leaves nothing to prefer.
    static func loadBalancing(_ view: ServiceEntryView, _ namespace: NamespaceView?) -> LoadBalancing {
        var balancing = LoadBalancing()
        guard view.resolution != .none else {
            balancing.mode = .passthrough
            balancing.healthPolicy = .allowAll
            return balancing
        }
        Self.apply(
            Preference(annotation: view.distributionAnnotation ?? namespace?.distributionAnnotation), to: &balancing)
        return balancing
    }

    private static func apply(_ preference: Preference, to balancing: inout LoadBalancing) {
        switch preference {
        case .any: break
        case .sameZone:
            balancing.routingPreference = [.network, .region, .zone]
            balancing.mode = .failover
        case .sameNode:
            balancing.routingPreference = [.network, .region, .zone, .subzone, .node]
            balancing.mode = .failover
        }
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

        init(annotation text: String?) {
            switch text?.lowercased() {
            case "preferclose", "prefersamezone": self = .sameZone
            case "prefersamenode": self = .sameNode
            default: self = .any
            }
        }
    }
}

enum AppProtocols {
    /// From `appProtocol`, else from the port's name, else from well-known numbers.
    static func of(_ port: ServiceView.Port) -> ServicePort.AppProtocol {
        if port.transport != "TCP" { return .unknown }
        switch port.appProtocol {
        case "kubernetes.io/h2c": return .http2
        case "kubernetes.io/ws": return .http11
        case "kubernetes.io/wss": return .tls
        case let name?: return Self.named(name)
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

    static func named(_ name: String) -> ServicePort.AppProtocol {
        switch name.lowercased() {
        case "http": .http11
        case "http2": .http2
        case "grpc": .grpc
        case "https", "tls": .tls
        case "tcp": .tcp
        default: .unknown
        }
    }
}
