internal import CMeshLoop

/// What the kernel reported about a descriptor.
public struct Readiness: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let readable = Readiness(rawValue: UInt32(CML_READABLE))
    public static let writable = Readiness(rawValue: UInt32(CML_WRITABLE))
    /// The connection broke; `SocketOptions.pendingError` tells why.
    public static let failed = Readiness(rawValue: UInt32(CML_ERROR))
    public static let hungUp = Readiness(rawValue: UInt32(CML_HANG_UP))
    /// The peer sends no more; bytes may still wait to be read.
    public static let peerFinished = Readiness(rawValue: UInt32(CML_PEER_FINISHED))
}

/// A descriptor watched by an ``EventLoop``: the base class of listeners and connections.
///
/// Belongs to its loop's thread. Owns its descriptor: ``close()`` is the only way to close it, and an object that
/// was registered stays alive until the turn in which it was closed has ended.
///
/// Edge-triggered sources are told once per change. A source that stops reading or writing before the kernel said
/// "would block" must remember that and either ask for a ``turn()`` or wait for its own reason to continue.
open class EventSource {
    public let loop: EventLoop
    // Small fields last: a subclass puts its own behind them.
    public let descriptor: CInt
    public internal(set) final var isClosed = false
    final var isRegistered = false
    final var awaitsTurn = false

    /// Takes ownership of `descriptor`.
    public init(descriptor: CInt, loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
    }

    /// The kernel has news. Never called after ``close()``.
    open func ready(_ readiness: Readiness) {}

    /// Called once at the end of the loop's batch after ``wantsTurn()``.
    open func turn() {}

    /// Asks for one ``turn()`` at the end of the current batch; asking again before it comes changes nothing.
    public final func wantsTurn() {
        guard !self.awaitsTurn, !self.isClosed else { return }
        self.awaitsTurn = true
        self.loop.turns.append(self)
    }

    /// Closes the descriptor. Safe to call twice.
    public final func close() {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.loop.forget(self)
    }
}
