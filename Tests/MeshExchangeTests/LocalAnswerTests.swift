import MeshExchange
import MeshHTTP
import MeshRoutes
import MeshTestSupport
import Testing

@Suite("Answers of the waypoint itself, and copies of requests", .timeLimit(.minutes(3)))
struct LocalAnswerTests {
    @Test("a local answer has what a client needs, and the connection goes on")
    func plain() async throws {
        let rig = try Rig(
            servers: [],
            plan: { request, _, _ in
                if request.path == "/moved" {
                    var answer = LocalAnswer(302, route: "shop/moved")
                    answer.response.fields.append("location", "http://there/")
                    return .answer(answer)
                }
                return .answer(
                    LocalAnswer(
                        403, "RBAC: access denied", flags: .denied,
                        details: "rbac_access_denied_matched_policy[shop/no]"))
            })
        try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            let denied = try client.response()
            #expect(denied.status == 403 && denied.text == "RBAC: access denied" && denied["date"] != nil)
            #expect(denied["content-type"] == "text/plain" && denied["server"] == "istio-envoy")
            try client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
            let head = try client.response(to: "HEAD")
            #expect(head.status == 403 && head["content-length"] == "19")
            try client.send(get("/moved"))
            let moved = try client.response()
            #expect(moved.status == 302 && moved["location"] == "http://there/" && moved["content-length"] == "0")
        }
        let reports = await rig.exchanges.reports.wait(count: 3)
        #expect(reports.map(\.flags) == [.denied, .denied, []])
        #expect(reports[0].details == "rbac_access_denied_matched_policy[shop/no]" && reports[0].attempts == 0)
        #expect(reports[2].route == "shop/moved" && reports[2].response?.status == 302)
        await rig.stop()
    }

    @Test(
        "a call of gRPC is answered in its own terms", arguments: [(403, "7"), (401, "16"), (503, "14"), (404, "12")])
    func gRPC(status: Int, code: String) async throws {
        let rig = try Rig(servers: [], plan: { _, _, _ in .answer(LocalAnswer(status, "why: 100%\n", flags: .denied)) })
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(post("/shop.Cart/Get", "", "content-type: application/grpc+proto\r\n"))
            return try client.response()
        }
        #expect(response.status == 200 && response["content-type"] == "application/grpc")
        #expect(response["grpc-status"] == code && response["grpc-message"] == "why: 100%25%0A")
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.isGRPC && report.grpcStatus == UInt32(code) && report.flags == .denied)
        await rig.stop()
    }

    @Test("a service that is not served any more: 404 and NR")
    func unserved() async throws {
        let server = try HTTPServer.echo()
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            #expect(try client.response().status == 200)
            rig.port.stopServing()
            try client.send(get("/"))
            #expect(try client.response().status == 404)
        }
        let reports = await rig.exchanges.reports.wait(count: 2)
        #expect(reports.map(\.flags) == [[], .noRoute])
        await rig.stop()
    }

    @Test("what the endpoint is told, and what the client")
    func fields() async throws {
        let server = try HTTPServer { _ in ok("", "server: mine\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n")
        }
        let rig = try Rig(
            servers: [server.port],
            plan: { request, _, backend in
                var plan = ForwardPlan(request: request, backend: backend)
                plan.route = "shop/main/0"
                plan.changeResponse = { head, workload in head.fields.append("x-workload", workload) }
                return .forward(plan)
            })
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(get("/", "connection: x-mine\r\nx-mine: 1\r\nte: trailers, deflate\r\nkeep-alive: 9\r\n"))
            return try client.response()
        }
        #expect(response["x-workload"] == "server-0" && response["server"] == "istio-envoy")
        #expect(response["x-hop"] == nil && response["keep-alive"] == nil)
        #expect(response["x-envoy-upstream-service-time"] != nil)
        let request = try #require(server.requests.all.first)
        #expect(request["x-mine"] == nil && request["keep-alive"] == nil)
        #expect(request["x-forwarded-proto"] == "http" && request["x-request-id"]?.utf8.count == 36)
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.route == "shop/main/0" && report.ends.endpoint == "server-0")
        #expect(report.ends.clientIdentity == Rig.identity("client") && report.ends.service == Rig.service)
        #expect(report.upstreamNanoseconds != nil && report.responseNanoseconds != nil)
        await rig.stop()
    }

    @Test("a copy is sent with its body, and its answer is nobody's", arguments: ["/ok", "/breaks", "/unreachable"])
    func mirror(kind: String) async throws {
        let server = try HTTPServer.echo()
        let copies = try HTTPServer { request in
            kind == "/breaks" ? nil : ok("of the copy", "x-copy: 1\r\n")
        }
        let nobody = try ReservedPort()
        let mirror = Backend(
            service: nil, port: 1, appProtocol: .http11,
            endpoints: [Rig.endpoint("copy", kind == "/unreachable" ? nobody.port : copies.port)])
        let rig = try Rig(
            servers: [server.port],
            plan: { request, _, backend in
                var plan = ForwardPlan(request: request, backend: backend)
                var copy = request
                copy.authority = "copy"
                plan.mirrors = [ForwardPlan.Mirror(request: copy, backend: mirror)]
                return .forward(plan)
            })
        let body = String(repeating: "x", count: 50_000)
        try await offThread {
            let client = try rig.connect()
            for _ in 0..<3 {
                try client.send(post("/", body))
                let response = try client.response()
                #expect(response.status == 200 && response.text == body && response["x-copy"] == nil)
            }
        }
        if kind == "/ok" {
            let requests = await copies.requests.wait(count: 3)
            #expect(requests.allSatisfy { $0.text == body && $0["host"] == "copy" })
        }
        let reports = await rig.exchanges.reports.wait(count: 3)
        #expect(reports.count == 3 && reports.allSatisfy { $0.flags.isEmpty })
        await rig.settled { $0.active == 0 && $0.waiting == 0 && $0.exchanges == 0 }
        await rig.stop()
        #expect(rig.exchanges.reports.count == 3)
    }
}
