internal import MeshIdentity
package import MeshModel
package import MeshTunnel

extension MeshSnapshot {
    package func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        var random = SystemRandomNumberGenerator()
        return self.route(question, using: &random)
    }

    /// The decision tree of the outbound path; the first match wins. See ``OutboundRoute``.
    package func route(
        _ question: OutboundQuestion, using random: inout some RandomNumberGenerator
    ) -> OutboundAnswer {
        let destination = question.destination
        if destination.address.isLoopback, self.settings.ownPorts.contains(destination.port) {
            return .refuse(
                RefusalReason(
                    .connect,
                    "attempted recursive call to ourselves: \(destination) is one of the proxy's own ports"),
                labels: nil)
        }
        guard let source = self.local(question.pod) else {
            return .refuse(Self.unknownPod(question.pod), labels: nil)
        }
        let route = OutboundRoute(snapshot: self, question: question, source: source)
        do throws(NoRoute) {
            return try route.decide(using: &random)
        } catch {
            return .refuse(
                RefusalReason(.connect, "\(error)"), labels: nil)
        }
    }
}

/// Why an outbound connection leads nowhere. The words are for whoever reads the access log at night.
package enum NoRoute: Error, Hashable, CustomStringConvertible {
    case unknownWaypoint(of: String, GatewayAddress)
    case noHealthyUpstream(service: String, port: UInt16)
    case noOtherUpstream(destination: String)
    case otherNetwork(destination: String, network: String)
    case noAddress(workload: String, hostname: String)

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
            "no valid destination: \(destination) is on network \"\(network)\"; this node proxy cannot reach other "
                + "networks through their gateways (double HBONE) yet"
        case .noAddress(let workload, let hostname):
            hostname.isEmpty
                ? "no valid destination: workload \(workload) has no address of a family that the service allows"
                : "no resolved addresses: workload \(workload) has only the host name \(hostname), which this node "
                    + "proxy does not resolve"
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
