/// The two directions of one relayed stream, from open to both ended: who has finished, and what is due.
///
/// Performs no I/O. A direction ends once; the stream is over when both have.
///
///     peer: open ─END_STREAM─▶ ending ─all bytes written─▶ told (FIN sent to the application)
///     app:  open ─FIN read, END_STREAM sent─▶ ended
package struct RelayEnds: Hashable {
    package enum Action: Hashable {
        case none
        /// Send FIN to the application; the other direction goes on.
        case finishApp
        /// Send FIN to the application, then close: both directions are over.
        case finishAppAndClose
        /// Both directions are over.
        case close
    }

    package private(set) var appHasEnded = false
    package private(set) var peerHasEnded = false
    package private(set) var appWasTold = false

    package init() {}

    /// The application sent FIN and END_STREAM went out.
    package mutating func appEnded() -> Action {
        precondition(!self.appHasEnded, "the application ended twice")
        self.appHasEnded = true
        return self.appWasTold ? .close : .none
    }

    /// END_STREAM arrived. `isDelivered`: the application has all bytes before it.
    package mutating func peerEnded(isDelivered: Bool) -> Action {
        guard !self.peerHasEnded else { return .none }
        self.peerHasEnded = true
        return isDelivered ? self.tell() : .none
    }

    /// The application took the last waiting byte.
    package mutating func delivered() -> Action {
        self.peerHasEnded && !self.appWasTold ? self.tell() : .none
    }

    private mutating func tell() -> Action {
        self.appWasTold = true
        return self.appHasEnded ? .finishAppAndClose : .finishApp
    }
}
