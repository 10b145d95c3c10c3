import MeshIdentity
import MeshLoop
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

@Suite("Revoked certificates at the tunnel", .timeLimit(.minutes(3)))
struct RevocationTests {
    private let ca: TestCA
    private let client, server: TestCA.Issued
    private let echo: BlockingServer

    init() throws {
        self.ca = try TestCA()
        self.echo = try BlockingServer.echo()
        self.client = try self.ca.issue(TwoPods.clientIdentity)
        self.server = try self.ca.issue(TwoPods.serverIdentity)
    }

    /// In both engines an empty list is in force.
    private func pods(
        client: TestCA.Issued? = nil, configure: (inout TunnelConfiguration) -> Void = { _ in }
    ) throws -> TwoPods {
        let pods = try TwoPods(
            target: self.echo.port, clientCertificates: OneCertificate(client ?? self.client),
            serverCertificates: OneCertificate(self.server), configure: configure)
        for engine in [pods.client, pods.server] { engine.publish(.list(try RevocationList([]))) }
        return pods
    }

    private func list(_ ca: TestCA, _ certificates: [UInt8]...) throws -> Revocation {
        .list(try RevocationList(TestCA.pem(list: try ca.revocationList(of: certificates))))
    }

    private func expectEchoes(_ pods: TwoPods) async throws {
        let socket = try pods.connect()
        try await self.expectEchoes(socket)
    }

    private func expectEchoes(_ socket: BlockingSocket) async throws {
        try await offThread {
            try socket.send([7])
            let back = try socket.receive(exactly: 1)
            #expect(back == [7])
        }
    }

    private func expectRefused(_ pods: TwoPods) async throws {
        let socket = try pods.connect()
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
    }

    @Test("W12: a revoked client is refused by the server, counted as destination; the client's connection fails")
    func revokedClient() async throws {
        let pods = try self.pods()
        pods.server.publish(try self.list(self.ca, self.client.chain[0]))
        try await self.expectRefused(pods)
        let reason = try await pods.serverObserver.firstRefused()
        #expect(reason.flag == .certificateRevoked && reason.text.contains("is revoked by the CRL"))
        let outbound = try await pods.clientObserver.firstClosed()
        #expect(outbound.end.error != nil)
        let logs = await pods.stop()
        #expect(!logs.server.revoked.isEmpty && logs.server.revoked.allSatisfy { $0 == .inbound })
        #expect(logs.client.revoked.isEmpty && logs.server.opened.isEmpty)
    }

    @Test("W12: a revoked server is refused by the client, counted as source, with flag CERT_REVOKED")
    func revokedServer() async throws {
        let pods = try self.pods()
        pods.client.publish(try self.list(self.ca, self.server.chain[0]))
        try await self.expectRefused(pods)
        let outbound = try await pods.clientObserver.firstClosed()
        #expect(outbound.end.flag == .certificateRevoked)
        #expect(outbound.end.error?.contains("is revoked by the CRL") == true)
        let logs = await pods.stop()
        #expect(logs.client.revoked == [.outbound] && logs.server.opened.isEmpty)
    }

    @Test("W12: an intermediate authority that its root revoked takes its leaves along")
    func revokedAuthority() async throws {
        let below = try self.ca.intermediate()
        let client = try below.issue(TwoPods.clientIdentity)
        let pods = try self.pods(client: client)
        try await self.expectEchoes(pods)
        pods.server.publish(try self.list(self.ca, client.chain[1]))
        let closed = try await pods.serverObserver.firstClosed()
        #expect(closed.end.flag == .certificateRevoked || closed.end.error == nil)
        try await self.expectRefused(pods)
        _ = await pods.stop()
    }

    @Test("a list speaks only for whoever signed it: an authority of the same name with another key has no say")
    func namesake() async throws {
        let pods = try self.pods()
        let namesake = try TestCA()
        for engine in [pods.client, pods.server] {
            engine.publish(try self.list(namesake, self.client.chain[0], self.server.chain[0]))
        }
        try await self.expectEchoes(pods)
        let logs = await pods.stop()
        #expect(logs.client.revoked.isEmpty && logs.server.revoked.isEmpty)
    }

