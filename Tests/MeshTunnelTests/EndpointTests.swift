import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

@Suite("Endpoints that fail before the first byte", .timeLimit(.minutes(3)))
struct EndpointTests {
    private static let dead = IPEndpoint(address: IPAddress(v4: 0x7f00_0002), port: 1)

    private func echo(_ pods: TwoPods) throws {
        let socket = try pods.connect()
        try socket.send([5])
        let back = try socket.receive(exactly: 1)
        #expect(back == [5])
        socket.finishWriting()
        _ = try socket.receiveToEnd()
    }

    @Test("plain TCP: another endpoint is dialled, and the client notices nothing")
    func plain() async throws {
        let echo = try BlockingServer.echo()
        let good = IPEndpoint(address: TwoPods.loopback, port: echo.port)
        let pods = try TwoPods(
            target: 9,
            route: { question, _ in
                .passthrough(to: question.excluding.isEmpty ? Self.dead : good, labels: Labels())
            })
        try await offThread { try self.echo(pods) }
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.error == nil && end.record.destination == good)
        let logs = await pods.stop()
        #expect(logs.client.opened.count == 1)
    }

    @Test("plain TCP: without another endpoint the failure is told, and the client is reset")
    func plainDead() async throws {
        let pods = try TwoPods(target: 9, route: { _, _ in .passthrough(to: Self.dead, labels: Labels()) })
        await #expect(throws: BlockingSocket.Failure.self) {
            try await offThread { try pods.connect().receiveToEnd() }
        }
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.flag == .connect && end.end.error?.contains("127.0.0.2:1") == true)
        _ = await pods.stop()
    }

    /// A second server engine at 127.0.0.3 that answers CONNECT with `status`.
    private func pods(refusing status: Int, target: UInt16) async throws -> (TwoPods, TunnelEngine) {
        let ca = try TestCA()
        var configuration = TwoPods.configuration(IPEndpoint(address: TwoPods.loopback, port: target))
        configuration.listenAddress = IPAddress(v4: 0x7f00_0003)
        let refusing = try TunnelEngine(
            configuration: configuration,
            view: FakeView(
                identity: TwoPods.serverIdentity,
                admit: { _ in .refuse(status: status, RefusalReason(.connect, "refused"), labels: Labels()) }),
            certificates: FakeCertificates(ca), observer: RecordingObserver())
        let ports = try refusing.addPod(TwoPods.serverPod, namespace: -1)
        let first = IPEndpoint(address: IPAddress(v4: 0x7f00_0003), port: ports.inboundTunnel)
        let pods = try TwoPods(
            target: target, ca: ca,
            route: { question, good in
                var route = good
                if question.excluding.isEmpty { route.peer = first }
                return .tunnel(route)
            })
        return (pods, refusing)
    }

    @Test("a peer that answers 503 could not reach its application: another endpoint is asked")
    func unavailable() async throws {
        let echo = try BlockingServer.echo()
        let (pods, refusing) = try await self.pods(refusing: 503, target: echo.port)
        try await offThread { try self.echo(pods) }
        #expect(try await pods.clientObserver.firstClosed().end.error == nil)
        _ = await pods.stop()
        await refusing.drain(deadline: .zero)
    }

    @Test("a peer that answers 401 has decided: nobody else is asked")
    func denied() async throws {
        let echo = try BlockingServer.echo()
        let (pods, refusing) = try await self.pods(refusing: 401, target: echo.port)
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try self.echo(pods) } }
        #expect(try await pods.clientObserver.firstClosed().end.error?.contains("401") == true)
        #expect(pods.server.statistics.inboundTunnels == 0)
        _ = await pods.stop()
        await refusing.drain(deadline: .zero)
    }

    @Test("an endpoint that keeps failing is ejected, told once, and the view is given the book")
    func ejected() async throws {
        let echo = try BlockingServer.echo()
        let seen = Mutexed<[Bool]>([])
        let pods = try TwoPods(
            target: echo.port,
            route: { question, good in
                let isEjected = question.endpoints?.value.isEjected(Self.dead.address) ?? true
                seen.value.withLock { $0.append(isEjected) }
                var route = good
                if question.excluding.isEmpty, !isEjected { route.peer = Self.dead }
                return .tunnel(route)
            })
        for _ in 0..<5 { try await offThread { try self.echo(pods) } }
        let log = await pods.clientObserver.wait { $0.closed.count == 5 }
        #expect(log.ejected == [Self.dead.address])
        // Each of the first three connections asked twice, the last two once.
        #expect(seen.value.withLock { $0 } == [false, false, false, false, false, true, true, true])
        _ = await pods.stop()
    }

    @Test("the book counts the connections of an endpoint while they last")
    func active() async throws {
        let echo = try BlockingServer.echo()
        let counts = Mutexed<[Int]>([])
        let pods = try TwoPods(
            target: echo.port,
            route: { question, good in
                let active = question.endpoints?.value.active(good.peer.address) ?? -1
                counts.value.withLock { $0.append(active) }
                return .tunnel(good)
            })
        let sockets = try await offThread {
            try (0..<3).map { _ in
                let socket = try pods.connect()
                try socket.send([1])
                _ = try socket.receive(exactly: 1)
                return socket
            }
        }
        for socket in sockets { socket.finishWriting() }
        _ = await pods.clientObserver.wait { $0.closed.count == 3 }
        try await offThread { try self.echo(pods) }
        #expect(counts.value.withLock { $0 } == [0, 1, 2, 0])
        _ = await pods.stop()
    }

    @Test("I6: the application gets the PROXY protocol header first, then the client's bytes")
    func preamble() async throws {
        let received = Mutexed<[UInt8]>([])
        let server = try BlockingServer { socket in
            let all = (try? socket.receiveToEnd()) ?? []
            received.value.withLock { $0 = all }
            try? socket.send([9])
            socket.finishWriting()
        }
        let target = IPEndpoint(address: TwoPods.loopback, port: server.port)
        let header = [UInt8](repeating: 0x50, count: 300)
        let pods = try TwoPods(
            target: server.port, admit: { FakeView.admission($0, to: target, preamble: header) })
        let answer = try await offThread {
            let socket = try pods.connect()
            try socket.send([1, 2, 3])
            socket.finishWriting()
            return try socket.receiveToEnd()
        }
        #expect(answer == [9])
        #expect(received.value.withLock { $0 } == header + [1, 2, 3])
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.received == 3, "the header is not the client's")
        _ = await pods.stop()
    }

    @Test("the proxy's own pod takes HBONE only, and dials from its own address")
    func ownPod() async throws {
        let echo = try BlockingServer.echo()
        let ca = try TestCA()
        let target = IPEndpoint(address: TwoPods.loopback, port: echo.port)
        let observer = RecordingObserver()
        let own = try TunnelEngine(
            configuration: TwoPods.configuration(target), view: FakeView(identity: TwoPods.serverIdentity),
            certificates: FakeCertificates(ca), observer: observer)
        let ports = try own.addOwnPod(TwoPods.serverPod)
        let pods = try TwoPods(
            target: echo.port, ca: ca,
            route: { _, good in
                var route = good
                route.peer = IPEndpoint(address: TwoPods.loopback, port: ports.inboundTunnel)
                return .tunnel(route)
            })
        try await offThread { try self.echo(pods) }
        #expect(try await observer.firstClosed().end.error == nil)
        #expect(own.statistics.inboundTunnels == 1 && pods.server.statistics.inboundTunnels == 0)
        _ = await pods.stop()
        await own.drain(deadline: .zero)
    }
}
