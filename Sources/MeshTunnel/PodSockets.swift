internal import MeshLoop
internal import MeshModel
internal import Synchronization

/// The listening sockets of a pod, bound inside its namespace; all or none.
struct PodSockets {
    let all: [(kind: Arrival.Kind, socket: Sockets.ListenResult)]
    let ports: TunnelConfiguration.Ports
    /// Own copy of the namespace's descriptor; nil: the process's own namespace.
    let namespace: CInt?
    let maySpoofSource: Bool
    let mark: UInt32

    private typealias Wanted = (kind: Arrival.Kind, port: UInt16, purpose: String)

    init(pod: EnrolledPod, namespace: CInt, configuration: TunnelConfiguration) throws(PodStartError) {
        var own: CInt?
        if namespace >= 0 {
            do { own = try Sockets.duplicate(namespace) } catch {
                throw .namespace(uid: pod.uid, reason: "\(error)")
            }
        }
        // The order of the reference: a peer that reaches 15008 finds the pod served.
        var wanted: [Wanted] = [
            (.tunnel, configuration.ports.inboundTunnel, "HBONE"),
            (.plaintext, configuration.ports.inboundPlaintext, "inbound plaintext"),
            (.outbound, configuration.ports.outbound, "outbound"),
        ]
        if let socks = configuration.ports.socks { wanted.append((.socks, socks, "SOCKS5")) }
        let bound: [(kind: Arrival.Kind, socket: Sockets.ListenResult)]
        do throws(PodStartError) {
            bound = try Self.bind(
                wanted, pod, own, mark: configuration.mark, configuration.sourceSpoofing, configuration)
        } catch {
            if let own { Sockets.closeDescriptor(own) }
            throw error
        }
        self.all = bound
        self.namespace = own
        self.mark = configuration.mark
        self.ports = TunnelConfiguration.Ports(
            outbound: bound[2].socket.port, inboundPlaintext: bound[1].socket.port,
            inboundTunnel: bound[0].socket.port, socks: bound.count > 3 ? bound[3].socket.port : nil)
        self.maySpoofSource = bound.allSatisfy(\.socket.isTransparent)
    }

    /// Of the proxy's own pod: HBONE only, plain sockets.
    init(own pod: EnrolledPod, configuration: TunnelConfiguration) throws(PodStartError) {
        let bound = try Self.bind(
            [(.tunnel, configuration.ports.inboundTunnel, "HBONE")], pod, nil, mark: 0, .off, configuration)
        self.all = bound
        self.namespace = nil
        self.mark = 0
        self.ports = TunnelConfiguration.Ports(
            outbound: configuration.ports.outbound, inboundPlaintext: configuration.ports.inboundPlaintext,
            inboundTunnel: bound[0].socket.port)
        self.maySpoofSource = false
    }

    private static func bind(
        _ wanted: [Wanted], _ pod: EnrolledPod, _ namespace: CInt?, mark: UInt32, _ spoofing: Sockets.Transparency,
        _ configuration: TunnelConfiguration
    ) throws(PodStartError) -> [(kind: Arrival.Kind, socket: Sockets.ListenResult)] {
        var bound: [(kind: Arrival.Kind, socket: Sockets.ListenResult)] = []
        for (kind, port, purpose) in wanted {
            let wildcard = configuration.isIPv6Enabled ? IPAddress(v6High: 0, low: 0) : IPAddress(v4: 0)
            let usual = kind == .socks ? IPAddress(v4: 0x7F00_0001) : wildcard
            var options = Sockets.ListenOptions(
                namespace: namespace,
                local: IPEndpoint(address: configuration.listenAddress ?? usual, port: port))
            options.mark = mark
            options.transparency = spoofing
            options.reusesPort = configuration.reusesPorts
            do {
                bound.append((kind, try Sockets.listen(options)))
            } catch {
                for (_, socket) in bound { Sockets.closeDescriptor(socket.descriptor) }
                throw .listen(uid: pod.uid, purpose: purpose, reason: "\(error)")
            }
        }
        return bound
    }

    /// Closes the listening sockets; the namespace belongs to the pod's handle.
    func close() {
        for (_, socket) in self.all { Sockets.closeDescriptor(socket.descriptor) }
    }
}

/// A connection that was just accepted, on its way to the loop that will carry it. Owns its descriptor.
struct Arrival: Sendable {
    enum Kind: Sendable { case outbound, plaintext, tunnel, socks }

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
