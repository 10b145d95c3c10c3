package import MeshModel
internal import MeshProto
internal import SwiftProtobuf

/// What takes the application's connections: one listener that everything is redirected to, and hands on to
///
/// | listener | for |
/// |---|---|
/// | `0.0.0.0_<port>` | requests to this port; the host that they name decides |
/// | `<address>_<port>` | one service: of streams, of unknown protocol, or behind a waypoint |
/// | `<address>_<port>` | one pod of a service without an address of its own |
package enum OutboundListeners {
    /// After so long a client that says nothing is one that waits for the server.
    private static let silenceMax = Duration.milliseconds(200)

    /// What no other listener is for goes where it was going, but for what would come back here.
    package static func capture(_ settings: SidecarSettings) -> EnvoyResource {
        var listener = EnvoyListener()
        listener.name = "virtualOutbound"
        listener.address = .socket("0.0.0.0", settings.outboundPort)
        listener.trafficDirection = .outbound
        listener.useOriginalDst = Google_Protobuf_BoolValue(settings.isRedirected)
        listener.filterChains = [
            .with {
                $0.name = "virtualOutbound-blackhole"
                $0.filterChainMatch.destinationPort = Google_Protobuf_UInt32Value(UInt32(settings.outboundPort))
                $0.filters = [.stream("virtualOutbound-blackhole", to: EnvoyNames.blackHole, log: nil)]
            },
            .with {
                $0.name = "virtualOutbound-catchall-tcp"
                $0.filters = [.stream("virtualOutbound-catchall-tcp", to: settings.elsewhere, log: settings.streamLog)]
            },
        ]
        return EnvoyResource(listener.name, listener)
    }

    /// A host of a ServiceEntry that speaks TLS and has no address of its own.
    package struct NamedTarget: Hashable, Sendable {
        package var serverName: String
        package var destination: EnvoyDestination
        package init(serverName: String, destination: EnvoyDestination) {
            self.serverName = serverName
            self.destination = destination
        }
    }

    /// Everything to one port that has no listener of its own.
    ///
    /// - Parameters:
    ///   - hasRequests: some service takes requests there.
    ///   - names: of two with the same name the lesser destination wins.
    package static func port(
        _ port: UInt16, hasRequests: Bool, names: [NamedTarget], _ settings: SidecarSettings
    ) -> EnvoyResource {
        var listener = Self.listener("0.0.0.0", port, settings)
        if hasRequests {
            listener.filterChains.append(
                .with {
                    $0.name = "\(port)"
                    $0.filterChainMatch.transportProtocol = "raw_buffer"
                    $0.filterChainMatch.applicationProtocols = Self.requestProtocols
                    $0.filters = [
                        Self.requests("outbound_0.0.0.0_\(port)", routes: "\(port)", tlsProtocols: nil, settings)
                    ]
                })
        }
        var taken: Set<String> = []
        for name in names.sorted(by: { ($0.serverName, $0.destination.name) < ($1.serverName, $1.destination.name) })
        where taken.insert(name.serverName.lowercased()).inserted {
            listener.filterChains.append(
                .with {
                    $0.name = name.destination.name
                    $0.filterChainMatch.serverNames = [name.serverName.lowercased()]
                    $0.filters = [.stream(name.destination.name, to: name.destination.name, log: settings.streamLog)]
                })
        }
        if !taken.isEmpty { listener.listenerFilters.append(.tls) }
        if hasRequests { listener.listenerFilters.append(.http) }
        listener.defaultFilterChain = .with {
            $0.name = settings.elsewhere
            $0.filters = [.stream(settings.elsewhere, to: settings.elsewhere, log: settings.streamLog)]
        }
        return EnvoyResource(listener.name, listener)
    }

    /// How a service's port is taken.
    package enum Kind: Hashable, Sendable {
        /// By whatever listens on its number everywhere.
        case shared
        /// The host decides nothing: what is sent to this address is for this service.
        case requests
        /// The first bytes tell requests from streams.
        case either
        case streams
    }

    /// - Parameters:
    ///   - hasWaypoint: whatever is sent there has to come to it, requests or not.
    ///   - hasRoutes: nobody goes round them by speaking something else.
    package static func kind(_ port: ServicePort, hasWaypoint: Bool, hasRoutes: Bool) -> Kind {
        switch port.appProtocol {
        case .http11, .http2, .grpc: hasWaypoint ? .either : .shared
        case .unknown: hasRoutes ? .requests : .either
        case .tcp, .tls: .streams
        }
    }

    /// One listener for each of the service's addresses in this network.
    package static func service(
        _ service: Service, _ port: ServicePort, _ kind: Kind, _ settings: SidecarSettings
    ) -> [EnvoyResource] {
        let destination = EnvoyDestination(service.key, port: port.port)
        return service.addresses.filter { $0.network == settings.mesh.network && !$0.address.isV6 }.map { address in
            var listener = Self.listener("\(address.address)", port.port, settings)
            let stat = "outbound_\(listener.name)"
            let stream = EnvoyFilterChain.with {
                $0.name = destination.name
                $0.filters = [.stream(destination.name, to: destination.name, log: settings.streamLog)]
            }
            let requests = Self.requests(
                stat, routes: OutboundRoutes.name(destination),
                // The cluster does not know what is spoken; here it is known, and another sidecar may be told.
                tlsProtocols: port.appProtocol == .unknown ? "istio-http/1.1,istio" : nil, settings)
            switch kind {
            case .shared: break
            case .streams: listener.filterChains = [stream]
            case .requests:
                listener.filterChains = [
                    .with {
                        $0.name = OutboundRoutes.name(destination)
                        $0.filters = [requests]
                    }
                ]
            case .either:
                listener.filterChains = [
                    .with {
                        $0.name = OutboundRoutes.name(destination)
                        $0.filterChainMatch.transportProtocol = "raw_buffer"
                        $0.filterChainMatch.applicationProtocols = Self.requestProtocols
                        $0.filters = [requests]
                    }
                ]
                listener.defaultFilterChain = stream
                listener.listenerFilters = [.http]
            }
            return EnvoyResource(listener.name, listener)
        }
    }

    /// One pod of a service without an address of its own.
    package static func pod(
        _ address: IPAddress, of service: Service, _ port: ServicePort, _ settings: SidecarSettings
    ) -> EnvoyResource {
        var listener = Self.listener("\(address)", port.port, settings)
        let destination = EnvoyDestination(service.key, port: port.port)
        listener.filterChains = [
            .with {
                $0.name = destination.name
                $0.filters = [
                    .stream(
                        destination.name, to: destination.name, log: settings.streamLog,
                        subset: SidecarDestination.subset(address))
                ]
            }
        ]
        return EnvoyResource(listener.name, listener)
    }

    static let requestProtocols = ["http/1.0", "http/1.1", "h2c"]

    private static func listener(_ address: String, _ port: UInt16, _ settings: SidecarSettings) -> EnvoyListener {
        var listener = EnvoyListener()
        listener.name = "\(address)_\(port)"
        listener.address = .socket(address, port)
        listener.trafficDirection = .outbound
        listener.bindToPort = Google_Protobuf_BoolValue(!settings.isRedirected)
        listener.listenerFiltersTimeout = Self.silenceMax.proto
        listener.continueOnListenerFiltersTimeout = true
        return listener
    }

    /// - Parameter tlsProtocols: what a sidecar is told about the connection; nil: as the cluster says.
    private static func requests(
        _ stat: String, routes: String, tlsProtocols: String?, _ settings: SidecarSettings
    ) -> EnvoyFilter {
        var manager = EnvoyHTTPConnectionManager()
        manager.statPrefix = stat
        manager.rds = .with {
            $0.routeConfigName = routes
            $0.configSource = .sameStream
        }
        manager.forwarding()
        if let tlsProtocols {
            let note = EnvoySetFilterState.with {
                $0.onRequestHeaders = [
                    .with {
                        $0.objectKey = "envoy.network.application_protocols"
                        $0.formatString = .inline(tlsProtocols)
                    }
                ]
            }
            manager.httpFilters.append(EnvoyHTTPFilter("application_protocols", note))
        }
        manager.httpFilters += [
            .with {
                $0.name = EnvoyNames.cors
                $0.typedConfig = .standard("envoy.extensions.filters.http.cors.v3.Cors")
            },
            EnvoyHTTPFilter(EnvoyNames.session, EnvoyStatefulSession()),
            EnvoyHTTPFilter(EnvoyNames.router, EnvoyRouter.with { $0.suppressEnvoyHeaders = true }),
        ]
        manager.accessLog = settings.requestLog
        return EnvoyFilter(EnvoyNames.connectionManager, manager)
    }
}

