import MeshIdentity
import MeshModel
import MeshProxy
import MeshTelemetry
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

/// Routing and tunnel together.
@Suite("Pods that talk through the proxy", .timeLimit(.minutes(2)))
struct LoopbackMeshTests {
    private let sent: [UInt8] = Array("hello".utf8)

    private func exchange(_ address: UInt32, _ port: UInt16) async throws -> [UInt8] {
        let sent = self.sent
        return try await offThread {
            let socket = try BlockingSocket.connect(port: port, address: address)
            try socket.send(sent)
            socket.finishWriting()
            return try socket.receiveToEnd()
        }
    }

    @Test("a service's connection reaches a pod, and both sides log who it was")
    func plainService() async throws {
        let mesh = try LoopbackMesh()
        let echo = try BlockingServer.echo(address: mesh.network | 2)
        var world = World()
        world.add(workload("client", mesh.text(1)), workload("server", mesh.text(2)) { $0.serves("web", [:]) })
        world.add(service("web", "10.2.0.1", ports: [80: echo.port]))
        let port = try mesh.serve(pod("client"), at: 1, dials: IPEndpoint("10.2.0.1:80")!, world.snapshot)
        try mesh.serve(pod("server"), at: 2, dials: IPEndpoint("10.2.0.1:80")!, world.snapshot)
        #expect(try await self.exchange(mesh.network | 1, port) == self.sent)
        let lines = await mesh.stop()
        #expect(lines.count == 2 && lines.allSatisfy { $0.contains("connection complete") && !$0.contains("error=") })
        #expect(lines.allSatisfy { $0.contains("dst.identity=\"spiffe://cluster.local/ns/ns1/sa/server\"") })
    }

    @Test("W8: through a gateway; the log shows its address, the service by name, and the real server")
    func doubleHBONE() async throws {
        let mesh = try LoopbackMesh()
        let echo = try BlockingServer.echo(address: mesh.network | 2)
        // What the client's cluster knows: a count of endpoints behind a gateway.
        var here = World()
        here.settings.network = "here"
        here.add(
            workload("client", mesh.text(1)) { $0.network = "here" },
            workload("behind") {
                $0.network = "there"
                $0.networkGateway = gateway(mesh.text(3), port: 15009, network: "there")
                $0.serves("web", [:])
            },
            workload("gateway", mesh.text(3)) { $0.network = "there" })
        func web(_ network: String) -> Service {
            service("web", ports: [80: echo.port]) {
                $0.addresses = [NetworkAddress(network: network, address: IPAddress("10.2.0.1")!)]
                $0.subjectAltNames = ["spiffe://cluster.local/ns/ns1/sa/server"]
            }
        }
        here.add(web("here"))
        // And the server's.
        var there = World()
        there.settings.network = "there"
        there.add(
            workload("server", mesh.text(2)) {
                $0.network = "there"
                $0.serves("web", [:])
            })
        there.add(web("there"))
        let port = try mesh.serve(pod("client"), at: 1, dials: IPEndpoint("10.2.0.1:80")!, here.snapshot)
        try mesh.serve(pod("server"), at: 2, dials: IPEndpoint("10.2.0.1:80")!, there.snapshot)
        try mesh.serve(
            pod("gateway"), at: 3, tunnelPort: 15009, dials: IPEndpoint("10.2.0.1:80")!,
            GatewayView(
                try WorkloadIdentity(spiffe: "spiffe://cluster.local/ns/ns1/sa/gateway"),
                target: IPEndpoint(address: mesh.address(2), port: 15008)))
        #expect(try await self.exchange(mesh.network | 1, port) == self.sent)
        let lines = await mesh.stop()
        let outbound = try #require(lines.first { $0.contains("direction=\"outbound\"") })
        #expect(outbound.contains("dst.addr=\(mesh.text(3)):15009 "))
        #expect(outbound.contains("dst.hbone_addr=web.ns1.svc.cluster.local:80 "))
        #expect(outbound.contains("dst.workload=\"server\""))
        #expect(outbound.contains("dst.identity=\"spiffe://cluster.local/ns/ns1/sa/server\""))
        #expect(!outbound.contains("error="))
        // The server's side knows the client by its certificate and its baggage: its address is the gateway's.
        let inbound = try #require(lines.first { $0.contains("direction=\"inbound\"") && $0.contains("dst.service") })
        #expect(inbound.contains("src.identity=\"spiffe://cluster.local/ns/ns1/sa/client\""))
        #expect(inbound.contains("src.workload=\"client\""))
    }

