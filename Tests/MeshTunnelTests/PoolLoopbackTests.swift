import MeshHTTP
import MeshModel
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

/// The cases that need sockets.
@Suite("Pool cases P1 to P10, on loopback", .timeLimit(.minutes(3)))
struct PoolLoopbackTests {
    /// Connections that have proven to work, made at once.
    private func establish(_ pods: TwoPods, _ count: Int) async throws -> [BlockingSocket] {
        try await withThrowingTaskGroup(of: BlockingSocket.self) { group in
            for _ in 0..<count {
                group.addTask {
                    try await offThread {
                        let socket = try pods.connect()
                        try socket.send([1])
                        _ = try socket.receive(exactly: 1)
                        return socket
                    }
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
    }

    /// Ends them in order and waits until the pool has their places back.
    private func end(_ sockets: [BlockingSocket], _ pods: TwoPods) async {
        let closed = pods.clientObserver.log.closed.count + sockets.count
        for socket in sockets { socket.finishWriting() }
        _ = await pods.clientObserver.wait { $0.closed.count >= closed }
    }

    @Test("P1 one tunnel for two and two again; it closes with its pool")
    func p1() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configure: { $0.streamsPerTunnelMax = 3 })
        await self.end(try await self.establish(pods, 2), pods)
        await self.end(try await self.establish(pods, 2), pods)
        #expect(pods.client.statistics.outboundHandshakes == 1)
        await pods.client.drain(deadline: .seconds(60))
        try await eventually { pods.server.statistics.inboundTunnels == 0 }
        await pods.server.drain(deadline: .zero)
    }

    @Test("P3 tunnels that were full are used again")
    func p3() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configure: { $0.streamsPerTunnelMax = 2 })
        await self.end(try await self.establish(pods, 4), pods)
        #expect(pods.client.statistics.outboundHandshakes == 2)
        let five = try await self.establish(pods, 5)
        #expect(pods.client.statistics.outboundHandshakes == 3)
        withExtendedLifetime(five) {}
        _ = await pods.stop()
    }

    @Test("P4 the server says GOAWAY: the next connection has a new tunnel, the open one goes on")
    func p4() async throws {
        let ca = try TestCA()
        let issued = try ca.issue(TwoPods.serverIdentity)
        let served = Mutex(0)
        let server = try BlockingServer { socket in
            do {
                let tunnel = try RawTunnel(socket, .server, issued)
                let number = served.withLock { count in
                    count += 1
                    return UInt8(count)
                }
                guard case .headers(let id, _, _) = try tunnel.nextAnswering() else { return }
                try tunnel.send(tunnel.headers(id, [":status": "200"]) + RawTunnel.data(id, [number]))
                var bytes: [UInt8] = []
                HTTP2FrameWriter.appendGoAway(lastStream: HTTP2StreamID(id), code: .noError, to: &bytes)
                try tunnel.send(bytes)
                while true {
                    if case .data(let id, let bytes, _) = try tunnel.nextAnswering() {
                        try tunnel.send(RawTunnel.data(id, bytes))
                    }
                }
            } catch {}
        }
        let pods = try TwoPods(
            target: 9, ca: ca,
            route: { _, good in
                var route = good
                route.peer = IPEndpoint(address: TwoPods.loopback, port: server.port)
                return .tunnel(route)
            })
        try await offThread {
            let first = try pods.connect()
            #expect(try first.receive(exactly: 1) == [1])
            // GOAWAY is behind the answer; the echo behind GOAWAY.
            try first.send([7])
            #expect(try first.receive(exactly: 1) == [7])
            #expect(try pods.connect().receive(exactly: 1) == [2])
            try first.send([8])
            #expect(try first.receive(exactly: 1) == [8])
        }
        #expect(pods.client.statistics.outboundHandshakes == 2)
        _ = await pods.stop()
    }

    @Test("P5 limit 1: two tunnels at once, both closed when their time without streams is over")
    func p5() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(
            target: echo.port,
            configure: {
                $0.streamsPerTunnelMax = 1
                $0.idleTunnelTimeout = .milliseconds(100)
            })
        await self.end(try await self.establish(pods, 2), pods)
        #expect(pods.client.statistics.outboundHandshakes == 2)
        try await eventually { pods.client.statistics.outboundTunnels == 0 }
        try await eventually { pods.server.statistics.inboundTunnels == 0 }
        _ = await pods.stop()
    }

    @Test("a peer that takes few streams: a crowd of connections finds the tunnels it needs, and none fails")
    func crowd() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configureServer: { $0.inboundStreamsMax = 2 })
        let open = try await self.establish(pods, 24)
        #expect(open.count == 24)
        #expect(pods.clientObserver.log.closed.isEmpty)
        withExtendedLifetime(open) {}
        _ = await pods.stop()
    }

    @Test("P8, P9 100 ms without streams: the tunnel is closed; with a persistent stream it stays until that ends")
    func p8p9() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configure: { $0.idleTunnelTimeout = .milliseconds(100) })
        let persistent = try await self.establish(pods, 1)
        // Three times the limit, and the stream still works.
        try await Task.sleep(for: .milliseconds(300))
        try await offThread {
            try persistent[0].send([2])
            _ = try persistent[0].receive(exactly: 1)
        }
        #expect(pods.client.statistics.outboundTunnels == 1)
        await self.end(persistent, pods)
        try await eventually { pods.client.statistics.outboundTunnels == 0 }
        try await eventually { pods.server.statistics.inboundTunnels == 0 }
        _ = await pods.stop()
    }

    @Test("P10 the tunnel is lost in the middle of an answer: what had arrived is whole, and the end is an error")
    func p10() async throws {
        let server = try BlockingServer { socket in
            try? socket.send(patternBytes(24 << 20, seed: 4))
            _ = try? socket.receiveToEnd()
        }
        let pods = try TwoPods(target: server.port)
        let (received, isReset) = try await offThread { () -> ([UInt8], Bool) in
            let socket = try pods.connect()
            var received = try socket.receive(exactly: 1 << 20)
            let gate = Gate()
            pods.server.removePod(uid: TwoPods.serverPod.uid) { gate.open() }
            do {
                while true {
                    let next = try socket.receive(256 << 10)
                    if next.isEmpty { return (received, false) }
                    received += next
                }
            } catch let failure as BlockingSocket.Failure { return (received, failure.isReset) }
        }
        #expect(isReset)
        #expect(received.count >= 1 << 20)
        let isIntact = patternBytes(24 << 20, seed: 4).starts(with: received)
        #expect(isIntact)
        _ = await pods.stop()
    }

    @Test("P10 the server has said all, is drained and gone before the application reads: it gets all, and a clean end")
    func leftovers() async throws {
        // Less than the stream's window: the client engine has it all, the application's socket has not.
        let sent = patternBytes(4_000_000, seed: 6)
        let server = try BlockingServer { socket in
            try? socket.send(sent)
            socket.finishWriting()
            _ = try? socket.receiveToEnd()
        }
        let pods = try TwoPods(target: server.port)
        let socket = try pods.connect()
        socket.finishWriting()
        _ = await pods.serverObserver.wait { !$0.closed.isEmpty }
        await pods.server.drain(deadline: .seconds(60))
        try await eventually { pods.client.statistics.outboundTunnels == 0 }
        let received = try await offThread { try socket.receiveToEnd() }
        let isIntact = received == sent
        #expect(isIntact)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.error == nil)
        await pods.client.drain(deadline: .zero)
    }

    @Test(
        "keepalive: a server that answers no PING is given up by its client too, also after the tunnel grew too old",
        arguments: [Duration.seconds(3600), .milliseconds(10)])
    func silentServer(age: Duration) async throws {
        let ca = try TestCA()
        let issued = try ca.issue(TwoPods.serverIdentity)
        let server = try BlockingServer { socket in
            do {
                let tunnel = try RawTunnel(socket, .server, issued)
                guard case .headers(let id, _, _) = try tunnel.nextAnswering() else { return }
                try tunnel.send(tunnel.headers(id, [":status": "200"]))
                while true { _ = try tunnel.next() }
            } catch {}
        }
        let pods = try TwoPods(
            target: 9, ca: ca,
            route: { _, good in
                var route = good
                route.peer = IPEndpoint(address: TwoPods.loopback, port: server.port)
                return .tunnel(route)
            },
            configure: {
                $0.pingInterval = .milliseconds(30)
                $0.pingTimeout = .milliseconds(60)
                $0.tunnelAgeMax = age
            })
        await #expect(throws: BlockingSocket.Failure.self) {
            try await offThread { try pods.connect().receiveToEnd() }
        }
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.error?.contains("did not answer a PING") == true)
        _ = await pods.stop()
    }
}
