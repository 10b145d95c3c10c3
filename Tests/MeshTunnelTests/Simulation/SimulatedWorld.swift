import MeshIdentity
import MeshLoop
import MeshModel
import MeshTunnel

/// Two nodes, two pods, some connections and some bad luck, all from one seed: the product's engines on a virtual
/// network and clock.
///
///     client apps ─▶ engine A ═ HBONE ═▶ engine B ─▶ server apps
///
/// Or with a gateway between two networks, and an inner tunnel for each connection:
///
///     client apps ─▶ engine A ═ HBONE ═▶ gateway ── TCP ─▶ engine B ─▶ server apps
///                             ═════════ HBONE ═══════════▶
///
/// Checked: bytes arrive where they belong and as they were, a clean end means that all of them did, nothing waits for
/// ever, each connection is reported once, and in the end every socket, timer, tunnel and pool entry is gone.
final class SimulatedWorld {
    enum Fault {
        case tunnelReset, wireCut, clientReset, certificateFails, policyDenies, serverDrains, clientDrains
        case serverRemoved, clientRemoved, targetSilent, targetGone, wrongIdentity, slowCertificates
        /// Between the two legs of a double HBONE connection.
        case pairBreaks

        static let everywhere: [Fault] = [
            .tunnelReset, .wireCut, .clientReset, .certificateFails, .policyDenies, .serverDrains, .clientDrains,
            .serverRemoved, .clientRemoved, .targetSilent, .targetGone, .wrongIdentity, .slowCertificates,
        ]
    }

    /// Steps without an end are a livelock. 20 000 bytes in the smallest windows, through a gateway, take 70 000.
    static let stepsMax = 120_000
    /// What only one of our own ends can have done to the other: the network loses and cuts, but changes nothing.
    static let ownMistakes = ["HTTP/2 with", "records are missing", "no such record type", "after the handshake"]
    /// Longer than every deadline of the engines together.
    static let patience: UInt64 = 300_000_000_000

    let seed: UInt64
    var random: SimulationRandom
    let network: VirtualNetwork
    var now: UInt64 = 1_000_000_000
    let loops: [EventLoop]
    let client, server: TunnelEngine
    let gateway: TunnelEngine?
    let clientObserver = CountingObserver(), serverObserver = CountingObserver(), gatewayObserver = CountingObserver()
    let serverLoops: Int
    let certificates = LateCertificates()
    var faults: [Fault] = []
    /// The faults that strike in the middle of things.
    var pendingFaults: [Fault] = []
    var conversations: [Conversation] = []
    /// Not connected yet.
    var coming: [Conversation]
    var unidentified: [VirtualSocket] = []
    let target: VirtualSocket
    var drainsLeft = 0
    var trace: UInt64 = 14_695_981_039_346_656_037
    var steps = 0

    static let clientAddress = IPAddress(v4: 0x0a00_0001), serverAddress = IPAddress(v4: 0x0a00_0002)
    static let gatewayEndpoint = IPEndpoint(address: IPAddress(v4: 0x0a00_0003), port: 15009)
    static let gatewayIdentity = WorkloadIdentity(
        trustDomain: "cluster.local", namespace: "default", serviceAccount: "gateway")
    /// A gateway's port is its own: no proxy dials its own ports, and it dials the server's.
    static let tunnelPorts: [UInt16] = [15008, 15009]
    let targetEndpoint = IPEndpoint(address: SimulatedWorld.serverAddress, port: 8080)

