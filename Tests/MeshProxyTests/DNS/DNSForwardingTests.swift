import Glibc
import MeshDNS
import MeshLinux
import MeshModel
import MeshNameService
import MeshProxy
import MeshTelemetry
import MeshTunnel
import NIOPosix
import Synchronization
import Testing

private let both: [DNSTransport] = [.udp, .tcp]
private let nobody = IPEndpoint("127.0.0.1:9")!

private func bytes(_ digits: String) -> [UInt8] {
    let digits = digits.filter { $0 != " " }.map { UInt8(String($0), radix: 16)! }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// The question as it came, with the bit of an answer.
private func echo(_ message: [UInt8]) -> [UInt8] {
    var answer = message
    answer[2] |= 0x80
    return answer
}

@Suite("What the mesh does not know", .timeLimit(.minutes(5)))
struct DNSForwardingTests {
    @Test("reaches the resolver byte for byte, whatever it is, and so does the answer", arguments: both)
    func untouched(transport: DNSTransport) async throws {
        let update = bytes("00aa 2800 0001 0000 0001 0000 0161 00 0006 0001 0162 c00c 0001 0001 0000003c 0004 01020304")
        let chaos = bytes("00ab 0100 0001 0000 0000 0000 0776657273696f6e 0462696e64 00 0010 0003")
        let cookie = bytes("00ac 0000 0000 0000 0000 0001 00 0029 04d0 00000000 000c 000a 0008 0102030405060708")
        var messages = [update, chaos, cookie, question("a.b", .https, edns: 1232), question("a.b", .srv)]
        messages.append(question("a.b", DNSRecordType(rawValue: 65_280)))
        // Behind the question, something that no type has: EDNS of a later version with flags.
        messages.append(question("a.b", edns: 1232).dropLast(5) + bytes("01 4000 0000"))
        let all = messages
        try await ScriptedResolver.with({ message, _ in [echo(message)] }) { resolver in
            try await NameBench().serving([resolver.endpoint]) { _, port in
                for message in all {
                    let peer = try await DNSPeer(port, transport)
                    #expect(try await peer.ask(message) == echo(message))
                    await peer.close()
                }
            }
            #expect(resolver.questions.map { Array($0.dropFirst(2)) } == all.map { Array($0.dropFirst(2)) })
        }
    }

    @Test("goes to the next resolver when one is not there", arguments: both)
    func failover(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.settings.limits.attemptTimeout = .seconds(2)
        try await ScriptedResolver.with { resolver in
            try await bench.serving([nobody, resolver.endpoint]) { _, port in
                let peer = try await DNSPeer(port, transport)
                #expect(try Message(await peer.ask(question("a.example"))).lines == ["a.example. A 9.9.9.9"])
                // From now on the one that answered is asked first.
                let started = ContinuousClock.now
                for _ in 0..<20 { _ = try await peer.ask(question("a.example")) }
                #expect(ContinuousClock.now - started < .seconds(20 * 2))
                await peer.close()
            }
        }
    }

    @Test("goes to the next resolver when one is silent, but an update does not", arguments: both)
    func silent(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.settings.limits.attemptTimeout = .milliseconds(100)
        bench.settings.limits.upstreamTimeout = .seconds(4)
        let update = bytes("00aa 2800 0001 0000 0000 0000 0161 00 0006 0001")
        try await ScriptedResolver.with({ _, _ in [] }) { silent in
            try await ScriptedResolver.with({ message, _ in [echo(message)] }) { resolver in
                try await bench.serving([silent.endpoint, resolver.endpoint]) { _, port in
                    let peer = try await DNSPeer(port, transport)
                    #expect(try Message(await peer.ask(update)).header.code == .serverFailure)
                    #expect(try await peer.ask(question("a.example")) == echo(question("a.example")))
                    await peer.close()
                }
                #expect(resolver.questions.allSatisfy { $0[2] != 0x28 })
            }
            #expect(silent.questions.filter { $0[2] == 0x28 }.count == 1)
        }
    }

    @Test("is answered SERVFAIL when no resolver answers, or none is known", arguments: both)
    func failure(transport: DNSTransport) async throws {
        for resolvers in [[nobody], []] {
            var bench = NameBench()
            bench.settings.limits.upstreamTimeout = .milliseconds(300)
            try await bench.serving(resolvers) { service, port in
                let peer = try await DNSPeer(port, transport)
                let answer = try Message(await peer.ask(question("a.example", edns: 1232)))
                #expect(answer.header.code == .serverFailure && answer.additionals.map(\.type) == [.opt])
                #expect(service.forwarder.waitingCount == 0)
                await peer.close()
            }
            let labels =
                "{request_query_type=\"A\",request_protocol=\"\(transport.rawValue)\","
                + "source_canonical_service=\"client\",source_canonical_revision=\"v1\"}"
            let text = bench.registry.openMetrics()
            for metric in ["requests", "upstream_requests", "upstream_failures"] {
                #expect(text.contains("istio_dns_\(metric)_total\(labels) 1\n"), "\(text)")
            }
        }
    }

    @Test("keeps the resolver's code", arguments: both)
    func code(transport: DNSTransport) async throws {
        let answer = try await NameBench().ask("nope.example", over: transport) { message, _ in
            var answer = echo(message)
            answer[3] |= 3
            return [answer]
        }
        #expect(answer.header.code == .nameError)
    }

    @Test("waits for the true answer when others are forged")
    func forged() async throws {
        let answer = try await NameBench().ask("a.example", over: .udp) { message, _ in
            var wrongID = resolved(message, [IPAddress("6.6.6.6")!])
            wrongID[1] ^= 1
            let wrongName = resolved(Array(message[..<2]) + question("b.example").dropFirst(2), [IPAddress("6.6.6.7")!])
            return [[1, 2, 3], wrongID, wrongName, message, resolved(message, [IPAddress("9.9.9.9")!])]
        }
        #expect(answer.lines == ["a.example. A 9.9.9.9"])
    }

    @Test("a question with an id that its client chose badly goes out with another")
    func drawnID() async throws {
        try await ScriptedResolver.with { resolver in
            try await NameBench().serving([resolver.endpoint]) { _, port in
                let peer = try await DNSPeer(port, .udp)
                for _ in 0..<20 {
                    #expect(try Message(await peer.ask(question("a.example", id: 1))).header.id == 1)
                }
                await peer.close()
            }
            #expect(Set(resolver.questions.map { [$0[0], $0[1]] }).count > 10)
        }
    }

    @Test("a zone transfer comes whole, in as many messages as it takes")
    func transfer() async throws {
        try await ScriptedResolver.with({ message, _ in
            (0..<5).map { index in
                index == 0
                    ? resolved(message, [IPAddress("9.9.9.0")!])
                    // Later messages leave the question out.
                    : Array(message[..<2]) + bytes("8400 0000 0001 0000 0000 00 0001 0001 00000001 0004 0909 09")
                        + [UInt8(index)]
            }
        }) { resolver in
            try await NameBench().serving([resolver.endpoint]) { _, port in
                let peer = try await DNSPeer(port, .tcp)
                try await peer.send(question("example.org", .axfr))
                var addresses: [String] = []
                for _ in 0..<5 { addresses += try Message(await peer.receive()).answers.map(\.data) }
                #expect(addresses == (0..<5).map { "9.9.9.\($0)" })
                await peer.close()
            }
        }
    }
}

@Suite("The name service's bounds", .timeLimit(.minutes(5)))
struct DNSBoundsTests {
    @Test("many questions on one connection are answered, each as soon as it can be")
    func pipelined() async throws {
        var bench = NameBench()
        bench.settings.limits.pipelinedQueriesMax = 4
        bench.world.add(service("web", "10.0.0.5"))
        let slow = Mutex<Int>(0)
        try await ScriptedResolver.with({ message, _ in
            slow.withLock { $0 += 1 }
            return [resolved(message, [IPAddress("9.9.9.9")!])]
        }) { resolver in
            try await bench.serving([resolver.endpoint]) { _, port in
                let peer = try await DNSPeer(port, .tcp)
                var all: [UInt8] = []
                for id in 0..<50 as Range<UInt16> {
                    let message = question(id % 2 == 0 ? "web" : "a.example", id: id)
                    all += [UInt8(message.count >> 8), UInt8(message.count & 255)] + message
                }
                // In pieces that end anywhere.
                for start in stride(from: 0, to: all.count, by: 37) {
                    try await peer.send(raw: Array(all[start..<min(start + 37, all.count)]))
                }
                var ids: Set<UInt16> = []
                for _ in 0..<50 { ids.insert(try Message(await peer.receive()).header.id) }
                #expect(ids == Set(0..<50))
                await peer.close()
            }
        }
    }

    @Test("a pod with too many questions open is told so at once, and others are served")
    func perPod() async throws {
        var bench = NameBench()
        bench.settings.limits.queriesPerPodMax = 3
        try await ScriptedResolver.with({ _, _ in [] }) { silent in
            try await bench.serving([silent.endpoint]) { service, port in
                let peer = try await DNSPeer(port, .udp)
                for id in 0..<4 as Range<UInt16> { try await peer.send(question("a.example", id: id)) }
                let refused = try Message(await peer.receive())
                #expect(refused.header.code == .serverFailure)
                #expect(service.forwarder.waitingCount == 3)
                await peer.close()
            }
        }
    }

    @Test("the node's bound holds for all pods together, and a place that is free again is used")
    func perNode() async throws {
        var bench = NameBench()
        bench.settings.limits.queriesMax = 1
        bench.settings.limits.upstreamTimeout = patience
        let gate = Mutex<Bool>(false)
        try await ScriptedResolver.with({ message, _ in gate.withLock { $0 } ? [echo(message)] : [] }) { resolver in
            try await bench.serving([resolver.endpoint]) { service, port in
                let other = try await onFreePort { try service.start(pod("other"), namespace: -1) }
                defer { service.stop(uid: pod("other").uid) }
                let peer = try await DNSPeer(port, .udp)
                let second = try await DNSPeer(other, .udp)
                try await peer.send(question("silent.example"))
                while service.forwarder.waitingCount == 0 { await Task.yield() }
                #expect(try Message(await second.ask(question("a.example"))).header.code == .serverFailure)
                service.stop(uid: pod("client").uid)
                while service.forwarder.waitingCount > 0 { await Task.yield() }
                gate.withLock { $0 = true }
                #expect(try Message(await second.ask(question("a.example"))).header.code == .noError)
                await peer.close()
                await second.close()
            }
        }
    }

    @Test("a client that has asked all and says so gets its answers first")
    func halfClosed() async throws {
        try await ScriptedResolver.with { resolver in
            try await NameBench().serving([resolver.endpoint]) { _, port in
                let peer = try await DNSPeer(port, .tcp)
                try await peer.send(question("a.example"))
                try await peer.finish()
                #expect(try Message(await peer.receive()).lines == ["a.example. A 9.9.9.9"])
                try await first(peer.ended)
            }
        }
    }

    @Test("a silent connection is closed, and so is one too many")
    func connections() async throws {
        var bench = NameBench()
        bench.settings.limits.connectionIdleTimeout = .seconds(5)
        bench.settings.limits.connectionsPerPodMax = 1
        bench.world.add(service("web", "10.0.0.5"))
        try await bench.serving([]) { _, port in
            let silent = try await DNSPeer(port, .tcp)
            #expect(try Message(await silent.ask(question("web"))).answers.count == 1)
            // It may be gone before it is set up.
            if let second = try? await DNSPeer(port, .tcp) { try await first(second.ended) }
            try await first(silent.ended)
            let next = try await DNSPeer(port, .tcp)
            #expect(try Message(await next.ask(question("web"))).answers.count == 1)
            await next.close()
        }
    }

    @Test("broken messages are refused or dropped, and the service goes on", arguments: both)
    func broken(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.world.add(service("web", "10.0.0.5"))
        try await bench.serving([]) { _, port in
            let loop = bytes("0007 0100 0001 0000 0000 0000 c00c 0001 0001")
            let answer = echo(question("web"))
            let refused = try await DNSPeer(port, transport)
            #expect(try Message(await refused.ask(loop)).header.code == .formatError)
            await refused.close()
            // Two servers that answer each other's responses would talk for ever.
            for message in [[1, 2, 3], answer] {
                let peer = try await DNSPeer(port, transport)
                try await peer.send(message)
                if transport == .tcp {
                    try await first(peer.ended)
                } else {
                    #expect(try Message(await peer.ask(question("web"))).answers.count == 1)
                }
                await peer.close()
            }
        }
    }

    @Test("draining answers what was asked, takes nothing new, and ends")
    func drain() async throws {
        var bench = NameBench()
        bench.settings.limits.connectionIdleTimeout = .seconds(50)
        let gate = Mutex<Bool>(false)
        try await ScriptedResolver.with({ message, _ in gate.withLock { $0 } ? [echo(message)] : [] }) { resolver in
            bench.settings.limits.attemptTimeout = .seconds(2)
            bench.settings.limits.upstreamTimeout = patience
            let service = bench.service([resolver.endpoint])
            let port = try await onFreePort { try service.start(pod("client"), namespace: -1) }
            let peer = try await DNSPeer(port, .tcp)
            let idle = try await DNSPeer(port, .tcp)
            let datagram = try await DNSPeer(port, .udp)
            try await peer.send(question("a.example"))
            try await datagram.send(question("b.example"))
            while service.forwarder.waitingCount < 2 { await Task.yield() }
            let drained = Task { await service.drain(deadline: patience) }
            try await first(idle.ended)
            gate.withLock { $0 = true }
            #expect(try await peer.receive() == echo(question("a.example")))
            #expect(try await datagram.receive() == echo(question("b.example")))
            await drained.value
            try await first(peer.ended)
            await #expect(throws: (any Error).self) { try await DNSPeer(port, .tcp) }
            await datagram.close()
        }
    }

    @Test("draining does not wait beyond its deadline")
    func drainDeadline() async throws {
        try await ScriptedResolver.with({ _, _ in [] }) { silent in
            let service = NameBench().service([silent.endpoint])
            let port = try await onFreePort { try service.start(pod("client"), namespace: -1) }
            let peer = try await DNSPeer(port, .tcp)
            try await peer.send(question("a.example"))
            while service.forwarder.waitingCount == 0 { await Task.yield() }
            await service.drain(deadline: .milliseconds(50))
            try await first(peer.ended)
        }
    }

    @Test("a successor binds beside it, and serves everybody once the predecessor drained", arguments: both)
    func handOver(transport: DNSTransport) async throws {
        var bench = NameBench()
        bench.settings.reusesPort = true
        bench.world.add(service("web", "10.0.0.5"))
        let old = bench.service([])
        bench.settings.port = try await onFreePort { try old.start(pod("client"), namespace: -1) }
        bench.world.add(service("web", "10.0.0.6"))
        try await bench.serving([]) { _, port in
            #expect(port == bench.settings.port)
            await old.drain(deadline: patience)
            for _ in 0..<10 {
                let peer = try await DNSPeer(port, transport)
                #expect(try Message(await peer.ask(question("web"))).answers.map(\.data) == ["10.0.0.6"])
                await peer.close()
            }
        }
    }

    @Test("a port that is taken refuses the pod, with the reason")
    func taken() async throws {
        var bench = NameBench()
        try await bench.serving([]) { _, port in
            bench.settings.port = port
            #expect {
                try bench.service([]).start(pod("client"), namespace: -1)
            } throws: { "\($0)".contains("ns1/client") && "\($0)".contains("already in use") }
        }
    }

    @Test("in a pod's own namespace, marked; a resolver on our loopback is asked from ours")
    func namespace() async throws {
        let namespace = try await NetworkNamespace.create()
        try await namespace.perform { _ = try Program.run(["ip", "link", "set", "lo", "up"]) }
        var bench = NameBench()
        bench.settings.address = nil
        bench.settings.port = 15053
        bench.settings.mark = 1337
        bench.world.add(service("web", "10.0.0.5"))
        let settled = bench
        try await ScriptedResolver.with { resolver in
            let service = settled.service([resolver.endpoint])
            try namespace.namespace.withDescriptor { _ = try service.start(pod("client"), namespace: $0) }
            // A stub resolver inside: the C library's, through the resolver of the namespace's loopback.
            let output = try await namespace.perform {
                try Program.run([
                    "python3", "-c",
                    """
                    import socket, struct
                    def ask(name, host, kind):
                        q = struct.pack('>HHHHHH', 7, 256, 1, 0, 0, 0)
                        q += b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0\\0\\1\\0\\1'
                        family = socket.AF_INET6 if ':' in host else socket.AF_INET
                        s = socket.socket(family, kind)
                        s.settimeout(20)
                        s.connect((host, 15053))
                        s.send(q if kind == socket.SOCK_DGRAM else struct.pack('>H', len(q)) + q)
                        return '.'.join(map(str, s.recv(2000)[-4:]))
                    for host in ('127.0.0.1', '::1'):
                        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                            print(ask('web', host, kind), ask('a.example', host, kind))
                    """,
                ])
            }
            #expect(output.exitCode == 0, "\(output.standardError)")
            #expect(output.standardOutput == String(repeating: "10.0.0.5 9.9.9.9\n", count: 4))
            service.stop(uid: pod("client").uid)
        }
    }
}

