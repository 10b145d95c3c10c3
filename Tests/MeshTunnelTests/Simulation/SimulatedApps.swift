import Glibc
import MeshLoop

/// What a simulated connection carries: byte `i` of connection `id` is the same on both ends and in every run, and
/// differs from the bytes of all other connections.
enum Pattern {
    static let period = 1 << 16
    /// Twice the period, so that every slice of one period is in one piece.
    // SAFETY: written once, before anybody reads it.
    nonisolated(unsafe) static let bytes: UnsafeRawPointer = {
        var random = SimulationRandom(seed: 42)
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: 2 * period, alignment: 16)
        for at in stride(from: 0, to: period, by: 8) {
            bytes.storeBytes(of: random.next(), toByteOffset: at, as: UInt64.self)
        }
        memcpy(bytes + period, bytes, period)
        return UnsafeRawPointer(bytes)
    }()

    static func slice(_ id: Int, _ offset: Int) -> UnsafeRawPointer {
        self.bytes + (id &* 7919 &+ offset) % self.period
    }

    static let headerBytes = 4
}

/// One connection of a client application and of the server behind it, and what each has seen.
final class Conversation {
    enum Server { case echoes, speaksFirst, resets, closesEarly }

    let id: Int
    /// Bytes that the client sends, header included.
    let total: Int
    let kind: Server
    var client: VirtualSocket?
    var server: VirtualSocket?
    /// Wants to be reset by its own application.
    var clientResets = false

    private(set) var clientSent = 0
    private(set) var clientReceived = 0
    private(set) var clientFinished = false
    private var clientSawEnd = false
    private(set) var isOver = false
    /// The client read the end, in order.
    private(set) var endedCleanly = false
    private(set) var serverReceived = 0
    private(set) var serverSent = 0
    private(set) var serverSawEnd = false
    private(set) var serverFinished = false
    private(set) var serverClosed = false
    var hasServer = false

    init(id: Int, total: Int, kind: Server) {
        self.id = id
        self.total = max(total, Pattern.headerBytes)
        self.kind = kind
    }

    struct Violation: Error, CustomStringConvertible { var description: String }

    private func broken(_ text: String) -> Violation {
        Violation(
            description:
                "connection \(self.id) (\(self.kind)): \(text); client sent \(self.clientSent) of \(self.total) "
                + "received \(self.clientReceived), server received \(self.serverReceived) sent \(self.serverSent)")
    }

    // MARK: Client

    /// Does one thing; false when there was nothing to do.
    func clientStep(_ network: VirtualNetwork, chunk: Int) throws -> Bool {
        guard let socket = self.client, !self.isOver, !socket.isConnecting else { return false }
        if self.clientResets, self.clientSent * 2 > self.total {
            socket.resetsOnClose = true
            self.endClient(network)
            return true
        }
        if self.clientSent < self.total, socket.space > 0 || socket.isBroken {
            let count = min(chunk, self.total - self.clientSent)
            switch self.write(socket, network, offset: self.clientSent, count) {
            case .moved(let moved): self.clientSent += moved
            case .failed: self.endClient(network)
            case .wouldBlock, .ended: return false
            }
            return true
        }
        if self.clientSent == self.total, !self.clientFinished {
            self.clientFinished = true
            network.finish(socket)
            if self.clientSawEnd { self.endClient(network) }
            return true
        }
        guard !self.clientSawEnd, !socket.readiness.isDisjoint(with: .readable) else { return false }
        switch try self.readBack(socket, network, chunk) {
        case .moved: break
        case .ended:
            self.endedCleanly = true
            self.clientSawEnd = true
            try self.judgeClientEnd()
            // Refused, or heard out: a client that still has something to say says it.
            if self.clientFinished || self.clientReceived == 0 { self.endClient(network) }
        case .failed: self.endClient(network)
        case .wouldBlock: return false
        }
        return true
    }

    private func endClient(_ network: VirtualNetwork) {
        self.isOver = true
        if let socket = self.client { network.close(socket) }
        self.client = nil
    }

    /// A clean end promises that everything arrived. Before a single byte it may also be a refusal.
    private func judgeClientEnd() throws {
        guard self.clientReceived > 0 else { return }
        guard self.hasServer, self.serverFinished || self.serverClosed, self.clientReceived == self.serverSent else {
            throw self.broken("the client saw a clean end although bytes are missing")
        }
    }

