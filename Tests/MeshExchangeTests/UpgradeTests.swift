import Glibc
import MeshExchange
import MeshRoutes
import MeshTestSupport
import Testing

@Suite("A switch of protocols through a waypoint", .timeLimit(.minutes(3)))
struct UpgradeTests {
    static let asking = get("/ws", "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n")
    static let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"

    /// A rig whose server agrees, then does what `script` says.
    private func rig(
        isMeshed: Bool = false, timeout: Duration? = nil, _ script: @escaping @Sendable (HTTPPeer) throws -> Void
    ) throws -> (Rig, HTTPServer) {
        let server = try HTTPServer(scripted: { peer, note in
            guard let request = try peer.request() else { return }
            note(request)
            try peer.send(Self.agreed)
            try script(peer)
        })
        return (
            try Rig(
                servers: [server.port], isMeshed: isMeshed,
                plan: { request, _, backend in
                    var plan = ForwardPlan(request: request, backend: backend)
                    plan.timeouts.request = timeout
                    plan.timeouts.backendRequest = timeout
                    return .forward(plan)
                }), server
        )
    }

    @Test("bytes go both ways, also those sent ahead, for longer than a request may take", arguments: [false, true])
    func both(isMeshed: Bool) async throws {
        let (rig, server) = try self.rig(isMeshed: isMeshed, timeout: .milliseconds(300)) { peer in
            while case let bytes = try peer.bytes(5), !bytes.isEmpty { try peer.send(bytes) }
        }
        try await offThread {
            var client = try rig.connect()
            try client.send(Self.asking + "ahead")
            var response = try client.response()
            // On a loaded machine even this may take longer than it may.
            while response.status == 504 {
                client = try rig.connect()
                try client.send(Self.asking + "ahead")
                response = try client.response()
            }
            #expect(response.status == 101 && response["upgrade"] == "websocket")
            #expect(response["connection"] == "upgrade")
            #expect(try client.bytes(5) == Array("ahead".utf8))
            // Past both timeouts.
            usleep(400_000)
            try client.send("later")
            #expect(try client.bytes(5) == Array("later".utf8))
            client.finish()
            #expect(try client.toEnd().isEmpty)
        }
        #expect(server.requests.all.first?["upgrade"] == "websocket")
        #expect(server.requests.all.first?["sec-websocket-key"] == "abc")
        let report = try #require(
            await rig.exchanges.reports.wait { $0.last?.response?.status == 101 }.last)
        #expect(report.flags.isEmpty)
        #expect(report.requestBytes == 10 && report.responseBytes == 10)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 && $0.active == 0 }
        await rig.stop()
    }

    @Test("the client ends first: the server still sends")
    func clientEnds() async throws {
        let (rig, server) = try self.rig { peer in
            let all = try peer.toEnd()
            try peer.send(Array(all.reversed()))
        }
        let answer = try await offThread {
            let client = try rig.connect()
            try client.send(Self.asking)
            _ = try client.response()
            try client.send("abc")
            client.finish()
            return try client.toEnd()
        }
        #expect(answer == Array("cba".utf8))
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags.isEmpty)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 }
        #expect(server.accepted.count == 1)
        await rig.stop()
    }

    @Test("the server ends first: the client still sends", arguments: [false, true])
    func serverEnds(isMeshed: Bool) async throws {
        let received = Log<[UInt8]>()
        let (rig, server) = try self.rig(isMeshed: isMeshed) { peer in
            try peer.send("over")
            peer.finish()
            received.add(try peer.toEnd())
        }
        try await offThread {
            let client = try rig.connect()
            try client.send(Self.asking)
            _ = try client.response()
            #expect(try client.toEnd() == Array("over".utf8))
            try client.send(patternBytes(300_000, seed: 3))
            client.finish()
        }
        let all = await received.wait(count: 1)
        #expect(all.first == patternBytes(300_000, seed: 3))
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags.isEmpty && report.requestBytes == 300_000)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 }
        #expect(server.accepted.count == 1)
        await rig.stop()
    }

    @Test("a reset of the server reaches the client")
    func serverResets() async throws {
        let (rig, server) = try self.rig { peer in
            _ = try peer.bytes(1)
            peer.socket.resetOnClose()
        }
        await #expect(throws: (any Error).self) {
            try await offThread {
                let client = try rig.connect()
                try client.send(Self.asking)
                _ = try client.response()
                try client.send("x")
                _ = try client.toEnd()
            }
        }
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .upstreamReset)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 }
        #expect(server.accepted.count == 1)
        await rig.stop()
    }

    @Test("a reset of the client reaches the server")
    func clientResets() async throws {
        let failed = Log<Bool>()
        let (rig, server) = try self.rig { peer in
            do { failed.add(try peer.toEnd().isEmpty) } catch { failed.add(true) }
        }
        try await offThread {
            let client = try rig.connect()
            try client.send(Self.asking)
            _ = try client.response()
            client.socket.resetOnClose()
        }
        #expect(await failed.wait(count: 1) == [true])
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .clientEnd)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 }
        #expect(server.accepted.count == 1)
        await rig.stop()
    }

    @Test("a server that does not agree answers as to any request")
    func declined() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        let texts = try await offThread {
            let client = try rig.connect()
            try client.send(Self.asking + get("/next"))
            return [try client.response().text, try client.response().text]
        }
        #expect(texts == ["/ws", "/next"])
        #expect(server.accepted.count == 1)
        await rig.stop()
    }
}
