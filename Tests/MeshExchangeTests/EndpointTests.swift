import Glibc
import MeshExchange
import MeshHTTP
import MeshIdentity
import MeshModel
import MeshRoutes
import MeshTestSupport
import MeshTunnel
import Testing

@Suite("Endpoints that are known by a name, and what they are told", .timeLimit(.minutes(3)))
struct EndpointTests {
    private static let dead = IPAddress(v4: 0x7f00_0009)

    /// The endpoint, by a name only.
    private static func named(_ endpoint: UpstreamEndpoint, _ host: String = "api.example") -> Backend {
        let nowhere = IPAddress(v4: 0)
        var route = endpoint.route
        if let port = route?.peer.port { route?.peer = IPEndpoint(address: nowhere, port: port) }
        return Backend(
            service: Rig.service, port: 80, appProtocol: .http11,
            endpoints: [
                UpstreamEndpoint(
                    workload: "api", address: IPEndpoint(address: nowhere, port: endpoint.key.address.port),
                    route: route, host: host)
            ])
    }

    private func rig(
        _ servers: [UInt16], _ resolver: FakeResolver, isMeshed: Bool = false,
        speaks: ServicePort.AppProtocol = .http11,
        configure: (inout TunnelConfiguration) -> Void = { _ in }
    ) throws -> Rig {
        try Rig(
            servers: servers, isMeshed: isMeshed, speaks: speaks, configureTunnel: configure, resolver: resolver,
            plan: { request, _, backend in
                // The second server, if there is one, has an address.
                if request.path == "/direct" {
                    return .forward(
                        ForwardPlan(
                            request: request,
                            backend: Backend(
                                service: nil, port: 80, appProtocol: .http11, endpoints: [backend.endpoints[1]])))
                }
                return .forward(ForwardPlan(request: request, backend: Self.named(backend.endpoints[0])))
            },
            stream: { _, _, backend in .forward(Self.named(backend.endpoints[0]), route: nil) })
    }

    @Test("the name is looked up once, and requests go to its address, in a tunnel or not", arguments: [false, true])
    func looksUp(isMeshed: Bool) async throws {
        let server = try HTTPServer { ok($0.target, "connection: close\r\n") }
        let resolver = FakeResolver { _ in .success(ResolvedHost(addresses: [Rig.loopback], lifetime: .seconds(60))) }
        let rig = try self.rig([server.port], resolver, isMeshed: isMeshed)
        try await offThread {
            let client = try rig.connect()
            for index in 0..<3 {
                try client.send(get("/\(index)"))
                #expect(try client.response().text == "/\(index)")
            }
        }
        for report in await rig.exchanges.reports.wait(count: 3) {
            #expect(report.ends.upstream == IPEndpoint(address: Rig.loopback, port: server.port))
            #expect(report.ends.upstreamIdentity == (isMeshed ? Rig.identity("server") : nil))
            #expect(report.ends.endpoint == "api")
        }
        #expect(resolver.asked.all.map(\.host) == ["api.example"])
        await rig.stop()
    }

    @Test("of several addresses another one is tried when one does not answer")
    func severalAddresses() async throws {
        let server = try HTTPServer { ok($0.target, "connection: close\r\n") }
        let resolver = FakeResolver { _ in
            .success(ResolvedHost(addresses: [Self.dead, Rig.loopback], lifetime: .seconds(60)))
        }
        let rig = try self.rig([server.port], resolver)
        try await offThread {
            let client = try rig.connect()
            for _ in 0..<8 {
                try client.send(get("/"))
                #expect(try client.response().status == 200)
            }
        }
        #expect(await rig.exchanges.reports.wait(count: 8).allSatisfy { $0.attempts == 1 && $0.flags.isEmpty })
        await rig.stop()
    }

