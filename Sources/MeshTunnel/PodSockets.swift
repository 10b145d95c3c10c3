internal import MeshLoop
internal import MeshModel
internal import Synchronization

/// The three listening sockets of a pod, bound inside its namespace; all or none.
struct PodSockets {
    let all: [(kind: Arrival.Kind, socket: Sockets.ListenResult)]
    let ports: TunnelConfiguration.Ports
    /// Own copy of the namespace's descriptor; nil: the process's own namespace.
    let namespace: CInt?
    let maySpoofSource: Bool

    init(pod: EnrolledPod, namespace: CInt, configuration: TunnelConfiguration) throws(PodStartError) {
        var own: CInt?
        if namespace >= 0 {
            do { own = try Sockets.duplicate(namespace) } catch {
                throw .namespace(uid: pod.uid, reason: "\(error)")
            }
        }
        // The order of the reference: a peer that reaches 15008 finds the pod served.
        let wanted: [(Arrival.Kind, UInt16, String)] = [
            (.tunnel, configuration.ports.inboundTunnel, "HBONE"),
            (.plaintext, configuration.ports.inboundPlaintext, "inbound plaintext"),
            (.outbound, configuration.ports.outbound, "outbound"),
        ]
        var bound: [(kind: Arrival.Kind, socket: Sockets.ListenResult)] = []
        for (kind, port, purpose) in wanted {
            let wildcard = configuration.isIPv6Enabled ? IPAddress(v6High: 0, low: 0) : IPAddress(v4: 0)
            var options = Sockets.ListenOptions(
                namespace: own,
                local: IPEndpoint(address: configuration.listenAddress ?? wildcard, port: port))
            options.mark = configuration.mark
            options.transparency = configuration.sourceSpoofing
            do {
                bound.append((kind, try Sockets.listen(options)))
            } catch {
                for (_, socket) in bound { Sockets.closeDescriptor(socket.descriptor) }
                if let own { Sockets.closeDescriptor(own) }
                throw .listen(uid: pod.uid, purpose: purpose, reason: "\(error)")
            }
        }
        self.all = bound
        self.namespace = own
        self.ports = TunnelConfiguration.Ports(
            outbound: bound[2].socket.port, inboundPlaintext: bound[1].socket.port,
            inboundTunnel: bound[0].socket.port)
        self.maySpoofSource = bound.allSatisfy(\.socket.isTransparent)
    }

    /// Closes the listening sockets; the namespace belongs to the pod's handle.
    func close() {
        for (_, socket) in self.all { Sockets.closeDescriptor(socket.descriptor) }
    }
}

/// A connection that was just accepted, on its way to the loop that will carry it. Owns its descriptor.
struct Arrival: Sendable {
    enum Kind: Sendable { case outbound, plaintext, tunnel }

    var kind: Kind
    var descriptor: CInt
    var peer: IPEndpoint
    var handle: PodHandle
}

/// How many accepted connections each loop carries.
final class TunnelLoads: Sendable {
    /// The accepting loop keeps a connection unless another carries fewer by this many: handing over costs a wake-up.
    static let imbalanceMax = 1

    private let counts: [Count]
    private final class Count: Sendable { let value = Atomic(0) }

    init(loops: Int) { self.counts = (0..<loops).map { _ in Count() } }

    func choose(preferring own: Int) -> Int {
        var best = own
        var least = self.counts[own].value.load(ordering: .relaxed) - Self.imbalanceMax
        for i in self.counts.indices where i != own {
            let count = self.counts[i].value.load(ordering: .relaxed)
            if count < least {
                best = i
                least = count
            }
        }
        return best
    }

    func add(_ index: Int) { self.counts[index].value.add(1, ordering: .relaxed) }
    func remove(_ index: Int) { self.counts[index].value.subtract(1, ordering: .relaxed) }
}
