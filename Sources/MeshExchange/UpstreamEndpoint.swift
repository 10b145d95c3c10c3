package import MeshIdentity
package import MeshModel
internal import MeshRoutes
package import MeshTunnel

/// One way to one endpoint. Connections with equal keys can be used for each other's requests.
package struct UpstreamKey: Hashable, Sendable {
    /// The endpoint's own address and port, inside the tunnel if there is one. The address is unspecified when the endpoint
    /// is known by name, and the gateway's when it is behind one.
    package var address: IPEndpoint
    /// The tunnel's peer; nil: plain TCP.
    package var peer: IPEndpoint?
    package var expected: [WorkloadIdentity]
    /// The name that is looked up for the address; nil: the address is known.
    package var host: String?
    /// What the peer is told that the connection is for, the host name of a service: it counts by that.
    package var service: String

    package init(
        address: IPEndpoint, peer: IPEndpoint?, expected: [WorkloadIdentity], host: String? = nil, service: String = ""
    ) {
        self.address = address
        self.peer = peer
        self.expected = expected
        self.host = host
        self.service = service
    }
}

/// What a connection to an endpoint is made to.
package struct UpstreamTarget: Sendable {
    package var address: IPEndpoint
    /// Nil: plain TCP.
    package var route: TunnelRoute?

    package init(address: IPEndpoint, route: TunnelRoute?) {
        self.address = address
        self.route = route
    }
}

/// Who is at the other end of a connection to an endpoint.
struct UpstreamPeer {
    /// As in ``ExchangeEnds/upstream``.
    var address: IPEndpoint
    /// Proven; nil for plain TCP.
    var identity: WorkloadIdentity?
}

/// An endpoint of a backend: where it is and how it is reached.
package final class UpstreamEndpoint: Sendable {
    /// The workload's uid; of a gateway's when the workload is behind one.
    package let workload: String
    package let key: UpstreamKey
    /// Nil: plain TCP to ``UpstreamKey/address``. With a name, the peer's address is not known either.
    package let route: TunnelRoute?
    /// Which of a name's addresses may be used.
    private let families: Service.IPFamilies
    /// 0 is nearest; farther ones only when no nearer one is well.
    package let priority: Int
    /// Of the workload, for consistent hashing.
    let hash: UInt64
    /// Relative to others of the same priority, at least 1.
    package let weight: UInt32

    /// - Parameters:
    ///   - host: a name whose addresses are looked up when a connection is made; only the ports of `address` and of the
    ///     route's peer count then.
    ///   - service: see ``UpstreamKey/service``.
    package init(
        workload: String, address: IPEndpoint, route: TunnelRoute?, host: String? = nil,
        families: Service.IPFamilies = .automatic, service: String = "", priority: Int = 0, weight: UInt32 = 1
    ) {
        self.workload = workload
        self.key = UpstreamKey(
            address: address, peer: route?.peer, expected: route?.expected ?? [], host: host, service: service)
        self.route = route
        self.families = families
        self.priority = priority
        self.hash = StableHash.of(workload.utf8)
        self.weight = max(1, weight)
    }

    /// Nil when that is not known before the answer: a gateway chooses.
    var reportedWorkload: String? { self.route?.inner == nil ? self.workload : nil }

    /// When the address is known.
    var target: UpstreamTarget { UpstreamTarget(address: self.key.address, route: self.route) }

    /// With one of the name's addresses.
    func target(at address: IPAddress) -> UpstreamTarget {
        var target = self.target
        if var route = self.route {
            route.peer = IPEndpoint(address: address, port: route.peer.port)
            // A gateway, or whoever is behind it, is asked by the service's name.
            if route.inner == nil {
                target.address = IPEndpoint(address: address, port: target.address.port)
                route.authority = target.address.description
            } else {
                target.address = route.peer
            }
            target.route = route
        } else {
            target.address = IPEndpoint(address: address, port: target.address.port)
        }
        return target
    }

    /// Those of a name's addresses that may be tried, of one family first, beginning anywhere so that all share the load.
    func targets(_ addresses: [IPAddress], random: UInt64) -> [UpstreamTarget] {
        let allowed = addresses.filter { address in
            switch self.families {
            case .automatic, .dual: true
            case .v4Only: !address.isV6
            case .v6Only: address.isV6
            }
        }
        guard let first = allowed.first else { return [] }
        let same = allowed.filter { $0.isV6 == first.isV6 }
        let start = Int(random % UInt64(same.count))
        let ordered = same[start...] + same[..<start] + allowed.filter { $0.isV6 != first.isV6 }
        return ordered.map { self.target(at: $0) }
    }
}
