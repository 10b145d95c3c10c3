import MeshLinux
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

@Suite("Applications that ask by SOCKS5", .timeLimit(.minutes(3)))
struct SocksTests {
    private static let greeting: [UInt8] = [5, 1, 0]

    private static func request(host: String, port: UInt16) -> [UInt8] {
        [5, 1, 0, 3, UInt8(host.utf8.count)] + Array(host.utf8) + [UInt8(port >> 8), UInt8(port & 0xFF)]
    }

    private func pods(_ echo: BlockingServer, resolver: (any HostResolver)? = nil) throws -> TwoPods {
        try TwoPods(
            target: echo.port, resolver: resolver,
            route: { question, tunnel in
                question.destination.port == echo.port
                    ? .tunnel(tunnel) : .refuse(RefusalReason(.connect, "went to \(question.destination)"), labels: nil)
            }, configure: { $0.ports.socks = 0 })
    }

    private func connect(_ pods: TwoPods) throws -> BlockingSocket {
        try BlockingSocket.connect(port: try #require(pods.clientPorts.socks))
    }

    @Test("by address: answered at once, then bytes flow through the tunnel, also those that came with the request")
    func byAddress() async throws {
        let echo = try BlockingServer.echo()
        let pods = try self.pods(echo)
        let socket = try self.connect(pods)
        let port = echo.port
        let (answers, back) = try await offThread {
            try socket.send(Self.greeting)
            let chosen = try socket.receive(exactly: 2)
            try socket.send([5, 1, 0, 1, 127, 0, 0, 1, UInt8(port >> 8), UInt8(port & 0xFF)] + Array("early".utf8))
            let answer = try socket.receive(exactly: 10)
            try socket.send(Array(" late".utf8))
            socket.finishWriting()
            return (chosen + answer, try socket.receiveToEnd())
        }
        #expect(answers == [5, 0] + SocksHandshake.Reply.succeeded.bytes)
        #expect(back == Array("early late".utf8))
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.record.direction == .outbound && end.record.transport == .hbone)
        #expect(end.record.originalDestination.port == port)
        let logs = await pods.stop()
        #expect(logs.client.mistakes.isEmpty)
    }

    @Test("by name: the resolver is asked for full names only, and a name that leads nowhere is answered so")
    func byName() async throws {
        let echo = try BlockingServer.echo()
        let resolver = FakeResolver(["web.example": .success(ResolvedHost(addresses: [TwoPods.loopback]))])
        let pods = try self.pods(echo, resolver: resolver)
        let port = echo.port
        let socket = try self.connect(pods)
        let back = try await offThread {
            try socket.send(Self.greeting)
            _ = try socket.receive(exactly: 2)
            try socket.send(Self.request(host: "web.example", port: port))
            _ = try socket.receive(exactly: 10)
            try socket.send([7])
            return try socket.receive(exactly: 1)
        }
        #expect(back == [7])
        let lost = try self.connect(pods)
        let answer = try await offThread {
            try lost.send(Self.greeting)
            _ = try lost.receive(exactly: 2)
            try lost.send(Self.request(host: "web", port: port))
            return try lost.receiveToEnd()
        }
        #expect(answer == SocksHandshake.Reply.hostUnreachable.bytes)
        #expect(resolver.asked == ["web.example"])
        let refusal = try await pods.clientObserver.firstRefused()
        #expect(refusal.kind == .noAddress && refusal.text.contains("web leads nowhere"))
        _ = await pods.stop()
    }

    private static let curl = PeerProgram.find("curl")

    @Test(
        "curl is served: by address, and by a name that it leaves to us",
        .enabled(if: curl != nil, "SKIPPED: needs curl"),
        arguments: [("--socks5", "127.0.0.1"), ("--socks5-hostname", "web.example")])
    func realClient(option: String, host: String) async throws {
        let server = try BlockingServer { socket in
            _ = try? socket.receive()
            try? socket.send(Array("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello".utf8))
        }
        let pods = try self.pods(
            server, resolver: FakeResolver(["web.example": .success(ResolvedHost(addresses: [TwoPods.loopback]))]))
        let port = try #require(pods.clientPorts.socks)
        let said = try await offThread {
            try Program.run([
                Self.curl ?? "curl", "--silent", "--show-error", "--noproxy", "", "--max-time", "60", option,
                "127.0.0.1:\(port)", "http://\(host):\(server.port)/",
            ]).standardOutput
        }
        #expect(said == "hello")
        _ = await pods.stop()
    }

    @Test("to one of our own ports is not allowed; no SOCKS5 is closed")
    func refused() async throws {
        let echo = try BlockingServer.echo()
        let pods = try self.pods(echo)
        let own = pods.clientPorts.inboundTunnel
        let first = try self.connect(pods)
        let answer = try await offThread {
            try first.send(Self.greeting)
            _ = try first.receive(exactly: 2)
            try first.send([5, 1, 0, 1, 127, 0, 0, 1, UInt8(own >> 8), UInt8(own & 0xFF)])
            return try first.receiveToEnd()
        }
        #expect(answer == SocksHandshake.Reply.notAllowed.bytes)
        #expect(try await pods.clientObserver.firstRefused().kind == .selfCall)
        let second = try self.connect(pods)
        await #expect(throws: BlockingSocket.Failure.self) {
            _ = try await offThread {
                try second.send(Array("GET / HTTP/1.1\r\n".utf8))
                return try second.receive(exactly: 1)
            }
        }
        _ = await pods.stop()
    }

    @Test("who says nothing is sent away at the handshake's deadline, and by the end of the process")
    func silence() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(
            target: echo.port,
            configure: {
                $0.ports.socks = 0
                $0.handshakeTimeout = .milliseconds(50)
            })
        let socket = try self.connect(pods)
        await #expect(throws: BlockingSocket.Failure.self) {
            _ = try await offThread { try socket.receive(exactly: 1) }
        }
        #expect(try await pods.clientObserver.firstRefused().text.contains("did not say within"))
        _ = await pods.stop()
        let other = try self.pods(echo)
        let waiting = try self.connect(other)
        try await offThread {
            try waiting.send(Self.greeting)
            _ = try waiting.receive(exactly: 2)
        }
        _ = await other.stop()
        await #expect(throws: BlockingSocket.Failure.self) {
            _ = try await offThread { try waiting.receive(exactly: 1) }
        }
    }
}
