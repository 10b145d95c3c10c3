import MeshDirectory
import MeshModel
import MeshProxy
import MeshTelemetry
import MeshTestSupport
import MeshTunnel
import MeshXDS
import Synchronization
import Testing

/// A mesh that is told one destination at a time: what was demanded can be seen, and answered.
private final class DemandedMesh: Sendable {
    private let demands = Mutex<[String]>([])
    private let subscriber = Mutex<@Sendable (MeshSnapshot) -> Void>({ _ in })
    private let held = Mutex<MeshDirectory<MeshSnapshot>?>(nil)
    var directory: MeshDirectory<MeshSnapshot> { self.held.withLock { $0! } }

    /// - Parameter local: pods of this node, which the control plane names without being asked.
    init(local: Workload..., network: String = "") async {
        var settings = RoutingSettings()
        settings.network = network
        settings.demand = { [unowned self] key in self.demands.withLock { $0.append(key) } }
        let directory = MeshDirectory(
            nodeName: "n1", settings: settings,
            flows: FlowTable(TrafficMetrics(MetricsRegistry(), budget: SeriesBudget())),
            published: { [unowned self] snapshot in self.subscriber.withLock { $0 }(snapshot) })
        self.held.withLock { $0 = directory }
        await directory.apply(.addresses(upserted: local.map { .workload($0) }, removed: []))
        await directory.synced()
    }

    func publish(to subscriber: @escaping @Sendable (MeshSnapshot) -> Void) {
        self.subscriber.withLock { $0 = subscriber }
    }

    /// What was demanded since the last call.
    func takeDemands() -> [String] {
        self.demands.withLock { demands in
            defer { demands = [] }
            return demands
        }
    }

    /// The control plane answers, in the client's order: first the store, then the news.
    func answer(_ key: String, _ found: MeshAddress...) async {
        await self.directory.apply(.addresses(upserted: found, removed: found.isEmpty ? [key] : []))
        await self.directory.demandsChanged(answered: [key], forgotten: [])
    }

    func route(_ destination: String) async -> Route {
        Route(
            await self.directory.snapshot.routeOutbound(
                OutboundQuestion(
                    pod: pod("client"), source: IPEndpoint("10.1.0.1:40000")!, destination: IPEndpoint(destination)!)))
    }

    func connect(_ authority: String, at name: String, arrival: String) async -> Admission {
        Admission(
            await self.directory.snapshot.admitInbound(
                InboundQuestion(
                    pod: pod(name), source: IPEndpoint("10.1.0.1:40000")!,
                    local: IPEndpoint(address: IPAddress(arrival)!, port: 15008), identity: nil,
                    via: .hbone(authority: authority, headers: []))))
    }
}

@Suite("Destinations on demand", .timeLimit(.minutes(2)))
struct OnDemandTests {
    private let client = workload("client", "10.1.0.1")

    @Test("X3: a connection waits until the store has its destination, and then goes there")
    func found() async {
        let mesh = await DemandedMesh(local: self.client)
        #expect(await mesh.route("10.1.0.2:80").waits("what /10.1.0.2 is"))
        #expect(mesh.takeDemands() == ["/10.1.0.2"])
        await mesh.answer("/10.1.0.2", .workload(workload("server", "10.1.0.2")))
        #expect(await mesh.route("10.1.0.2:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:80"))
        #expect(mesh.takeDemands().isEmpty)
    }

    @Test("X4: a destination that the control plane does not know is outside the mesh")
    func absent() async {
        let mesh = await DemandedMesh(local: self.client)
        #expect(await mesh.route("192.0.2.1:443").waits("/192.0.2.1"))
        await mesh.answer("/192.0.2.1")
        #expect(await mesh.route("192.0.2.1:443") == .tcp("192.0.2.1:443"))
    }

    @Test("nothing is concluded from a neighbour: a known pod whose address was never asked for is asked for")
    func endpoint() async {
        let mesh = await DemandedMesh(local: self.client)
        #expect(await mesh.route("10.2.0.1:80").waits("/10.2.0.1"))
        await mesh.answer(
            "/10.2.0.1", .service(service("web", "10.2.0.1")),
            .workload(workload("server", "10.1.0.2") { $0.serves("web") }))
        #expect(await mesh.route("10.2.0.1:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:8080"))
        #expect(await mesh.route("10.1.0.2:80").waits("/10.1.0.2"))
    }

    @Test("a waypoint is demanded too, by its name or address, before anything goes past it")
    func waypoint() async {
        let mesh = await DemandedMesh(local: self.client)
        await mesh.answer(
            "/10.2.0.1", .service(service("web", "10.2.0.1") { $0.waypoint = gateway(service: "way") }),
            .workload(workload("server", "10.1.0.2") { $0.serves("web") }))
        _ = mesh.takeDemands()
        #expect(await mesh.route("10.2.0.1:80").waits("ns1/way.ns1.svc.cluster.local"))
        #expect(mesh.takeDemands() == ["ns1/way.ns1.svc.cluster.local"])
        await mesh.answer(
            "ns1/way.ns1.svc.cluster.local", .service(service("way", "10.2.0.9", ports: [15008: 15008])),
            .workload(workload("way", "10.1.0.9") { $0.serves("way", [15008: 15008]) }))
        #expect(await mesh.route("10.2.0.1:80") == .hbone(peer: "10.1.0.9:15008", authority: "10.2.0.1:80"))
    }

