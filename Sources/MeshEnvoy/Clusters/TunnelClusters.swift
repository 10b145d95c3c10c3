internal import MeshModel
internal import MeshProto
internal import SwiftProtobuf

/// The clusters around the listeners of ``TunnelListeners``.
package enum TunnelClusters {
    static let connectTimeout = Duration.seconds(10)

    /// What came out of tunnels goes on inside the process.
    package static var main: EnvoyResource {
        var cluster = EnvoyCluster()
        cluster.name = EnvoyNames.main
        cluster.type = .static
        cluster.circuitBreakers = .open
        cluster.transportSocket = .inside(passing: false)
        cluster.loadAssignment = .with {
            $0.clusterName = EnvoyNames.main
            $0.endpoints = [
                .with { locality in
                    locality.lbEndpoints = [
                        .with {
                            $0.endpoint.address.envoyInternalAddress.serverListenerName = EnvoyNames.main
                        }
                    ]
                }
            ]
        }
        return EnvoyResource(cluster.name, cluster)
    }

    /// Connections to node proxies at the addresses that endpoints name.
    static func originate(_ identities: ExpectedIdentities, _ settings: EnvoySettings) -> EnvoyResource {
        var cluster = EnvoyCluster()
        cluster.name = identities.listener
        cluster.type = .originalDst
        cluster.lbPolicy = .clusterProvided
        cluster.connectTimeout = Self.connectTimeout.proto
        cluster.cleanupInterval = .of(seconds: 60)
        cluster.circuitBreakers = .open
        cluster.originalDstLbConfig = .with {
            $0.upstreamPortOverride = Google_Protobuf_UInt32Value(UInt32(settings.tunnelPort))
            // Where the endpoint names one: what stands before it.
            $0.metadataKey.key = EnvoyNames.originalDestination
            $0.metadataKey.path = [.with { $0.key = EnvoyNames.waypoint }]
        }
        cluster.typedExtensionProtocolOptions[EnvoyNames.httpOptions] =
            EnvoyHTTPUpstream.with {
                $0.commonHTTPProtocolOptions.idleTimeout = .of(seconds: 3600)
                $0.explicitHTTPConfig.http2ProtocolOptions.allowConnect = true
            }.packed
        cluster.transportSocket = EnvoyTransportSocket(
            "tls",
            EnvoyUpstreamTLS.with {
                $0.commonTlsContext = EnvoyCommonTLS(accepting: identities.uris.map { .exact($0) })
            }.packed)
        return EnvoyResource(cluster.name, cluster)
    }
}

extension EnvoyTransportSocket {
    /// To a listener of the same process.
    /// - Parameter passing: with the endpoint's target.
    static func inside(passing: Bool) -> EnvoyTransportSocket {
        EnvoyTransportSocket(
            "internal_upstream",
            EnvoyInternalUpstream.with { socket in
                socket.transportSocket = .raw
                guard passing else { return }
                socket.passthroughMetadata = [
                    .with {
                        $0.kind = .with { $0.host = .init() }
                        $0.name = EnvoyNames.originalDestination
                    }
                ]
            }.packed)
    }
}

extension EnvoyCircuitBreakers {
    /// Without Envoy's limit of 1 024, which a busy service reaches.
    static var open: EnvoyCircuitBreakers { .with { $0.thresholds = [.open] } }
}

extension EnvoyCircuitBreakers.Thresholds {
    static var open: Self {
        let most = Google_Protobuf_UInt32Value(.max)
        return .with {
            $0.maxConnections = most
            $0.maxPendingRequests = most
            $0.maxRequests = most
            $0.maxRetries = most
        }
    }
}
