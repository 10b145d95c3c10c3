import Glibc
import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

@Suite("Connections that come before the mesh knows enough", .timeLimit(.minutes(3)))
struct WaitingTests {
    private static let unknown = RefusalReason(.connect, "pod default/x is not known", kind: .unknownPod)
    private static let echoed: [UInt8] = [5, 6, 7]

    private func echo(_ pods: TwoPods) throws -> [UInt8] {
        let socket = try pods.connect()
        try socket.send(Self.echoed)
        return try socket.receive(exactly: Self.echoed.count)
    }

    /// Every view after the first knows.
    private func expectWait(
        _ pods: TwoPods, asked: Mutexed<Int>, port: UInt16? = nil, know: @escaping () -> Void
    ) async throws {
        let port = port ?? pods.clientPorts.outbound
        async let answer = offThread {
            let socket = try BlockingSocket.connect(port: port)
            try socket.send(Self.echoed)
            return try socket.receive(exactly: Self.echoed.count)
        }
        try await eventually { asked.value.withLock { $0 } > 0 }
        know()
        let back = try await answer
        #expect(back == Self.echoed)
    }

    @Test("L12: an outbound connection waits for its pod, and is asked again when the mesh changes")
    func outbound() async throws {
        let echo = try BlockingServer.echo()
        let asked = Mutexed(0)
        let pods = try TwoPods(
            target: echo.port,
            route: { _, _ in
                asked.value.withLock { $0 += 1 }
                return .wait(Self.unknown)
            })
        let tunnel = pods.tunnel
        try await self.expectWait(pods, asked: asked) {
            // Still unknown; then known.
            pods.client.publish(FakeView(identity: nil, route: { _ in .wait(Self.unknown) }))
            pods.client.publish(FakeView(identity: TwoPods.clientIdentity, route: { _ in .tunnel(tunnel) }))
        }
        let logs = await pods.stop()
        #expect(logs.client.refused.isEmpty && logs.client.opened.count == 1)
    }

    @Test("L12: captured plaintext waits for its pod")
    func plaintext() async throws {
        let echo = try BlockingServer.echo()
        let asked = Mutexed(0)
        let pods = try TwoPods(
            target: echo.port,
            admit: { _ in
                asked.value.withLock { $0 += 1 }
                return .wait(status: 503, Self.unknown)
            })
        try await self.expectWait(pods, asked: asked, port: pods.serverPorts.inboundPlaintext) {
            pods.server.publish(FakeView(identity: TwoPods.serverIdentity))
        }
        _ = await pods.stop()
    }

    @Test("L12: a tunnel waits for the identity that the pod proves, and its streams for the policies that judge them")
    func tunnel() async throws {
        let echo = try BlockingServer.echo()
        let asked = Mutexed(0)
        let pods = try TwoPods(target: echo.port)
        pods.server.publish(FakeView(identity: nil))
        async let answer = offThread { try self.echo(pods) }
        // The TCP connection stands; its handshake waits.
        try await eventually { pods.client.statistics.outboundTunnels == 1 }
        pods.server.publish(
            FakeView(
                identity: TwoPods.serverIdentity,
                admit: { _ in
                    asked.value.withLock { $0 += 1 }
                    return .wait(status: 401, RefusalReason(.deny, "policy p is not known", kind: .policy))
                }))
        try await eventually { asked.value.withLock { $0 } > 0 }
        pods.server.publish(FakeView(identity: TwoPods.serverIdentity))
        let back = try await answer
        #expect(back == Self.echoed)
        let logs = await pods.stop()
        #expect(logs.server.refused.isEmpty)
    }

