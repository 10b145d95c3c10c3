internal import MeshIdentity
internal import MeshProto
internal import SwiftProtobuf

/// Both ends of tunnels: the listener that ends HBONE, and for each set of identities that may answer a listener that opens
/// it. What is in between connects to them inside the process.
package enum TunnelListeners {
    /// So many tunnels share a client's connection (Istio's number).
    private static let streamsMax: UInt32 = 100

    /// For all clients: proves their identity, and notes for the inside who they are and where they want to go.
    package static func terminate(_ settings: EnvoySettings) -> EnvoyResource {
        var listener = EnvoyListener()
        listener.name = EnvoyNames.terminate
        listener.address = .with { address in
            address.socketAddress = .with {
                $0.address = settings.listensOnIPv6 ? "::" : "0.0.0.0"
                $0.ipv4Compat = settings.listensOnIPv6
                $0.portValue = UInt32(settings.listenPort)
            }
        }
        // Few connections that live long: no worker may end up with all of them.
        listener.connectionBalanceConfig = .with { $0.exactBalance = .init() }
        listener.filterChains = [
            .with {
                $0.name = "default"
                $0.transportSocket = EnvoyTransportSocket("tls", self.serverTLS(settings).packed)
                $0.filters = [EnvoyFilter(EnvoyNames.connectionManager, self.connectManager)]
            }
        ]
        return EnvoyResource(listener.name, listener)
    }

    private static func serverTLS(_ settings: EnvoySettings) -> EnvoyDownstreamTLS {
        .with {
            $0.requireClientCertificate = true
            $0.commonTlsContext = EnvoyCommonTLS(accepting: self.members(settings))
        }
    }

    /// Whatever speaks for a workload of the mesh, and nothing that only looks like it: policies read namespaces out of this
    /// form.
    static func members(_ settings: EnvoySettings) -> [EnvoyStringMatcher] {
        settings.trustDomains.map { .regex("spiffe://\(RegexText.literal($0))/ns/[^/]+/sa/[^/]+") }
    }

    private static var connectManager: EnvoyHTTPConnectionManager {
        var manager = EnvoyHTTPConnectionManager()
        manager.statPrefix = EnvoyNames.terminate
        manager.useRemoteAddress = false
        // A tunnel may be idle for as long as its application wants.
        manager.streamIdleTimeout = .of(seconds: 0)
        manager.upgradeConfigs = [.with { $0.upgradeType = "CONNECT" }]
        manager.http2ProtocolOptions = .with {
            $0.allowConnect = true
            $0.maxConcurrentStreams = Google_Protobuf_UInt32Value(Self.streamsMax)
            $0.connectionKeepalive = .with {
                $0.interval = .of(seconds: 10)
                $0.timeout = .of(seconds: 20)
            }
        }
        manager.routeConfig = .with {
            $0.name = "default"
            $0.virtualHosts = [
                .with {
                    $0.name = "default"
                    $0.domains = ["*"]
                    $0.routes = [self.connectRoute]
                }
            ]
        }
        manager.httpFilters = [
            EnvoyHTTPFilter("connect_authority", self.facts), EnvoyHTTPFilter(EnvoyNames.router, EnvoyRouter()),
        ]
        return manager
    }

    private static var connectRoute: EnvoyRoute {
        .with {
            $0.match = .with { $0.connectMatcher = .init() }
            $0.route = .with {
                $0.cluster = EnvoyNames.main
                // The default of 15 s would end every tunnel.
                $0.timeout = .of(seconds: 0)
                $0.upgradeConfigs = [
                    .with {
                        $0.upgradeType = "CONNECT"
                        $0.connectConfig = .init()
                    }
                ]
            }
        }
    }

    private static var facts: EnvoySetFilterState {
        func value(_ key: String, _ format: String, factory: String = "") -> EnvoyFilterStateValue {
            .with {
                $0.objectKey = key
                $0.factoryKey = factory
                $0.formatString = .inline(format)
                $0.sharedWithUpstream = .once
            }
        }
        return .with {
            $0.onRequestHeaders = [
                value(EnvoyNames.localAddress, "%REQ(:AUTHORITY)%"),
                value(EnvoyNames.remoteAddress, "%DOWNSTREAM_REMOTE_ADDRESS%"),
                value(EnvoyNames.authority, "%REQ(:AUTHORITY)%", factory: "envoy.string"),
                value(EnvoyNames.principal, "%DOWNSTREAM_PEER_URI_SAN%", factory: "envoy.string"),
            ]
        }
    }

    /// Opens a tunnel to where the endpoint's metadata say, if one of `identities` answers there. Each set of identities has
    /// connections of its own: what is meant for one workload never reaches another that took over its address.
    package static func originate(_ identities: ExpectedIdentities, _ settings: EnvoySettings) -> [EnvoyResource] {
        var listener = EnvoyListener()
        listener.name = identities.listener
        listener.internalListener = .init()
        listener.listenerFilters = [.originalDestination]
        listener.filterChains = [
            .with {
                $0.filters = [
                    EnvoyFilter(
                        EnvoyNames.tcpProxy,
                        EnvoyTCPProxy.with {
                            $0.statPrefix = EnvoyNames.originate
                            $0.cluster = identities.listener
                            $0.idleTimeout = .of(seconds: 0)
                            $0.tunnelingConfig = .with { $0.hostname = "%DOWNSTREAM_LOCAL_ADDRESS%" }
                        })
                ]
            }
        ]
        return [EnvoyResource(listener.name, listener), TunnelClusters.originate(identities, settings)]
    }
}

extension EnvoyCommonTLS {
    /// Of both ends of HBONE: TLS 1.3, HTTP/2, our certificate from the agent, and of peers one of these. Between sidecars
    /// TLS 1.2 is spoken too.
    init(accepting peers: [EnvoyStringMatcher], protocols: [String] = ["h2"], isTunnel: Bool = true) {
        self.init()
        self.alpnProtocols = protocols
        self.tlsParams = .with {
            $0.tlsMinimumProtocolVersion = isTunnel ? .tlsv13 : .tlsv12
            $0.tlsMaximumProtocolVersion = .tlsv13
        }
        self.tlsCertificateSdsSecretConfigs = [.agent(EnvoyNames.certificate)]
        self.combinedValidationContext = .with {
            $0.validationContextSdsSecretConfig = .agent(EnvoyNames.roots)
            $0.defaultValidationContext.matchTypedSubjectAltNames = peers.map { peer in
                .with {
                    $0.sanType = .uri
                    $0.matcher = peer
                }
            }
        }
    }
}

extension EnvoySDSConfig {
    fileprivate static func agent(_ name: String) -> EnvoySDSConfig {
        .with {
            $0.name = name
            $0.sdsConfig = .agent
        }
    }
}

extension EnvoyListenerFilter {
    /// Takes over the addresses that the tunnel, or the endpoint's metadata, named.
    static var originalDestination: EnvoyListenerFilter {
        EnvoyListenerFilter(
            EnvoyNames.originalDestination,
            .standard("envoy.extensions.filters.listener.original_dst.v3.OriginalDst"))
    }
}
