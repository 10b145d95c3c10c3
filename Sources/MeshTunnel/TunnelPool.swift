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
/// One loop's pool. A tunnel takes streams until its limit; then others are opened, several at once if need be, and the
/// first is used again when it has room. Scans a key's tunnels in the order of their opening, so that spare ones fall
/// idle and can be closed. What one tunnel learned of its peer's stream limit holds for the next ones to that peer.
package struct TunnelPool {
    /// Tunnels of one loop to one peer and identity: with 100 streams each, 6 400 connections between two pods.
    package static let tunnelsPerKeyMax = 64

    package enum Placement: Hashable {
        case use(UInt64)
        /// Dial a tunnel and give it this name.
        case open(UInt64)
        case full
    }

    fileprivate struct Tunnel {
        var id: UInt64
        var streams: Int
        var limit: Int
    }

    fileprivate struct Peer {
        var tunnels: [Tunnel] = []
        /// The limit of the newest answer; forgotten with the last tunnel.
        var limit: Int
    }

    private let streamsMax: Int
    private var peers: [TunnelKey: Peer] = [:]
    private var keys: [UInt64: TunnelKey] = [:]
    private var lastID: UInt64 = 0

    package init(streamsMax: Int) { self.streamsMax = max(1, streamsMax) }

    package var tunnelCount: Int { self.keys.count }

    /// Finds room for one stream and takes it.
    package mutating func place(_ key: TunnelKey) -> Placement {
        let fresh = Peer(limit: self.streamsMax)
        let id = self.lastID + 1
        let placement = self.peers[key, default: fresh].place(new: id)
        if case .open = placement {
            self.lastID = id
            self.keys[id] = key
        }
        return placement
    }

    /// The peer said how many streams it takes; ours is never exceeded. A peer that takes none (0) is asked for one
    /// all the same when a new tunnel to it is opened: there it may say something else.
    package mutating func limit(_ id: UInt64, to peerLimit: Int) {
        guard let key = self.keys[id] else { return }
        self.peers[key]?.limit(id, to: min(peerLimit, self.streamsMax))
    }

    /// A stream ended. True when the tunnel has none left.
    @discardableResult
    package mutating func release(_ id: UInt64) -> Bool {
        guard let key = self.keys[id] else { return false }
        return self.peers[key]?.release(id) ?? false
    }

    /// The tunnel takes no more streams: it broke, or its peer said GOAWAY. Its streams need no release any more.
    package mutating func forget(_ id: UInt64) {
        guard let key = self.keys.removeValue(forKey: id) else { return }
        self.peers[key]?.tunnels.removeAll { $0.id == id }
        if self.peers[key]?.tunnels.isEmpty == true { self.peers[key] = nil }
    }

    /// The streams of all tunnels that can still be chosen.
    package var streamCount: Int {
        self.peers.values.reduce(0) { $0 + $1.tunnels.reduce(0) { $0 + $1.streams } }
    }
}

extension TunnelPool.Peer {
    fileprivate mutating func place(new id: UInt64) -> TunnelPool.Placement {
        for i in self.tunnels.indices where self.tunnels[i].streams < self.tunnels[i].limit {
            self.tunnels[i].streams += 1
            return .use(self.tunnels[i].id)
        }
        guard self.tunnels.count < TunnelPool.tunnelsPerKeyMax else { return .full }
        self.tunnels.append(TunnelPool.Tunnel(id: id, streams: 1, limit: max(1, self.limit)))
        return .open(id)
    }

    fileprivate mutating func limit(_ id: UInt64, to limit: Int) {
        self.limit = limit
        guard let i = self.tunnels.firstIndex(where: { $0.id == id }) else { return }
        self.tunnels[i].limit = limit
    }

    fileprivate mutating func release(_ id: UInt64) -> Bool {
        guard let i = self.tunnels.firstIndex(where: { $0.id == id }) else { return false }
        precondition(self.tunnels[i].streams > 0, "a stream ended twice")
        self.tunnels[i].streams -= 1
        return self.tunnels[i].streams == 0
    }
}
