import MeshExchange
import MeshHTTP
import MeshRoutes
import MeshTestSupport
import Testing

@Suite("Attempts at endpoints", .timeLimit(.minutes(3)))
struct RetryTests {
    private static func retrying(
        _ codes: [Int] = [503], attempts: Int = 2, backoff: Duration = .milliseconds(2),
        timeouts: RouteTimeouts = RouteTimeouts()
    ) -> @Sendable (RequestHead, RequestOrigin, Backend) -> ExchangePlan {
        { request, _, backend in
            var plan = ForwardPlan(request: request, backend: backend)
            plan.retry = RetryPolicy(codes: codes, attempts: attempts, backoff: backoff)
            plan.timeouts = timeouts
            return .forward(plan)
        }
    }

    /// Answers 503, or closes without an answer for `/close`.
    private static func failing() throws -> HTTPServer {
        try HTTPServer { request in
            request.target == "/close" ? nil : "HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy"
        }
    }

    @Test("a status of the route's list is tried elsewhere, with the whole body", arguments: ["/", "/close"])
    func elsewhere(target: String) async throws {
        let bad = [try Self.failing(), try Self.failing()]
        let good = try HTTPServer.echo()
        let rig = try Rig(servers: bad.map(\.port) + [good.port], plan: Self.retrying())
        try await offThread {
            let client = try rig.connect()
            for index in 0..<6 {
                try client.send(post(target, "body \(index)"))
                let response = try client.response()
                #expect(response.status == 200 && response.text == "body \(index)")
            }
        }
        let reports = await rig.exchanges.reports.wait(count: 6)
        #expect(reports.allSatisfy { $0.flags.isEmpty && $0.ends.endpoint == "server-2" && $0.attempts <= 3 })
        #expect(good.requests.count == 6)
        #expect((bad[0].requests.count + bad[1].requests.count) == reports.reduce(0) { $0 + $1.attempts - 1 })
        await rig.settled { $0.retries == 0 && $0.active == 0 }
        await rig.stop()
    }

