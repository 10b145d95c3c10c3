internal import MeshLoop

// The mesh changed: those that wait ask again at once, live inbound connections one after the other.

extension TunnelWorker {
    /// Live connections asked in one turn of the loop. An answer takes a microsecond or few; the traffic of the others
    /// does not wait longer than that.
    static let recheckedPerTurnMax = 256

    /// The way through the live table.
    struct Recheck {
        /// The number of the view when it began.
        var view: UInt32
        var ids: [UInt64]
        var next = 0
    }

    /// From now on everything asks `view`. What is live and inbound is asked again, and closed when the view refuses
    /// it; a view that comes meanwhile is asked in the same pass from there on, and in another one before that.
    func publish(_ view: any MeshView) {
        self.view = view
        self.viewNumber &+= 1
        self.room.meshChanged()
        guard self.recheck == nil else { return }
        self.beginRecheck()
    }

    private func beginRecheck() {
        let ids = self.live.compactMap { id, connection in
            !connection.isAdmitted || connection.viewAsked == self.viewNumber ? nil : id
        }
        guard !ids.isEmpty else { return }
        self.recheck = Recheck(view: self.viewNumber, ids: ids)
        self.recheckSome()
    }

    private func recheckSome() {
        guard var recheck else { return }
        let end = min(recheck.next + Self.recheckedPerTurnMax, recheck.ids.count)
        for id in recheck.ids[recheck.next..<end] {
            if let connection = self.live[id], connection.viewAsked != self.viewNumber { self.ask(again: connection) }
        }
        recheck.next = end
        if end < recheck.ids.count {
            self.recheck = recheck
            return LoopBound(self, loop: self.loop).execute { $0.recheckSome() }
        }
        self.recheck = nil
        if recheck.view != self.viewNumber {
            LoopBound(self, loop: self.loop).execute { if $0.recheck == nil { $0.beginRecheck() } }
        }
    }

    private func ask(again connection: ProxiedConnection) {
        guard let question = connection.admission else { return }
        connection.viewAsked = self.viewNumber
        switch self.view.admitInbound(question) {
        case .admit, .serve: connection.doubt = nil
        case .refuse: connection.carrier?.abort(.policyChanged)
        case .wait(_, let reason):
            // The pod may have left the mesh's books while its last connections drain: they go on. What policy cannot
            // judge has until the deadline.
            guard reason.flag == .deny, connection.doubt == nil else { return }
            let doubt = Doubt(about: connection)
            connection.doubt = doubt
            if self.room.enter(doubt, for: self.configuration.knowledgeTimeout) == nil {
                connection.carrier?.abort(.policyChanged)
            }
        }
    }

    static func roomFull(_ reason: RefusalReason) -> RefusalReason {
        RefusalReason(
            reason.flag,
            "\(reason.text); and \(WaitingRoom.waitersMax) connections wait already, so this one does not",
            kind: .shortage)
    }
}

/// The time that a live connection has until policy can judge it again. The recheck itself asks; this only counts.
private final class Doubt: MeshWaiter {
    private let connection: ProxiedConnection

    init(about connection: ProxiedConnection) { self.connection = connection }

    var pod: EnrolledPod { self.connection.pod }

    func meshChanged() {}

    func gaveUp(_ end: WaitingRoom.End) {
        guard self.connection.doubt === self else { return }
        self.connection.doubt = nil
        if case .tooLong = end { self.connection.carrier?.abort(.policyChanged) }
    }
}