    @Test("L13: who is never known is refused at the deadline, with the reason, and counted")
    func never() async throws {
        let pods = try TwoPods(
            target: 9, admit: { _ in .wait(status: 503, Self.unknown) }, route: { _, _ in .wait(Self.unknown) },
            configure: { $0.knowledgeTimeout = .milliseconds(50) },
            configureServer: {
                $0.knowledgeTimeout = .milliseconds(50)
                $0.handshakeTimeout = .milliseconds(500)
            })
        for port in [pods.clientPorts.outbound, pods.serverPorts.inboundPlaintext] {
            await #expect(throws: BlockingSocket.Failure.self, "a reset, not an empty answer") {
                try await offThread { try BlockingSocket.connect(port: port).receiveToEnd() }
            }
        }
        #expect(try await pods.clientObserver.firstRefused() == Self.unknown)
        #expect(try await pods.serverObserver.firstRefused() == Self.unknown)
        pods.server.publish(FakeView(identity: nil))
        // The loop may take the first of them before it has the new view; that one ends for want of a handshake, and not by
        // a reset.
        func refusals() -> [RefusalReason] { Array(pods.serverObserver.log.refused.dropFirst()) }
        var received: [UInt8]?
        repeat {
            received = try? await offThread {
                try BlockingSocket.connect(port: pods.serverPorts.inboundTunnel).receiveToEnd()
            }
        } while refusals().last?.kind != .unknownPod
        #expect(received == nil, "a reset, not an empty answer")
        _ = await pods.stop()
    }

    @Test("L13: a stream that policy cannot judge gets its status at the deadline")
    func neverJudged() async throws {
        let echo = try BlockingServer.echo()
        let reason = RefusalReason(.deny, "policy p is not known", kind: .policy)
        let pods = try TwoPods(
            target: echo.port, admit: { _ in .wait(status: 401, reason) },
            configureServer: { $0.knowledgeTimeout = .milliseconds(50) })
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try self.echo(pods) } }
        #expect(try await pods.clientObserver.firstClosed().end.error?.contains("http status: 401") == true)
        #expect(try await pods.serverObserver.firstRefused() == reason)
        _ = await pods.stop()
    }

    @Test(
        "a live connection that policy cannot judge any more has until the deadline; one whose pod is unknown goes on")
    func doubt() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configureServer: { $0.knowledgeTimeout = .milliseconds(50) })
        let socket = try pods.connect()
        func exchange() async throws {
            try await offThread {
                try socket.send([1])
                let back = try socket.receive(exactly: 1)
                #expect(back == [1])
            }
        }
        try await exchange()
        pods.server.publish(
            FakeView(identity: TwoPods.serverIdentity, admit: { _ in .wait(status: 503, Self.unknown) }))
        try await Task.sleep(for: .milliseconds(200))
        try await exchange()
        let missing = FakeView(
            identity: TwoPods.serverIdentity,
            admit: { _ in .wait(status: 401, RefusalReason(.deny, "policy p is not known", kind: .policy)) })
        pods.server.publish(missing)
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try socket.receiveToEnd() } }
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.error == "connection closed due to policy change")
        _ = await pods.stop()
    }

    @Test("a pod that leaves and a proxy that ends send the waiting away")
    func ending() async throws {
        let asked = Mutexed(0)
        let pods = try TwoPods(
            target: 9,
            route: { _, _ in
                asked.value.withLock { $0 += 1 }
                return .wait(Self.unknown)
            }, configure: { $0.knowledgeTimeout = .seconds(3600) })
        async let first = offThread { try? pods.connect().receiveToEnd() }
        try await eventually { asked.value.withLock { $0 } == 1 }
        pods.client.removePod(uid: TwoPods.clientPod.uid)
        #expect(try await first == nil)
        #expect(try await pods.clientObserver.firstRefused().kind == .ending)
        let ports = try pods.client.addPod(TwoPods.clientPod, namespace: -1)
        async let second = offThread { try? BlockingSocket.connect(port: ports.outbound).receiveToEnd() }
        try await eventually { asked.value.withLock { $0 } == 2 }
        _ = await pods.stop()
        #expect(try await second == nil)
    }

    @Test("many live connections are asked in pieces, all of them, by the newest view")
    func pieces() async throws {
        // Four descriptors each.
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let sockets = try await offThread {
            try (0..<300).map { _ in
                let socket = try BlockingSocket.connect(port: pods.serverPorts.inboundPlaintext)
                try socket.send([1])
                _ = try socket.receive(exactly: 1)
                return socket
            }
        }
        for _ in 0..<20 { pods.server.publish(FakeView(identity: TwoPods.serverIdentity)) }
        pods.server.publish(
            FakeView(
                identity: TwoPods.serverIdentity,
                admit: { _ in .refuse(status: 401, RefusalReason(.deny, "denied"), labels: nil) }))
        let log = await pods.serverObserver.wait { $0.closed.count == 300 }
        #expect(log.closed.allSatisfy { $0.end.flag == .deny })
        withExtendedLifetime(sockets) {}
        _ = await pods.stop()
    }

    // MARK: Host names

    private static let loopback = IPAddress(v4: 0x7f00_0001)

    @Test("W11: a host name is looked up once for all who wait, and remembered")
    func hostname() async throws {
        let echo = try BlockingServer.echo()
        let resolver = FakeResolver()
        let pods = try TwoPods(
            target: echo.port, resolver: resolver,
            route: { question, _ in
                guard case .success(let addresses) = question.hosts["vm.example.com"] else {
                    return .resolve(host: "vm.example.com")
                }
                return .passthrough(to: IPEndpoint(address: addresses[0], port: echo.port), labels: Labels())
            })
        async let one = offThread { try self.echo(pods) }
        async let other = offThread { try self.echo(pods) }
        try await eventually { resolver.asked.count == 1 }
        // Both are there before the answer.
        try await Task.sleep(for: .milliseconds(50))
        resolver.answer("vm.example.com", .success(ResolvedHost(addresses: [Self.loopback])))
        #expect(try await one == Self.echoed)
        #expect(try await other == Self.echoed)
        #expect(try await offThread { try self.echo(pods) } == Self.echoed)
        #expect(resolver.asked == ["vm.example.com"])
        _ = await pods.stop()
    }

    @Test("a name without an answer is given up at its deadline, and one without an address says so")
    func unresolved() async throws {
        let resolver = FakeResolver(["bad": .failure(HostUnresolved("no such name"))])
        let pods = try TwoPods(
            target: 9, resolver: resolver,
            route: { question, _ in
                if question.hosts.isEmpty { return .resolve(host: "bad") }
                if question.hosts["bad"] != nil, question.hosts["silent"] == nil { return .resolve(host: "silent") }
                return .refuse(RefusalReason(.connect, "resolved?"), labels: nil)
            }, configure: { $0.lookupTimeout = .milliseconds(50) })
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try self.echo(pods) } }
        let refusal = try await pods.clientObserver.firstRefused()
        #expect(refusal.kind == .noAddress && refusal.text.contains("silent"))
        #expect(resolver.asked == ["bad", "silent"])
        _ = await pods.stop()
    }

    @Test("a mesh that asks for ever more names is stopped")
    func endless() async throws {
        let resolver = FakeResolver(
            Dictionary(
                uniqueKeysWithValues: (0..<50).map {
                    ("h\($0)", .success(ResolvedHost(addresses: [Self.loopback])))
                }))
        let pods = try TwoPods(
            target: 9, resolver: resolver, route: { question, _ in .resolve(host: "h\(question.hosts.count)") })
        await #expect(throws: BlockingSocket.Failure.self) { try await offThread { try self.echo(pods) } }
        #expect(try await pods.clientObserver.firstRefused().text.contains("in vain"))
        _ = await pods.stop()
    }
}

/// A locked value that closures share.
final class Mutexed<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
}