    @Test("attempts are counted, and the last answer is passed on with URX")
    func exhausted() async throws {
        let bad = try Self.failing()
        let rig = try Rig(servers: [bad.port], plan: Self.retrying(attempts: 2))
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            return try client.response()
        }
        #expect(response.status == 503 && response.text == "busy")
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.attempts == 3 && report.flags == .retriesExhausted && report.details == nil)
        #expect(bad.requests.count == 3)
        await rig.settled { $0.retries == 0 }
        await rig.stop()
    }

    @Test("other statuses, and routes without retries, are asked once")
    func notTried() async throws {
        let server = try Self.failing()
        let rig = try Rig(servers: [server.port, server.port], plan: Self.retrying([500]))
        let backend = rig.backend
        try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            #expect(try client.response().status == 503)
            rig.port.change { request, _ in .forward(ForwardPlan(request: request, backend: backend)) }
            try client.send(get("/"))
            #expect(try client.response().status == 503)
            // What may not be asked twice.
            try client.send(post("/close", ""))
            #expect(try client.response().status == 503)
        }
        let reports = await rig.exchanges.reports.wait(count: 3)
        #expect(reports.map(\.attempts) == [1, 1, 1])
        #expect(reports.map(\.flags) == [[], [], .upstreamConnectionEnd])
        #expect(server.requests.count == 3)
        await rig.stop()
    }

    @Test("a body is kept up to 64 KiB, and a longer one is sent once", arguments: [64 << 10, (64 << 10) + 1])
    func bodies(length: Int) async throws {
        // The last byte is read before the answer, so that the whole body was there to be kept.
        let server = try Self.failing()
        let rig = try Rig(servers: [server.port], plan: Self.retrying(attempts: 1))
        let body = String(repeating: "x", count: length)
        let status = try await offThread {
            let client = try rig.connect()
            try client.send(post("/", body))
            return try client.response().status
        }
        #expect(status == 503)
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.attempts == (length > 64 << 10 ? 1 : 2))
        #expect(server.requests.all.allSatisfy { $0.body.count == length })
        await rig.stop()
    }

    @Test("a long body whose connection breaks is never sent again without its beginning")
    func longBodyBreaks() async throws {
        let server = try HTTPServer(scripted: { peer, note in
            guard let head = try peer.head() else { return }
            note(head)
            _ = try peer.bytes(100_000)
        })
        let rig = try Rig(servers: [server.port, server.port], plan: Self.retrying(attempts: 3))
        let status = try await offThread {
            let client = try rig.connect()
            try client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n")
            try client.send(patternBytes(100_000, seed: 1))
            return try client.response().status
        }
        #expect(status == 503)
        #expect(server.requests.count == 1)
        await rig.stop()
    }

    @Test("an endpoint that cannot be reached is passed over, also where the route says nothing of retries")
    func unreachable() async throws {
        let nobody = try ReservedPort()
        let good = try HTTPServer.echo()
        let rig = try Rig(servers: [nobody.port, good.port])
        try await offThread {
            let client = try rig.connect()
            for index in 0..<8 {
                try client.send(post("/", "body \(index)"))
                #expect(try client.response().text == "body \(index)")
            }
        }
        let reports = await rig.exchanges.reports.wait(count: 8)
        #expect(reports.allSatisfy { $0.flags.isEmpty && $0.ends.endpoint == "server-1" })
        await rig.settled { $0.waiting == 0 && $0.active == 0 }
        await rig.stop()
    }

    @Test("nobody can be reached: 503 and UF", arguments: [false, true])
    func nobody(isMeshed: Bool) async throws {
        let nobody = try ReservedPort()
        let rig = try Rig(servers: [nobody.port], isMeshed: isMeshed)
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            return try client.response()
        }
        #expect(response.status == 503 && response["content-type"] == "text/plain")
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags.contains(.upstreamConnectionFailure) && report.upstreamFailure != nil)
        await rig.settled { $0.upstreams == 0 && $0.waiting == 0 && $0.active == 0 }
        await rig.stop()
    }

    @Test("a backend without endpoints: 503 and UH")
    func noEndpoints() async throws {
        let rig = try Rig(servers: [])
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            return try client.response()
        }
        #expect(response.status == 503 && response.text == "no healthy upstream")
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .noHealthyUpstream && report.details == "no_healthy_upstream" && report.attempts == 0)
        await rig.stop()
    }

    @Test("an attempt that takes too long is tried elsewhere; when all do: 504")
    func attemptTimeout() async throws {
        let silent = try HTTPServer(scripted: { peer, note in
            guard let request = try peer.request() else { return }
            note(request)
            _ = try peer.toEnd()
        })
        let good = try HTTPServer.echo()
        var timeouts = RouteTimeouts()
        timeouts.backendRequest = .milliseconds(100)
        // A machine under load may let the good one miss its time too: then it is asked again.
        let rig = try Rig(servers: [silent.port, good.port], plan: Self.retrying(attempts: 20, timeouts: timeouts))
        try await offThread {
            let client = try rig.connect()
            for _ in 0..<4 {
                try client.send(get("/x"))
                #expect(try client.response().text == "/x")
            }
        }
        let all = Backend(
            service: nil, port: 1, appProtocol: .http11, endpoints: [Rig.endpoint("silent", silent.port)])
        let plan = Self.retrying(attempts: 1, timeouts: timeouts)
        rig.port.change { plan($0, $1, all) }
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            return try client.response()
        }
        #expect(response.status == 504 && response.text == "upstream request timeout")
        let report = try #require(await rig.exchanges.reports.wait(count: 5).last)
        #expect(report.flags.contains(.upstreamTimeout) && report.details == "response_timeout")
        #expect(report.attempts == 2)
        await rig.settled { $0.active == 0 && $0.exchanges == 0 && $0.retries == 0 }
        await rig.stop()
    }

    @Test("the whole takes too long: 504, and nobody is asked any more")
    func requestTimeout() async throws {
        let silent = try HTTPServer(scripted: { peer, note in
            guard let request = try peer.request() else { return }
            note(request)
            _ = try peer.toEnd()
        })
        var timeouts = RouteTimeouts()
        timeouts.request = .milliseconds(100)
        let rig = try Rig(servers: [silent.port], plan: Self.retrying(timeouts: timeouts))
        let response = try await offThread {
            let client = try rig.connect()
            try client.send(post("/", "x"))
            return try client.response()
        }
        #expect(response.status == 504)
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .upstreamTimeout && report.attempts == 1)
        await silent.ended.wait(count: 1)
        await rig.settled { $0.active == 0 && $0.upstreams == 0 }
        await rig.stop()
    }

    @Test("retries beyond the budget are not made: UO")
    func budget() async throws {
        let bad = try Self.failing()
        var balancing = BackendBalancing()
        balancing.retryBudgetPercent = 0
        balancing.retriesMin = 0
        let rig = try Rig(servers: [bad.port], balancing: balancing, plan: Self.retrying())
        let status = try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            return try client.response().status
        }
        #expect(status == 503)
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.attempts == 1 && report.flags == .upstreamOverflow)
        #expect(bad.requests.count == 1)
        await rig.stop()
    }

    @Test("a connection that closed while idle is no failure for what may be asked twice")
    func stale() async throws {
        // Reads the second request and closes: as if it had closed just before.
        let server = try HTTPServer(scripted: { peer, note in
            guard let first = try peer.request() else { return }
            note(first)
            try peer.send(ok("fine"))
            if let second = try peer.request() { note(second) }
        })
        let rig = try Rig(servers: [server.port])
        try await offThread {
            let client = try rig.connect()
            for method in ["GET", "GET", "PUT", "POST"] {
                try client.send("\(method) / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab")
                let response = try client.response()
                // The second and the fourth met the connection of the one before.
                #expect(response.status == (method == "POST" ? 503 : 200), "\(method)")
            }
        }
        let reports = await rig.exchanges.reports.wait(count: 4)
        #expect(reports.map(\.attempts) == [1, 2, 2, 1])
        #expect(server.requests.all.allSatisfy { $0.text == "ab" })
        await rig.stop()
    }
}
