package import MeshIdentity
package import MeshModel
internal import MeshRoutes
package import MeshTunnel

/// One way to one endpoint. Connections with equal keys can be used for each other's requests.
package struct UpstreamKey: Hashable, Sendable {
    /// The endpoint's own address and port, inside the tunnel if there is one.
    package var address: IPEndpoint
    /// The tunnel's peer; nil: plain TCP.
    package var peer: IPEndpoint?
    package var expected: [WorkloadIdentity]

    package init(address: IPEndpoint, peer: IPEndpoint?, expected: [WorkloadIdentity]) {
        self.address = address
        self.peer = peer
        self.expected = expected
    }
}

/// An endpoint of a backend: where it is and how it is reached.
package final class UpstreamEndpoint: Sendable {
    /// The workload's uid.
    package let workload: String
    package let key: UpstreamKey
    /// Nil: plain TCP to ``UpstreamKey/address``.
    package let route: TunnelRoute?
    /// 0 is nearest; farther ones only when no nearer one is well.
    package let priority: Int
    /// Of the workload, for consistent hashing.
    let hash: UInt64
    /// Relative to others of the same priority, at least 1.
    package let weight: UInt32

    package init(
        workload: String, address: IPEndpoint, route: TunnelRoute?, priority: Int = 0, weight: UInt32 = 1
    ) {
        self.workload = workload
        self.key = UpstreamKey(address: address, peer: route?.peer, expected: route?.expected ?? [])
        self.route = route
        self.priority = priority
        self.hash = StableHash.of(workload.utf8)
        self.weight = max(1, weight)
    }
}