extension DNSBoundsTests {
    /// A namespace with a way to a resolver that a firewall forbids, in words that not every stack is ready for.
    @Test(
        "what ICMP says about a resolver ends a question, never the process",
        arguments: ["admin-prohibited", "host-prohibited", "net-prohibited", "prot-unreachable", "port-unreachable"])
    func prohibited(kind: String) async throws {
        let far = try await NetworkNamespace.create()
        let near = try await NetworkNamespace.create()
        // Two namespaces and a cable, so that the refusal comes from the other side, as it does from a router.
        func run(_ namespace: SharedNetworkNamespace, _ script: String) async throws {
            let output = try await namespace.perform { try Program.run(["sh", "-ec", script]) }
            try #require(output.exitCode == 0, "\(output.standardError)")
        }
        let number = near.namespace.withDescriptor { $0 }
        try await run(
            far,
            """
            ip link set lo up
            ip link add name far0 type veth peer name near0 netns /proc/\(getpid())/fd/\(number)
            ip address add 10.99.0.2/24 dev far0
            ip link set far0 up
            nft 'table inet t { chain i { type filter hook input priority 0; udp dport 53 reject with icmp type \(kind) ; } ; }'
            """)
        try await run(near, "ip link set lo up; ip address add 10.99.0.1/24 dev near0; ip link set near0 up")
        var bench = NameBench()
        bench.settings.address = nil
        bench.settings.port = 15053
        bench.settings.limits.upstreamTimeout = .seconds(2)
        bench.settings.limits.attemptTimeout = .milliseconds(200)
        let service = bench.service([IPEndpoint("10.99.0.2:53")!])
        try near.namespace.withDescriptor { _ = try service.start(pod("client"), namespace: $0) }
        let output = try await near.perform {
            try Program.run([
                "python3", "-c",
                """
                import socket
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.settimeout(20)
                s.sendto(bytes.fromhex('000701000001000000000000016100 0001 0001'), ('127.0.0.1', 15053))
                print(s.recv(2000)[3] & 15)
                """,
            ])
        }
        #expect(output.standardOutput == "2\n", "\(output.standardError)")
        service.stop(uid: pod("client").uid)
    }
}

