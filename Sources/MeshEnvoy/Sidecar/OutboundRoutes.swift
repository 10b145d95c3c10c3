package import MeshModel
internal import MeshProto
package import MeshRoutes

/// A port of a service that takes requests, as clients' routes lead to it.
package struct RequestTarget: Hashable, Sendable {
    package var destination: EnvoyDestination
    /// The service's own name, by which its namespace calls it; nil for a host of a ServiceEntry.
    let shortName: String?
    /// Names and addresses that any client calls it by.
    let domains: [String]
    /// Attached to the service; none where a waypoint stands before it, which does what they say.
    package var routes: [HTTPRoute]

    package init(_ service: Service, port: UInt16, routes: [HTTPRoute], _ settings: EnvoySettings) {
        self.destination = EnvoyDestination(service.key, port: port)
        self.routes = routes.filter { $0.port == nil || $0.port == port }
        var domains = [service.hostname]
        if service.isOfCluster {
            self.shortName = service.name
            let named = "\(service.name).\(service.namespace)"
            domains += ["\(named).svc", named]
        } else {
            self.shortName = nil
        }
        domains += service.addresses.filter { $0.network == settings.network }.map {
            $0.address.isV6 ? "[\($0.address)]" : "\($0.address)"
        }
        self.domains = domains
    }

    fileprivate func domains(for namespace: String) -> [String] {
        var domains = self.domains
        if let shortName, namespace == self.destination.service.namespace { domains.append(shortName) }
        return domains
    }

    /// Whether some clients' namespace has routes of its own.
    package var consumers: Set<String> { Set(self.routes.compactMap(\.clientNamespace)) }
}

/// What becomes of the requests that the applications of one namespace send.
package enum OutboundRoutes {
    /// Requests to one port of whatever service, which their host names.
    ///
    /// - Parameters:
    ///   - targets: of this port, in any order; of two that have a name in common the cluster's own Service wins, then
    ///     the lesser key.
    ///   - balancing: of a destination's service.
    package static func port(
        _ port: UInt16, from namespace: String, _ targets: [RequestTarget], _ settings: SidecarSettings,
        balancing: @escaping (NamespacedName) -> BackendBalancing.Choice
    ) -> (resource: EnvoyResource, problems: [EnvoyProblem]) {
        var configuration = EnvoyRouteConfiguration()
        configuration.name = "\(port)"
        configuration.common()
        var problems: [EnvoyProblem] = []
        // Envoy refuses a configuration with the same domain twice.
        var taken: Set<String> = []
        // Keys are written once, and not with each comparison: a port may have thousands of services.
        let ordered = targets.map { (rank: $0.shortName == nil ? 1 : 0, key: $0.destination.service.description, $0) }
            .sorted { ($0.rank, $0.key) < ($1.rank, $1.key) }
        for (_, _, target) in ordered {
            let domains = target.domains(for: namespace).filter { taken.insert($0.lowercased()).inserted }
            if domains.isEmpty { continue }
            let built = Self.host(target, from: namespace, domains, balancing)
            configuration.virtualHosts.append(built.host)
            problems += built.problems
        }
        configuration.virtualHosts.append(Self.elsewhere(settings))
        return (EnvoyResource(configuration.name, configuration), problems)
    }

    /// Requests to one port of one service, whatever host they name.
    package static func service(
        _ target: RequestTarget, from namespace: String,
        balancing: @escaping (NamespacedName) -> BackendBalancing.Choice
    ) -> (resource: EnvoyResource, problems: [EnvoyProblem]) {
        var configuration = EnvoyRouteConfiguration()
        configuration.name = Self.name(target.destination)
        configuration.common()
        let built = Self.host(target, from: namespace, ["*"], balancing)
        configuration.virtualHosts = [built.host]
        return (EnvoyResource(configuration.name, configuration), built.problems)
    }

    static func name(_ destination: EnvoyDestination) -> String { destination.hostAndPort }

    private static func host(
        _ target: RequestTarget, from namespace: String, _ domains: [String],
        _ balancing: @escaping (NamespacedName) -> BackendBalancing.Choice
    ) -> (host: EnvoyVirtualHost, problems: [EnvoyProblem]) {
        var builder = RouteBuilder(target.destination, balancing: balancing)
        // Where a namespace has routes of its own, only they count for it.
        let own = target.routes.filter { $0.clientNamespace == namespace }
        builder.add(own.isEmpty ? target.routes.filter { $0.clientNamespace == nil } : own, from: nil)
        let host = EnvoyVirtualHost.with {
            $0.name = target.destination.hostAndPort
            $0.domains = domains
            $0.routes = builder.routes
            $0.includeRequestAttemptCount = true
            // Who we are is told to services of the cluster only.
            if target.shortName != nil { $0.requestHeadersToAdd = Self.peer }
        }
        return (host, builder.problems)
    }

    private static let peer: [EnvoyHeaderValueOption] = [
        ("x-envoy-peer-metadata-id", EnvoyNames.peerIDVariable),
        ("x-envoy-peer-metadata", EnvoyNames.peerMetadataVariable),
    ].map { name, variable in
        .with {
            $0.header.key = name
            $0.header.value = "%ENVIRONMENT(\(variable))%"
            $0.appendAction = .overwriteIfExistsOrAdd
        }
    }

    private static func elsewhere(_ settings: SidecarSettings) -> EnvoyVirtualHost {
        .with {
            $0.name = settings.allowsUnknown ? "allow_any" : "block_all"
            $0.domains = ["*"]
            $0.routes = [
                .with { route in
                    route.name = settings.allowsUnknown ? "allow_any" : "block_all"
                    route.match.prefix = "/"
                    guard settings.allowsUnknown else {
                        route.directResponse.status = 502
                        return
                    }
                    route.route.cluster = EnvoyNames.passthrough
                    route.route.timeout = .of(seconds: 0)
                }
            ]
        }
    }
}

extension EnvoyRouteConfiguration {
    fileprivate mutating func common() {
        self.ignorePortInHostMatching = true
        self.mostSpecificHeaderMutationsWins = true
    }
}
