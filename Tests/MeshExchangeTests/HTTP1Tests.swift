import MeshExchange
import MeshHTTP
import MeshRoutes
import MeshTestSupport
import Testing

@Suite("HTTP/1.1 through a waypoint", .timeLimit(.minutes(3)))
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
}
