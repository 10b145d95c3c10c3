import MeshXDS
import Testing

@Suite("The pace of Envoys' configuration")
struct EnvoyPaceTests {
    @Test("the more is sent, the longer the rest, within a bound")
    func rest() {
        #expect(EnvoyPace.rest(after: 500) == .microseconds(250))
        #expect(EnvoyPace.rest(after: 260_000) == .milliseconds(130))
        #expect(EnvoyPace.rest(after: 50_000_000) == .seconds(1))
    }

    @Test("after much of it the server rests, and then publishes what came meanwhile")
    func server() async throws {
        let server = XDSServer(authenticator: OneToken(token: "good"), logger: LoopbackTests.logger(.critical))
        server.becomeReady()
        let running = Task { await server.run() }
        defer { running.cancel() }
        func apply(_ key: String, bytes: Int) {
            let name = EnvoyResourceSet.Name(type: XDSType.routes, name: "80")
            let resource = EncodedResource(
                type: name.type, name: name.name, bytes: [UInt8](repeating: 1, count: bytes))
            server.apply(envoys: key, [name: resource])
        }
        func published(_ key: String) async throws {
            for _ in 0..<1000 where !server.hasEnvoyResources(key) { try await Task.sleep(for: .milliseconds(10)) }
            try #require(server.hasEnvoyResources(key))
        }
        let start = ContinuousClock.now
        apply("ns/many", bytes: 600_000)
        try await published("ns/many")
        apply("ns/few", bytes: 100)
        try await published("ns/few")
        #expect(ContinuousClock.now - start >= .milliseconds(300))
    }
}
