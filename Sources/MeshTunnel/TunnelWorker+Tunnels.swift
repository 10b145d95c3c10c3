internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// The worker's table of tunnels, and its bounds: whoever may connect must not be able to make it grow without end.

extension TunnelWorker {
    /// Why there is no tunnel; `isStale`: its peer is not to blame.
    struct NoTunnel: Error {
        var error: TunnelError
        var isStale: Bool
    }

    /// A tunnel to the route's peer with room for one stream, which is taken. A new one has yet to be started, when its
    /// first stream waits for it.
    func tunnel(
        for route: TunnelRoute, _ handle: PodHandle
    ) throws(NoTunnel) -> (tunnel: TunnelConnection, isNew: Bool) {
        let key = TunnelKey(podUID: handle.pod.uid, source: route.source, expected: route.expected, peer: route.peer)
        switch self.pool.place(key) {
        case .full: throw NoTunnel(error: .tooManyTunnels(route.peer), isStale: true)
        case .use(let id):
            guard let tunnel = self.pooled[id] else { preconditionFailure("the pool knows a tunnel that is gone") }
            return (tunnel, false)
        case .open(let id):
            do throws(SystemError) {
                let descriptor = try self.dialDescriptor(handle, to: route.peer, from: nil)
                let tunnel = TunnelConnection(
                    dialled: descriptor, worker: self, handle: handle, key: key, poolID: id)
                self.pooled[id] = tunnel
                return (tunnel, true)
            } catch {
                self.pool.forget(id)
                throw NoTunnel(error: .dialFailed(route.peer, "\(error)"), isStale: false)
            }
        }
    }

    /// Enters a tunnel. An inbound one may be refused, or push out the oldest that has not proven itself.
    func opened(_ tunnel: TunnelConnection) -> TunnelError? {
        if tunnel.isServer {
            let uid = tunnel.handle.pod.uid
            let limit = self.configuration.inboundTunnelsPerPodMax
            guard self.inboundTunnels[uid, default: 0] < limit else {
                return .tooManyInboundTunnels(tunnel.peer, limit: limit)
            }
            self.inboundTunnels[uid, default: 0] += 1
            self.expectProof(of: tunnel)
        }
        self.lastTunnel += 1
        tunnel.number = self.lastTunnel
        self.tunnels[tunnel.number] = tunnel
        self.shared.counters.tunnels(isInbound: tunnel.isServer, by: 1)
        // Somebody accepted in time needs it (another try, after a peer closed): for him alone, and then it ends.
        if self.isDraining, !tunnel.isServer { tunnel.goAway() }
        return nil
    }

    private func expectProof(of tunnel: TunnelConnection) {
        tunnel.unprovenNumber = self.nextUnproven
        self.unproven[self.nextUnproven] = tunnel
        self.nextUnproven += 1
        let limit = self.configuration.unprovenTunnelsMax
        while self.unproven.count > limit {
            // Numbers of tunnels that proved themselves are missing; each is passed once.
            let oldest = self.unproven[self.oldestUnproven]
            self.oldestUnproven += 1
            if let oldest { oldest.close(.crowdedOut(oldest.peer, limit: limit), code: .enhanceYourCalm) }
        }
    }

    /// The peer of `tunnel` works; or it is gone.
    func proven(_ tunnel: TunnelConnection) {
        guard let number = tunnel.unprovenNumber else { return }
        tunnel.unprovenNumber = nil
        self.unproven[number] = nil
    }

    func closed(_ tunnel: TunnelConnection) {
        self.proven(tunnel)
        guard self.tunnels.removeValue(forKey: tunnel.number) != nil else { return }
        self.shared.counters.tunnels(isInbound: tunnel.isServer, by: -1)
        if let id = tunnel.poolID {
            self.pool.forget(id)
            self.pooled[id] = nil
        }
        let uid = tunnel.handle.pod.uid
        if tunnel.isServer, let count = self.inboundTunnels[uid] {
            self.inboundTunnels[uid] = count == 1 ? nil : count - 1
        }
        self.finishRemoval(uid: uid)
        self.finishDrainIfDone()
    }

    /// Tells that a removed pod has no tunnel left.
    func finishRemoval(uid: String) {
        guard self.removals[uid] != nil else { return }
        let isOver = !self.tunnels.values.contains { $0.handle.pod.uid == uid && $0.handle.isRemoved }
        guard isOver, let waiting = self.removals.removeValue(forKey: uid) else { return }
        for done in waiting { done() }
    }
}