    @Test("I14: a client of another trust domain is refused in the handshake; its application sees a reset")
    func otherTrustDomain() async throws {
        let mesh = try LoopbackMesh()
        let echo = try BlockingServer.echo(address: mesh.network | 2)
        var world = World()
        world.add(
            workload("client", mesh.text(1)) { $0.trustDomain = "other.example" }, workload("server", mesh.text(2)))
        let destination = IPEndpoint(address: mesh.address(2), port: echo.port)
        let port = try mesh.serve(pod("client"), at: 1, dials: destination, world.snapshot)
        try mesh.serve(pod("server"), at: 2, dials: destination, world.snapshot)
        let network = mesh.network
        let error = await #expect(throws: BlockingSocket.Failure.self) {
            try await offThread { try BlockingSocket.connect(port: port, address: network | 1).receiveToEnd() }
        }
        #expect(error?.isReset == true)
        let lines = await mesh.stop()
        #expect(lines.contains { $0.contains("connection failed") && $0.contains("not of trust domain cluster.local") })
        #expect(lines.contains { $0.contains("direction=\"outbound\"") && $0.contains("error=") })
        #expect(!lines.contains { $0.contains("direction=\"inbound\"") && $0.contains("connection complete") })
    }

    @Test("I15: a waypoint that is an application with a tunnel of its own: bytes pass through it to the server")
    func sandwich() async throws {
        let mesh = try LoopbackMesh()
        let echo = try BlockingServer.echo(address: mesh.network | 2)
        let server = IPEndpoint(address: mesh.address(2), port: echo.port)
        let waypointPort = Box<UInt16>()
        let network = mesh.network
        // The waypoint's application: whatever comes in goes out again, captured as any pod's traffic.
        let application = try BlockingServer(address: mesh.network | 9) { downstream in
            guard let port = waypointPort.value,
                let upstream = try? BlockingSocket.connect(port: port, address: network | 9),
                let request = try? downstream.receiveToEnd()
            else { return }
            try? upstream.send(request)
            upstream.finishWriting()
            guard let answer = try? upstream.receiveToEnd() else { return downstream.resetOnClose() }
            try? downstream.send(answer)
            downstream.finishWriting()
        }
        var world = World()
        world.add(
            workload("client", mesh.text(1)), workload("server", mesh.text(2)) { $0.serves("web", [:]) },
            workload("waypoint", mesh.text(9)) {
                $0.applicationTunnel = ApplicationTunnel(handoff: .none, port: application.port)
            })
        world.add(service("web", "10.2.0.1", ports: [80: echo.port]) { $0.waypoint = gateway(mesh.text(9)) })
        let port = try mesh.serve(pod("client"), at: 1, dials: IPEndpoint("10.2.0.1:80")!, world.snapshot)
        waypointPort.value = try mesh.serve(pod("waypoint"), at: 9, dials: server, world.snapshot)
        try mesh.serve(pod("server"), at: 2, dials: server, world.snapshot)
        #expect(try await self.exchange(mesh.network | 1, port) == self.sent)
        let lines = await mesh.stop()
        #expect(
            lines.contains { $0.contains("dst.hbone_addr=10.2.0.1:80") && $0.contains("dst.workload=\"waypoint\"") })
        #expect(
            lines.contains {
                $0.contains("src.workload=\"waypoint\"") && $0.contains("dst.hbone_addr=\(server)")
                    && $0.contains("outbound")
            })
    }

    @Test("I18: a captured client scrapes the proxy's metrics through the mesh; both lines name the proxy's identity")
    func ownMetrics() async throws {
        let mesh = try LoopbackMesh()
        let registry = MetricsRegistry()
        registry.addProcessMetrics(component: "ztunnel", tag: "test")
        let stats = try BlockingServer(address: mesh.network | 5) { socket in
            guard (try? socket.receive())?.starts(with: Array("GET /metrics ".utf8)) == true else { return }
            try? socket.send("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\(registry.openMetrics())".utf8)
            socket.finishWriting()
        }
        var world = World()
        world.add(
            workload("client", mesh.text(1)), workload("ztunnel", mesh.text(5), namespace: "istio-system"))
        let destination = IPEndpoint(address: mesh.address(5), port: stats.port)
        let port = try mesh.serve(pod("client"), at: 1, dials: destination, world.snapshot)
        try mesh.serveSelf(pod("ztunnel", "istio-system"), at: 5, world.snapshot)
        let network = mesh.network
        let answer = try await offThread {
            let socket = try BlockingSocket.connect(port: port, address: network | 1)
            try socket.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".utf8)
            return String(decoding: try socket.receiveToEnd(), as: UTF8.self)
        }
        #expect(answer.hasPrefix("HTTP/1.1 200 OK") && answer.contains("istio_build{"))
        let lines = await mesh.stop()
        #expect(lines.count == 2)
        #expect(
            lines.allSatisfy { $0.contains("dst.identity=\"spiffe://cluster.local/ns/istio-system/sa/ztunnel\"") })
    }

    @Test("L12: a pod that xDS knows a moment after its first connection is served")
    func lateWorkload() async throws {
        let mesh = try LoopbackMesh()
        let echo = try BlockingServer.echo(address: mesh.network | 2)
        let destination = IPEndpoint(address: mesh.address(2), port: echo.port)
        var world = World()
        world.add(workload("server", mesh.text(2)))
        let port = try mesh.serve(pod("client"), at: 1, dials: destination, world.snapshot)
        try mesh.serve(pod("server"), at: 2, dials: destination, world.snapshot)
        let network = mesh.network
        async let answer = self.exchange(network | 1, port)
        try await Task.sleep(for: .milliseconds(100))
        world.add(workload("client", mesh.text(1)))
        mesh.publish(world.snapshot)
        #expect(try await answer == self.sent)
        let lines = await mesh.stop()
        #expect(!lines.contains { $0.contains("connection failed") })
    }
}

/// Filled by the test before it is read.
final class Box<Value: Sendable>: Sendable {
    private let stored = Mutex<Value?>(nil)
    var value: Value? {
        get { self.stored.withLock { $0 } }
        set { self.stored.withLock { $0 = newValue } }
    }
}
