import Glibc
import MeshIdentity
import MeshLinux
import MeshModel
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

/// One engine ends while its successor serves the same ports.
@Suite("A hand-over between two engines", .timeLimit(.minutes(3)))
struct HandOverTests {
    /// Issues when its gate is open.
    private final class GatedCertificates: CertificateSource {
        private let certificates: FakeCertificates
        private let gate: Gate
        init(_ ca: TestCA, _ gate: Gate) {
            self.certificates = FakeCertificates(ca)
            self.gate = gate
        }
        func certificate(
            for identity: WorkloadIdentity,
            completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
        ) {
            Task {
                while !self.gate.isOpen { try? await Task.sleep(for: .milliseconds(2)) }
                self.certificates.certificate(for: identity, completion: completion)
            }
        }
    }

    private final class Rounds: Sendable { let count = Atomic(0) }

    private func echoOnce(_ socket: BlockingSocket) async throws -> Bool {
        try await offThread {
            try socket.send([42])
            return try socket.receive(exactly: 1) == [42]
        }
    }

    /// A second engine for the server pod, on the ports of the first.
    private func successor(of pods: TwoPods, _ ca: TestCA, target: UInt16) throws -> TunnelEngine {
        var configuration = TwoPods.configuration(IPEndpoint(address: TwoPods.loopback, port: target))
        configuration.ports = pods.serverPorts
        let engine = try TunnelEngine(
            configuration: configuration, view: FakeView(identity: TwoPods.serverIdentity),
            certificates: FakeCertificates(ca), observer: RecordingObserver())
        try engine.addPod(TwoPods.serverPod, namespace: -1)
        return engine
    }

    @Test("who waits in the backlog when the end begins is served, on whichever loop")
    func backlog() async throws {
        let echo = try BlockingServer.echo()
        let gate = Gate()
        let hasArrived = Gate()
        // The first connection holds its loop, which is the one that accepts, while others come and the end begins.
        let pods = try TwoPods(
            target: echo.port,
            admit: { question in
                if !hasArrived.isOpenElseOpen() { gate.waitUntilOpen() }
                return FakeView.admitAll(question)
            },
            configureServer: { $0.loops = 2 })
        let port = pods.serverPorts.inboundPlaintext
        let first = try BlockingSocket.connect(port: port)
        try await eventually { hasArrived.isOpen }
        let waiting = try (0..<20).map { _ in try BlockingSocket.connect(port: port) }
        async let drained: Void = pods.server.drain(deadline: .seconds(60))
        try await Task.sleep(for: .milliseconds(100))
        gate.open()
        for socket in [first] + waiting {
            #expect(try await self.echoOnce(socket))
            socket.finishWriting()
        }
        await drained
        #expect(pods.serverObserver.log.closed.allSatisfy { $0.end.error == nil })
        await pods.client.drain(deadline: .zero)
    }

    @Test("a tunnel whose handshake is under way when the end begins loses nobody")
    func handshake() async throws {
        let echo = try BlockingServer.echo()
        let ca = try TestCA()
        let gate = Gate()
        let pods = try TwoPods(target: echo.port, clientCertificates: GatedCertificates(ca, gate), ca: ca)
        let socket = try pods.connect()
        try await eventually { pods.server.statistics.inboundTunnels == 1 }
        let successor = try self.successor(of: pods, ca, target: echo.port)
        async let drained: Void = pods.server.drain(deadline: .seconds(60))
        try await Task.sleep(for: .milliseconds(100))
        gate.open()
        #expect(try await self.echoOnce(socket))
        socket.finishWriting()
        await drained
        let log = await pods.clientObserver.wait { $0.closed.count == 1 }
        #expect(log.closed[0].end.error == nil)
        await pods.client.drain(deadline: .zero)
        await successor.drain(deadline: .zero)
    }

    @Test("an application that was accepted in time is carried, and the engine ends with it, not with its idle tunnels")
    func client() async throws {
        let echo = try BlockingServer.echo()
        let ca = try TestCA()
        let gate = Gate()
        let pods = try TwoPods(target: echo.port, clientCertificates: GatedCertificates(ca, gate), ca: ca)
        let socket = try pods.connect()
        try await eventually { pods.client.statistics.outboundTunnels == 1 }
        async let drained: Void = pods.client.drain(deadline: .seconds(600))
        try await Task.sleep(for: .milliseconds(100))
        gate.open()
        #expect(try await self.echoOnce(socket))
        socket.finishWriting()
        await drained
        #expect(pods.clientObserver.log.closed.map(\.end.error) == [nil])
        await pods.server.drain(deadline: .zero)
    }

