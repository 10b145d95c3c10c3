internal import MeshModel
internal import MeshProto
internal import SwiftProtobuf

/// The listener for what came out of tunnels: finds the service by the tunnel's target, and its chain by port and protocol.
package enum MainListener {
    /// After so long a client that says nothing is one that waits for the server.
    private static let silenceMax = Duration.milliseconds(200)

    /// - Parameter services: by `<namespace>/<hostname>`.
    package static func listener(_ services: [(key: String, chains: ServiceChains)]) -> EnvoyResource {
        var listener = EnvoyListener()
        listener.name = EnvoyNames.main
        listener.internalListener = .init()
        var http: Set<UInt16> = []
        var tls: Set<UInt16> = []
        var ranges: [([EnvoyCidrRange], EnvoyMatcher.OnMatch)] = []
        for (_, service) in services where !service.ranges.isEmpty && !service.ports.isEmpty {
            http.formUnion(service.httpPorts)
            tls.formUnion(service.tlsPorts)
            listener.filterChains += service.chains
            ranges.append((service.ranges, .ports(service.ports)))
        }
        if ranges.isEmpty { return Self.closed(listener) }
        listener.filterChainMatcher = .addresses(ranges)
        listener.listenerFilters = [.originalDestination]
        if !tls.isEmpty {
            listener.listenerFilters.append(
                Self.inspector("tls_inspector", "tls_inspector.v3.TlsInspector", only: tls))
        }
        if !http.isEmpty {
            listener.listenerFilters.append(
                Self.inspector("http_inspector", "http_inspector.v3.HttpInspector", only: http))
        }
        listener.listenerFiltersTimeout = Self.silenceMax.proto
        listener.continueOnListenerFiltersTimeout = true
        return EnvoyResource(listener.name, listener)
    }

    /// A listener has to have a chain: one that nobody gets through.
    private static func closed(_ listener: EnvoyListener) -> EnvoyResource {
        var listener = listener
        listener.filterChains = [
            .with {
                $0.name = "nothing"
                $0.filters = [
                    EnvoyFilter(
                        EnvoyNames.networkRBAC,
                        EnvoyNetworkRBAC.with {
                            $0.statPrefix = "nothing"
                            $0.rules.action = .allow
                        }),
                    EnvoyFilter(
                        EnvoyNames.tcpProxy,
                        EnvoyTCPProxy.with {
                            $0.statPrefix = "nothing"
                            $0.cluster = "invalid"
                        }),
                ]
            }
        ]
        return EnvoyResource(listener.name, listener)
    }

    /// Where nothing is to be found out, a server that speaks first must not wait for its client.
    private static func inspector(_ name: String, _ type: String, only ports: Set<UInt16>) -> EnvoyListenerFilter {
        var filter = EnvoyListenerFilter(
            "envoy.filters.listener.\(name)", .standard("envoy.extensions.filters.listener.\(type)"))
        let wanted = ports.sorted().map { port in
            EnvoyListenerPredicate.with {
                $0.destinationPortRange.start = Int32(port)
                $0.destinationPortRange.end = Int32(port) + 1
            }
        }
        filter.filterDisabled.notMatch =
            wanted.count == 1 ? wanted[0] : .with { $0.orMatch.rules = wanted }
        return filter
    }
}
