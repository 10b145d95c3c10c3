import Glibc
import MeshLoop
import MeshModel

/// TCP between simulated pods, with the traps of Linux: edges that come once, short writes, RST for bytes that nobody
/// reads, bytes of a closed connection that a RST overtakes, wires that die silently.
final class VirtualNetwork {
    var random: SimulationRandom
    /// Bytes that fit between a writer and its reader.
    var capacityMax = 64 << 10
    /// Where SYN gets no answer.
    var silent: Set<IPEndpoint> = []

    private(set) var sockets: [CInt: VirtualSocket] = [:]
    /// Also those that are closed.
    private var made: [VirtualSocket] = []
    var addresses: [CInt: IPAddress] = [:]
    var listeners: [IPEndpoint: VirtualSocket] = [:]
    private var nextDescriptor = Simulation.firstDescriptor
    private var nextPort: UInt16 = 20_000
    /// Sockets with something on its way.
    private var busy: [VirtualSocket] = []
    /// Sockets of each loop with an event to report.
    private(set) var edged: [ObjectIdentifier: [VirtualSocket]] = [:]

    init(random: SimulationRandom) { self.random = random }

    /// A pod: what is made in it has `address`.
    func namespace(_ address: IPAddress) -> CInt {
        let descriptor = self.take()
        self.addresses[descriptor] = address
        return descriptor
    }

    private func take() -> CInt {
        self.nextDescriptor += 1
        return self.nextDescriptor
    }

    func make(local: IPEndpoint) -> VirtualSocket {
        let capacity = 8 + self.random.below(self.random.chance(1, of: 4) ? 600 : self.capacityMax)
        let socket = VirtualSocket(self.take(), local: local, capacity: capacity)
        self.sockets[socket.descriptor] = socket
        self.made.append(socket)
        return socket
    }

    func socket(_ descriptor: CInt) -> VirtualSocket {
        guard let socket = self.sockets[descriptor] else { preconditionFailure("descriptor \(descriptor) is closed") }
        return socket
    }

    func hasListener(_ endpoint: IPEndpoint) -> Bool { self.listeners[endpoint] != nil }
    func listener(_ endpoint: IPEndpoint) -> VirtualSocket? { self.listeners[endpoint] }

    /// For applications: a listener that no loop watches.
    func listen(_ endpoint: IPEndpoint) -> VirtualSocket {
        let socket = self.make(local: endpoint)
        socket.backlog = []
        self.listeners[endpoint] = socket
        return socket
    }

    /// For applications: connects, by way of the capture listener when `original` says where it was going.
    func connect(from address: IPAddress, to target: IPEndpoint, original: IPEndpoint?) -> VirtualSocket {
        self.nextPort += 1
        let socket = self.make(local: IPEndpoint(address: address, port: self.nextPort))
        socket.remote = target
        socket.original = original
        socket.isConnecting = true
        self.work(socket)
        return socket
    }

    // MARK: The wire

    var hasTraffic: Bool { !self.busy.isEmpty }

    func work(_ socket: VirtualSocket) {
        guard !socket.isBusy, socket.hasSomethingToSend else { return }
        socket.isBusy = true
        self.busy.append(socket)
    }

    /// Lets something of a random socket arrive.
    func deliver() {
        let index = self.random.below(self.busy.count)
        let socket = self.busy[index]
        if socket.hasSomethingToSend { self.deliver(socket) }
        if !socket.hasSomethingToSend {
            socket.isBusy = false
            self.busy.swapAt(index, self.busy.count - 1)
            self.busy.removeLast()
        }
    }

    private func deliver(_ socket: VirtualSocket) {
        if socket.isConnecting { return self.deliverSYN(socket) }
        guard let peer = socket.peer else { return }
        if socket.isResetQueued {
            socket.isResetQueued = false
            socket.isFinDelivered = true
            self.break(peer, ECONNRESET)
        } else if !socket.outbox.isEmpty {
            guard !peer.isClosed else {
                // Nobody reads there: RST comes back, and what was under way the other way is lost.
                peer.outbox.removeAll()
                peer.isFinDelivered = true
                return self.break(socket, ECONNRESET)
            }
            let count = socket.outbox.count
            socket.outbox.move(self.random.chance(1, of: 3) ? 1 + self.random.below(count) : count, to: peer.inbox)
            self.edge(peer)
        } else {
            socket.isFinDelivered = true
            peer.hasSeenFin = true
            self.edge(peer)
        }
    }

    private func deliverSYN(_ socket: VirtualSocket) {
        guard let target = socket.remote, !self.silent.contains(target) else {
            socket.isCut = true
            return
        }
        socket.isConnecting = false
        guard let listener = self.listeners[target] else { return self.break(socket, ECONNREFUSED) }
        let accepted = self.make(local: target)
        accepted.remote = socket.local
        accepted.original = socket.original
        accepted.peer = socket
        socket.peer = accepted
        listener.backlog?.append(accepted)
        self.edge(listener)
        self.edge(socket)
    }