    @Test("peers move to the successor: every connection of many clients is served while the predecessor ends")
    func many() async throws {
        let echo = try BlockingServer.echo()
        let ca = try TestCA()
        let pods = try TwoPods(target: echo.port, ca: ca, configureServer: { $0.loops = 2 })
        let isOver = Gate()
        let rounds = Rounds()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    try await offThread {
                        while !isOver.isOpen {
                            let socket = try pods.connect()
                            try socket.send([7])
                            #expect(try socket.receive(exactly: 1) == [7])
                            socket.finishWriting()
                            #expect(try socket.receiveToEnd().isEmpty)
                            rounds.count.add(1, ordering: .relaxed)
                        }
                    }
                }
            }
            try await eventually { rounds.count.load(ordering: .relaxed) > 100 }
            let successor = try self.successor(of: pods, ca, target: echo.port)
            await pods.server.drain(deadline: .seconds(60))
            let before = rounds.count.load(ordering: .relaxed)
            try await eventually { rounds.count.load(ordering: .relaxed) > before + 100 }
            isOver.open()
            try await group.waitForAll()
            #expect(pods.serverObserver.log.closed.allSatisfy { $0.end.error == nil })
            #expect(pods.clientObserver.log.closed.allSatisfy { $0.end.error == nil })
            await pods.client.drain(deadline: .zero)
            await successor.drain(deadline: .zero)
        }
    }
}

@Suite("The server's pod leaves the mesh", .timeLimit(.minutes(2)))
struct RemovedServerTests {
    private func carries(_ socket: BlockingSocket) async -> Bool {
        let back = try? await offThread {
            try socket.send([2])
            return try socket.receive(exactly: 1)
        }
        return back == [2]
    }

    @Test("W5: old and new connections of its clients fail on data; TCP connect of the new one still succeeds")
    func removed() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let old = try pods.connect()
        try await offThread {
            try old.send([1])
            #expect(try old.receive(exactly: 1) == [1])
        }
        pods.server.removePod(uid: TwoPods.serverPod.uid)
        _ = await pods.clientObserver.wait { $0.closed.count == 1 }
        #expect(await !self.carries(old))
        let new = try pods.connect()
        #expect(await !self.carries(new))
        _ = await pods.stop()
    }
}

/// Real network namespaces, without names: nothing is left behind.
@Suite(
    "Ports of a pod", .timeLimit(.minutes(2)),
    .enabled(if: geteuid() == 0, "SKIPPED: needs root to make network namespaces"))
struct PodPortTests {
    @Test("Z14: a pod's sockets carry the mark, share their ports with a second engine, and are in its namespace")
    func inspected() async throws {
        let namespace = try await NetworkNamespace.create()
        func engine(
            _ ports: TunnelConfiguration.Ports
        ) async throws -> (TunnelEngine, TunnelConfiguration.Ports) {
            try await KernelThread.perform {
                var configuration = TwoPods.configuration(IPEndpoint(address: TwoPods.loopback, port: 9))
                configuration.mark = 1337
                configuration.ports = ports
                let engine = try TunnelEngine(
                    configuration: configuration, view: FakeView(identity: nil), certificates: NoCertificates(),
                    observer: RecordingObserver())
                return try namespace.namespace.withDescriptor {
                    (engine, try engine.addPod(TwoPods.serverPod, namespace: $0))
                }
            }
        }
        func listeners(_ port: UInt16) async throws -> [Substring] {
            let found = try await namespace.perform { try Program.run(["ss", "-Hltne", "sport = :\(port)"]) }
            try #require(found.exitCode == 0, "\(found.standardError)")
            return found.standardOutput.split(separator: "\n")
        }
        let (first, ports) = try await engine(.init(outbound: 0, inboundPlaintext: 0, inboundTunnel: 0))
        let (second, again) = try await engine(ports)
        #expect(again == ports)
        for port in [ports.outbound, ports.inboundPlaintext, ports.inboundTunnel] {
            let both = try await listeners(port)
            #expect(both.count == 2)
            #expect(both.allSatisfy { $0.contains("fwmark:0x539") }, "\(both)")
        }
        await first.drain(deadline: .zero)
        #expect(try await listeners(ports.outbound).count == 1)
        await second.drain(deadline: .zero)
    }
}
