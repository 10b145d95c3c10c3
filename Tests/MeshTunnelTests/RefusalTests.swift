import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

@Suite("Connections that must not be", .timeLimit(.minutes(3)))
struct RefusalTests {
    /// Connects, sends a byte, and expects nothing but an end.
    private func expectClosed(_ pods: TwoPods) async throws {
        let received = try? await offThread {
            let socket = try pods.connect()
            try socket.send([1])
            return try socket.receiveToEnd()
        }
        #expect(received == nil || received == [])
    }

    @Test("a client of another trust domain is refused by the server")
    func wrongTrustDomain() async throws {
        let echo = try BlockingServer.echo()
        let foreign = WorkloadIdentity(trustDomain: "other.example", namespace: "default", serviceAccount: "client")
        let pods = try TwoPods(target: echo.port, clientIdentity: foreign)
        try await self.expectClosed(pods)
        let refusal = try await pods.serverObserver.firstRefused()
        #expect(refusal.flag == .identityError)
        #expect(refusal.text.contains("not of trust domain cluster.local"))
        let logs = await pods.stop()
        #expect(logs.server.opened.isEmpty)
        #expect(logs.client.closed.count == 1 && logs.client.mistakes.isEmpty)
    }

    @Test("a peer that proves another identity than the route wants is refused by the client")
    func wrongIdentity() async throws {
        let echo = try BlockingServer.echo()
        let wanted = WorkloadIdentity(trustDomain: "cluster.local", namespace: "default", serviceAccount: "somebody")
        let pods = try TwoPods(target: echo.port, expected: [wanted])
        try await self.expectClosed(pods)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.flag == .identityError)
        #expect(end.end.error?.contains("proved to be \(TwoPods.serverIdentity), wanted one of \(wanted)") == true)
        let logs = await pods.stop()
        #expect(logs.server.opened.isEmpty, "no stream may reach the wrong peer")
    }

    @Test("a certificate of an unknown authority is refused")
    func unknownAuthority() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, serverCertificates: FakeCertificates(TestCA(name: "stranger")))
        try await self.expectClosed(pods)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.flag == .tlsFailure)
        #expect(end.end.error?.contains("not trusted") == true)
        _ = await pods.stop()
    }

    @Test("without a certificate nothing is dialled in the clear")
    func noCertificate() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, clientCertificates: NoCertificates())
        try await self.expectClosed(pods)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.flag == .tlsFailure)
        #expect(end.end.error?.contains("the CA is down") == true)
        _ = await pods.stop()
    }

    @Test("policy refuses a stream with 401, and both sides say so")
    func denied() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(
            target: echo.port,
            admit: { _ in .refuse(status: 401, RefusalReason(.deny, "denied by ns/deny-all"), labels: Labels()) })
        try await self.expectClosed(pods)
        let inbound = try await pods.serverObserver.firstClosed()
        #expect(inbound.end.flag == .deny)
        #expect(inbound.end.error == "denied by ns/deny-all")
        let outbound = try await pods.clientObserver.firstClosed()
        #expect(outbound.end.error?.contains("http status: 401") == true)
        _ = await pods.stop()
    }

    @Test("R14, R16: a stricter view closes live connections; a view that still admits leaves them")
    func policyChange() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let socket = try pods.connect()
        try await offThread {
            try socket.send([1])
            _ = try socket.receive(exactly: 1)
        }
        pods.server.publish(FakeView(identity: TwoPods.serverIdentity))
        try await offThread {
            try socket.send([2])
            let back = try socket.receive(exactly: 1)
            #expect(back == [2])
        }
        pods.server.publish(
            FakeView(
                identity: TwoPods.serverIdentity,
                admit: { _ in .refuse(status: 401, RefusalReason(.deny, "denied"), labels: nil) }))
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.flag == .deny)
        #expect(end.end.error == "connection closed due to policy change")
        // Only the stream: the tunnel lives on.
        #expect(pods.server.statistics.inboundTunnels == 1)
        try await eventually { pods.server.statistics.openConnections == 0 }
        let logs = await pods.stop()
        #expect(logs.server.mistakes.isEmpty)
    }

    @Test("R15: of two connections between the same ends one leaves; the other is still asked about")
    func twins() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let sockets = try [pods.connect(), pods.connect()]
        for socket in sockets {
            try await offThread {
                try socket.send([1])
                _ = try socket.receive(exactly: 1)
            }
        }
        #expect(pods.server.statistics.openConnections == 2)
        try await offThread {
            sockets[0].finishWriting()
            _ = try sockets[0].receiveToEnd()
        }
        try await eventually { pods.server.statistics.openConnections == 1 }
        pods.server.publish(
            FakeView(
                identity: TwoPods.serverIdentity,
                admit: { _ in .refuse(status: 401, RefusalReason(.deny, "denied"), labels: nil) }))
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try sockets[1].receiveToEnd() } }
        try await eventually { pods.server.statistics.openConnections == 0 }
        let logs = await pods.stop()
        #expect(logs.server.mistakes.isEmpty)
    }

    @Test("a target that does not listen: 503, flag CONNECT, and the client is closed")
    func deadTarget() async throws {
        let port = try BlockingServer.echo().port  // closed again
        let pods = try TwoPods(target: port)
        try await self.expectClosed(pods)
        let inbound = try await pods.serverObserver.firstClosed()
        #expect(inbound.end.flag == .connect)
        #expect(inbound.end.error?.contains("is the destination listening") == true)
        let outbound = try await pods.clientObserver.firstClosed()
        #expect(outbound.end.error?.contains("http status: 503") == true)
        _ = await pods.stop()
    }

    @Test("a peer that cannot be reached: the mesh is asked for another endpoint")
    func anotherEndpoint() async throws {
        let echo = try BlockingServer.echo()
        let dead = IPEndpoint(address: IPAddress(v4: 0x7f00_0002), port: 1)
        let asked = Mutex<[[IPAddress]]>([])
        let pods = try TwoPods(
            target: echo.port,
            route: { question, good in
                asked.withLock { $0.append(question.excluding) }
                var route = good
                if question.excluding.isEmpty { route.peer = dead }
                return .tunnel(route)
            })
        let back = try await offThread {
            let socket = try pods.connect()
            try socket.send([5])
            return try socket.receive(exactly: 1)
        }
        #expect(back == [5])
        #expect(asked.withLock { $0 } == [[], [dead.address]])
        let logs = await pods.stop()
        #expect(logs.client.opened.count == 1, "one connection, however many attempts")
    }

    @Test("after the last endpoint the first unreachable peer is named")
    func noOtherEndpoint() async throws {
        let dead = IPEndpoint(address: IPAddress(v4: 0x7f00_0002), port: 1)
        let pods = try TwoPods(
            target: 9,
            route: { _, good in
                var route = good
                route.peer = dead
                return .tunnel(route)
            })
        try await self.expectClosed(pods)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.flag == .connect)
        #expect(end.end.error?.contains("127.0.0.2:1") == true)
        _ = await pods.stop()
    }

    @Test("a connection to one of our own ports would come back: refused")
    func selfCall() async throws {
        let pods = try TwoPods(
            target: 9, configure: { $0.outboundDestination = .redirected })
        // Not redirected, so the "original destination" is the listener itself.
        try await self.expectClosed(pods)
        let refusal = try await pods.clientObserver.firstRefused()
        #expect(refusal.text.contains("recursive call"))
        _ = await pods.stop()
    }

    // MARK: Deadlines

    @Test("a peer that accepts and stays silent is given up at the handshake's deadline")
    func silentPeer() async throws {
        let silent = try BlockingServer { socket in _ = try? socket.receiveToEnd() }
        let pods = try TwoPods(
            target: 9,
            route: { _, good in
                var route = good
                route.peer = IPEndpoint(address: TwoPods.loopback, port: silent.port)
                return .tunnel(route)
            },
            configure: {
                $0.handshakeTimeout = .milliseconds(100)
                $0.dialAttemptsMax = 1
            })
        try await self.expectClosed(pods)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.flag == .h2HandshakeFailure)
        #expect(end.end.error?.contains("did not finish") == true)
        _ = await pods.stop()
    }

    @Test("a client that connects to the HBONE port and stays silent is closed")
    func silentClient() async throws {
        let pods = try TwoPods(target: 9, configureServer: { $0.handshakeTimeout = .milliseconds(100) })
        let received = try? await offThread {
            try BlockingSocket.connect(port: pods.serverPorts.inboundTunnel).receiveToEnd()
        }
        #expect(received == nil || received == [])
        let refusal = try await pods.serverObserver.firstRefused()
        #expect(refusal.flag == .h2HandshakeFailure)
        _ = await pods.stop()
    }

    @Test("an unanswered CONNECT ends at its deadline, and so does the dial behind it")
    func unansweredConnect() async throws {
        // A listener with no room: connections hang in SYN.
        let hanging = try BlockingServer(handler: nil)
        let fillers = (0..<2).map { _ in
            try? BlockingSocket.connect(port: hanging.port, waiting: false)
        }
        defer { withExtendedLifetime(fillers) {} }
        let pods = try TwoPods(
            target: hanging.port, configure: { $0.answerTimeout = .milliseconds(200) },
            configureServer: { $0.dialTimeout = .milliseconds(600) })
        try await self.expectClosed(pods)
        let outbound = try await pods.clientObserver.firstClosed()
        #expect(outbound.end.flag == .connect)
        #expect(outbound.end.error?.contains("did not answer CONNECT") == true)
        let inbound = try await pods.serverObserver.firstClosed()
        #expect(inbound.end.error?.contains("reset the stream: CANCEL") == true)
        _ = await pods.stop()
    }
}