    private func readBack(_ socket: VirtualSocket, _ network: VirtualNetwork, _ chunk: Int) throws -> IOResult {
        try withUnsafeTemporaryAllocation(byteCount: chunk, alignment: 8) { buffer in
            var vector = iovec(iov_base: buffer.baseAddress, iov_len: chunk)
            let result = withUnsafePointer(to: &vector) {
                network.read(socket, into: UnsafeBufferPointer(start: $0, count: 1))
            }
            if case .moved(let count) = result {
                guard self.clientReceived + count <= self.serverSent,
                    memcmp(buffer.baseAddress!, Pattern.slice(self.id, self.clientReceived), count) == 0
                else { throw self.broken("the client received bytes that its server did not send") }
                self.clientReceived += count
            }
            return result
        }
    }

    private func write(_ socket: VirtualSocket, _ network: VirtualNetwork, offset: Int, _ count: Int) -> IOResult {
        var header = UInt32(self.id)
        let isHeader = socket === self.client && offset < Pattern.headerBytes
        return withUnsafeBytes(of: &header) { header in
            let from = isHeader ? header.baseAddress! + offset : Pattern.slice(self.id, offset)
            let length = isHeader ? min(count, Pattern.headerBytes - offset) : count
            // SAFETY: nobody writes through the pointer.
            var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: from), iov_len: length)
            return withUnsafePointer(to: &vector) {
                network.write(socket, from: UnsafeBufferPointer(start: $0, count: 1))
            }
        }
    }

    // MARK: Server

    /// The bytes behind the header of a connection that the server has just read.
    func attach(_ socket: VirtualSocket) throws {
        guard self.server == nil, !self.hasServer else { throw self.broken("its server was connected twice") }
        self.server = socket
        self.hasServer = true
        self.serverReceived = Pattern.headerBytes
    }

    /// What the server answers in all.
    private var answerBytes: Int {
        switch self.kind {
        case .echoes: self.serverReceived
        case .speaksFirst: self.total
        case .resets, .closesEarly: self.serverReceived / 2
        }
    }

    func serverStep(_ network: VirtualNetwork, chunk: Int) throws -> Bool {
        guard let socket = self.server, !self.serverClosed else { return false }
        let givesUp = self.kind == .resets || self.kind == .closesEarly
        if givesUp, self.serverReceived * 2 > self.total {
            socket.resetsOnClose = self.kind == .resets
            self.endServer(network)
            return true
        }
        if self.serverSent < self.answerBytes, socket.space > 0 || socket.isBroken, !self.serverFinished {
            switch self.write(socket, network, offset: self.serverSent, min(chunk, self.answerBytes - self.serverSent))
            {
            case .moved(let moved): self.serverSent += moved
            case .failed: self.endServer(network)
            case .wouldBlock, .ended: return false
            }
            return true
        }
        let saidAll = self.serverSent == self.answerBytes && (self.kind == .speaksFirst || self.serverSawEnd)
        if saidAll, !self.serverFinished, !givesUp {
            self.serverFinished = true
            network.finish(socket)
            if self.serverSawEnd { self.endServer(network) }
            return true
        }
        if self.serverSawEnd {
            guard self.serverFinished || givesUp else { return false }
            self.endServer(network)
            return true
        }
        // An echo does not read ahead without end.
        guard self.serverReceived - self.serverSent < 100_000, !socket.readiness.isDisjoint(with: .readable) else {
            return false
        }
        return try self.serverReads(socket, network, chunk)
    }

    private func serverReads(_ socket: VirtualSocket, _ network: VirtualNetwork, _ chunk: Int) throws -> Bool {
        try withUnsafeTemporaryAllocation(byteCount: chunk, alignment: 8) { buffer in
            var vector = iovec(iov_base: buffer.baseAddress, iov_len: chunk)
            let result = withUnsafePointer(to: &vector) {
                network.read(socket, into: UnsafeBufferPointer(start: $0, count: 1))
            }
            switch result {
            case .moved(let count):
                guard self.serverReceived + count <= self.clientSent,
                    memcmp(buffer.baseAddress!, Pattern.slice(self.id, self.serverReceived), count) == 0
                else { throw self.broken("the server received bytes that its client did not send") }
                self.serverReceived += count
            case .ended:
                guard self.clientFinished, self.serverReceived == self.clientSent else {
                    throw self.broken("the server saw a clean end although bytes are missing")
                }
                self.serverSawEnd = true
            case .failed: self.endServer(network)
            case .wouldBlock: return false
            }
            return true
        }
    }

    private func endServer(_ network: VirtualNetwork) {
        self.serverClosed = true
        if let socket = self.server { network.close(socket) }
        self.server = nil
    }

    /// Everything there was to say was said and heard.
    var isComplete: Bool {
        self.endedCleanly && self.clientReceived == self.serverSent && self.serverSent == self.total
            && self.serverReceived == self.total
    }

    func giveUp(_ network: VirtualNetwork) {
        if self.client != nil { self.endClient(network) }
        if self.server != nil { self.endServer(network) }
    }

    func violation(_ text: String) -> Violation { self.broken(text) }
}
