import MeshExchange
import MeshTestSupport
import Testing

@Suite("Requests that could mean two things, sent to a waypoint", .timeLimit(.minutes(3)))
struct SmugglingTests {
    @Test("each is refused with its status, the connection closes, and no endpoint hears of it")
    func corpus() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port], needsHTTP: true)
        try await offThread {
            for (text, status) in SmuggledRequests.all {
                let client = try rig.connect()
                try client.send(text.unicodeScalars.map { UInt8($0.value) } + Array(get("/smuggled").utf8))
                let response = try client.response()
                #expect(response.status == status, "\(text.debugDescription)")
                #expect(response["connection"] == "close", "\(text.debugDescription)")
                #expect(try client.toEnd().isEmpty, "nothing behind it is answered: \(text.debugDescription)")
            }
        }
        let reports = await rig.exchanges.reports.wait(count: SmuggledRequests.all.count)
        #expect(reports.map { $0.response?.status } == SmuggledRequests.all.map(\.status))
        #expect(reports.allSatisfy { $0.flags == .clientProtocolError && $0.ends.service == Rig.service })
        #expect(server.accepted.count == 0)
        await rig.settled { $0.connections == 0 }
        await rig.stop()
    }

    @Test(
        "targets that two hops would read differently are refused",
        arguments: ["/a#b", "http://a#b/", "http://u@a/", "http:///x", "a:80", "foo", "http://a\\b/", "*"])
    func targets(target: String) async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(get(target) + get("/smuggled"))
            let response = try client.response()
            #expect(try client.toEnd().isEmpty)
            return response
        }
        #expect(response.status == 400)
        #expect(server.accepted.count == 0)
        await rig.stop()
    }

    @Test("CONNECT inside the tunnel is refused")
    func connect() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        let status = try await offThread {
            let client = try rig.connect()
            try client.send("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n")
            return try client.response().status
        }
        #expect(status == 405)
        #expect(server.accepted.count == 0)
        await rig.stop()
    }

    @Test("a body that breaks ends the endpoint's connection at once, and nothing behind it is a request")
    func brokenBody() async throws {
        let asked = Log<HTTPPeer.Message>()
        let server = try HTTPServer(scripted: { peer, _ in
            guard let head = try peer.head() else { return }
            asked.add(head)
            _ = try peer.toEnd()
        })
        let rig = try Rig(servers: [server.port])
        let client = try rig.connect()
        try client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await asked.wait(count: 1)
        let response = try await offThread {
            try client.send("5\r\nhello!\r\n" + get("/smuggled"))
            let response = try client.response()
            #expect(try client.toEnd().isEmpty)
            return response
        }
        #expect(response.status == 400 && response["connection"] == "close")
        await server.ended.wait(count: 1)
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .clientProtocolError && report.response?.status == 400)
        await rig.settled { $0.upstreams == 0 && $0.active == 0 && $0.connections == 0 }
        #expect(asked.count == 1 && server.accepted.count == 1)
        await rig.stop()
    }

    @Test(
        "an upgrade to a protocol of requests is ignored", arguments: ["h2c", "HTTP/2.0", "TLS/1.0", "websocket, h2c"])
    func upgrades(name: String) async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        let text = try await offThread {
            let client = try rig.connect()
            try client.send(
                get("/", "connection: upgrade, http2-settings\r\nupgrade: \(name)\r\nhttp2-settings: AAMAAABk\r\n"))
            return try client.response().text
        }
        #expect(text == "/")
        let request = try #require(server.requests.all.first)
        #expect(request["upgrade"] == nil && request["connection"] == nil && request["http2-settings"] == nil)
        await rig.stop()
    }
}
