internal import CMeshLoop
public import MeshModel

/// A listening socket on a loop.
///
/// Level-triggered, because it stops after a batch: whoever waits in the backlog is reported again.
public final class Listener: EventSource {
    /// Connections taken per wake-up, so that a flood of clients does not starve the connected ones.
    static let acceptsMax = 64
    /// Connections taken when the listener finishes: more than any backlog of ours holds. A bound is needed, because
    /// the port's clients keep coming while it is emptied.
    static let lastAcceptsMax = 1024
    /// Pause after the process ran out of descriptors.
    static let shortagePause = Duration.milliseconds(50)

    public let port: UInt16
    public let isTransparent: Bool
    /// Receives each connection's descriptor, which it then owns.
    private var accepted: ((CInt, IPEndpoint) -> Void)?
    private var shortage: ((SystemError) -> Void)?
    private var retry: LoopTimer?
    /// Connections taken since the start; wraps.
    public private(set) var acceptedCount: UInt64 = 0

    public init(
        _ socket: Sockets.ListenResult, loop: EventLoop,
        accepted: @escaping (_ descriptor: CInt, _ peer: IPEndpoint) -> Void,
        shortage: @escaping (SystemError) -> Void
    ) {
        self.port = socket.port
        self.isTransparent = socket.isTransparent
        self.accepted = accepted
        self.shortage = shortage
        super.init(descriptor: socket.descriptor, loop: loop)
    }

    public func start() throws(SystemError) { try self.loop.register(self, edgeTriggered: false) }

    /// Asks the kernel to give new connections to another process's listener of the port: to the one of this place among
    /// them, in order of their coming. Where nobody has that place nothing changes. A listener that is avoided before it
    /// is closed loses nobody; closing alone does, about once in 50 times under load: who is between SYN and ACK in that
    /// moment, which no migration covers.
    public func steerAway(to place: UInt32) { _ = cml_steer(self.descriptor, place) }

    /// Takes everybody who waits in the backlog, then closes the socket. Who arrives between the last look and the
    /// close, and whose handshake is half done, is given to another process's listener of the port where the kernel
    /// does that (`net.ipv4.tcp_migrate_req`), and reset elsewhere.
    public func finish() {
        var taken = 0
        while taken < Self.lastAcceptsMax, self.acceptBatch() { taken += Self.acceptsMax }
        self.stop()
    }

    /// Closes the socket; connections still in the backlog are reset by the kernel or taken by another process's
    /// listener.
    public func stop() {
        self.retry?.cancel()
        self.retry = nil
        self.accepted = nil
        self.shortage = nil
        self.close()
    }

    public override func ready(_ readiness: Readiness) { _ = self.acceptBatch() }

    /// False when nobody waits any more, as far as one can tell.
    private func acceptBatch() -> Bool {
        for _ in 0..<Self.acceptsMax {
            guard let accepted else { return false }
            let (descriptor, peer) = Sockets.accept(self.descriptor)
            if let peer, descriptor >= 0 {
                self.acceptedCount &+= 1
                accepted(descriptor, peer)
                continue
            }
            let error = SystemError(call: "accept on port \(self.port)", code: -descriptor)
            if error.isShortage { self.rest(error) }
            return false  // would block, or this one client gave up: the next wake-up tells
        }
        return true
    }

    private func rest(_ error: SystemError) {
        self.shortage?(error)
        self.loop.pause(self)
        let timer = LoopTimer(loop: self.loop) { [weak self] in
            guard let self, !self.isClosed else { return }
            do throws(SystemError) { try self.start() } catch { self.rest(error) }
        }
        self.retry = timer
        timer.arm(after: Self.shortagePause)
    }
}
