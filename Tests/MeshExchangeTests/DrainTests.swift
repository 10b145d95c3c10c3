import Glibc
import MeshExchange
import MeshRoutes
import MeshTestSupport
import Testing

@Suite("A waypoint that ends", .timeLimit(.minutes(3)))
struct DrainTests {
    @Test(
        "idle connections close when they stay so, busy ones behind their answer, and nobody is cut off",
        arguments: [false, true])
    func drain(isMeshed: Bool) async throws {
        let mayAnswer = Log<Void>()
        let asked = Log<Void>()
        let server = try HTTPServer(scripted: { peer, note in
            while let request = try peer.request() {
                note(request)
                if request.target == "/slow" {
                    try peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
                    asked.add(())
                    while mayAnswer.count == 0 { usleep(1_000) }
                    try peer.send("world")
                } else {
                    try peer.send(ok("quick"))
                }
            }
        })
        let rig = try Rig(
            servers: [server.port], isMeshed: isMeshed, configure: { $0.drainQuiet = .milliseconds(20) })
        let (idle, busy, silent) = (try rig.connect(), try rig.connect(), try rig.connect())
        try await offThread {
            try idle.send(get("/"))
            _ = try idle.response()
            try busy.send(get("/slow"))
        }
        await asked.wait(count: 1)
        await rig.settled { $0.connections == 3 }
        async let drained: Void = rig.waypoint.drain(deadline: .seconds(120))
        let left = try await offThread { try idle.toEnd() + silent.toEnd() }
        #expect(left.isEmpty)
        mayAnswer.add(())
        try await offThread {
            let response = try busy.response()
            #expect(response.text == "helloworld")
            #expect(try busy.toEnd().isEmpty, "its head could not say so any more, but it closes")
        }
        // Well before its deadline: nothing is left that it would have to wait for.
        await drained
        #expect(rig.exchanges.reports.count == 2)
        await rig.client.drain(deadline: .zero)
        await rig.far?.drain(deadline: .zero)
    }

    @Test("a request that comes while the waypoint ends is answered, and told to go elsewhere")
    func lastRequest() async throws {
        let mayAnswer = Log<Void>()
        let asked = Log<Void>()
        let server = try HTTPServer(scripted: { peer, _ in
            guard try peer.request() != nil else { return }
            asked.add(())
            while mayAnswer.count == 0 { usleep(1_000) }
            try peer.send(ok("late"))
        })
        let rig = try Rig(servers: [server.port], configure: { $0.drainQuiet = .milliseconds(20) })
        let client = try rig.connect()
        try await offThread { try client.send(get("/") + get("/next")) }
        await asked.wait(count: 1)
        await rig.settled { $0.exchanges == 1 }
        async let drained: Void = rig.waypoint.drain(deadline: .seconds(120))
        // The other connection is told of the end: from then on it holds for everybody.
        let other = try rig.connect()
        try await offThread { _ = try? other.toEnd() }
        mayAnswer.add(())
        let response = try await offThread { try client.response() }
        #expect(response.text == "late" && response["connection"] == "close")
        let rest = try await offThread { try client.toEnd() }
        #expect(rest.isEmpty, "the one behind it was not looked at")
        await drained
        await rig.client.drain(deadline: .zero)
    }

    @Test("who was idle when the end began may ask once more, also on a connection that never was used")
    func onceMore() async throws {
        let server = try HTTPServer { _ in ok("still here") }
        let rig = try Rig(servers: [server.port], configure: { $0.drainQuiet = .seconds(100) })
        let (kept, fresh) = (try rig.connect(), try rig.connect())
        try await offThread {
            try kept.send(get("/"))
            _ = try kept.response()
        }
        await rig.settled { $0.connections == 2 }
        async let drained: Void = rig.waypoint.drain(deadline: .seconds(120))
        try await offThread {
            var isLast = false
            while !isLast {
                try kept.send(get("/"))
                let response = try kept.response()
                #expect(response.text == "still here")
                isLast = response["connection"] == "close"
            }
            #expect(try kept.toEnd().isEmpty)
            try fresh.send(get("/"))
            let response = try fresh.response()
            #expect(response.text == "still here" && response["connection"] == "close")
            #expect(try fresh.toEnd().isEmpty)
        }
        // Long before anybody was silent for too long.
        await drained
        await rig.client.drain(deadline: .zero)
    }

    @Test(
        "many requests of many connections leave nothing behind, and are reported once each", arguments: [false, true])
    func nothingLeft(isMeshed: Bool) async throws {
        let server = try HTTPServer { request in
            switch request.target {
            case "/no": nil
            case "/busy": "HTTP/1.1 503 No\r\ncontent-length: 1\r\n\r\nx"
            default: ok(request.text)
            }
        }
        let rig = try Rig(
            servers: [server.port], isMeshed: isMeshed,
            plan: { request, _, backend in
                var plan = ForwardPlan(request: request, backend: backend)
                plan.retry = RetryPolicy(codes: [503], attempts: 1, backoff: .milliseconds(1))
                return .forward(plan)
            })
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<20 {
                group.addTask {
                    try await offThread {
                        let client = try rig.connect()
                        for index in 0..<10 {
                            try client.send(post(["/", "/no", "/busy"][index % 3], "body"))
                            _ = try client.response()
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(await rig.exchanges.reports.wait(count: 200).count == 200)
        await rig.settled {
            $0.connections == 0 && $0.exchanges == 0 && $0.retries == 0 && $0.waiting == 0 && $0.active == 0
        }
        // What is kept for the next request waits for one, and nothing else.
        let left = await rig.settled { $0.upstreams == $0.idleUpstreams }
        #expect(left.upstreams <= 20)
        await rig.stop()
        #expect(rig.exchanges.reports.count == 200)
    }

    @Test("the waypoint is gone with everything in it, however it was left")
    func noCycles() async throws {
        weak var port: FakePort?
        do {
            let server = try HTTPServer(scripted: { peer, note in
                guard let request = try peer.request() else { return }
                note(request)
                _ = try peer.toEnd()
            })
            let rig = try Rig(servers: [server.port])
            port = rig.port
            let clients = [try rig.connect(), try rig.connect(), try rig.connect()]
            try await offThread {
                try clients[0].send(get("/"))
                try clients[1].send("POST / HTTP/1.1\r\nhost: a\r\n")
            }
            await server.requests.wait(count: 1)
            await rig.settled { $0.connections == 3 && $0.exchanges == 1 }
            await rig.stop()
            #expect(rig.exchanges.reports.count == 1)
        }
        // The last turn of the loops may hold something for a moment.
        while port != nil, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(2)) }
        #expect(port == nil)
    }
}
