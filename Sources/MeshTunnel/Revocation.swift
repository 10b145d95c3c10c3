public import MeshLoop

/// What is known about certificates that their authorities have taken back.
public enum Revocation: Sendable {
    /// Nobody asked for it to be looked at: no certificate counts as revoked, and nothing is spent on it.
    case ignored
    /// Every peer is checked, when it proves itself and again when a newer list comes. An empty list has to be in force
    /// before the first peer comes where others may follow: of those that came while it was ignored nothing was kept,
    /// and they are cut.
    case list(RevocationList)
    /// It was asked for, and what there is has never been readable: nobody can be told from one whose certificate was
    /// taken back, so nobody gets in or is talked to.
    case unreadable(String)

    var isLookedAt: Bool { if case .ignored = self { false } else { true } }

    /// Nil when the peer may be talked to.
    func refusal(of tunnel: TunnelConnection) -> TunnelError? {
        switch self {
        case .ignored: return nil
        case .list(let list):
            guard let certificates = tunnel.peerCertificates else {
                return .revocationUnknown(tunnel.peer, "its certificates were not kept")
            }
            return certificates.revoked(by: list).map { .revoked(tunnel.peer, serial: $0) }
        case .unreadable(let why): return .revocationUnknown(tunnel.peer, why)
        }
    }
}

extension TunnelWorker {
    /// Tunnels looked at in one turn of the loop. A certificate is parsed and looked up in 20 µs or so; the traffic of
    /// others does not wait longer than for that many.
    static let revocationsPerTurnMax = 64

    /// From now on everybody is checked against `revocation`, also those who are there already, a few in each turn:
    /// tunnels of peers that it refuses are cut with everything in them.
    func publish(_ revocation: Revocation) {
        self.revocation = revocation
        self.revocationNumber += 1
        self.check(ArraySlice(self.tunnels.keys), for: self.revocationNumber)
    }

    private func check(_ numbers: ArraySlice<UInt64>, for revocation: UInt64) {
        // A newer list looks at all of them again.
        guard revocation == self.revocationNumber else { return }
        for number in numbers.prefix(Self.revocationsPerTurnMax) {
            // Who is still shaking hands is checked at the end of that.
            guard let tunnel = self.tunnels[number], tunnel.phase == .open else { continue }
            if self.revocation.refusal(of: tunnel) != nil {
                self.shared.observer.rejectedByRevocation(tunnel.isServer ? .inbound : .outbound)
                tunnel.close(.peerRevoked)
            }
        }
        let rest = numbers.dropFirst(Self.revocationsPerTurnMax)
        if !rest.isEmpty { LoopBound(self, loop: self.loop).execute { $0.check(rest, for: revocation) } }
    }
}

extension TunnelEngine {
    /// Peers are checked against `revocation` from now on, and who is connected already is checked again. Returns at
    /// once; each loop switches between two of its rounds.
    public func publish(_ revocation: Revocation) {
        // Under the lock, so that two publishers reach every loop in the same order.
        self.state.withLock { _ in
            for worker in self.workers { worker.execute { $0.publish(revocation) } }
        }
    }
}
