import Glibc
import MeshLoop
import MeshModel

/// One end of a simulated TCP connection, or a listener.
final class VirtualSocket {
    let descriptor: CInt
    var local: IPEndpoint
    var remote: IPEndpoint?
    /// Where it was going before redirection.
    var original: IPEndpoint?
    var peer: VirtualSocket?
    /// Made or adopted by an engine: must be closed in the end.
    var isEngines = false

    /// One end of a pair in one process, not of a connection.
    var isOfPair = false

    /// Listener only: accepted by nobody yet.
    var backlog: [VirtualSocket]?

    /// SYN is on its way.
    var isConnecting = false
    let inbox = ByteQueue()
    /// Written and not arrived at the peer.
    let outbox = ByteQueue()
    var capacity: Int
    var isFinQueued = false
    var isFinDelivered = false
    var hasSeenFin = false
    var isResetQueued = false
    /// The connection is gone: reset, refused, or lost.
    var isBroken = false
    var error: CInt = 0
    var isClosed = false
    var resetsOnClose = false
    /// Nothing passes any more, and nobody is told.
    var isCut = false

    var source: EventSource?
    var isEdgeTriggered = true
    var hasEdge = false
    /// A write was refused or cut short.
    var wantsSpace = false
    var isBusy = false

    init(_ descriptor: CInt, local: IPEndpoint, capacity: Int) {
        self.descriptor = descriptor
        self.local = local
        self.capacity = capacity
    }

    /// What may be written before the peer has read.
    var space: Int { max(0, self.capacity - self.outbox.count - (self.peer?.inbox.count ?? 0)) }

    var hasSomethingToSend: Bool {
        if self.isCut || self.isBroken { return false }
        return self.isConnecting || self.isResetQueued || !self.outbox.isEmpty
            || (self.isFinQueued && !self.isFinDelivered)
    }

    var readiness: Readiness {
        if let backlog { return backlog.isEmpty ? [] : .readable }
        if self.isConnecting { return [] }
        if self.isBroken {
            return self.error == 0
                ? [.readable, .writable, .hungUp, .peerFinished]
                : [.readable, .writable, .hungUp, .peerFinished, .failed]
        }
        var flags: Readiness = []
        if !self.inbox.isEmpty || self.hasSeenFin { flags.insert(.readable) }
        if self.hasSeenFin { flags.insert(.peerFinished) }
        if self.hasSeenFin, self.isFinQueued { flags.insert(.hungUp) }
        if self.space > 0 { flags.insert(.writable) }
        return flags
    }
}
