import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// Envoy as the peer: as the client of our HBONE port, and as the server of our tunnels.
@Suite(
    "With Envoy at the other end", .serialized, .timeLimit(.minutes(5)),
    .enabled(if: Envoy.path != nil, "SKIPPED: NO ENVOY. Run scripts/prepare.sh, or set ENVOY_BIN to an Envoy program."))
struct EnvoyInteropTests {
    // MARK: Envoy dials our HBONE port

    /// Envoy in front of the server of `pods`.
    private func client(
        _ pods: TwoPods, _ ca: TestCA, target: UInt16, identity: WorkloadIdentity = TwoPods.clientIdentity
    ) async throws -> Envoy {
        try await Envoy.client(
            ca.issue(identity), authority: "127.0.0.1:\(target)", peer: pods.serverPorts.inboundTunnel)
    }

    @Test("Envoy dials us: bytes intact, half-close and many connections")
    func envoyIsClient() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, ca: ca)
        let envoy = try await self.client(pods, ca, target: echo.port)
        try await self.exchange { try BlockingSocket.connect(port: envoy.port) }
        let log = await pods.serverObserver.wait { $0.closed.count >= 21 && $0.open.isEmpty }
        #expect(log.closed.allSatisfy { $0.end.error == nil && $0.record.peerIdentity == TwoPods.clientIdentity })
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("Envoy dials us: a refused CONNECT ends its client's connection, and the tunnel lives on")
    func envoyIsRefused() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(
            target: echo.port, ca: ca,
            admit: { _ in .refuse(status: 401, RefusalReason(.deny, "denied by test"), labels: Labels()) })
        let envoy = try await self.client(pods, ca, target: echo.port)
        for count in 1...3 {
            try await self.expectClosed { try BlockingSocket.connect(port: envoy.port) }
            let log = await pods.serverObserver.wait { $0.closed.count >= count }
            #expect(log.closed.allSatisfy { $0.end.flag == .deny })
        }
        #expect(pods.server.statistics.inboundHandshakes == 1)
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("Envoy dials us: nobody listens at the target")
    func envoyFindsNobody() async throws {
        let ca = try TestCA()
        let nobody = try ReservedPort()
        let pods = try TwoPods(target: nobody.port, ca: ca)
        let envoy = try await self.client(pods, ca, target: nobody.port)
        try await self.expectClosed { try BlockingSocket.connect(port: envoy.port) }
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.flag == .connect)
        withExtendedLifetime(nobody) {}
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("Envoy dials us with another trust domain's certificate: no stream is served")
    func envoyIsForeign() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, ca: ca)
        let foreign = WorkloadIdentity(trustDomain: "other.example", namespace: "default", serviceAccount: "client")
        let envoy = try await self.client(pods, ca, target: echo.port, identity: foreign)
        try await self.expectClosed { try BlockingSocket.connect(port: envoy.port) }
        let refusal = try await pods.serverObserver.firstRefused()
        #expect(refusal.flag == .identityError)
        await envoy.stop()
        let logs = await pods.stop()
        #expect(logs.server.opened.isEmpty)
    }

    @Test("Envoy dials us: a reset application ends the client's connection at once")
    func resetBehindUs() async throws {
        let ca = try TestCA()
        let server = try BlockingServer { socket in
            _ = try? socket.receive(exactly: 1)
            socket.resetOnClose()
        }
        let pods = try TwoPods(target: server.port, ca: ca)
        let envoy = try await self.client(pods, ca, target: server.port)
        try await self.expectClosed { try BlockingSocket.connect(port: envoy.port) }
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.error?.contains("application's connection broke") == true)
        await envoy.stop()
        _ = await pods.stop()
    }

    // MARK: We dial Envoy's HBONE port

    /// A client whose tunnels end at `envoy`; `target` is the CONNECT authority.
    private func pods(
        _ envoy: Envoy, _ ca: TestCA, target: UInt16, clientIdentity: WorkloadIdentity = TwoPods.clientIdentity
    ) throws -> TwoPods {
        let peer = IPEndpoint(address: TwoPods.loopback, port: envoy.port)
        return try TwoPods(
            target: target, clientIdentity: clientIdentity, ca: ca,
            route: { _, ours in
                var route = ours
                route.peer = peer
                return .tunnel(route)
            })
    }

    @Test("we dial Envoy: bytes intact, half-close and many connections in one tunnel")
    func envoyIsServer() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let envoy = try await Envoy.server(ca.issue(TwoPods.serverIdentity))
        let pods = try self.pods(envoy, ca, target: echo.port)
        try await self.exchange { try pods.connect() }
        let log = await pods.clientObserver.wait { $0.closed.count >= 21 && $0.open.isEmpty }
        #expect(log.closed.allSatisfy { $0.end.error == nil && $0.record.peerIdentity == TwoPods.serverIdentity })
        #expect(pods.client.statistics.outboundHandshakes == 1)
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("we dial Envoy: 150 open connections respect its limit of 100 streams")
    func streamLimit() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let envoy = try await Envoy.server(ca.issue(TwoPods.serverIdentity))
        let pods = try self.pods(envoy, ca, target: echo.port)
        let sockets = try await offThread {
            try (0..<150).map { index in
                let socket = try pods.connect()
                try socket.send([UInt8(index)])
                let answer = try socket.receive(exactly: 1)
                #expect(answer == [UInt8(index)])
                return socket
            }
        }
        #expect(pods.client.statistics.outboundHandshakes == 2)
        for socket in sockets { socket.finishWriting() }
        let log = await pods.clientObserver.wait { $0.closed.count >= 150 }
        #expect(log.closed.allSatisfy { $0.end.error == nil })
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("we dial Envoy: its 503 for a target that nobody listens at is in the log")
    func nobodyBehindEnvoy() async throws {
        let ca = try TestCA()
        let nobody = try ReservedPort()
        let envoy = try await Envoy.server(ca.issue(TwoPods.serverIdentity))
        let pods = try self.pods(envoy, ca, target: nobody.port)
        try await self.expectClosed { try pods.connect() }
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.flag == .connect)
        #expect(end.end.error?.contains("http status: 503") == true)
        withExtendedLifetime(nobody) {}
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("we dial Envoy: a reset application behind it resets our client")
    func resetBehindEnvoy() async throws {
        let ca = try TestCA()
        let server = try BlockingServer { socket in
            _ = try? socket.receive(exactly: 1)
            socket.resetOnClose()
        }
        let envoy = try await Envoy.server(ca.issue(TwoPods.serverIdentity))
        let pods = try self.pods(envoy, ca, target: server.port)
        await #expect(throws: BlockingSocket.Failure.self) {
            try await offThread {
                let socket = try pods.connect()
                try socket.send([1])
                _ = try socket.receiveToEnd()
            }
        }
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.error?.contains("CONNECT_ERROR") == true)
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("Envoy refuses our certificate of another trust domain: the client is closed, and the log says why")
    func weAreForeign() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let envoy = try await Envoy.server(ca.issue(TwoPods.serverIdentity))
        let foreign = WorkloadIdentity(trustDomain: "other.example", namespace: "default", serviceAccount: "client")
        let pods = try self.pods(envoy, ca, target: echo.port, clientIdentity: foreign)
        try await self.expectClosed { try pods.connect() }
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.error != nil)
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("Envoy dies and comes back: its streams end, the next connection has a new tunnel")
    func envoyRestarts() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let envoy = try await Envoy.server(ca.issue(TwoPods.serverIdentity))
        let pods = try self.pods(envoy, ca, target: echo.port)
        let socket = try pods.connect()
        let answer = try await offThread {
            try socket.send([7])
            return try socket.receive(exactly: 1)
        }
        #expect(answer == [7])
        await envoy.stop()
        _ = try await pods.clientObserver.firstClosed()
        let next = try await Envoy.server(ca.issue(TwoPods.serverIdentity), at: envoy.reserved)
        let again = try await offThread {
            let socket = try pods.connect()
            try socket.send([8])
            return try socket.receive(exactly: 1)
        }
        #expect(again == [8])
        #expect(pods.client.statistics.outboundHandshakes == 2)
        await next.stop()
        _ = await pods.stop()
    }

    // MARK: Exchanges

    /// 8 MB through one connection, then twenty short ones.
    private func exchange(_ connect: @escaping @Sendable () throws -> BlockingSocket) async throws {
        let sent = patternBytes(8 << 20, seed: 21)
        let socket = try connect()
        async let received = offThread { try socket.receiveToEnd() }
        try await offThread {
            try socket.send(sent)
            socket.finishWriting()
        }
        let isIntact = try await received == sent
        #expect(isIntact)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for seed in 0..<20 as Range<UInt64> {
                group.addTask {
                    try await offThread {
                        let socket = try connect()
                        let bytes = patternBytes(5_000, seed: seed)
                        try socket.send(bytes)
                        socket.finishWriting()
                        return try socket.receiveToEnd() == bytes
                    }
                }
            }
            for try await isIntact in group { #expect(isIntact) }
        }
    }

    /// A byte is sent, and nothing but an end or a reset comes back.
    private func expectClosed(_ connect: @escaping @Sendable () throws -> BlockingSocket) async throws {
        let socket = try connect()
        let received = try? await offThread {
            try socket.send([1])
            return try socket.receiveToEnd()
        }
        #expect(received == nil || received == [])
    }
}