    init(seed: UInt64, throughGateway: Bool = false) throws {
        self.seed = seed
        var random = SimulationRandom(seed: seed)
        let network = VirtualNetwork(random: SimulationRandom(seed: random.next()))
        network.capacityMax = 1 << (9 + random.below(8))
        Simulation.kernel = network
        self.network = network
        let loops = (0..<(random.chance(1, of: 4) ? 3 : 2)).map {
            EventLoop(name: "simulated-\($0)", simulated: network, now: 1_000_000_000)
        }
        self.serverLoops = loops.count - 1

        if !random.chance(1, of: 4) {
            for _ in 0...random.below(3) {
                self.faults.append(Fault.everywhere[random.below(Fault.everywhere.count)])
            }
            // Several, under load: one that breaks while the outer tunnel is being filled must not harm its neighbours.
            if throughGateway, random.chance(1, of: 2) {
                self.faults += Array(repeating: .pairBreaks, count: 1 + random.below(4))
            }
        }
        let faults = self.faults
        let impostor = faults.contains(.wrongIdentity)
        let expected = WorkloadIdentity(
            trustDomain: "cluster.local", namespace: "default", serviceAccount: impostor ? "somebody" : "server")

        var configuration = TunnelConfiguration()
        configuration.listenAddress = nil
        configuration.mark = 0
        configuration.keepalive = nil
        configuration.streamsPerTunnelMax = 1 + random.below(5)
        configuration.streamWindowBytes = 1 << (8 + random.below(10))
        configuration.tunnelWindowBytes = 65_536 << random.below(3)
        configuration.idleTunnelTimeout = .seconds([1, 60, 600][random.below(3)])
        configuration.tunnelAgeMax = random.chance(1, of: 8) ? .milliseconds(1 + random.below(5)) : .seconds(3600)
        let usesTunnel = !random.chance(1, of: 16)
        let serverEndpoint = IPEndpoint(address: Self.serverAddress, port: 15008)
        self.client = TunnelEngine(
            configuration: configuration,
            view: throughGateway
                ? SimulatedView(
                    TwoPods.clientIdentity, peer: Self.gatewayEndpoint, expected: [Self.gatewayIdentity],
                    inner: (serverEndpoint, expected))
                : SimulatedView(
                    TwoPods.clientIdentity, peer: serverEndpoint, expected: [expected], usesTunnel: usesTunnel),
            certificates: self.certificates, observer: self.clientObserver, loops: [loops[0]],
            makeContexts: { SimulatedContexts($0.identity) })
        configuration.inboundStreamsMax = 1 + random.below(6)
        configuration.streamWindowBytes = 1 << (8 + random.below(10))
        if throughGateway {
            let loop = EventLoop(name: "simulated-gateway", simulated: network, now: 1_000_000_000)
            var ports = configuration
            ports.ports.inboundTunnel = Self.gatewayEndpoint.port
            self.gateway = TunnelEngine(
                configuration: ports, view: SimulatedView(Self.gatewayIdentity), certificates: self.certificates,
                observer: self.gatewayObserver, loops: [loop], makeContexts: { SimulatedContexts($0.identity) })
            self.gatewayObserver.allowed = [TwoPods.clientIdentity]
            self.loops = loops + [loop]
        } else {
            self.gateway = nil
            self.loops = loops
        }
        self.server = TunnelEngine(
            configuration: configuration, view: SimulatedView(TwoPods.serverIdentity),
            certificates: self.certificates, observer: self.serverObserver, loops: Array(loops.dropFirst()),
            makeContexts: { SimulatedContexts($0.identity) })
        self.clientObserver.allowed = [expected]
        self.serverObserver.allowed = [TwoPods.clientIdentity]

        try self.client.addPod(TwoPods.clientPod, namespace: network.namespace(Self.clientAddress))
        try self.server.addPod(TwoPods.serverPod, namespace: network.namespace(Self.serverAddress))
        try self.gateway?.addPod(
            EnrolledPod(uid: "g", name: "gateway", namespace: "default", serviceAccount: "gateway"),
            namespace: network.namespace(Self.gatewayEndpoint.address))
        self.target = network.listen(self.targetEndpoint)
        if faults.contains(.targetSilent) { network.silent.insert(self.targetEndpoint) }

        let kinds: [Conversation.Server] = [.echoes, .echoes, .echoes, .speaksFirst, .resets, .closesEarly]
        let large = random.chance(1, of: 8) || faults.contains(.pairBreaks)
        self.coming = (0..<(1 + random.below(5))).map { id in
            let conversation = Conversation(
                id: id, total: random.below(large ? 20_000 : 1_200),
                kind: faults.isEmpty ? (id % 3 == 2 ? .speaksFirst : .echoes) : kinds[random.below(kinds.count)])
            conversation.clientResets = faults.contains(.clientReset) && random.chance(1, of: 2)
            return conversation
        }
        let early: [Fault] = [.targetSilent, .wrongIdentity, .clientReset, .slowCertificates, .certificateFails]
        self.pendingFaults = faults.filter { !early.contains($0) }
        self.random = random
    }

    // MARK: The story

    func run() throws {
        defer {
            self.network.tearDown()
            self.certificates.forget()
        }
        try self.go { self.coming.isEmpty && self.conversations.allSatisfy { $0.isOver && !self.isServed($0) } }
        if self.faults.isEmpty {
            if let poor = self.conversations.first(where: { !$0.isComplete }) {
                let errors = self.clientObserver.errors + self.serverObserver.errors + self.gatewayObserver.errors
                throw poor.violation("nothing was in its way and yet it is not complete: \(errors)")
            }
        }
        for conversation in self.conversations { conversation.giveUp(self.network) }
        self.beginDrains([self.client, self.server] + (self.gateway.map { [$0] } ?? []))
        // Between the legs of a double HBONE connection something may still be under way that is nobody's any more.
        try self.go { self.drainsLeft == 0 && !self.network.sockets.values.contains(where: \.isOfPair) }
        try self.judgeEnd()
    }

    func isServed(_ conversation: Conversation) -> Bool { conversation.server != nil }

    func judgeEnd() throws {
        for (name, observer) in [
            ("client", self.clientObserver), ("server", self.serverObserver), ("gateway", self.gatewayObserver),
        ] {
            if let mistake = observer.mistakes.first { throw self.wrong("\(name): \(mistake)") }
            if let error = observer.errors.first(where: { error in Self.ownMistakes.contains { error.contains($0) } }) {
                throw self.wrong("\(name): one of us has sent the other nonsense: \(error)")
            }
            guard observer.open.isEmpty else { throw self.wrong("\(name): connections \(observer.open) never ended") }
        }
        let engines: [(String, TunnelEngine?)] = [
            ("client", self.client), ("server", self.server), ("gateway", self.gateway),
        ]
        for case (let name, let engine?) in engines {
            let statistics = engine.statistics
            guard statistics.openConnections == 0, statistics.inboundTunnels == 0, statistics.outboundTunnels == 0
            else { throw self.wrong("\(name): something is left: \(statistics)") }
        }
        // Certificates that never came may still be waited for; sockets and timers may not.
        if let leaked = self.network.sockets.values.first(where: \.isEngines) {
            throw self.wrong(
                "a socket \(leaked.local) to \(leaked.remote.map(\.description) ?? "nobody") was not closed")
        }
        for loop in self.loops where loop.timerCount > 0 { throw self.wrong("\(loop.timerCount) timers are left") }
    }

    struct Wrong: Error, CustomStringConvertible { var description: String }

    func wrong(_ text: String) -> Wrong { Wrong(description: text) }
}
