import MeshHTTP
import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// A client that speaks to the HBONE port frame by frame.
@Suite("On the wire of the HBONE port", .timeLimit(.minutes(3)))
struct WireTests {
    /// Runs `body` with a raw client of a server engine whose application echoes.
    private func withClient(
        configure: (inout TunnelConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (RawTunnel, _ authority: String) throws -> Void
    ) async throws -> RecordingObserver.Log {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, ca: ca, configureServer: configure)
        let issued = try ca.issue(TwoPods.clientIdentity)
        try await offThread {
            let socket = try BlockingSocket.connect(port: pods.serverPorts.inboundTunnel)
            try body(RawTunnel(socket, .client, issued), "127.0.0.1:\(echo.port)")
        }
        let logs = await pods.stop()
        #expect(logs.server.mistakes.isEmpty)
        return logs.server
    }

    private static func status(_ frame: RawTunnel.Frame) -> String? {
        if case .headers(_, let list, _) = frame { list[":status"] } else { nil }
    }

    @Test("I11: every method but CONNECT is answered with 400", arguments: ["GET", "POST", "OPTIONS"])
    func onlyConnect(method: String) async throws {
        let log = try await self.withClient { client, authority in
            try client.send(
                client.headers(
                    1, [":method": method, ":scheme": "https", ":authority": authority, ":path": "/"],
                    endStream: true))
            let answer = try client.next()
            #expect(Self.status(answer) == "400")
        }
        #expect(log.refused.count == 1 && log.refused[0].text.contains("only CONNECT"))
    }

    @Test("an authority without a port is answered with 400")
    func noPort() async throws {
        let log = try await self.withClient { client, _ in
            try client.send(client.connect(1, "server.default"))
            let answer = try client.next()
            #expect(Self.status(answer) == "400")
        }
        #expect(log.refused.count == 1)
    }

    @Test("the answer carries the view's headers, and bytes sent before it are not lost")
    func early() async throws {
        _ = try await self.withClient { client, authority in
            try client.send(client.connect(1, authority) + RawTunnel.data(1, [1, 2, 3], endStream: true))
            guard case .headers(1, let list, endStream: false) = try client.next() else {
                Issue.record("no answer")
                return
            }
            #expect(list[":status"] == "200")
            #expect(list["baggage"] == "k8s.cluster.name=test")
            var body: [UInt8] = []
            while case .data(1, let bytes, let end) = try client.next() {
                body += bytes
                if end { break }
            }
            #expect(body == [1, 2, 3])
        }
    }

    @Test("many frames in one record and many records in one packet are all read")
    func nothingStaysInTheLibrary() async throws {
        _ = try await self.withClient { client, authority in
            try client.send(client.connect(1, authority))
            let answer = try client.next()
            #expect(Self.status(answer) == "200")
            // 2 000 frames of one byte: several records, fewer packets, one edge.
            let sent = patternBytes(2_000, seed: 2)
            try client.send(sent.flatMap { RawTunnel.data(1, [$0]) } + RawTunnel.data(1, [], endStream: true))
            var body: [UInt8] = []
            while case .data(1, let bytes, let end) = try client.next() {
                body += bytes
                if end { break }
            }
            #expect(body == sent)
        }
    }

    @Test("a peer that ignores the stream window loses its stream, not the connection")
    func windowExceeded() async throws {
        _ = try await self.withClient(
            configure: {
                $0.streamWindowBytes = 70_000
                $0.tunnelWindowBytes = 1 << 20
            },
            { client, authority in
                // The target never accepts, so the window cannot reopen in between.
                let hanging = try BlockingServer(handler: nil)
                let fillers = (0..<2).map { _ in try? BlockingSocket.connect(port: hanging.port, waiting: false) }
                defer { withExtendedLifetime((hanging, fillers)) {} }
                var bytes = client.connect(1, "127.0.0.1:\(hanging.port)")
                for _ in 0..<10 { bytes += RawTunnel.data(1, [UInt8](repeating: 0, count: 16_000)) }
                try client.send(bytes)
                var frame = try client.next()
                while frame != .reset(1, .flowControlError) { frame = try client.next() }
                try client.send(client.connect(3, authority))
                frame = try client.next()
                #expect(Self.status(frame) == "200")
            })
    }

