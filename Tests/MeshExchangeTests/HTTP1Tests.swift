import Glibc
import MeshExchange
import MeshHTTP
import MeshRoutes
import MeshTestSupport
import Testing

@Suite("HTTP/1 through a waypoint", .timeLimit(.minutes(3)))
struct HTTP1Tests {
    @Test("a connection carries one request after the other, on both sides", arguments: [false, true])
    func keepAlive(isMeshed: Bool) async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port], isMeshed: isMeshed)
        try await offThread {
            let client = try rig.connect()
            for index in 0..<5 {
                try client.send(get("/\(index)?q"))
                let response = try client.response()
                #expect(response.status == 200 && response.text == "/\(index)?q")
                #expect(response["connection"] == nil && response["server"] == "istio-envoy")
            }
        }
        let reports = await rig.exchanges.reports.wait(count: 5)
        #expect(reports.count == 5 && reports.allSatisfy { $0.flags.isEmpty && $0.response?.status == 200 })
        #expect(server.accepted.count == 1)
        await rig.settled { $0.connections == 0 && $0.active == 0 && $0.exchanges == 0 }
        await rig.stop()
    }

    @Test("requests sent ahead are answered in order, and asked one at a time")
    func pipelining() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        let texts = try await offThread {
            let client = try rig.connect()
            try client.send((0..<20).map { get("/\($0)") + post("/p", "body \($0)") }.joined())
            client.finish()
            return try (0..<40).map { _ in try client.response().text }
        }
        #expect(texts == (0..<20).flatMap { ["/\($0)", "body \($0)"] })
        #expect(server.accepted.count == 1, "never two at a time")
        #expect(await rig.exchanges.reports.wait(count: 40).count == 40)
        await rig.settled { $0.connections == 0 }
        await rig.stop()
    }

    @Test("the first byte alone, then two requests at once: none is lost")
    func cutWhereTheProtocolIsUnknown() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port], speaks: .unknown, configure: { $0.silenceTimeout = .seconds(60) })
        let texts = try await offThread {
            let client = try rig.connect()
            try client.send("G")
            try client.send(String((get("/1") + get("/2")).dropFirst()))
            return [try client.response().text, try client.response().text]
        }
        #expect(texts == ["/1", "/2"])
        await rig.stop()
    }

    @Test("chunks and trailers both ways")
    func chunked() async throws {
        let server = try HTTPServer(scripted: { peer, note in
            while let request = try peer.request() {
                note(request)
                try peer.send(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
                        + "3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-sum: 13\r\n\r\n")
            }
        })
        let rig = try Rig(servers: [server.port])
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(
                "POST / HTTP/1.1\r\nhost: cart\r\ntransfer-encoding: chunked\r\n\r\n"
                    + "5\r\nhello\r\n6\r\n world\r\n0\r\nx-end: yes\r\n\r\n")
            return try client.response()
        }
        #expect(response.text == "abc0123456789" && response.trailers.map(\.name) == ["x-sum"])
        let request = try #require(server.requests.all.first)
        #expect(request.text == "hello world" && request["transfer-encoding"] == "chunked")
        #expect(request.trailers.map(\.value) == ["yes"])
        await rig.stop()
    }

    @Test("the end of a response is where the request and the status say")
    func ends() async throws {
        let server = try HTTPServer { request in
            switch request.target {
            case "/204": "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"
            case "/304": "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n\r\n"
            case "/empty": "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            case "/hints": "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + ok("after")
            default: "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + (request.method == "HEAD" ? "" : "hello")
            }
        }
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            try client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
            #expect(try client.response(to: "HEAD")["content-length"] == "5")
            try client.send(get("/204"))
            let nothing = try client.response()
            #expect(nothing.status == 204 && nothing["content-length"] == nil)
            try client.send(get("/304"))
            #expect(try client.response()["etag"] == "x")
            try client.send(get("/empty"))
            #expect(try client.response()["content-length"] == "0")
            try client.send(get("/hints"))
            #expect(try client.response(informational: true).status == 103)
            #expect(try client.response().text == "after")
            try client.send(get("/"))
            #expect(try client.response().text == "hello")
        }
        #expect(server.accepted.count == 1)
        await rig.stop()
    }

    @Test("a response that ends with its connection has chunks for 1.1, and ends the connection for 1.0")
    func untilClose() async throws {
        let server = try HTTPServer(scripted: { peer, note in
            guard try peer.request() != nil else { return }
            try peer.send("HTTP/1.1 200 OK\r\n\r\nall of it")
        })
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            for _ in 0..<2 {
                try client.send(get("/"))
                let response = try client.response()
                #expect(response.text == "all of it" && response["transfer-encoding"] == "chunked")
            }
            try client.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            let response = try client.response()
            #expect(response.text == "all of it" && response["connection"] == "close")
            #expect(response["transfer-encoding"] == nil)
        }
        let reports = await rig.exchanges.reports.wait(count: 3)
        #expect(reports.map(\.version) == [.http11, .http11, .http10])
        await rig.stop()
    }

    @Test("HTTP/1.0 closes unless it is asked to stay")
    func version10() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            try client.send("GET /1 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            let first = try client.response()
            #expect(first.text == "/1" && first["connection"] == "keep-alive")
            try client.send("GET /2 HTTP/1.0\r\n\r\n")
            let second = try client.response()
            #expect(second.text == "/2" && second["connection"] == "close")
            #expect(try client.toEnd().isEmpty)
        }
        await rig.stop()
    }

    @Test("Expect: 100 is said when the request is taken, and not when it is refused")
    func expect() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(
            servers: [server.port],
            plan: { request, _, backend in
                request.path == "/no"
                    ? .answer(LocalAnswer(403, "no")) : .forward(ForwardPlan(request: request, backend: backend))
            })
        try await offThread {
            let client = try rig.connect()
            try client.send("POST /yes HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
            #expect(try client.response(informational: true).status == 100)
            try client.send("body")
            #expect(try client.response().text == "body")
            try client.send("POST /no HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
            let refused = try client.response(informational: true)
            #expect(refused.status == 403 && refused.text == "no" && refused["connection"] == "close")
            #expect(try client.toEnd().isEmpty)
        }
        #expect(server.requests.all.map { $0["expect"] } == [nil])
        await rig.stop()
    }

    @Test("targets of every form reach the endpoint as origin form")
    func targets() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            try client.send("GET http://shop:8080/x?y HTTP/1.1\r\nhost: other\r\n\r\n")
            #expect(try client.response().text == "/x?y")
            try client.send("GET HTTP://shop?y HTTP/1.1\r\nhost: other\r\n\r\n")
            #expect(try client.response().text == "/?y")
            try client.send("OPTIONS * HTTP/1.1\r\nhost: shop\r\n\r\n")
            #expect(try client.response().text == "*")
            try client.send("OPTIONS http://shop HTTP/1.1\r\nhost: shop\r\n\r\n")
            #expect(try client.response().text == "*")
        }
        #expect(server.requests.all.map { $0["host"] } == ["shop:8080", "shop", "shop", "shop"])
        await rig.stop()
    }

    @Test("an answer before the request's end ends the connection behind it")
    func earlyAnswer() async throws {
        let server = try HTTPServer(scripted: { peer, note in
            guard let head = try peer.head() else { return }
            note(head)
            try peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo much")
            _ = try peer.toEnd()
        })
        let rig = try Rig(servers: [server.port])
        let response = try await offThread {
            let client = try rig.connect()
            try client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbeginning")
            let response = try client.response()
            #expect(try client.toEnd().isEmpty)
            return response
        }
        #expect(response.status == 413 && response.text == "too much" && response["connection"] == "close")
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags.isEmpty && report.requestNanoseconds == nil)
        await server.ended.wait(count: 1)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 }
        await rig.stop()
    }

    @Test("a client that ends its side after its request is answered")
    func halfClose() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            try client.send(post("/", "all"))
            client.finish()
            #expect(try client.response().text == "all")
            #expect(try client.toEnd().isEmpty)
        }
        await rig.stop()
    }

    @Test("a client that leaves before its answer ends the endpoint's connection", arguments: [false, true])
    func clientLeaves(isMidBody: Bool) async throws {
        let server = try HTTPServer(scripted: { peer, note in
            guard let head = try peer.head() else { return }
            note(head)
            _ = try peer.toEnd()
        })
        let rig = try Rig(servers: [server.port])
        let log = server.requests
        try await offThread {
            let client = try rig.connect()
            if isMidBody {
                try client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nbeginning")
            } else {
                try client.send(get("/"))
            }
            client.socket.resetOnClose()
            while log.count == 0 { usleep(1_000) }
        }
        await server.ended.wait(count: 1)
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .clientEnd && report.response == nil)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 && $0.active == 0 }
        await rig.stop()
    }

    static let broken = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nnot all",
    ]

    @Test("a response that breaks off breaks off for the client too", arguments: broken)
    func truncated(text: String) async throws {
        let server = try HTTPServer(scripted: { peer, _ in
            guard try peer.request() != nil else { return }
            try peer.send(text)
        })
        let rig = try Rig(servers: [server.port])
        await #expect(throws: (any Error).self) {
            try await offThread {
                let client = try rig.connect()
                try client.send(get("/"))
                _ = try client.response()
            }
        }
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .upstreamConnectionEnd && report.response?.status == 200)
        await rig.settled { $0.connections == 0 && $0.upstreams == 0 }
        await rig.stop()
    }

    @Test("bytes behind a response are never the answer to another request")
    func surplus() async throws {
        let server = try HTTPServer(scripted: { peer, note in
            while let request = try peer.request() {
                note(request)
                try peer.send(ok("right") + ok("poison"))
            }
        })
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            for _ in 0..<3 {
                try client.send(get("/"))
                #expect(try client.response().text == "right")
            }
        }
        #expect(server.accepted.count == 3)
        await rig.stop()
    }

    @Test("an endpoint that breaks HTTP is answered for with 502")
    func endpointBroken() async throws {
        let server = try HTTPServer {
            $0.target == "/101" ? "HTTP/1.1 101 X\r\nupgrade: x\r\n\r\n" : "ICY 200 OK\r\n\r\n"
        }
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            for target in ["/", "/101"] {
                try client.send(get(target))
                #expect(try client.response().status == 502)
            }
        }
        let reports = await rig.exchanges.reports.wait(count: 2)
        #expect(reports.allSatisfy { $0.flags == .upstreamProtocolError })
        await rig.stop()
    }
}
