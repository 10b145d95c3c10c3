import MeshDNS
import MeshModel
import MeshNameService
import MeshProxy
import MeshTelemetry
import MeshTunnel
import NIOPosix
import Testing

private struct Nowhere: LogDestination { func write(_ bytes: [UInt8]) {} }

/// A name service for the pod `ns1/client`, and the mesh as a test describes it.
struct NameBench {
    var world = World.withClient
    var settings = DNSSettings()
    let registry: MetricsRegistry
    let metrics: DNSMetrics
    var log = MeshLog(destination: Nowhere())

    init() {
        self.registry = MetricsRegistry()
        self.metrics = DNSMetrics(self.registry, budget: SeriesBudget())
        self.settings.port = 0
        self.settings.mark = 0
        self.settings.address = IPAddress("127.0.0.1")!
        self.settings.reusesPort = false
    }

    func service(_ resolvers: [IPEndpoint]) -> DNSService {
        let group = MultiThreadedEventLoopGroup.singleton
        let service = DNSService(
            self.settings,
            forwarder: DNSForwarder(resolvers: resolvers, limits: self.settings.limits, group: group),
            metrics: self.metrics, log: self.log, group: group)
        service.publish(self.world.snapshot)
        return service
    }

    /// Starts a service for one pod, and stops it after the body.
    func serving<Value: Sendable>(
        _ resolvers: [IPEndpoint], pod served: EnrolledPod = pod("client"),
        _ body: (DNSService, UInt16) async throws -> Value
    ) async throws -> Value {
        let service = self.service(resolvers)
        let port = try await onFreePort { try service.start(served, namespace: -1) }
        defer { service.stop(uid: served.uid) }
        return try await body(service, port)
    }

    /// One question to a service of its own.
    func ask(
        _ text: String, _ type: DNSRecordType = .a, over transport: DNSTransport, edns: UInt16? = nil,
        pod served: EnrolledPod = pod("client"), script: ScriptedResolver.Script? = nil, from host: String = "127.0.0.1"
    ) async throws -> Message {
        let script = script ?? { bytes, _ in [resolved(bytes, [IPAddress("9.9.9.9")!])] }
        return try await ScriptedResolver.with(script) { resolver in
            try await self.serving([resolver.endpoint], pod: served) { _, port in
                let peer = try await DNSPeer(port, transport, from: host)
                let answer = try await peer.ask(question(text, type, edns: edns))
                await peer.close()
                return try Message(answer)
            }
        }
    }
}

private let both: [DNSTransport] = [.udp, .tcp]

/// A service of any host name.
private func host(
    _ hostname: String, _ vips: String..., namespace: String = "ns1", change: (inout Service) -> Void = { _ in }
) -> Service {
    var service = Service(name: hostname, namespace: namespace, hostname: hostname)
    service.addresses = vips.map { NetworkAddress(network: "", address: IPAddress($0)!) }
    change(&service)
    return service
}

private func isForwarded(_ message: Message) -> Bool {
    !message.isAuthoritative && message.lines.first?.hasSuffix(" A 9.9.9.9") == true
}

@Suite("Names, as a pod asks for them", .timeLimit(.minutes(5)))
struct DNSServiceTests {
    @Test("D1 another type than an address is forwarded, also for a host that is known", arguments: both)
    func otherType(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(host("www.google.com", "1.1.1.1"))
        let answer = try await bench.ask("www.google.com", .ns, over: transport) { bytes, _ in [resolved(bytes, [])] }
        #expect(!answer.isAuthoritative && answer.answers.isEmpty && answer.authorities.isEmpty)
    }

