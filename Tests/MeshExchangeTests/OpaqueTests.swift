import Glibc
import MeshExchange
import MeshTestSupport
import Testing

@Suite("Streams that are not looked into", .timeLimit(.minutes(3)))
struct OpaqueTests {
    private func hasEnded(_ occupancy: ExchangeServer.Occupancy) -> Bool {
        occupancy.streams == 0 && occupancy.active == 0 && occupancy.connections == 0
    }

    @Test("8 MB each way arrive as they were sent, and are counted", arguments: [false, true])
    func intact(isMeshed: Bool) async throws {
        let echo = try BlockingServer.echo()
        let rig = try Rig(servers: [echo.port], isMeshed: isMeshed, speaks: .tcp)
        let sent = patternBytes(8 << 20, seed: 5)
        let client = try rig.connect()
        async let received = offThread { try client.toEnd() }
        try await offThread {
            try client.socket.send(sent)
            client.finish()
        }
        let isIntact = try await received == sent
        #expect(isIntact)
        let stream = try #require(await rig.exchanges.closed.wait(count: 1).first)
        #expect(stream.end.flags.isEmpty && stream.end.sent == 8 << 20 && stream.end.received == 8 << 20)
        #expect(stream.report.ends.upstreamIdentity == (isMeshed ? Rig.identity("server") : nil))
        #expect(stream.report.ends.clientIdentity == Rig.identity("client"))
        #expect(rig.exchanges.opened.count == 1 && rig.exchanges.closed.count == 1)
        #expect(rig.exchanges.moved.all.reduce(0) { $0 + $1.sent } == 8 << 20)
        #expect(rig.exchanges.reports.count == 0)
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test(
        "the server speaks first: also where it had to be found out that the client does not", arguments: [true, false])
    func serverFirst(isKnown: Bool) async throws {
        let server = try BlockingServer { socket in
            try? socket.send(Array("220 hello".utf8))
            socket.finishWriting()
            _ = try? socket.receiveToEnd()
        }
        let rig = try Rig(
            servers: [server.port], speaks: isKnown ? .tcp : .unknown,
            configure: { $0.silenceTimeout = .milliseconds(isKnown ? 60_000 : 20) })
        let greeting = try await offThread { try rig.connect().toEnd() }
        #expect(greeting == Array("220 hello".utf8))
        _ = await rig.exchanges.closed.wait(count: 1)
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test(
        "bytes that are no HTTP, and too few to tell, are carried where nobody needs HTTP",
        arguments: ["PING", "\u{1}\u{2}\u{3}", "averylongwordthatisnomethodatallbecauseitislong"])
    func unknown(text: String) async throws {
        let echo = try BlockingServer.echo()
        let rig = try Rig(servers: [echo.port], speaks: .unknown, configure: { $0.silenceTimeout = .milliseconds(20) })
        try await offThread {
            let waiting = try rig.connect()
            try waiting.send(text)
            #expect(try waiting.bytes(text.utf8.count) == Array(text.utf8))
            let finishing = try rig.connect()
            try finishing.send(text)
            finishing.finish()
            #expect(try finishing.toEnd() == Array(text.utf8))
        }
        #expect(await rig.exchanges.closed.wait(count: 2).count == 2)
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test(
        "a port that needs HTTP never becomes opaque",
        arguments: ["\u{1}\u{2}\u{3}\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n", ""])
    func needsHTTP(text: String) async throws {
        let server = try BlockingServer.echo()
        let accepted = Log<Void>()
        let counting = try BlockingServer { _ in accepted.add(()) }
        let rig = try Rig(
            servers: [counting.port], speaks: .unknown, needsHTTP: true,
            configure: {
                $0.silenceTimeout = .milliseconds(1)
                $0.idleTimeout = .milliseconds(200)
            })
        let answer = try await offThread {
            let client = try rig.connect()
            if !text.isEmpty { try client.send(text) }
            return try client.toEnd()
        }
        if text.isEmpty {
            #expect(answer.isEmpty, "idle for too long")
        } else {
            #expect(String(decoding: answer.prefix(12), as: UTF8.self) == "HTTP/1.1 400")
        }
        #expect(accepted.count == 0 && rig.exchanges.opened.count == 0)
        _ = server
        await rig.stop()
    }

    /// A client hello that names `shop.example`, and nothing else that TLS would want.
    static let hello: [UInt8] = {
        let name = Array("Shop.Example".utf8)
        let entry: [UInt8] = [0, 0, UInt8(name.count)] + name
        let list: [UInt8] = [0, UInt8(entry.count)] + entry
        let extensions: [UInt8] = [0, 0, 0, UInt8(list.count)] + list
        let body: [UInt8] =
            [3, 3] + [UInt8](repeating: 7, count: 32) + [0] + [0, 2, 0x13, 1] + [1, 0] + [0, UInt8(extensions.count)]
            + extensions
        let handshake: [UInt8] = [1, 0, 0, UInt8(body.count)] + body
        return [0x16, 3, 1, 0, UInt8(handshake.count)] + handshake
    }()

    @Test("TLS is passed through, and its server name chooses", arguments: [true, false], [Int.max, 1])
    func serverName(isKnown: Bool, piece: Int) async throws {
        let echo = try BlockingServer.echo()
        let rig = try Rig(
            servers: [echo.port], speaks: isKnown ? .tls : .unknown, configure: { $0.silenceTimeout = .seconds(60) },
            stream: { name, _, backend in
                name == "shop.example"
                    ? .forward(backend, route: "by-name") : .refuse(flags: .noRoute, details: "filter_chain_not_found")
            })
        let back = try await offThread {
            let client = try rig.connect()
            var at = 0
            while at < Self.hello.count {
                let end = piece < Self.hello.count - at ? at + piece : Self.hello.count
                try client.send(Array(Self.hello[at..<end]))
                at = end
            }
            client.finish()
            return try client.toEnd()
        }
        #expect(back == Self.hello)
        let stream = try #require(await rig.exchanges.closed.wait(count: 1).first)
        #expect(stream.report.serverName == "shop.example" && stream.report.route == "by-name")
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test("a stream that no route takes is reset and reported", arguments: [true, false])
    func refused(isServed: Bool) async throws {
        let rig = try Rig(
            servers: [], speaks: .tcp,
            stream: { _, _, backend in
                isServed ? .forward(backend, route: nil) : .refuse(flags: .noRoute, details: "filter_chain_not_found")
            })
        await #expect(throws: (any Error).self) {
            try await offThread {
                let client = try rig.connect()
                try client.send("hello")
                guard try client.toEnd().isEmpty else { return }
                throw HTTPPeer.Broken(description: "ended without a byte")
            }
        }
        let stream = try #require(await rig.exchanges.closed.wait(count: 1).first)
        #expect(stream.end.flags == (isServed ? .noHealthyUpstream : .noRoute))
        #expect(rig.exchanges.opened.count == 1)
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test("each side may end first, and the other goes on", arguments: [true, false], [true, false])
    func halfClose(byClient: Bool, isMeshed: Bool) async throws {
        let received = Log<[UInt8]>()
        let server = try BlockingServer { socket in
            if byClient {
                guard let all = try? socket.receiveToEnd() else { return }
                try? socket.send(all.reversed())
            } else {
                try? socket.send([9])
                socket.finishWriting()
                if let all = try? socket.receiveToEnd() { received.add(all) }
            }
        }
        let rig = try Rig(servers: [server.port], isMeshed: isMeshed, speaks: .tcp)
        try await offThread {
            let client = try rig.connect()
            if byClient {
                try client.send([1, 2, 3])
                client.finish()
                #expect(try client.toEnd() == [3, 2, 1])
            } else {
                #expect(try client.toEnd() == [9])
                try client.send(patternBytes(1 << 20, seed: 2))
                client.finish()
            }
        }
        if !byClient { #expect(await received.wait(count: 1).first == patternBytes(1 << 20, seed: 2)) }
        let stream = try #require(await rig.exchanges.closed.wait(count: 1).first)
        #expect(stream.end.flags.isEmpty)
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test("a reset of one side reaches the other", arguments: [true, false])
    func reset(byClient: Bool) async throws {
        let failed = Log<Bool>()
        let server = try BlockingServer { socket in
            _ = try? socket.receive(1)
            if byClient {
                do { failed.add(try socket.receiveToEnd().isEmpty) } catch { failed.add(true) }
            } else {
                socket.resetOnClose()
            }
        }
        let rig = try Rig(servers: [server.port], speaks: .tcp)
        let opened = rig.exchanges.opened
        try await offThread {
            let client = try rig.connect()
            try client.send([1])
            if byClient {
                while opened.count == 0 { usleep(1_000) }
                client.socket.resetOnClose()
            } else {
                #expect(throws: (any Error).self) { _ = try client.toEnd() }
            }
        }
        if byClient { await failed.wait(count: 1) }
        let stream = try #require(await rig.exchanges.closed.wait(count: 1).first)
        #expect(stream.end.flags == (byClient ? .clientEnd : .upstreamReset))
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test(
        "an endpoint that cannot be reached is passed over, with all that the client has sent",
        arguments: [true, false])
    func retry(isMeshed: Bool) async throws {
        let nobody = try ReservedPort()
        let echo = try BlockingServer.echo()
        let rig = try Rig(servers: [nobody.port, echo.port], isMeshed: isMeshed, speaks: .tcp)
        for _ in 0..<6 {
            let sent = patternBytes(200_000, seed: 8)
            let client = try rig.connect()
            async let received = offThread { try client.toEnd() }
            try await offThread {
                try client.send(sent)
                client.finish()
            }
            let isIntact = try await received == sent
            #expect(isIntact)
        }
        let streams = await rig.exchanges.closed.wait(count: 6)
        #expect(streams.allSatisfy { $0.end.flags.isEmpty && $0.report.ends.endpoint == "server-1" })
        await rig.settled(self.hasEnded)
        await rig.stop()
    }

    @Test("a client that leaves while its endpoint is being dialled leaves nothing behind", arguments: [true, false])
    func leavesEarly(isMeshed: Bool) async throws {
        // Connections hang: nobody accepts, and the backlog is full.
        let hanging = try BlockingServer(handler: nil)
        let filling = try (0..<4).map { _ in try BlockingSocket.connect(port: hanging.port, waiting: false) }
        let backend = Backend(
            service: nil, port: 1, appProtocol: .tcp,
            endpoints: [Rig.endpoint("hanging", hanging.port, through: isMeshed ? hanging.port : nil)])
        let rig = try Rig(servers: [], speaks: .tcp, stream: { _, _, _ in .forward(backend, route: nil) })
        var client: HTTPPeer? = try rig.connect()
        try client?.send("x")
        await rig.settled { $0.streams == 1 }
        client?.socket.resetOnClose()
        client = nil
        let stream = await rig.exchanges.closed.wait(count: 1).first
        #expect(stream?.end.flags == .clientEnd)
        await rig.settled(self.hasEnded)
        withExtendedLifetime(filling) {}
        await rig.stop()
    }
}
