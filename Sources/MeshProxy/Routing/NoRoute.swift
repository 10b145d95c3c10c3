package import MeshModel
internal import MeshTunnel

/// Why an outbound connection leads nowhere. The words are for whoever reads the access log at night.
package enum NoRoute: Error, Hashable, CustomStringConvertible {
    case unknownWaypoint(of: String, GatewayAddress)
    case noHealthyUpstream(service: String, port: UInt16)
    case noOtherUpstream(destination: String)
    /// Only a service can be asked for at a gateway.
    case otherNetwork(destination: String, network: String)
    case noGateway(destination: String, network: String)
    case unknownGateway(GatewayAddress, network: String)
    case noExpectedIdentity(service: String, network: String)
    case noAddress(workload: String)
    case unresolved(of: String, host: String, String)
    /// No end yet: the way is known once this name has been looked up.
    case needsAddresses(ofHost: String)
    /// No end yet: the way is known once the control plane has answered for this key.
    case needsAnswer(for: String)

    package var description: String {
        switch self {
        case .unknownWaypoint(let of, let gateway):
            "unknown waypoint: \(of) is served by the waypoint \(gateway.text), which has no endpoint for port "
                + "\(gateway.hbonePort); is its pod running and ready?"
        case .noHealthyUpstream(let service, let port):
            "no healthy upstream: service \(service) has no ready endpoint for port \(port)"
        case .noOtherUpstream(let destination):
            "no healthy upstream: every endpoint of \(destination) has been tried"
        case .otherNetwork(let destination, let network):
            "no service: \(destination) is on network \"\(network)\", and only services are reached across networks"
        case .noGateway(let destination, let network):
            "no valid destination: \(destination) is on network \"\(network)\", for which no gateway is known; does that "
                + "network have an east-west gateway?"
        case .unknownGateway(let gateway, let network):
            "unknown network gateway: network \"\(network)\" is behind \(gateway.text), which has no endpoint for port "
                + "\(gateway.hbonePort); is the east-west gateway running and ready?"
        case .noExpectedIdentity(let service, let network):
            "no expected identity: service \(service) has endpoints on network \"\(network)\" but lists no subject "
                + "alternative names, so nobody there could prove to be one"
        case .noAddress(let workload):
            "no valid destination: workload \(workload) has no address of a family that the service allows"
        case .unresolved(let of, let host, let reason):
            "no resolved addresses: \(of) is known by the host name \(host) only: \(reason)"
        case .needsAddresses(let host): "the addresses of \(host) are not known yet"
        case .needsAnswer(let key): "the control plane has not said yet what \(key) is"
        }
    }

    var kind: RefusalReason.Kind {
        switch self {
        case .unknownWaypoint: .unknownWaypoint
        case .noHealthyUpstream, .noOtherUpstream: .noHealthyUpstream
        case .otherNetwork, .noGateway, .unknownGateway: .unknownGateway
        case .noExpectedIdentity: .noExpectedIdentity
        case .noAddress, .unresolved, .needsAddresses: .noAddress
        case .needsAnswer: .unansweredDemand
        }
    }
}

extension GatewayAddress {
    /// `network/ip` or `namespace/hostname`.
    package var text: String {
        switch self.destination {
        case .hostname(let name): name.description
        case .address(let address): address.description
        }
    }
}
