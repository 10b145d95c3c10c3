import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

@Suite("Tunnels, pods and the end", .timeLimit(.minutes(3)))
struct LifetimeTests {
    /// A connection that has proven to work.
    private func establish(_ pods: TwoPods) async throws -> BlockingSocket {
        try await offThread {
            let socket = try pods.connect()
            try socket.send([1])
            let back = try socket.receive(exactly: 1)
            #expect(back == [1])
            return socket
        }
    }

    @Test("one tunnel carries the streams of one pair; beyond its limit another is opened")
    func limit() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configure: { $0.streamsPerTunnelMax = 3 })
        var open: [BlockingSocket] = []
        for expected in [1, 1, 1, 2, 2, 2, 3] {
            open.append(try await self.establish(pods))
            #expect(pods.client.statistics.outboundHandshakes == UInt64(expected))
        }
        // A stream that ended makes room in the first tunnel.
        open.removeFirst()
        _ = await pods.clientObserver.wait { $0.closed.count == 1 }
        open.append(try await self.establish(pods))
        open.append(try await self.establish(pods))
        #expect(pods.client.statistics.outboundHandshakes == 3)
        _ = await pods.stop()
    }

    @Test("the peer's stream limit is obeyed")
    func peerLimit() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configureServer: { $0.inboundStreamsMax = 2 })
        let open = try await withThrowingTaskGroup(of: BlockingSocket.self) { group in
            for _ in 0..<6 { group.addTask { try await self.establish(pods) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(open.count == 6)
        #expect(pods.client.statistics.outboundTunnels == 3)
        _ = await pods.stop()
    }

    @Test("a tunnel without streams is closed when its time is over; one with a stream stays")
    func idle() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configure: { $0.idleTunnelTimeout = .milliseconds(100) })
        let socket = try await self.establish(pods)
        try await Task.sleep(for: .milliseconds(400))
        #expect(pods.client.statistics.outboundTunnels == 1)
        socket.finishWriting()
        _ = try await pods.clientObserver.firstClosed()
        try await eventually { pods.client.statistics.outboundTunnels == 0 }
        try await eventually { pods.server.statistics.inboundTunnels == 0 }
        _ = await pods.stop()
    }

    @Test("W2: drain: an open connection goes on, a new one is refused, and the engine ends with the open one")
    func drain() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let socket = try await self.establish(pods)
        async let drained: Void = pods.server.drain(deadline: .seconds(60))
        // The listeners are closed first; who comes now is refused by the kernel.
        try await eventually { (try? BlockingSocket.connect(port: pods.serverPorts.inboundTunnel)) == nil }
        try await offThread {
            try socket.send(patternBytes(1 << 20, seed: 5))
            let back = try socket.receive(exactly: 1 << 20)
            #expect(back == patternBytes(1 << 20, seed: 5))
            socket.finishWriting()
            let rest = try socket.receiveToEnd()
            #expect(rest.isEmpty)
        }
        await drained
        let end = pods.serverObserver.log.closed
        #expect(end.count == 1 && end[0].end.error == nil)
        await pods.client.drain(deadline: .zero)
    }

    @Test("W3: drain: what is still open at the deadline is cut, and the log says why")
    func drainDeadline() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let socket = try await self.establish(pods)
        await pods.server.drain(deadline: .milliseconds(50))
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        #expect(pods.serverObserver.log.closed.map(\.end.error) == ["connection closed due to connection drain"])
        await pods.client.drain(deadline: .zero)
    }

    @Test("W5: a removed pod's connections are reset, and its ports are free for the next")
    func removePod() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let socket = try await self.establish(pods)
        pods.server.removePod(uid: TwoPods.serverPod.uid)
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.error?.contains("left the mesh") == true)
        try pods.server.addPod(TwoPods.serverPod, namespace: -1)
        _ = await pods.stop()
    }

    @Test("a pod is served once")
    func twice() async throws {
        let pods = try TwoPods(target: 9)
        #expect(throws: PodStartError.alreadyServed(uid: "s")) {
            try pods.server.addPod(TwoPods.serverPod, namespace: -1)
        }
        _ = await pods.stop()
    }

    @Test("W1: a port that is taken fails the whole pod, with the purpose in the error")
    func taken() async throws {
        let server = try BlockingServer.echo()
        var configuration = TwoPods.configuration(IPEndpoint(address: TwoPods.loopback, port: 9))
        configuration.ports.inboundPlaintext = server.port
        let engine = try TunnelEngine(
            configuration: configuration, view: FakeView(identity: nil), certificates: NoCertificates(),
            observer: RecordingObserver())
        let error = #expect(throws: PodStartError.self) { try engine.addPod(TwoPods.serverPod, namespace: -1) }
        #expect(error?.description.contains("inbound plaintext") == true)
        await engine.drain(deadline: .zero)
    }

    @Test("INPOD_PORT_REUSE=false: nobody else may listen in the pod meanwhile", arguments: [true, false])
    func portReuse(reuses: Bool) async throws {
        func engine(_ change: (inout TunnelConfiguration) -> Void) throws -> TunnelEngine {
            var configuration = TwoPods.configuration(IPEndpoint(address: TwoPods.loopback, port: 9))
            change(&configuration)
            return try TunnelEngine(
                configuration: configuration, view: FakeView(identity: nil), certificates: NoCertificates(),
                observer: RecordingObserver())
        }
        let first = try engine { $0.reusesPorts = reuses }
        let ports = try first.addPod(TwoPods.serverPod, namespace: -1)
        let second = try engine {
            $0.reusesPorts = reuses
            $0.ports.inboundTunnel = ports.inboundTunnel
        }
        if reuses {
            try second.addPod(TwoPods.serverPod, namespace: -1)
        } else {
            #expect(throws: PodStartError.self) { try second.addPod(TwoPods.serverPod, namespace: -1) }
        }
        for engine in [first, second] { await engine.drain(deadline: .zero) }
    }

    @Test("a renewed certificate is used by the next tunnel; the open one stays")
    func renewal() async throws {
        let echo = try BlockingServer.echo()
        let certificates = FakeCertificates(try TestCA())
        let pods = try TwoPods(
            target: echo.port, clientCertificates: certificates, serverCertificates: certificates,
            configure: { $0.streamsPerTunnelMax = 1 })
        let first = try await self.establish(pods)
        #expect(certificates.issued == 2)
        pods.client.certificateRenewed(TwoPods.clientIdentity)
        let second = try await self.establish(pods)
        #expect(certificates.issued == 3)
        try await offThread {
            try first.send([4])
            let back = try first.receive(exactly: 1)
            #expect(back == [4])
        }
        withExtendedLifetime(second) {}
        _ = await pods.stop()
    }

    // MARK: Without a tunnel

    @Test("passthrough: bytes and ends pass in both directions")
    func passthrough() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(
            target: echo.port, route: { question, _ in .passthrough(to: question.destination, labels: Labels()) })
        let sent = patternBytes(5 << 20, seed: 9)
        let socket = try pods.connect()
        async let received = offThread { try socket.receiveToEnd() }
        try await offThread {
            try socket.send(sent)
            socket.finishWriting()
        }
        let isIntact = try await received == sent
        #expect(isIntact)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.record.transport == .tcp)
        #expect(end.end.error == nil && end.end.sent == 5 << 20 && end.end.received == 5 << 20)
        #expect(pods.client.statistics.outboundHandshakes == 0)
        _ = await pods.stop()
    }

    @Test("captured plaintext: admitted is relayed, a stricter view closes it, refused is closed")
    func plaintext() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let socket = try BlockingSocket.connect(port: pods.serverPorts.inboundPlaintext)
        try await offThread {
            try socket.send([7])
            let back = try socket.receive(exactly: 1)
            #expect(back == [7])
        }
        let refusing = FakeView(
            identity: TwoPods.serverIdentity,
            admit: { _ in .refuse(status: 401, RefusalReason(.deny, "denied"), labels: nil) })
        pods.server.publish(refusing)
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.flag == .deny && end.record.transport == .tcp && end.record.peerIdentity == nil)
        let next = try? await offThread {
            try BlockingSocket.connect(port: pods.serverPorts.inboundPlaintext).receiveToEnd()
        }
        #expect(next == nil || next == [])
        let refusal = try await pods.serverObserver.firstRefused()
        #expect(refusal == RefusalReason(.deny, "denied"))
        _ = await pods.stop()
    }
}

/// For what has no event: looks again until it is so; the test's time limit bounds it.
func eventually(_ condition: () -> Bool) async throws {
    while !condition() { try await Task.sleep(for: .milliseconds(2)) }
}