extension DNSBoundsTests {
    @Test("a socket that the kernel broke is bound again: a refused answer must not be a pod's last")
    func rebound() async throws {
        let namespace = try await NetworkNamespace.create()
        var bench = NameBench()
        bench.settings.address = nil
        bench.settings.port = 15053
        bench.world.add(service("web", "10.0.0.5"))
        let service = bench.service([])
        func run(_ command: [String]) async throws -> String {
            let output = try await namespace.perform { try Program.run(command) }
            try #require(output.exitCode == 0, "\(output.standardError)")
            return output.standardOutput
        }
        _ = try await run(["ip", "link", "set", "lo", "up"])
        try namespace.namespace.withDescriptor { _ = try service.start(pod("client"), namespace: $0) }
        defer { service.stop(uid: pod("client").uid) }
        // A dropped answer is an error of the sender (EPERM), and NIO closes the socket for it.
        let ask = """
            import socket
            def ask(seconds):
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.settimeout(seconds)
                s.sendto(bytes.fromhex('000701000001000000000000 03776562 00 0001 0001'), ('127.0.0.1', 15053))
                try:
                    return '.'.join(map(str, s.recv(2000)[-4:]))
                except OSError:
                    return None

            """
        _ = try await run([
            "nft", "table inet t { chain o { type filter hook output priority 0; udp sport 15053 drop ; } ; }",
        ])
        #expect(try await run(["python3", "-c", ask + "print(ask(1))"]) == "None\n")
        _ = try await run(["nft", "delete table inet t"])
        let again = ask + "print(next(a for a in (ask(1) for _ in range(60)) if a))"
        #expect(try await run(["python3", "-c", again]) == "10.0.0.5\n")
    }
}