    @Test("more streams than allowed are refused without being processed")
    func refusedStream() async throws {
        _ = try await self.withClient(configure: { $0.inboundStreamsMax = 1 }) { client, authority in
            try client.send(client.connect(1, authority))
            let answer = try client.next()
            #expect(Self.status(answer) == "200")
            try client.send(client.connect(3, authority))
            let second = try client.next()
            #expect(second == .reset(3, .refusedStream))
        }
    }

    @Test("PING is answered")
    func ping() async throws {
        _ = try await self.withClient { client, _ in
            var bytes: [UInt8] = []
            HTTP2FrameWriter.appendPing(opaque: 42, ack: false, to: &bytes)
            try client.send(bytes)
            let answer = try client.next()
            #expect(answer == .ping(42, ack: true))
        }
    }

    @Test("a peer that answers no PING is given up")
    func silence() async throws {
        _ = try await self.withClient(
            configure: {
                $0.pingInterval = .milliseconds(30)
                $0.pingTimeout = .milliseconds(60)
            },
            { client, _ in
                guard case .ping(_, ack: false) = try client.next() else {
                    Issue.record("no PING came")
                    return
                }
                let end = try client.next()
                #expect(end == .goAway(last: 0, .noError))
            })
    }

    @Test("what is no HTTP/2 gets GOAWAY")
    func broken() async throws {
        _ = try await self.withClient { client, _ in
            try client.send([0, 0, 1, 8, 0, 0, 0, 0, 0, 0])
            let answer = try client.next()
            #expect(answer == .goAway(last: 0, .frameSizeError))
        }
    }

    @Test("a client's reset resets the target's connection")
    func reset() async throws {
        let log = try await self.withClient { client, authority in
            try client.send(client.connect(1, authority))
            let answer = try client.next()
            #expect(Self.status(answer) == "200")
            var bytes: [UInt8] = []
            HTTP2FrameWriter.appendReset(stream: HTTP2StreamID(1), code: .cancel, to: &bytes)
            HTTP2FrameWriter.appendPing(opaque: 1, ack: false, to: &bytes)
            try client.send(bytes)
            let pong = try client.next()
            #expect(pong == .ping(1, ack: true))
        }
        #expect(log.closed.map(\.end.error) == ["the other side reset the stream: CANCEL"])
    }

    @Test("GOAWAY that names our stream as unprocessed: the connection goes to a new tunnel")
    func unprocessed() async throws {
        let ca = try TestCA()
        let issued = try ca.issue(TwoPods.serverIdentity)
        let gate = Gate()
        let server = try BlockingServer { socket in
            do {
                let tunnel = try RawTunnel(socket, .server, issued)
                guard case .headers(let id, _, _) = try tunnel.next() else { return }
                guard gate.isOpenElseOpen() else {
                    var bytes: [UInt8] = []
                    HTTP2FrameWriter.appendGoAway(lastStream: .connection, code: .noError, to: &bytes)
                    try tunnel.send(bytes)
                    _ = try? tunnel.next()
                    return
                }
                try tunnel.send(tunnel.headers(id, [":status": "200"]))
                try tunnel.send(RawTunnel.data(id, [8], endStream: true))
                while true { _ = try tunnel.next() }
            } catch {}
        }
        let pods = try TwoPods(
            target: 9, ca: ca,
            route: { _, good in
                var route = good
                route.peer = IPEndpoint(address: TwoPods.loopback, port: server.port)
                return .tunnel(route)
            })
        let received = try await offThread { try pods.connect().receiveToEnd() }
        #expect(received == [8])
        #expect(pods.client.statistics.outboundHandshakes == 2)
        let logs = await pods.stop()
        #expect(logs.client.opened.count == 1 && logs.client.mistakes.isEmpty)
    }
}