// MARK: - Parts that both directions have

extension EnvoyAddress {
    static func socket(_ address: String, _ port: UInt16) -> EnvoyAddress {
        .with { message in
            message.socketAddress = .with {
                $0.address = address
                $0.portValue = UInt32(port)
            }
        }
    }
}

extension EnvoyListenerFilter {
    static var tls: EnvoyListenerFilter { .inspector("tls_inspector", "tls_inspector.v3.TlsInspector") }
    static var http: EnvoyListenerFilter { .inspector("http_inspector", "http_inspector.v3.HttpInspector") }

    private static func inspector(_ name: String, _ type: String) -> EnvoyListenerFilter {
        EnvoyListenerFilter(
            "envoy.filters.listener.\(name)", .standard("envoy.extensions.filters.listener.\(type)"))
    }
}

extension EnvoyHTTPConnectionManager {
    /// What a proxy does that nobody asked for anything: as little as possible.
    mutating func forwarding() {
        self.useRemoteAddress = false
        self.serverHeaderTransformation = .passThrough
        self.streamIdleTimeout = .of(seconds: 0)
        self.preserveExternalRequestID = true
        self.upgradeConfigs = [.with { $0.upgradeType = "websocket" }]
        self.httpProtocolOptions.acceptHTTP10 = true
    }
}

extension EnvoyFilter {
    /// - Parameters:
    ///   - subset: of the cluster's endpoints.
    ///   - waits: the server is not connected to before the client has sent something.
    static func stream(
        _ stat: String, to cluster: String, log: EnvoyAccessLog?, subset: Google_Protobuf_Struct? = nil,
        waits: Bool = false
    ) -> EnvoyFilter {
        var proxy = EnvoyTCPProxy()
        if waits { proxy.waitForFirstBytes() }
        proxy.statPrefix = stat
        proxy.cluster = cluster
        proxy.idleTimeout = .of(seconds: 0)
        if let subset { proxy.metadataMatch.filterMetadata = [SidecarDestination.subset: subset] }
        if let log { proxy.accessLog = [log] }
        return EnvoyFilter(EnvoyNames.tcpProxy, proxy)
    }
}

extension SidecarSettings {
    var streamLog: EnvoyAccessLog? { self.accessLog.map { .sidecar($0, isRequest: false) } }
    var requestLog: [EnvoyAccessLog] { self.accessLog.map { [.sidecar($0, isRequest: true)] } ?? [] }
}