    func `break`(_ socket: VirtualSocket, _ code: CInt) {
        guard !socket.isBroken else { return }
        socket.isBroken = true
        socket.error = code
        socket.outbox.removeAll()
        if !socket.isClosed { self.edge(socket) }
    }

    /// The connection is reset in the middle of the network.
    func lose(_ socket: VirtualSocket) {
        self.break(socket, ECONNRESET)
        if let peer = socket.peer { self.break(peer, ECONNRESET) }
    }

    func cut(_ socket: VirtualSocket) {
        socket.isCut = true
        socket.peer?.isCut = true
    }

    // MARK: Readiness

    func edge(_ socket: VirtualSocket) {
        guard let source = socket.source, !socket.hasEdge else { return }
        socket.hasEdge = true
        self.edged[ObjectIdentifier(source.loop), default: []].append(socket)
    }

    func hasEvents(_ loop: EventLoop) -> Bool { self.edged[ObjectIdentifier(loop)]?.isEmpty == false }

    /// Takes what a loop is told in its next round: all, or some.
    func takeEvents(_ loop: EventLoop) -> [(source: EventSource, readiness: Readiness)] {
        let key = ObjectIdentifier(loop)
        guard let waiting = self.edged[key], !waiting.isEmpty else { return [] }
        let count = self.random.chance(1, of: 3) ? 1 + self.random.below(waiting.count) : waiting.count
        self.edged[key] = Array(waiting[count...])
        var events: [(source: EventSource, readiness: Readiness)] = []
        for socket in waiting[..<count] {
            socket.hasEdge = false
            guard let source = socket.source else { continue }
            let readiness = socket.readiness
            if !readiness.isEmpty { events.append((source, readiness)) }
            if !socket.isEdgeTriggered, !readiness.isEmpty { self.edge(socket) }
        }
        return events
    }

    func watch(_ source: EventSource, edgeTriggered: Bool) {
        let socket = self.socket(source.descriptor)
        socket.source = source
        socket.isEdgeTriggered = edgeTriggered
        if !socket.readiness.isEmpty { self.edge(socket) }
    }

    func unwatch(_ source: EventSource) {
        let socket = self.socket(source.descriptor)
        socket.source = nil
    }

    // MARK: Both

    func finish(_ socket: VirtualSocket) {
        guard !socket.isFinQueued else { return }
        socket.isFinQueued = true
        self.work(socket)
    }

    func close(_ socket: VirtualSocket) {
        precondition(!socket.isClosed, "closed twice")
        socket.isClosed = true
        self.sockets[socket.descriptor] = nil
        if let backlog = socket.backlog {
            self.listeners[socket.local] = nil
            socket.backlog = []
            for waiting in backlog {
                waiting.resetsOnClose = true
                self.close(waiting)
            }
            return
        }
        guard !socket.isConnecting else {
            socket.isCut = true
            return
        }
        if socket.resetsOnClose || !socket.inbox.isEmpty {
            socket.outbox.removeAll()
            socket.isResetQueued = true
        } else {
            socket.isFinQueued = true
        }
        self.work(socket)
    }

    func read(_ socket: VirtualSocket, into vectors: UnsafeBufferPointer<iovec>) -> IOResult {
        if !socket.inbox.isEmpty {
            var moved = 0
            for vector in vectors where !socket.inbox.isEmpty {
                let count = min(vector.iov_len, socket.inbox.count)
                socket.inbox.take(count, into: vector.iov_base)
                moved += count
            }
            if let peer = socket.peer, peer.wantsSpace, peer.space > 0 {
                peer.wantsSpace = false
                self.edge(peer)
            }
            return .moved(moved)
        }
        if socket.error != 0 {
            defer { socket.error = 0 }
            return .failed(socket.error)
        }
        return socket.isBroken || socket.hasSeenFin ? .ended : .wouldBlock
    }

    func write(_ socket: VirtualSocket, from vectors: UnsafeBufferPointer<iovec>) -> IOResult {
        if socket.error != 0 {
            defer { socket.error = 0 }
            return .failed(socket.error)
        }
        if socket.isBroken || socket.isFinQueued { return .failed(EPIPE) }
        guard !socket.isConnecting, socket.space > 0 else {
            socket.wantsSpace = true
            return .wouldBlock
        }
        var moved = 0
        for vector in vectors {
            let count = min(vector.iov_len, socket.space)
            socket.outbox.append(vector.iov_base, count)
            moved += count
            if count < vector.iov_len {
                socket.wantsSpace = true
                break
            }
        }
        self.work(socket)
        return .moved(moved)
    }

    /// Breaks the reference cycles of connections.
    func tearDown() {
        for socket in self.made {
            socket.peer = nil
            socket.source = nil
            socket.backlog = nil
        }
        self.made = []
        self.busy = []
        self.edged = [:]
        self.listeners = [:]
        self.sockets = [:]
    }
}