    @Test("D2 a known external host is answered, authoritatively", arguments: both)
    func external(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(host("www.google.com", "1.1.1.1"))
        let answer = try await bench.ask("www.google.com", over: transport)
        #expect(answer.isAuthoritative)
        #expect(
            answer.answers == [.init(owner: "www.google.com.", type: .a, ttl: 30, data: "1.1.1.1")])
        #expect(answer.header.flags & DNSHeader.recursionAvailable != 0)
    }

    @Test("D3 a known external host with a search domain behind: an alias and the address", arguments: both)
    func externalSearch(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(host("www.google.com", "1.1.1.1"))
        let answer = try await bench.ask("www.google.com.ns1.svc.cluster.local", over: transport)
        #expect(
            answer.lines == [
                "www.google.com. A 1.1.1.1", "www.google.com.ns1.svc.cluster.local. CNAME www.google.com.",
            ])
        #expect(answer.answers.first?.type == .cname)
    }

    @Test("D4 an unknown host is forwarded, and comes back with all that was in it", arguments: both)
    func unknown(transport: DNSTransport) async throws {
        let extra: [UInt8] = [0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 5, 0, 3, 2, 0x68, 0x69]
        let answer = try await NameBench().ask("www.bing.com", over: transport) { bytes, _ in
            [resolved(bytes, [IPAddress("1.2.3.4")!], additionals: [extra])]
        }
        #expect(!answer.isAuthoritative)
        #expect(answer.answers == [.init(owner: "www.bing.com.", type: .a, ttl: 77, data: "1.2.3.4")])
        #expect(answer.additionals.map(\.type) == [.txt])
    }

    @Test("D5 short, half and full name of a service: one address, under the name as it was asked", arguments: both)
    func forms(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(service("productpage", "10.0.0.5"))
        for text in [
            "productpage", "productpage.ns1", "productpage.ns1.svc", "productpage.ns1.svc.cluster.local",
            "ProductPage.ns1",
        ] {
            let answer = try await bench.ask(text, over: transport)
            #expect(answer.lines == ["\(text). A 10.0.0.5"] && answer.isAuthoritative)
        }
    }

    @Test(
        "D6 a half name with a search domain behind: an alias to the half name; of the other family nothing",
        arguments: both)
    func halfSearch(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(service("productpage", "10.0.0.5"))
        let text = "productpage.ns1.ns1.svc.cluster.local"
        #expect(
            try await bench.ask(text, over: transport).answers == [
                .init(owner: "\(text).", type: .cname, ttl: 30, data: "productpage.ns1."),
                .init(owner: "productpage.ns1.", type: .a, ttl: 30, data: "10.0.0.5"),
            ])
        #expect(try await bench.ask(text, .aaaa, over: transport).isEmptyAnswer)
    }

    @Test("D7 a service of another namespace needs its namespace", arguments: both)
    func otherNamespace(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(service("example", "10.0.0.6", namespace: "ns2"))
        for text in ["example.ns2", "example.ns2.svc", "example.ns2.svc.cluster.local"] {
            #expect(try await bench.ask(text, over: transport).lines == ["\(text). A 10.0.0.6"])
        }
        #expect(isForwarded(try await bench.ask("example", over: transport)))
    }

    @Test("D8 a service that only its namespace sees", arguments: both)
    func visibility(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(
            service("hidden", "10.0.0.7", namespace: "ns2") { $0.visibility = .namespace },
            service("own", "10.0.0.8") { $0.visibility = .namespace })
        #expect(isForwarded(try await bench.ask("hidden.ns2", over: transport)))
        #expect(try await bench.ask("own", over: transport).lines == ["own. A 10.0.0.8"])
        #expect(
            try await bench.ask("hidden", over: transport, pod: pod("x", "ns2")).lines == ["hidden. A 10.0.0.7"])
    }

    @Test("D9 a service of another domain: by its full name all addresses, by a short one none", arguments: both)
    func remoteDomain(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(host("details.ns2.svc.cluster.remote", "11.0.0.1", "11.0.0.2", "11.0.0.3", namespace: "ns2"))
        let text = "details.ns2.svc.cluster.remote"
        #expect(
            try await bench.ask(text, over: transport).lines
                == ["\(text). A 11.0.0.1", "\(text). A 11.0.0.2", "\(text). A 11.0.0.3"])
        #expect(isForwarded(try await bench.ask("details.ns2.svc", over: transport)))
    }

    @Test("D10 each family gets its own addresses, and a missing one an empty answer", arguments: both)
    func families(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(
            host("dual.example.org", "1.1.1.2", "2001:db8::2"), host("v4.example.org", "1.1.1.3"),
            host("only.example.org", "1.1.1.4", "2001:db8::4") { $0.ipFamilies = .v4Only })
        #expect(try await bench.ask("dual.example.org", over: transport).lines == ["dual.example.org. A 1.1.1.2"])
        #expect(
            try await bench.ask("dual.example.org", .aaaa, over: transport).lines
                == ["dual.example.org. AAAA 2001:db8::2"])
        let empty = try await bench.ask("v4.example.org", .aaaa, over: transport)
        #expect(empty.isEmptyAnswer)
        #expect(empty.authorities.first?.owner == "v4.example.org.")
        #expect(try await bench.ask("only.example.org", .aaaa, over: transport).isEmptyAnswer)
    }

    @Test("D11 of several wildcards the closest counts", arguments: both)
    func wildcards(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(host("*.wildcard", "3.0.0.1"), host("*.b.wildcard", "3.0.0.2"))
        #expect(try await bench.ask("a.b.wildcard", over: transport).lines == ["a.b.wildcard. A 3.0.0.2"])
        #expect(try await bench.ask("a.c.wildcard", over: transport).lines == ["a.c.wildcard. A 3.0.0.1"])
        bench.world.remove("ns1/*.b.wildcard")
        #expect(try await bench.ask("a.b.wildcard", over: transport).lines == ["a.b.wildcard. A 3.0.0.1"])
    }

    @Test("D12 a wildcard with a search domain behind is answered under the whole name", arguments: both)
    func wildcardSearch(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(host("*.wildcard", "3.0.0.1"))
        let text = "a.wildcard.ns1.svc.cluster.local"
        #expect(try await bench.ask(text, over: transport).lines == ["\(text). A 3.0.0.1"])
    }

    @Test("D13 addresses of other networks are not for us", arguments: both)
    func networks(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(
            service("far") { $0.addresses = [.init(network: "remote", address: IPAddress("21.0.0.1")!)] },
            service("both", "10.0.0.9") {
                $0.addresses.append(.init(network: "remote", address: IPAddress("21.0.0.2")!))
            })
        let far = try await bench.ask("far.ns1.svc.cluster.local", over: transport)
        #expect(far.isEmptyAnswer)
        #expect(far.authorities.first?.owner == "cluster.local.")
        #expect(try await bench.ask("both", over: transport).lines == ["both. A 10.0.0.9"])
    }

    private var headless: NameBench {
        var bench = NameBench()
        bench.world.add(service("headless"))
        bench.world.add(
            workload("pod0", "30.0.0.0", "2001:db8::30") { $0.serves("headless") },
            workload("pod1", "30.0.0.1", "30.0.0.99", "2001:db8::31") { $0.serves("headless") })
        return bench
    }

    @Test("D14 a headless service: one address of each pod", arguments: both)
    func headlessPods(transport: DNSTransport) async throws {
        let bench = self.headless
        #expect(
            try await bench.ask("headless", over: transport).lines == ["headless. A 30.0.0.0", "headless. A 30.0.0.1"])
        #expect(
            try await bench.ask("headless", .aaaa, over: transport).lines
                == ["headless. AAAA 2001:db8::30", "headless. AAAA 2001:db8::31"])
    }

    @Test("D15 a headless service of IPv6 only has no IPv4 address, whatever its pods have", arguments: both)
    func headlessV6(transport: DNSTransport) async throws {
        var bench = self.headless
        bench.world.add(service("headless") { $0.ipFamilies = .v6Only })
        #expect(try await bench.ask("headless", over: transport).isEmptyAnswer)
        #expect(try await bench.ask("headless", .aaaa, over: transport).answers.count == 2)
    }

    @Test("D16 an external host without an address is forwarded", arguments: both)
    func externalHeadless(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(host("headless.example.org"))
        #expect(isForwarded(try await bench.ask("headless.example.org", over: transport)))
    }

    @Test("D17 one host in several namespaces: the client's, then the canonical, then the preferred", arguments: both)
    func preference(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.settings.preferredNamespace = "preferred"
        func ask() async throws -> [String] {
            try await bench.ask("h.example.org", over: transport).answers.map(\.data)
        }
        bench.world.add(
            host("h.example.org", "4.0.0.1", namespace: "b"), host("h.example.org", "4.0.0.2", namespace: "a"))
        #expect(try await ask() == ["4.0.0.2"], "among equals by name")
        bench.world.add(host("h.example.org", "4.0.0.3", namespace: "preferred"))
        #expect(try await ask() == ["4.0.0.3"])
        bench.world.add(host("h.example.org", "4.0.0.4", namespace: "c") { $0.isCanonical = true })
        #expect(try await ask() == ["4.0.0.4"])
        bench.world.add(host("h.example.org", "4.0.0.5", namespace: "ns1"))
        #expect(try await ask() == ["4.0.0.5"])
    }

    @Test(
        "D18 256 addresses of a resolver: all over TCP; over UDP what fits, and the bit that says so", arguments: both)
    func large(transport: DNSTransport) async throws {
        let addresses = (0..<256).map { IPAddress(v4: 0x0f00_0000 | UInt32($0)) }
        let answer = try await NameBench().ask("large.example.org", over: transport) { bytes, _ in
            [resolved(bytes, addresses)]
        }
        switch transport {
        case .tcp: #expect(answer.answers.count == 256 && !answer.header.isTruncated)
        case .udp:
            #expect(answer.header.isTruncated && answer.bytes.count <= 512)
            #expect(answer.answers.count == (512 - 12 - 23) / 16)
        }
        let extended = try await NameBench().ask("large.example.org", over: transport, edns: 8000) { bytes, _ in
            [resolved(bytes, addresses)]
        }
        #expect(extended.answers.count == 256 && !extended.header.isTruncated)
    }

    @Test("D19 a client that arrives as an IPv4-mapped address is served as any other", arguments: both)
    func mapped(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.settings.address = IPAddress("::")!
        bench.world.add(service("productpage", "10.0.0.5"))
        #expect(try await bench.ask("productpage", over: transport).lines == ["productpage. A 10.0.0.5"])
    }

    @Test("a pod that the control plane has not named yet is answered from what the node knows", arguments: both)
    func unknownPod(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(service("productpage", "10.0.0.5", namespace: "ns9"))
        let answer = try await bench.ask("productpage", over: transport, pod: pod("new", "ns9"))
        #expect(answer.lines == ["productpage. A 10.0.0.5"])
    }

    @Test("the extension of the question is answered with one", arguments: both)
    func edns(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(service("productpage", "10.0.0.5"))
        let answer = try await bench.ask("productpage", over: transport, edns: 1400)
        #expect(answer.additionals.map(\.type) == [.opt])
        #expect(try await bench.ask("productpage", over: transport).additionals.isEmpty)
    }

    @Test("many pods of a headless service: over UDP what fits, over TCP all")
    func manyPods() async throws {
        var bench = NameBench()
        bench.world.add(service("headless"))
        for index in 0..<100 { bench.world.add(workload("p\(index)", "30.0.1.\(index)") { $0.serves("headless") }) }
        let short = try await bench.ask("headless", over: .udp)
        #expect(short.header.isTruncated && short.bytes.count <= 512 && !short.answers.isEmpty)
        #expect(try await bench.ask("headless", over: .tcp).answers.count == 100)
    }
}