    @Test("what is not revoked is served, also when the list should have been replaced long ago")
    func outdated() async throws {
        let pods = try self.pods()
        let other = try self.ca.issue(TwoPods.clientIdentity)
        let old = try self.ca.revocationList(of: [other.chain[0]], validity: -7200..<(-3600))
        for engine in [pods.client, pods.server] { engine.publish(.list(try RevocationList(old))) }
        try await self.expectEchoes(pods)
        pods.client.publish(
            .list(
                try RevocationList(try self.ca.revocationList(of: [self.server.chain[0]], validity: -7200..<(-3600)))))
        let cut = await pods.clientObserver.wait { $0.revoked.count == 1 }
        #expect(cut.revoked == [.outbound])
        try await self.expectRefused(pods)
        _ = await pods.stop()
    }

    @Test("a list that was asked for and never was readable: nobody is let in, until it is")
    func unreadable() async throws {
        let pods = try self.pods()
        pods.server.publish(.unreadable("list 1: not the encoding of a list"))
        try await self.expectRefused(pods)
        let reason = try await pods.serverObserver.firstRefused()
        #expect(reason.flag == .certificateRevoked)
        #expect(reason.text.contains("CRL_PATH") && reason.text.contains("list 1: not the encoding of a list"))
        pods.server.publish(try self.list(self.ca))
        try await self.expectEchoes(pods)
        _ = await pods.stop()
    }

    @Test(
        "W13: a list that comes later cuts the live connections of those it names, on either side",
        arguments: [true, false])
    func live(isServer: Bool) async throws {
        let pods = try self.pods()
        let socket = try pods.connect()
        try await self.expectEchoes(socket)
        // One that names others leaves it.
        let other = try self.ca.issue(TwoPods.clientIdentity)
        let engine = isServer ? pods.server : pods.client
        engine.publish(try self.list(self.ca, other.chain[0]))
        try await self.expectEchoes(socket)
        engine.publish(try self.list(self.ca, other.chain[0], (isServer ? self.client : self.server).chain[0]))
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        let observer = isServer ? pods.serverObserver : pods.clientObserver
        let closed = try await observer.firstClosed()
        #expect(closed.end.flag == .certificateRevoked)
        #expect(closed.end.error == "connection closed: peer certificate revoked by CRL")
        let logs = await pods.stop()
        #expect((isServer ? logs.server : logs.client).revoked == [isServer ? .inbound : .outbound])
        #expect(logs.client.mistakes.isEmpty && logs.server.mistakes.isEmpty)
    }

    @Test("W13: resting tunnels are cut too, all of many, over several turns of the loop")
    func resting() async throws {
        let pods = try self.pods(configure: { $0.streamsPerTunnelMax = 1 })
        var sockets: [BlockingSocket] = []
        for _ in 0..<20 {
            let socket = try pods.connect()
            try await self.expectEchoes(socket)
            sockets.append(socket)
        }
        #expect(pods.server.statistics.inboundTunnels == 20)
        pods.server.publish(try self.list(self.ca, self.client.chain[0]))
        let log = await pods.serverObserver.wait { $0.closed.count == 20 && $0.revoked.count == 20 }
        #expect(log.closed.allSatisfy { $0.end.flag == .certificateRevoked })
        try await eventually { pods.server.statistics.inboundTunnels == 0 }
        _ = await pods.stop()
    }

    @Test("where nobody asked for lists nothing is kept of peers; when they are asked for later, those are cut")
    func lateStart() async throws {
        let pods = try TwoPods(
            target: self.echo.port, clientCertificates: OneCertificate(self.client),
            serverCertificates: OneCertificate(self.server))
        let socket = try pods.connect()
        try await self.expectEchoes(socket)
        pods.server.publish(try self.list(self.ca))
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        try await self.expectEchoes(pods)
        _ = await pods.stop()
    }
}