@Suite("The forwarder, asked by ourselves", .timeLimit(.minutes(5)))
struct DNSLookupTests {
    private func forwarder(_ resolvers: [IPEndpoint], limits: DNSLimits = DNSLimits()) -> DNSForwarder {
        DNSForwarder(resolvers: resolvers, limits: limits, group: MultiThreadedEventLoopGroup.singleton)
    }

    @Test("follows aliases, and tells how long the addresses hold")
    func aliases() async throws {
        try await ScriptedResolver.with({ message, _ in
            var answer = resolved(message, [])
            answer[7] = 2
            // a.b → c (TTL 5), c has an address (TTL 60)
            return [answer + bytes("c00c 0005 0001 00000005 0003 0163 00  0163 00 0001 0001 0000003c 0004 01020304")]
        }) { resolver in
            let found = try await self.forwarder([resolver.endpoint]).resolve("a.b", .a)
            #expect(found == DNSAddresses(addresses: [IPAddress("1.2.3.4")!], ttlSeconds: 5))
        }
    }

    @Test("asks again over TCP when the answer is cut")
    func truncated() async throws {
        try await ScriptedResolver.with({ message, transport in
            guard transport == .udp else { return [resolved(message, [IPAddress("1.2.3.4")!])] }
            var cut = echo(message)
            cut[2] |= 2
            return [cut]
        }) { resolver in
            let found = try await self.forwarder([resolver.endpoint]).resolve("a.b", .a)
            #expect(found.addresses == [IPAddress("1.2.3.4")!])
        }
    }

