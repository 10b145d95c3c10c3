import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// Three engines: a client, a gateway between networks, and a server behind it.
///
///     test ─▶ client ═ outer tunnel ═▶ gateway ── TCP ──▶ server ─▶ test server
///                    ═════════ inner tunnel ═════════════▶
@Suite("Double HBONE through a gateway", .timeLimit(.minutes(3)))
struct GatewayTests {
    private static let gatewayIdentity = WorkloadIdentity(
        trustDomain: "cluster.local", namespace: "istio-system", serviceAccount: "gateway")
    private static let authority = "example.com:80"

    private final class Inner: ConnectionLabels {
        let headers: [String]
        let identity: WorkloadIdentity?
        init(_ headers: [String], _ identity: WorkloadIdentity?) {
            self.headers = headers
            self.identity = identity
        }
    }

    private struct Mesh {
        let pods: TwoPods
        let gateway: TunnelEngine
        let gatewayObserver: RecordingObserver

        func stop() async -> (client: RecordingObserver.Log, server: RecordingObserver.Log) {
            let logs = await self.pods.stop()
            await self.gateway.drain(deadline: .zero)
            return logs
        }
    }

    private func mesh(
        target: UInt16, outer: [WorkloadIdentity] = [gatewayIdentity],
        inner: [WorkloadIdentity] = [TwoPods.serverIdentity],
        gatewayAdmits: (@Sendable (InboundQuestion, _ server: IPEndpoint) -> InboundAnswer)? = nil,
        admit: (@Sendable (InboundQuestion) -> InboundAnswer)? = nil
    ) throws -> Mesh {
        let ca = try TestCA()
        let serverPort = Mutexed<UInt16>(0)
        let observer = RecordingObserver()
        let destination = IPEndpoint(address: TwoPods.loopback, port: target)
        let gateway = try TunnelEngine(
            configuration: TwoPods.configuration(destination),
            view: FakeView(
                identity: Self.gatewayIdentity,
                admit: { question in
                    let server = IPEndpoint(address: TwoPods.loopback, port: serverPort.value.withLock { $0 })
                    return gatewayAdmits?(question, server) ?? FakeView.admission(question, to: server)
                }), certificates: FakeCertificates(ca), observer: observer)
        let ports = try gateway.addPod(
            EnrolledPod(uid: "g", name: "gateway", namespace: "istio-system", serviceAccount: "gateway"),
            namespace: -1)
        let pods = try TwoPods(
            target: target, ca: ca, admit: admit ?? { FakeView.admission($0, to: destination) },
            route: { _, good in
                .tunnel(
                    TunnelRoute(
                        peer: IPEndpoint(address: TwoPods.loopback, port: ports.inboundTunnel),
                        authority: Self.authority, source: good.source, expected: outer, headers: [],
                        labels: Labels(),
                        inner: InnerTunnel(
                            authority: Self.authority, expected: inner,
                            headers: [("x-forwarded-network", "test-network")],
                            labels: { headers, identity in Inner(headers.map { "\($0.name)=\($0.value)" }, identity) }))
                )
            }, configure: { $0.dialAttemptsMax = 1 })
        serverPort.value.withLock { $0 = pods.serverPorts.inboundTunnel }
        return Mesh(pods: pods, gateway: gateway, gatewayObserver: observer)
    }

    @Test("W8: bytes and both ends arrive; the record names the gateway's address and who is behind it")
    func intact() async throws {
        let echo = try BlockingServer.echo()
        let asked = Mutexed<[InboundQuestion]>([])
        let destination = IPEndpoint(address: TwoPods.loopback, port: echo.port)
        let mesh = try self.mesh(
            target: echo.port,
            admit: { question in
                asked.value.withLock { $0.append(question) }
                return FakeView.admission(question, to: destination)
            })
        let sent = patternBytes(8 << 20, seed: 21)
        let socket = try mesh.pods.connect()
        async let received = offThread { try socket.receiveToEnd() }
        try await offThread {
            try socket.send(sent)
            socket.finishWriting()
        }
        let isIntact = try await received == sent
        #expect(isIntact)
        let end = try await mesh.pods.clientObserver.firstClosed()
        #expect(end.end.error == nil && end.end.sent == 8 << 20 && end.end.received == 8 << 20)
        #expect(end.record.transport == .doubleHBONE && end.record.authority == Self.authority)
        #expect(end.record.destination.port != mesh.pods.serverPorts.inboundTunnel)
        #expect(end.record.peerIdentity == TwoPods.serverIdentity)
        let labels = try #require(end.record.labels as? Inner)
        #expect(labels.identity == TwoPods.serverIdentity)
        #expect(labels.headers.contains("baggage=k8s.cluster.name=test"))
        // The server saw the client's identity, not the gateway's, and the inner request.
        let question = try #require(asked.value.withLock { $0.first })
        #expect(question.identity == TwoPods.clientIdentity)
        guard case .hbone(Self.authority, let headers) = question.via else {
            Issue.record("not the inner request")
            return
        }
        #expect(headers.contains { $0 == ("x-forwarded-network", "test-network") })
        let logs = await mesh.stop()
        #expect(logs.client.opened.count == 1 && logs.client.opened[0].labels is Inner)
        #expect(logs.client.mistakes.isEmpty && logs.server.mistakes.isEmpty)
    }

