import MeshTelemetry
import MeshTestSupport
import NIOPosix
import Testing

@Suite("HTTP endpoints")
struct HTTPEndpointsTests {
    /// Sends raw bytes and reads to the end of the connection. On a thread of its own: the server gives a head two
    /// seconds, and a task may wait longer than that for its turn while other suites work.
    private func exchange(_ port: Int, _ request: String) async throws -> String {
        try await offThread {
            let socket = try BlockingSocket.connect(port: UInt16(port))
            try socket.send(request.utf8)
            return String(decoding: try socket.receiveToEnd(), as: UTF8.self)
        }
    }

    private func get(_ path: String, _ method: String = "GET", headers: String = "") -> String {
        "\(method) \(path) HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\(headers)\r\n"
    }

    private func serve(_ routes: [EndpointRoute], _ body: (Int) async throws -> Void) async throws {
        let server = try await HTTPEndpoints.bind(
            [.init(host: "127.0.0.1", port: 0)], routes: routes, group: MultiThreadedEventLoopGroup.singleton)
        do {
            try await body(server.ports[0])
        } catch {
            await server.close()
            throw error
        }
        await server.close()
    }

    @Test("readiness says what is missing")
    func readiness() async throws {
        let readiness = Readiness(pending: ["b", "a"])
        try await self.serve([.readiness(readiness)]) { port in
            let pending = try await self.exchange(port, self.get("/healthz/ready"))
            #expect(pending.hasPrefix("HTTP/1.1 500 "))
            #expect(pending.hasSuffix("\r\n\r\nnot ready, pending: a, b\n"))
            readiness.done("a")
            readiness.done("b")
            let ready = try await self.exchange(port, self.get("/healthz/ready"))
            #expect(ready.hasPrefix("HTTP/1.1 200 "))
            #expect(ready.hasSuffix("\r\n\r\nready\n"))
            #expect(try await self.exchange(port, self.get("/healthz/ready", "POST")).hasPrefix("HTTP/1.1 405 "))
            #expect(try await self.exchange(port, self.get("/other")).hasPrefix("HTTP/1.1 404 "))
        }
    }

    @Test("metrics are typed as OpenMetrics for those who ask", arguments: ["/metrics", "/stats/prometheus"])
    func metrics(path: String) async throws {
        let registry = MetricsRegistry()
        registry.counter("c_total", "C").with().add()
        try await self.serve(EndpointRoute.metrics(registry)) { port in
            let plain = try await self.exchange(port, self.get(path))
            #expect(plain.contains("content-type: text/plain; charset=utf-8\r\n"))
            #expect(plain.hasSuffix("# TYPE c_total counter\nc_total 1\n"))
            let open = try await self.exchange(
                port, self.get(path, headers: "accept: application/openmetrics-text;version=1.0.0,*/*\r\n"))
            #expect(open.contains("content-type: application/openmetrics-text;charset=utf-8;version=1.0.0\r\n"))
            #expect(open.hasSuffix("# TYPE c counter\nc_total 1\n# EOF\n"))
        }
    }

    @Test("answers several requests of one connection in order")
    func keepAlive() async throws {
        let echo = EndpointRoute("/e") { .text(String(decoding: $0.body, as: UTF8.self) + "|") }
        try await self.serve([echo]) { port in
            let first = "POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\none"
            let last = "POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\ntwo"
            let text = try await self.exchange(port, first + last)
            let one = try #require(text.firstRange(of: "one|"))
            let two = try #require(text.firstRange(of: "two|"))
            #expect(one.lowerBound < two.lowerBound)
        }
    }

    @Test("refuses a body that is too long, and nonsense")
    func hostile() async throws {
        try await self.serve([EndpointRoute("/e") { _ in .text("never") }]) { port in
            let refused = try await self.exchange(
                port, "POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n")
            #expect(refused.hasPrefix("HTTP/1.1 413 "))
            #expect(try await self.exchange(port, "\u{1}\u{2}\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
            // Who is slow with the head is cut off.
            #expect(try await self.exchange(port, "GET / HTTP/1.1\r\nho") == "")
        }
    }

    @Test("a failing route is a 500 with the reason")
    func failing() async {
        struct Broken: Error, CustomStringConvertible { let description = "the store is gone" }
        let answer = await [EndpointRoute("/") { _ in throw Broken() }].answer(
            EndpointRequest(method: "GET", path: "/"))
        #expect(answer.status == 500)
        #expect(String(decoding: answer.body, as: UTF8.self) == "the store is gone\n")
    }

    @Test("a port that is taken is an error with its name")
    func taken() async throws {
        try await self.serve([]) { port in
            let error = await #expect(throws: EndpointBindError.self) {
                _ = try await HTTPEndpoints.bind(
                    [.init(host: "127.0.0.1", port: port)], routes: [], group: MultiThreadedEventLoopGroup.singleton)
            }
            #expect(error?.description.contains("127.0.0.1:\(port)") == true)
        }
    }

    @Test("splits and decodes the target")
    func target() {
        let (path, query) = RequestTarget.split("/a%20b?level=x%3Ddebug&reset&empty=&bad=%zz%4")
        #expect(path == "/a b")
        #expect(query.map(\.name) == ["level", "reset", "empty", "bad"])
        #expect(query.map(\.value) == ["x=debug", nil, "", "%zz%4"])
    }
}