    @Test("a name that does not exist has no addresses; a refusal and silence are errors")
    func negative() async throws {
        try await ScriptedResolver.with({ message, _ in
            var answer = echo(message)
            answer[3] |= message.contains(0x78) ? 3 : 5
            return [answer]
        }) { resolver in
            let forwarder = self.forwarder([resolver.endpoint])
            let none = try await forwarder.resolve("x", .a)
            #expect(none.addresses == [])
            await #expect(throws: DNSLookupFailure.refused("y", code: 5)) { try await forwarder.resolve("y", .a) }
            #expect(forwarder.waitingCount == 0)
        }
        await #expect(throws: DNSLookupFailure.unanswered("y.", .noResolvers)) {
            try await self.forwarder([]).resolve("y", .a)
        }
        await #expect(throws: DNSLookupFailure.noName("a..b")) { try await self.forwarder([]).resolve("a..b", .a) }
    }

    @Test("the list of resolvers is read as the C library reads it")
    func list() {
        let text = """
            # comment
            search ns1.svc.cluster.local
            nameserver 10.43.0.10
            nameserver\tfd00::a
            nameserver fe80::1%eth0
            nameserver 10.43.0.10
            nameserver nonsense
            options ndots:5
            nameserver 1.1.1.1
            nameserver 2.2.2.2
            """
        #expect(DNSResolvers.parse(text).map(\.description) == ["10.43.0.10:53", "[fd00::a]:53", "1.1.1.1:53"])
    }

    @Test("of the search domains the last line counts, without regard to case and dots around")
    func searchDomains() {
        let text =
            "domain a.example\nsearch NS1.svc.cluster.local. svc.cluster.local\t.\nnameserver 1.1.1.1\noptions ndots:5\n"
        #expect(DNSSearchDomains.parse(text) == ["ns1.svc.cluster.local", "svc.cluster.local"])
        #expect(DNSSearchDomains.parse("nameserver 1.1.1.1\n").isEmpty)
    }
}
