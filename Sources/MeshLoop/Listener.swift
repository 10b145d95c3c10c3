public import MeshModel

/// A listening socket on a loop.
///
/// Level-triggered, because it stops after a batch: whoever waits in the backlog is reported again.
public final class Listener: EventSource {
    /// Connections taken per wake-up, so that a flood of clients does not starve the connected ones.
    static let acceptsMax = 64
    /// Pause after the process ran out of descriptors.
    static let shortagePause = Duration.milliseconds(50)

    public let port: UInt16
    public let isTransparent: Bool
    /// Receives each connection's descriptor, which it then owns.
    private var accepted: ((CInt, IPEndpoint) -> Void)?
    private var shortage: ((SystemError) -> Void)?
    private var retry: LoopTimer?

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

    /// Closes the socket; connections still in the backlog are reset by the kernel or taken by another process's
    /// listener.
    public func stop() {
        self.retry?.cancel()
        self.retry = nil
        self.accepted = nil
        self.shortage = nil
        self.close()
    }

    public override func ready(_ readiness: Readiness) {
        for _ in 0..<Self.acceptsMax {
            guard let accepted else { return }
            let (descriptor, peer) = Sockets.accept(self.descriptor)
            if let peer, descriptor >= 0 {
                accepted(descriptor, peer)
                continue
            }
            let error = SystemError(call: "accept on port \(self.port)", code: -descriptor)
            if error.isShortage { self.rest(error) }
            return  // would block, or this one client gave up: the next wake-up tells
        }
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
