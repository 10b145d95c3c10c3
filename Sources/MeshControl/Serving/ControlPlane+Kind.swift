import KubeAPI

extension ControlPlane {
    /// What is watched.
    package enum Kind: String, CaseIterable, Sendable {
        case namespaces, nodes, pods, services, endpointSlices, serviceEntries, workloadEntries, gateways,
            gatewayClasses, overlays, authorizationPolicies, peerAuthentications, meshConfig
        case requestAuthentications, rateLimits, destinationRules, virtualServices, backendTrafficPolicies, telemetries
        case grpcRoutes, httpRoutes, tlsRoutes, tcpRoutes

        var type: ResourceType {
            switch self {
            case .namespaces: .namespaces
            case .nodes: .nodes
            case .pods: .pods
            case .services: .services
            case .endpointSlices: .endpointSlices
            case .serviceEntries: .serviceEntries
            case .workloadEntries: .workloadEntries
            case .gateways: .gateways
            case .gatewayClasses: .gatewayClasses
            case .authorizationPolicies: .authorizationPolicies
            case .peerAuthentications: .peerAuthentications
            case .overlays, .meshConfig: .configMaps
            case .requestAuthentications: .requestAuthentications
            case .rateLimits: .rateLimits
            case .destinationRules: .destinationRules
            case .virtualServices: .virtualServices
            case .backendTrafficPolicies: .backendTrafficPolicies
            case .telemetries: .telemetries
            case .grpcRoutes: .grpcRoutes
            case .httpRoutes: .httpRoutes
            case .tlsRoutes: .tlsRoutes
            case .tcpRoutes: .tcpRoutes
            }
        }

        /// Clusters with an older Gateway API serve older versions only.
        var types: [ResourceType] {
            switch self {
            case .httpRoutes: [self.type, self.type.inVersion("v1beta1")]
            case .grpcRoutes, .tcpRoutes: [self.type, self.type.inVersion("v1alpha2")]
            case .tlsRoutes: [self.type, self.type.inVersion("v1alpha3"), self.type.inVersion("v1alpha2")]
            case .requestAuthentications, .telemetries, .virtualServices: [self.type, self.type.inVersion("v1beta1")]
            default: [self.type]
            }
        }

        var route: RouteKind? {
            switch self {
            case .grpcRoutes: .grpc
            case .httpRoutes: .http
            case .tlsRoutes: .tls
            case .tcpRoutes: .tcp
            default: nil
            }
        }

        /// Kinds whose statuses have an entry for each place.
        var placed: PlacedStatusWriter.Kind? {
            switch self {
            case .grpcRoutes: .grpcRoutes
            case .httpRoutes: .httpRoutes
            case .tlsRoutes: .tlsRoutes
            case .tcpRoutes: .tcpRoutes
            case .backendTrafficPolicies: .backendTrafficPolicies
            default: nil
            }
        }

        /// Kinds whose objects carry conditions of ours.
        var status: StatusWriter.Kind? {
            switch self {
            case .services: .services
            case .serviceEntries: .serviceEntries
            case .workloadEntries: .workloadEntries
            case .authorizationPolicies: .authorizationPolicies
            case .peerAuthentications: .peerAuthentications
            case .requestAuthentications: .requestAuthentications
            case .rateLimits: .rateLimits
            case .destinationRules: .destinationRules
            case .virtualServices: .virtualServices
            case .namespaces, .nodes, .pods, .endpointSlices, .gateways, .gatewayClasses, .overlays, .meshConfig,
                .telemetries,
                .backendTrafficPolicies, .grpcRoutes, .httpRoutes, .tlsRoutes, .tcpRoutes:
                nil
            }
        }
    }
}
