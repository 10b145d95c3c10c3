import MeshIdentity
import MeshTestSupport
import MeshTunnel
import Testing

@Suite("Trust domain aliases", .timeLimit(.minutes(2)))
struct TrustDomainAliasTests {
    private static func identity(_ domain: String, _ account: String) -> WorkloadIdentity {
        WorkloadIdentity(trustDomain: domain, namespace: "default", serviceAccount: account)
    }

    private func isServed(_ pods: TwoPods) async -> Bool {
        do {
            return try await offThread {
                let socket = try pods.connect()
                try socket.send([7])
                return try socket.receive(exactly: 1) == [7]
            }
        } catch { return false }
    }

    @Test(
        "a client of an alias is served and keeps its name; of another domain it is refused",
        arguments: [("old.example", true), ("other.example", false)])
    func inbound(domain: String, isServed: Bool) async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(
            target: echo.port, clientIdentity: Self.identity(domain, "client"),
            configureServer: { $0.trustDomainAliases = ["old.example"] })
        #expect(await self.isServed(pods) == isServed)
        let logs = await pods.stop()
        #expect(logs.server.opened.first?.peerIdentity == (isServed ? Self.identity(domain, "client") : nil))
    }

    @Test(
        "a server may prove an alias of what is expected, never another account, never a foreign domain",
        arguments: [
            ("old.example", "server", true), ("old.example", "other", false), ("other.example", "server", false),
        ])
    func outbound(domain: String, account: String, isServed: Bool) async throws {
        let echo = try BlockingServer.echo()
        // The server proves cluster.local; the client expects something else.
        let pods = try TwoPods(
            target: echo.port, expected: [Self.identity(domain, account)],
            configure: { $0.trustDomainAliases = ["old.example"] })
        #expect(await self.isServed(pods) == isServed)
        if !isServed { #expect(try await pods.clientObserver.firstClosed().end.flag == .identityError) }
        _ = await pods.stop()
    }
}
