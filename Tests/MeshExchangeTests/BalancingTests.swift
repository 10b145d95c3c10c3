import MeshExchange
import MeshHTTP
import MeshRoutes
import MeshTestSupport
import Testing

@Suite("Which endpoint a request goes to", .timeLimit(.minutes(3)))
struct BalancingTests {
    /// So many requests; which of three endpoints they came to.
    private func endpoints(
        _ count: Int, balancing: BackendBalancing = BackendBalancing(),
        _ change: @escaping @Sendable (inout ForwardPlan, Int) -> Void = { _, _ in }
    ) async throws -> [String] {
        let servers = try (0..<3).map { _ in try HTTPServer.echo() }
        let rig = try Rig(
            servers: servers.map(\.port), balancing: balancing,
            plan: { request, _, backend in
                var plan = ForwardPlan(request: request, backend: backend)
                change(&plan, Int(request.path.dropFirst()) ?? 0)
                return .forward(plan)
            })
        try await offThread {
            let client = try rig.connect()
            for index in 0..<count {
                try client.send(get("/\(index)"))
                #expect(try client.response().status == 200)
            }
        }
        let reports = await rig.exchanges.reports.wait(count: count)
        await rig.stop()
        return reports.map { $0.ends.endpoint ?? "-" }
    }

    @Test("round robin takes them in turn")
    func roundRobin() async throws {
        var balancing = BackendBalancing()
        balancing.choice = .roundRobin
        let chosen = try await self.endpoints(9, balancing: balancing)
        #expect(chosen == (0..<9).map { "server-\($0 % 3)" })
    }

    @Test("a hash goes where it went before, and hashes spread")
    func hash() async throws {
        let chosen = try await self.endpoints(60) { plan, index in plan.hash = StableHash.of("user \(index % 20)".utf8)
        }
        for index in 0..<40 { #expect(chosen[index] == chosen[index + 20]) }
        #expect(Set(chosen).count == 3)
    }

    @Test("a session's workload is asked, as long as there is one")
    func pinned() async throws {
        let chosen = try await self.endpoints(6) { plan, index in
            // At last nobody of that name.
            plan.pinned = StableHash.of((index < 5 ? "server-1" : "server-9").utf8)
        }
        #expect(chosen.dropLast().allSatisfy { $0 == "server-1" })
    }

    @Test("by default all of them are used")
    func leastRequest() async throws {
        #expect(Set(try await self.endpoints(60)).count == 3)
    }

    @Test("messages of gRPC are counted however they are cut", arguments: [1, 2, 3, 7, 100])
    func messages(piece: Int) {
        let bytes: [UInt8] = [0, 0, 0, 0, 3, 1, 2, 3, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0] + [UInt8](repeating: 9, count: 256)
        var counter = GRPCMessageCounter()
        var messages: UInt64 = 0
        var at = 0
        while at < bytes.count {
            let end = min(bytes.count, at + piece)
            messages += bytes[at..<end].withUnsafeBytes { counter.count($0) }
            at = end
        }
        #expect(messages == 3)
    }
}