    @Test("the outer tunnel is shared, the inner one is each connection's own and goes with it")
    func pooling() async throws {
        let echo = try BlockingServer.echo()
        let mesh = try self.mesh(target: echo.port)
        let sockets = try await offThread {
            try (0..<3).map { index in
                let socket = try mesh.pods.connect()
                try socket.send([UInt8(index)])
                let back = try socket.receive(exactly: 1)
                #expect(back == [UInt8(index)])
                return socket
            }
        }
        #expect(mesh.pods.client.statistics.outboundTunnels == 4)
        #expect(mesh.pods.server.statistics.inboundTunnels == 3)
        #expect(mesh.gateway.statistics.inboundTunnels == 1)
        for socket in sockets { socket.finishWriting() }
        _ = await mesh.pods.clientObserver.wait { $0.closed.count == 3 }
        try await eventually { mesh.pods.client.statistics.outboundTunnels == 1 }
        try await eventually { mesh.pods.server.statistics.inboundTunnels == 0 }
        let ended = mesh.gatewayObserver.log.closed
        #expect(ended.allSatisfy { $0.end.error == nil })
        _ = await mesh.stop()
    }

    @Test("half-closes pass through both tunnels")
    func halfClose() async throws {
        let server = try BlockingServer { socket in
            guard let request = try? socket.receiveToEnd() else { return }
            try? socket.send(request.reversed())
            socket.finishWriting()
        }
        let mesh = try self.mesh(target: server.port)
        let answer = try await offThread {
            let socket = try mesh.pods.connect()
            try socket.send([1, 2, 3])
            socket.finishWriting()
            return try socket.receiveToEnd()
        }
        #expect(answer == [3, 2, 1])
        #expect(try await mesh.pods.clientObserver.firstClosed().end.error == nil)
        _ = await mesh.stop()
    }

    private func expectReset(_ mesh: Mesh) async throws -> ConnectionEnd {
        await #expect(throws: BlockingSocket.Failure.self) {
            try await offThread {
                let socket = try mesh.pods.connect()
                try socket.send([1])
                _ = try socket.receiveToEnd()
            }
        }
        return try await mesh.pods.clientObserver.firstClosed().end
    }

    @Test("somebody else behind the gateway than the service lists: nothing of the application reaches it")
    func wrongInner() async throws {
        let echo = try BlockingServer.echo()
        let wanted = WorkloadIdentity(trustDomain: "cluster.local", namespace: "default", serviceAccount: "other")
        let mesh = try self.mesh(target: echo.port, inner: [wanted])
        let end = try await self.expectReset(mesh)
        #expect(end.flag == .identityError && end.error?.contains("wanted one of \(wanted)") == true)
        let logs = await mesh.stop()
        #expect(logs.server.opened.isEmpty)
    }

    @Test("a gateway that proves to be somebody else hears nothing of the inner tunnel")
    func wrongOuter() async throws {
        let echo = try BlockingServer.echo()
        let mesh = try self.mesh(target: echo.port, outer: [TwoPods.serverIdentity])
        let end = try await self.expectReset(mesh)
        #expect(end.flag == .identityError)
        #expect(mesh.pods.server.statistics.inboundTunnels == 0)
        _ = await mesh.stop()
    }

    @Test(
        "a refusal by the gateway, and one by the workload behind it, are told with their status",
        arguments: [true, false])
    func refused(byGateway: Bool) async throws {
        let echo = try BlockingServer.echo()
        let denied = InboundAnswer.refuse(status: 401, RefusalReason(.deny, "denied"), labels: Labels())
        let gateway: (@Sendable (InboundQuestion, IPEndpoint) -> InboundAnswer)? = { _, _ in denied }
        let server: (@Sendable (InboundQuestion) -> InboundAnswer)? = { _ in denied }
        let mesh =
            byGateway
            ? try self.mesh(target: echo.port, gatewayAdmits: gateway)
            : try self.mesh(target: echo.port, admit: server)
        let end = try await self.expectReset(mesh)
        #expect(end.error?.contains("http status: 401") == true)
        _ = await mesh.stop()
    }

    @Test("a reset of the server's connection reaches the client as a reset, through everything")
    func reset() async throws {
        let server = try BlockingServer { socket in
            _ = try? socket.receive(exactly: 1)
            socket.resetOnClose()
        }
        let mesh = try self.mesh(target: server.port)
        let end = try await self.expectReset(mesh)
        #expect(end.error?.contains("reset the stream") == true)
        _ = await mesh.stop()
    }

    @Test("a gateway that goes away ends the connection, with its name")
    func gatewayGone() async throws {
        let echo = try BlockingServer.echo()
        let mesh = try self.mesh(target: echo.port)
        let socket = try mesh.pods.connect()
        try await offThread {
            try socket.send([1])
            _ = try socket.receive(exactly: 1)
        }
        await mesh.gateway.drain(deadline: .zero)
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        let end = try await mesh.pods.clientObserver.firstClosed().end
        #expect(end.error != nil)
        _ = await mesh.stop()
    }
}
