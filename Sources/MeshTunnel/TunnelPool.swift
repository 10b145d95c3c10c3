package import MeshIdentity
package import MeshModel

/// Who may share a tunnel. Different keys never do: that is what keeps identities apart.
package struct TunnelKey: Hashable {
    /// The namespace that the tunnel is dialled in.
    package var podUID: String
    /// The identity proven to the peer.
    package var source: WorkloadIdentity
    /// What the peer must prove; in the order of the route.
    package var expected: [WorkloadIdentity]
    package var peer: IPEndpoint

    package init(podUID: String, source: WorkloadIdentity, expected: [WorkloadIdentity], peer: IPEndpoint) {
        self.podUID = podUID
        self.source = source
        self.expected = expected
        self.peer = peer
    }
}

/// Which tunnel takes the next stream: counts streams, performs no I/O.
///
/// One loop's pool. A tunnel takes streams until its limit; then another is opened, and the first is used again when
/// it has room. Scans a key's tunnels in the order of their opening, so that spare ones fall idle and can be closed.
package struct TunnelPool {
    /// Tunnels of one loop to one peer and identity: with 100 streams each, 6 400 connections between two pods.
    package static let tunnelsPerKeyMax = 64

    package enum Placement: Hashable {
        case use(UInt64)
        /// Dial a tunnel and give it this name.
        case open(UInt64)
        case full
    }

    private struct Tunnel {
        var id: UInt64
        var streams: Int
        var limit: Int
    }

    private let streamsMax: Int
    private var tunnels: [TunnelKey: [Tunnel]] = [:]
    private var keys: [UInt64: TunnelKey] = [:]
    private var lastID: UInt64 = 0

    package init(streamsMax: Int) { self.streamsMax = max(1, streamsMax) }

    package var tunnelCount: Int { self.keys.count }

    /// Finds room for one stream and takes it.
    package mutating func place(_ key: TunnelKey) -> Placement {
        let count = self.tunnels[key]?.count ?? 0
        for i in 0..<count where self.tunnels[key]![i].streams < self.tunnels[key]![i].limit {
            self.tunnels[key]![i].streams += 1
            return .use(self.tunnels[key]![i].id)
        }
        guard count < Self.tunnelsPerKeyMax else { return .full }
        self.lastID += 1
        self.tunnels[key, default: []].append(Tunnel(id: self.lastID, streams: 1, limit: self.streamsMax))
        self.keys[self.lastID] = key
        return .open(self.lastID)
    }

    /// The peer said how many streams it takes; ours is never exceeded.
    package mutating func limit(_ id: UInt64, to peerLimit: Int) {
        let limit = min(peerLimit, self.streamsMax)
        self.update(id) { $0.limit = limit }
    }

    /// A stream ended. True when the tunnel has none left.
    @discardableResult
    package mutating func release(_ id: UInt64) -> Bool {
        var isIdle = false
        self.update(id) { tunnel in
            precondition(tunnel.streams > 0, "a stream ended twice")
            tunnel.streams -= 1
            isIdle = tunnel.streams == 0
        }
        return isIdle
    }

    /// The tunnel takes no more streams: it broke, or its peer said GOAWAY. Its streams need no release any more.
    package mutating func forget(_ id: UInt64) {
        guard let key = self.keys.removeValue(forKey: id) else { return }
        self.tunnels[key]?.removeAll { $0.id == id }
        if self.tunnels[key]?.isEmpty == true { self.tunnels[key] = nil }
    }

    private mutating func update(_ id: UInt64, _ change: (inout Tunnel) -> Void) {
        guard let key = self.keys[id], let i = self.tunnels[key]?.firstIndex(where: { $0.id == id }) else { return }
        change(&self.tunnels[key]![i])
    }
}