    @Test("a name that leads nowhere is 503: no healthy upstream", arguments: [false, true])
    func unresolved(isSilent: Bool) async throws {
        let resolver = FakeResolver { isSilent ? nil : .failure(HostUnresolved("\($0) does not exist")) }
        let rig = try self.rig([1], resolver) { if isSilent { $0.lookupTimeout = .milliseconds(20) } }
        try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            let answer = try client.response()
            #expect(answer.status == 503 && answer.text == "no healthy upstream")
        }
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .noHealthyUpstream && report.details == "no_healthy_upstream")
        #expect(report.upstreamFailure?.contains("api.example") == true)
        await rig.stop()
    }

    @Test("a slow look-up holds up nobody else")
    func slow() async throws {
        let (named, direct) = (try HTTPServer.echo(), try HTTPServer.echo())
        let resolver = FakeResolver { _ in nil }
        let rig = try self.rig([named.port, direct.port], resolver) { $0.lookupTimeout = .seconds(120) }
        async let slow = offThread {
            let client = try rig.connect()
            try client.send(get("/slow"))
            return try client.response().text
        }
        let question = try #require(await resolver.asked.wait(count: 1).first)
        let other = try await offThread {
            let client = try rig.connect()
            try client.send(get("/direct"))
            return try client.response().text
        }
        #expect(other == "/direct" && named.requests.count == 0)
        question.completion(.success(ResolvedHost(addresses: [Rig.loopback], lifetime: .seconds(60))))
        #expect(try await slow == "/slow")
        _ = await rig.exchanges.reports.wait(count: 2)
        await rig.settled { $0.active == 0 && $0.waiting == 0 }
        await rig.stop()
    }

    @Test("streams go to names too, and end when these lead nowhere")
    func streams() async throws {
        let echo = try BlockingServer.echo()
        let resolver = FakeResolver { _ in .success(ResolvedHost(addresses: [Rig.loopback], lifetime: .seconds(60))) }
        let rig = try self.rig([echo.port], resolver, speaks: .tcp)
        try await offThread {
            let client = try rig.connect()
            try client.send("hello")
            client.finish()
            #expect(try client.toEnd() == Array("hello".utf8))
        }
        let stream = try #require(await rig.exchanges.closed.wait(count: 1).first)
        #expect(stream.report.ends.upstream?.port == echo.port && stream.end.flags.isEmpty)
        await rig.stop()

        let nowhere = try self.rig([1], FakeResolver { .failure(HostUnresolved("\($0) does not exist")) }, speaks: .tcp)
        try await offThread {
            let client = try nowhere.connect()
            _ = try? client.toEnd()
        }
        let refused = try #require(await nowhere.exchanges.closed.wait(count: 1).first)
        #expect(refused.end.flags == .noHealthyUpstream)
        await nowhere.stop()
    }

    // MARK: What the endpoint is told

    @Test("CONNECT says who we are and for which service; for a stream also for which client")
    func headers() async throws {
        let server = try HTTPServer.echo()
        let told: @Sendable (Backend) -> Backend = { backend in
            let endpoint = backend.endpoints[0]
            var route = endpoint.route
            route?.headers = [("baggage", "k8s.namespace.name=shop"), ("forwarded", "host=cart.example")]
            return Backend(
                service: Rig.service, port: 80, appProtocol: .http11,
                endpoints: [
                    UpstreamEndpoint(
                        workload: endpoint.workload, address: endpoint.key.address, route: route,
                        service: "cart.example")
                ])
        }
        for speaks: ServicePort.AppProtocol in [.http11, .tcp] {
            let rig = try Rig(
                servers: [server.port], isMeshed: true, speaks: speaks,
                plan: { .forward(ForwardPlan(request: $0, backend: told($2))) },
                stream: { .forward(told($2), route: nil) })
            try await offThread {
                let client = try rig.connect()
                try client.send(get("/"))
                #expect(try client.response().status == 200)
            }
            let asked = try #require(rig.asked.all.first)
            #expect(asked.headers.contains("baggage: k8s.namespace.name=shop"))
            #expect(asked.identity == Rig.identity("waypoint"))
            let forwarded = asked.headers.filter { $0.hasPrefix("forwarded: ") }
            if speaks == .tcp {
                #expect(forwarded.count == 1)
                #expect(forwarded[0].hasPrefix("forwarded: for=\"127.0.0.1:"))
                #expect(forwarded[0].hasSuffix("\";host=cart.example"))
            } else {
                #expect(forwarded == ["forwarded: host=cart.example"], "the connection serves several clients")
            }
            await rig.stop()
        }
    }

    // MARK: Behind a gateway

    /// The far engine's endpoint, through a gateway that lets everybody to its HBONE port.
    private static func behind(
        _ gateway: UInt16, _ endpoint: UpstreamEndpoint, expecting account: String = "server"
    ) -> Backend {
        guard let direct = endpoint.route else { preconditionFailure("the rig has no tunnels") }
        var route = direct
        route.peer = IPEndpoint(address: Rig.loopback, port: gateway)
        route.authority = direct.peer.description
        route.expected = [Rig.identity("gateway")]
        route.inner = InnerTunnel(
            authority: direct.authority, expected: [Rig.identity(account)],
            headers: [("x-forwarded-network", "here")], labels: { _, _ in nil })
        return Backend(
            service: Rig.service, port: 80, appProtocol: .http11,
            endpoints: [UpstreamEndpoint(workload: "gateway", address: route.peer, route: route, service: "cart:80")])
    }

    private final class Port: Sendable {
        private let value = Log<UInt16>()
        func set(_ port: UInt16) { self.value.add(port) }
        var get: UInt16 { self.value.all[0] }
    }

    private func rig(
        _ server: UInt16, speaks: ServicePort.AppProtocol = .http11, expecting account: String = "server"
    ) throws -> (rig: Rig, gateway: TunnelEngine) {
        let port = Port()
        let rig = try Rig(
            servers: [server], isMeshed: true, speaks: speaks,
            plan: {
                .forward(
                    ForwardPlan(
                        request: $0, backend: Self.behind(port.get, $2.endpoints[0], expecting: account)))
            },
            stream: { .forward(Self.behind(port.get, $2.endpoints[0], expecting: account), route: nil) })
        let gateway = try TunnelEngine(
            configuration: Rig.configuration(), view: FakeMesh(identity: Rig.identity("gateway")),
            certificates: rig.certificates, observer: SilentConnections())
        port.set(try gateway.addPod(Rig.pod("gateway"), namespace: -1).inboundTunnel)
        return (rig, gateway)
    }

    @Test("requests to another network go through its gateway, end to end encrypted, and use the connection again")
    func gateway() async throws {
        let server = try HTTPServer.echo()
        let (rig, gateway) = try self.rig(server.port)
        try await offThread {
            let client = try rig.connect()
            for index in 0..<3 {
                try client.send(get("/\(index)"))
                #expect(try client.response().text == "/\(index)")
            }
        }
        for report in await rig.exchanges.reports.wait(count: 3) {
            #expect(report.ends.upstreamIdentity == Rig.identity("server"), "not the gateway's")
            #expect(report.ends.endpoint == nil, "the gateway chose")
        }
        let asked = rig.asked.all
        #expect(asked.count == 1 && asked[0].identity == Rig.identity("waypoint"))
        #expect(asked[0].headers == ["x-forwarded-network: here"])
        #expect(gateway.statistics.inboundTunnels == 1)
        await rig.stop()
        await gateway.drain(deadline: .zero)
    }

    @Test("streams too: 1 MB each way arrives as it was sent")
    func gatewayStream() async throws {
        let echo = try BlockingServer.echo()
        let (rig, gateway) = try self.rig(echo.port, speaks: .tcp)
        let sent = patternBytes(1 << 20, seed: 3)
        let client = try rig.connect()
        async let received = offThread { try client.toEnd() }
        try await offThread {
            try client.socket.send(sent)
            client.finish()
        }
        let isIntact = try await received == sent
        #expect(isIntact)
        let stream = try #require(await rig.exchanges.closed.wait(count: 1).first)
        #expect(stream.end.flags.isEmpty && stream.report.ends.upstreamIdentity == Rig.identity("server"))
        await rig.settled { $0.streams == 0 && $0.active == 0 }
        await rig.stop()
        await gateway.drain(deadline: .zero)
    }

    @Test("who is behind the gateway has to prove that it belongs to the service")
    func gatewayIdentity() async throws {
        let server = try HTTPServer.echo()
        let (rig, gateway) = try self.rig(server.port, expecting: "somebody-else")
        try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            #expect(try client.response().status == 503)
        }
        let report = try #require(await rig.exchanges.reports.wait(count: 1).first)
        #expect(report.flags == .upstreamConnectionFailure)
        #expect(server.requests.count == 0)
        await rig.stop()
        await gateway.drain(deadline: .zero)
    }

    // MARK: How many, and who is passed over

    @Test("more requests at a time than the service takes are answered with 503, and places come back")
    func requestsMax() async throws {
        let (began, release) = (Log<Void>(), Log<Void>())
        let server = try HTTPServer(scripted: { peer, _ in
            while let request = try peer.request() {
                if request.target == "/slow" {
                    began.add(())
                    while release.count == 0 { usleep(1_000) }
                }
                try peer.send(ok(request.target))
            }
        })
        var balancing = BackendBalancing()
        balancing.requestsMax = 1
        let rig = try Rig(servers: [server.port], balancing: balancing)
        async let slow = offThread {
            let client = try rig.connect()
            try client.send(get("/slow"))
            return try client.response().status
        }
        await began.wait(count: 1)
        let status = try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            return try client.response().status
        }
        #expect(status == 503)
        release.add(())
        #expect(try await slow == 200)
        _ = await rig.exchanges.reports.wait(count: 2)
        let after = try await offThread {
            let client = try rig.connect()
            try client.send(get("/"))
            return try client.response().status
        }
        #expect(after == 200)
        let reports = await rig.exchanges.reports.wait(count: 3)
        #expect(reports[0].flags == .upstreamOverflow && reports[0].details == "overflow")
        await rig.stop()
    }

    @Test("an endpoint that fails too often is passed over, unless too many would be; or never")
    func ejection() async throws {
        func counts(_ change: (inout BackendBalancing) -> Void, isSecondBroken: Bool) async throws -> [Int] {
            let broken = "HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n"
            let first = try HTTPServer { _ in broken }
            let second = try HTTPServer { isSecondBroken ? broken : ok($0.target) }
            var balancing = BackendBalancing()
            balancing.choice = .roundRobin
            balancing.ejection.time = .seconds(600)
            change(&balancing)
            let rig = try Rig(servers: [first.port, second.port], balancing: balancing)
            try await offThread {
                let client = try rig.connect()
                for _ in 0..<12 {
                    try client.send(get("/"))
                    _ = try client.response()
                }
            }
            await rig.stop()
            return [first.requests.count, second.requests.count]
        }
        #expect(try await counts({ $0.ejection.failures = 2 }, isSecondBroken: false) == [2, 10])
        #expect(try await counts({ $0.ejection.failures = 0 }, isSecondBroken: false) == [6, 6])
        let gatewayOnly = try await counts(
            {
                $0.ejection.failures = 0
                $0.ejection.gatewayFailures = 1
            }, isSecondBroken: false)
        #expect(gatewayOnly == [6, 6], "500 is the application's own")
        let half = try await counts(
            {
                $0.ejection.failures = 1
                $0.ejection.percentMax = 50
            }, isSecondBroken: true)
        #expect(half == [1, 11], "one of two may be passed over, not both")
    }
}
