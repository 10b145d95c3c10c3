internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// One timer per tunnel. Until the peer's first SETTINGS it is the deadline of the dial or of the handshake (which is
// certificate, TLS and preface together); then it looks after keepalive, idleness, age, and frames that never end.

extension TunnelConnection {
    @inline(__always)
    func heard() {
        self.lastReceived = self.loop.now
        self.pingSentAt = nil
    }

    func armKeepalive() {
        let configuration = self.worker.configuration
        var delay = min(configuration.pingInterval, configuration.pingTimeout)
        if !self.isDraining {
            if !self.isServer { delay = min(delay, configuration.idleTunnelTimeout) }
            if let age = configuration.tunnelAgeMax { delay = min(delay, age) }
        }
        self.timer?.arm(after: delay)
    }

    func tick() {
        let configuration = self.worker.configuration
        switch self.phase {
        case .closed: return
        case .connecting: return self.close(.dialTimedOut(self.peer, configuration.dialTimeout))
        case .handshaking: return self.close(.handshakeTimedOut(self.peer, configuration.handshakeTimeout))
        case .open: break
        }
        switch self.draining {
        case .lingering: return self.close(self.drainReason)
        case .announced: return self.refuseNewStreams()
        case .no, .final: break
        }
        guard self.isProven else {
            return self.close(.handshakeTimedOut(self.peer, configuration.handshakeTimeout))
        }
        if self.isRetired(configuration) {
            self.goAway()
            // The announcement has armed the timer; else the streams that are left are still looked after.
            if self.draining == .announced { return }
        }
        guard self.isAlive(configuration), self.finishesItsHeaders() else { return }
        self.armKeepalive()
    }

    private func isOver(_ start: UInt64, _ limit: Duration) -> Bool {
        .nanoseconds(Int64(clamping: self.loop.now &- start)) >= limit
    }

    /// Idle for too long, or too old: a tunnel keeps the certificates it was made with.
    private func isRetired(_ configuration: TunnelConfiguration) -> Bool {
        guard !self.isDraining else { return false }
        if let age = configuration.tunnelAgeMax, self.isOver(self.startedAt, age) { return true }
        return !self.isServer && self.streams.isEmpty && self.waiting.isEmpty
            && self.isOver(self.idleSince, configuration.idleTunnelTimeout)
    }

    /// Sends PING into silence; false when the last one was not answered in time.
    private func isAlive(_ configuration: TunnelConfiguration) -> Bool {
        if let pingSentAt, self.isOver(pingSentAt, configuration.pingTimeout) {
            self.close(.peerSilent(self.peer, configuration.pingTimeout))
            return false
        }
        if self.pingSentAt == nil, self.isOver(self.lastReceived, configuration.pingInterval) {
            self.pingSentAt = self.loop.now
            HTTP2FrameWriter.appendPing(opaque: self.loop.now, ack: false, to: &self.control)
            self.wantsTurn()
        }
        return true
    }

    /// A header block stops every other frame of the tunnel, so one that is open from one look at the deadlines to the
    /// next, octet by octet, is an attack: no honest peer pauses inside.
    private func finishesItsHeaders() -> Bool {
        guard self.reader.isInsideHeaderBlock else {
            self.blocksAtTick = nil
            return true
        }
        guard self.blocksAtTick == self.reader.blocksBegun else {
            self.blocksAtTick = self.reader.blocksBegun
            return true
        }
        self.close(
            .protocolBroken(self.peer, "a header block was begun and not finished"), code: .enhanceYourCalm)
        return false
    }
}
