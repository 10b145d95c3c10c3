internal import Glibc
internal import MeshLoop
internal import MeshModel

/// Who had a target dialled and hears once how that went. Called on the loop.
protocol RelayDialer: AnyObject {
    func connected(to target: IPEndpoint)
    /// Nothing has been read from the client, which is the dialer's again.
    func notConnected(to target: IPEndpoint, _ client: AppSocket, _ error: TunnelError)
}

/// Copies bytes between two TCP connections: passthrough, and captured plaintext.
///
/// Reads a direction only while everything read before is written: at most one scratch buffer is ever kept.
final class PlainRelay: AppSocketHandler, Carrier {
    /// Reads of one direction before other connections have their turn.
    static let readsPerTurnMax = 4

    private struct Direction: ~Copyable {
        var pending = PendingBytes()
        /// The reader's side said FIN.
        var hasEnded = false
        /// And the writer's side was told.
        var isOver = false
    }

    private let client, target: AppSocket
    private let targetAddress: IPEndpoint
    private let proxied: ProxiedConnection
    private var upstream = Direction()
    private var downstream = Direction()
    private var isClosed = false
    private var deadline: LoopTimer?
    /// Until the target is connected or not; nil: a target that is not there ends the connection.
    private var dialer: (any RelayDialer)?

    init(
        client: AppSocket, target: AppSocket, targetAddress: IPEndpoint, proxied: ProxiedConnection,
        dialer: (any RelayDialer)? = nil
    ) {
        self.dialer = dialer
        self.client = client
        self.target = target
        self.targetAddress = targetAddress
        self.proxied = proxied
    }

    /// The sockets keep the relay alive from here on.
    func start(_ worker: TunnelWorker) {
        self.client.handler = self
        self.target.handler = self
        self.proxied.carrier = self
        let limit = worker.configuration.dialTimeout
        let timer = LoopTimer(loop: worker.loop) { [unowned self] in
            self.notConnected(.dialTimedOut(self.targetAddress, limit))
        }
        self.deadline = timer
        timer.arm(after: limit)
    }

    func appConnected(_ socket: AppSocket) {
        self.deadline?.cancel()
        self.deadline = nil
        self.dialer?.connected(to: self.targetAddress)
        self.dialer = nil
        // What the client sent meanwhile: its edge has come and gone.
        self.move()
    }

    func appReadable(_ socket: AppSocket) { self.move() }
    func appWritable(_ socket: AppSocket) { self.move() }
    func appTurn(_ socket: AppSocket) { self.move() }

    func appFailed(_ socket: AppSocket, code: CInt) {
        let reason = SystemError.text(code)
        if socket.isConnecting { return self.notConnected(.dialFailed(self.targetAddress, reason)) }
        self.finish(
            socket === self.client ? .clientReset(reason) : .peerReset(code: "\(self.targetAddress): \(reason)"),
            reset: true)
    }

    func abort(_ error: TunnelError) { self.finish(error, reset: true) }

    /// The dialer may know another target; the client has not noticed anything yet.
    private func notConnected(_ error: TunnelError) {
        guard let dialer else { return self.finish(error, reset: true) }
        guard !self.isClosed else { return }
        self.isClosed = true
        self.dialer = nil
        self.deadline?.cancel()
        self.deadline = nil
        self.client.handler = nil
        self.target.end(reset: true)
        dialer.notConnected(to: self.targetAddress, self.client, error)
    }

    private func move() {
        guard !self.isClosed, !self.target.isConnecting else { return }
        if let (socket, code) = Self.copy(
            &self.upstream, from: self.client, to: self.target, self.proxied.countReceived)
        {
            return self.appFailed(socket, code: code)
        }
        if let (socket, code) = Self.copy(&self.downstream, from: self.target, to: self.client, self.proxied.countSent)
        {
            return self.appFailed(socket, code: code)
        }
        if self.upstream.isOver, self.downstream.isOver { self.finish(nil, reset: false) }
    }

    /// Moves what can be moved. Returns the socket that broke, with its errno.
    private static func copy(
        _ direction: inout Direction, from reader: AppSocket, to writer: AppSocket, _ count: (Int) -> Void
    ) -> (AppSocket, CInt)? {
        guard !direction.isOver else { return nil }
        if !direction.pending.isEmpty {
            guard writer.isWritable else { return nil }
            let (written, stop) = direction.pending.write(to: writer.descriptor)
            count(written)
            switch stop {
            case .moved: break
            case .wouldBlock, .ended:
                writer.isWritable = false
                return nil
            case .failed(let code): return (writer, code)
            }
        }
        // SAFETY: the buffer is empty again, or its rest copied, before this returns.
        let buffer = reader.loop.scratch.received
        var reads = 0
        while reader.isReadable, !direction.hasEnded, direction.pending.isEmpty {
            guard reads < Self.readsPerTurnMax else {
                reader.wantsTurn()
                return nil
            }
            reads += 1
            switch Sockets.read(reader.descriptor, buffer.baseAddress!, buffer.count) {
            case .moved(let moved):
                if moved < buffer.count, !reader.sawEnd { reader.isReadable = false }
                if let code = Self.write(&direction, buffer.baseAddress!, moved, to: writer, count) {
                    return (writer, code)
                }
            case .wouldBlock: reader.isReadable = false
            case .ended: direction.hasEnded = true
            case .failed(let code): return (reader, code)
            }
        }
        if direction.hasEnded, direction.pending.isEmpty {
            direction.isOver = true
            Sockets.finishWriting(writer.descriptor)
        }
        return nil
    }

    /// Returns errno when the writer broke.
    private static func write(
        _ direction: inout Direction, _ bytes: UnsafeMutableRawPointer, _ length: Int, to writer: AppSocket,
        _ count: (Int) -> Void
    ) -> CInt? {
        var written = 0
        while written < length, writer.isWritable {
            switch Sockets.write(writer.descriptor, bytes + written, length - written) {
            case .moved(let moved):
                written += moved
                count(moved)
            case .wouldBlock, .ended: writer.isWritable = false
            case .failed(let code): return code
            }
        }
        direction.pending.append(bytes + written, length - written)
        return nil
    }

    private func finish(_ error: TunnelError?, reset: Bool) {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.deadline?.cancel()
        self.deadline = nil
        self.dialer = nil
        self.client.end(reset: reset)
        self.target.end(reset: reset)
        self.proxied.end(error)
    }
}
