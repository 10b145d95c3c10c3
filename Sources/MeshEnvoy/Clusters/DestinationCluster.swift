package import MeshModel
internal import MeshProto
package import MeshRoutes
internal import SwiftProtobuf

/// A port of a service as Envoy reaches it: a cluster, and its endpoints.
package enum DestinationCluster {
    /// How endpoints are chosen. Where they are is told by ``endpoints(_:_:_:_:)``.
    package static func cluster(
        _ destination: EnvoyDestination, _ port: ServicePort, _ balancing: BackendBalancing
    ) -> EnvoyResource {
        let cluster = Self.message(destination, port, balancing, isTunnelled: true)
        return EnvoyResource(cluster.name, cluster)
    }

    /// So long requests go over one connection inside of a tunnel, and up to half as long again, not all for the same time. A
    /// tunnel is cut when the node proxy at its end has drained (25 s), and what is in it hears nothing of that drain.
    private static let tunnelledSeconds: Int64 = 10
    private static let jitterPercent = 50.0

    /// - Parameter isTunnelled: connections to some endpoint may go through a tunnel.
    static func message(
        _ destination: EnvoyDestination, _ port: ServicePort, _ balancing: BackendBalancing, isTunnelled: Bool
    ) -> EnvoyCluster {
        var cluster = EnvoyCluster()
        cluster.name = destination.name
        cluster.type = .eds
        cluster.edsClusterConfig.edsConfig = .sameStream
        cluster.connectTimeout = TunnelClusters.connectTimeout.proto
        cluster.lbPolicy = Self.policy(balancing.choice)
        var limits = EnvoyCircuitBreakers.Thresholds.open
        limits.retryBudget = .with {
            $0.budgetPercent.value = Double(balancing.retryBudgetPercent)
            $0.minRetryConcurrency = Google_Protobuf_UInt32Value(balancing.retriesMin)
        }
        cluster.circuitBreakers.thresholds = [limits]
        cluster.transportSocketMatches = [
            .with {
                $0.name = "hbone"
                $0.match = Self.tunnelled
                $0.transportSocket = .inside(passing: true)
            },
            .with {
                $0.name = "plaintext"
                $0.match = Google_Protobuf_Struct()
                $0.transportSocket = .raw
            },
        ]
        var http = Self.http(port.appProtocol)
        if isTunnelled {
            http.commonHTTPProtocolOptions.maxConnectionDuration = .of(seconds: Self.tunnelledSeconds)
            http.commonHTTPProtocolOptions.maxConnectionDurationJitter.value = Self.jitterPercent
        }
        cluster.typedExtensionProtocolOptions[EnvoyNames.httpOptions] = http.packed
        return cluster
    }

    private static func policy(_ choice: BackendBalancing.Choice) -> EnvoyCluster.Policy {
        switch choice {
        case .leastRequest: .leastRequest
        case .roundRobin: .roundRobin
        case .random: .random
        case .hashHeader, .hashCookie, .hashSource, .hashQuery: .ringHash
        }
    }

    /// As the port's owner said; else as the client speaks.
    static func http(_ appProtocol: ServicePort.AppProtocol) -> EnvoyHTTPUpstream {
        .with {
            switch appProtocol {
            case .http2, .grpc: $0.explicitHTTPConfig.http2ProtocolOptions = EnvoyHTTP2Options()
            case .http11: $0.explicitHTTPConfig.httpProtocolOptions = EnvoyHTTP1Options()
            case .unknown, .tcp, .tls:
                $0.useDownstreamProtocolConfig.httpProtocolOptions = EnvoyHTTP1Options()
                $0.useDownstreamProtocolConfig.http2ProtocolOptions = EnvoyHTTP2Options()
            }
        }
    }

    static let tunnelled = Google_Protobuf_Struct(fields: ["tunnel": "http"])

    // MARK: Endpoints

    /// - Parameters:
    ///   - port: of the service.
    ///   - workloads: of the service.
    /// - Returns: the endpoints, and who is expected behind them: each needs ``TunnelListeners/originate(_:)``.
    package static func endpoints(
        _ destination: EnvoyDestination, _ service: Service, _ port: ServicePort, _ workloads: [Workload],
        _ settings: EnvoySettings
    ) -> (resource: EnvoyResource, identities: Set<ExpectedIdentities>) {
        var identities: Set<ExpectedIdentities> = []
        var endpoints: [EnvoyLBEndpoint] = []
        let healthy = workloads.filter { $0.isHealthy || service.loadBalancing.healthPolicy == .allowAll }
        for workload in healthy.sorted(by: { $0.uid < $1.uid }) {
            guard workload.network == settings.network, workload.capacity > 0,
                let target = Self.target(of: workload, service.key, port), target > 0,
                let address = workload.addresses.first(where: { service.ipFamilies.allows($0) })
            else { continue }
            var endpoint = Self.endpoint(
                IPEndpoint(address: address, port: target), workload, service.subjectAltNames, &identities)
            endpoint.loadBalancingWeight = Google_Protobuf_UInt32Value(workload.capacity)
            endpoints.append(endpoint)
        }
        let assignment = EnvoyClusterLoadAssignment.with {
            $0.clusterName = destination.name
            if !endpoints.isEmpty { $0.endpoints = [.with { $0.lbEndpoints = endpoints }] }
        }
        return (EnvoyResource(destination.name, assignment), identities)
    }

    static func target(of workload: Workload, _ service: NamespacedName, _ port: ServicePort) -> UInt16? {
        let own = workload.services[service]?.first { $0.port == port.port }?.targetPort
        return own ?? (port.targetPort > 0 ? port.targetPort : nil)
    }

    private static func endpoint(
        _ target: IPEndpoint, _ workload: Workload, _ others: [String], _ identities: inout Set<ExpectedIdentities>
    ) -> EnvoyLBEndpoint {
        guard workload.tunnelProtocol == .hbone else {
            return .with { endpoint in
                endpoint.endpoint.address.socketAddress = .with {
                    $0.address = target.address.description
                    $0.portValue = UInt32(target.port)
                }
            }
        }
        let expected = ExpectedIdentities(workload.identity, others: others)
        identities.insert(expected)
        return .with { endpoint in
            endpoint.endpoint.address.envoyInternalAddress = .with {
                $0.serverListenerName = expected.listener
                // Without it Envoy would take all endpoints of a listener for one.
                $0.endpointID = target.description
            }
            endpoint.metadata.filterMetadata = [
                EnvoyNames.originalDestination: Google_Protobuf_Struct(fields: [
                    "local": Google_Protobuf_Value(stringValue: target.description)
                ]),
                EnvoyNames.socketMatch: Self.tunnelled,
            ]
        }
    }
}

extension Service.IPFamilies {
    func allows(_ address: IPAddress) -> Bool {
        switch self {
        case .automatic, .dual: true
        case .v4Only: !address.isV6
        case .v6Only: address.isV6
        }
    }
}