    @Test("a pod in front of others asks whom a request is for, and which gateway stands before them")
    func front() async {
        let mesh = await DemandedMesh(local: workload("way", "10.1.0.9"))
        // For itself it need not ask.
        #expect(await mesh.connect("10.1.0.9:80", at: "way", arrival: "10.1.0.9") == .admitted("10.1.0.9:80"))
        #expect(mesh.takeDemands().isEmpty)
        #expect(await mesh.connect("10.1.0.2:80", at: "way", arrival: "10.1.0.9").waits(503, "/10.1.0.2"))
        await mesh.answer(
            "/10.1.0.2", .workload(workload("server", "10.1.0.2") { $0.waypoint = gateway("10.1.0.9") }))
        #expect(await mesh.connect("10.1.0.2:80", at: "way", arrival: "10.1.0.9").waits(503, "/10.1.0.9"))
        await mesh.answer("/10.1.0.9", .workload(workload("way", "10.1.0.9")))
        #expect(await mesh.connect("10.1.0.2:80", at: "way", arrival: "10.1.0.9") == .admitted("10.1.0.9:80"))
        // And of a stranger it is no waypoint.
        #expect(await mesh.connect("10.1.0.3:80", at: "way", arrival: "10.1.0.9").waits(503, "/10.1.0.3"))
        await mesh.answer("/10.1.0.3")
        #expect(await mesh.connect("10.1.0.3:80", at: "way", arrival: "10.1.0.9").isRefused(400))
    }

    @Test("a service by name is demanded under the key that the pod serves it by")
    func named() async {
        let mesh = await DemandedMesh(local: workload("server", "10.1.0.2") { $0.serves("web", namespace: "ns2") })
        let host = "web.ns2.svc.cluster.local"
        #expect(await mesh.connect("\(host):80", at: "server", arrival: "10.1.0.2").waits(503, "ns2/\(host)"))
        await mesh.answer("ns2/\(host)", .service(service("web", "10.2.0.1", namespace: "ns2")))
        #expect(await mesh.connect("\(host):80", at: "server", arrival: "10.1.0.2") == .admitted("10.1.0.2:8080"))
    }

    @Test("what is no longer kept up to date is demanded again; an address that has become nobody's leads nowhere")
    func forgotten() async {
        let mesh = await DemandedMesh(local: self.client)
        await mesh.answer("/10.1.0.2", .workload(workload("server", "10.1.0.2")))
        await mesh.directory.demandsChanged(answered: [], forgotten: ["/10.1.0.2"])
        #expect(await mesh.route("10.1.0.2:80").waits("/10.1.0.2"))
        await mesh.answer("/10.1.0.2")
        #expect(await mesh.route("10.1.0.2:80") == .tcp("10.1.0.2:80"))
    }

    @Test("one destination without an answer keeps no other connection waiting")
    func independent() async throws {
        let loopback = try LoopbackMesh()
        loopback.knowledgeTimeout = .seconds(100)
        let echo = try BlockingServer.echo(address: loopback.network | 2)
        let mesh = await DemandedMesh(local: workload("client", loopback.text(1)), workload("other", loopback.text(3)))
        let view = await mesh.directory.snapshot
        let silent = try loopback.serve(pod("client"), at: 1, dials: IPEndpoint("10.2.0.1:80")!, view)
        let answered = try loopback.serve(pod("other"), at: 3, dials: IPEndpoint("10.2.0.2:80")!, view)
        try loopback.serve(pod("server"), at: 2, dials: IPEndpoint("10.2.0.2:80")!, view)
        let publish = loopback.publisher
        mesh.publish { publish($0) }
        let (clientHost, otherHost) = (loopback.network | 1, loopback.network | 3)
        let waiting = try BlockingSocket.connect(port: silent, address: clientHost)
        let served = try BlockingSocket.connect(port: answered, address: otherHost)
        try served.send([7])
        var demanded: Set<String> = []
        while demanded.count < 2 {
            demanded.formUnion(mesh.takeDemands())
            try await Task.sleep(for: .milliseconds(2))
        }
        #expect(demanded == ["/10.2.0.1", "/10.2.0.2"])
        await mesh.answer(
            "/10.2.0.2", .service(service("web", "10.2.0.2", ports: [80: echo.port])),
            .workload(workload("server", loopback.text(2)) { $0.serves("web", [:]) }))
        let back = try await offThread { try served.receive(exactly: 1) }
        #expect(back == [7])
        served.finishWriting()
        waiting.resetOnClose()
        _ = consume waiting
        _ = await loopback.stop()
    }
}
