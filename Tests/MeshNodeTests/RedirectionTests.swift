import Glibc
import MeshLinux
import MeshModel
import MeshNode
import Testing

let isRoot = geteuid() == 0

/// The rules on a real kernel, with a proxy that only listens. Numbers in parentheses are the acceptance cases of the
/// redirection contract.
@Suite(
    "Redirection in a pod", .serialized, .timeLimit(.minutes(2)),
    .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"))
struct RedirectionTests {
    static let mark: UInt32 = 0x539
    let network = PodNetwork(procRoot: "/proc", isIPv6Enabled: true)

    /// The proxy's three listeners.
    struct Proxy {
        let outbound, inbound, tunnel: TCP
        init(_ pod: SharedNetworkNamespace) throws {
            self.outbound = try TCP.listen(in: pod, port: 15001, mark: RedirectionTests.mark)
            self.inbound = try TCP.listen(in: pod, port: 15006, mark: RedirectionTests.mark)
            self.tunnel = try TCP.listen(in: pod, port: 15008, mark: RedirectionTests.mark)
        }
    }

    func enrolled(_ rules: PodRules = PodRules()) async throws -> (Topology, Proxy) {
        let topology = try await Topology()
        _ = try await self.network.capture(topology.pod, rules)
        return (topology, try Proxy(topology.pod))
    }

    @Test("captures outbound connections with their destination, over both families (18)")
    func outbound() async throws {
        let (topology, proxy) = try await self.enrolled()
        for address in [Topology.clientV4, Topology.clientV6] {
            let app = try TCP.connect(in: topology.pod, to: endpoint(address, 8080))
            let captured = try proxy.outbound.accept()
            #expect(captured.originalDestination == endpoint(address, 8080))
            #expect(captured.peer == app.local)
            #expect(try talk(app, captured))
        }
    }

    @Test("leaves the proxy's own connections alone (19)")
    func marked() async throws {
        let (topology, proxy) = try await self.enrolled()
        let server = try TCP.listen(in: topology.client, port: 8080)
        let dialled = try TCP.connect(in: topology.pod, to: endpoint(Topology.clientV4, 8080), mark: Self.mark)
        let accepted = try server.accept()
        #expect(accepted.peer?.address == Topology.podV4)
        #expect(try talk(dialled, accepted))
        #expect(!proxy.outbound.hasWaiting)
    }

    @Test("captures inbound connections; the app sees the client's address and can answer it (20, 21)")
    func inbound() async throws {
        let (topology, proxy) = try await self.enrolled()
        let app = try TCP.listen(in: topology.pod, port: 8080)
        for (pod, clientAddress) in [
            (Topology.podV4, Topology.clientV4), (Topology.podV6, Topology.clientV6),
        ] {
            let client = try TCP.connect(in: topology.client, to: endpoint(pod, 8080))
            let captured = try proxy.inbound.accept()
            #expect(captured.originalDestination == endpoint(pod, 8080))
            #expect(captured.peer?.address == clientAddress)
            #expect(try talk(client, captured))
            let dialled = try TCP.connect(
                in: topology.pod, to: endpoint(pod, 8080), mark: Self.mark, source: clientAddress)
            let served = try app.accept()
            #expect(served.peer?.address == clientAddress)
            #expect(try talk(dialled, served), "the answer finds the proxy's socket")
        }
    }

    @Test("lets tunnels through untouched (22)")
    func tunnel() async throws {
        let (topology, proxy) = try await self.enrolled()
        let client = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 15008))
        let accepted = try proxy.tunnel.accept()
        #expect(accepted.local == endpoint(Topology.podV4, 15008))
        #expect(try talk(client, accepted))
    }

    @Test("shows connections to the capture ports for what they are, and refuses them from inside (23)")
    func capturePorts() async throws {
        let (topology, proxy) = try await self.enrolled()
        // The proxy sees whom it was meant for and refuses it by itself.
        _ = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 15001))
        #expect(try proxy.inbound.accept().originalDestination == endpoint(Topology.podV4, 15001))
        // A redirect to where it goes anyway translates nothing, and the guard takes it for what it is.
        #expect(throws: TCP.Failure.self) {
            try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 15006))
        }
        for port: UInt16 in [15001, 15006] {
            #expect(throws: TCP.Failure.self) {
                try TCP.connect(in: topology.pod, to: endpoint(IPAddress("127.0.0.1")!, port))
            }
        }
        #expect(!proxy.outbound.hasWaiting && !proxy.inbound.hasWaiting)
    }

    @Test("leaves the pod's talk with itself alone (24)")
    func loopback() async throws {
        let (topology, proxy) = try await self.enrolled()
        let app = try TCP.listen(in: topology.pod, port: 8080)
        for address in ["127.0.0.1", "127.0.0.2", "::1", "10.77.0.2", "fd77::2"] {
            let client = try TCP.connect(in: topology.pod, to: endpoint(IPAddress(address)!, 8080))
            #expect(try talk(client, app.accept()), "\(address)")
        }
        #expect(!proxy.outbound.hasWaiting && !proxy.inbound.hasWaiting)
    }

    @Test("captures DNS to any resolver, and the answer comes from the resolver that was asked (25)")
    func dns() async throws {
        let (topology, _) = try await self.enrolled()
        let resolver = try TCP.datagrams(in: topology.pod, at: endpoint(IPAddress("127.0.0.1")!, 15053))
        let app = try TCP.datagrams(in: topology.pod, at: nil)
        try app.send("query", to: endpoint(Topology.clientV4, 53))
        let query = try resolver.receiveFrom()
        #expect(query.text == "query")
        try resolver.send("answer", to: try #require(query.from))
        let answer = try app.receiveFrom()
        #expect(answer.text == "answer")
        #expect(answer.from == endpoint(Topology.clientV4, 53))
    }

    @Test("with inbound capture off leaves inbound connections and tunnels alone, outbound not (27)")
    func ingress() async throws {
        var rules = PodRules()
        rules.isIngress = true
        rules.isDNSCaptured = false
        let (topology, proxy) = try await self.enrolled(rules)
        let app = try TCP.listen(in: topology.pod, port: 8080)
        let client = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        #expect(try talk(client, app.accept()))
        #expect(!proxy.inbound.hasWaiting)
        _ = try TCP.connect(in: topology.pod, to: endpoint(Topology.clientV4, 9090))
        #expect(try proxy.outbound.accept().originalDestination?.port == 9090)
        #expect(throws: TCP.Failure.self, "a capture port is no way in") {
            try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 15006))
        }
    }

    @Test("lets the node's own probes reach the app, and nothing else of the node (29, 31)")
    func probes() async throws {
        let (topology, proxy) = try await self.enrolled()
        let app = try TCP.listen(in: topology.pod, port: 8080)
        let sources = [IPAddress("169.254.7.127")!, IPAddress("fd16:9254:7127:1337:ffff:ffff:ffff:ffff")!]
        let probes = HostProbes(probeSources: sources, namespace: topology.node)
        try await probes.install()

        _ = try TCP.connect(in: topology.node, to: endpoint(Topology.podV4, 8080))
        #expect(try proxy.inbound.accept().peer?.address == Topology.nodeV4, "not exempt yet")

        try await probes.set("uid-1", to: [Topology.podV4])
        let probe = try TCP.connect(in: topology.node, to: endpoint(Topology.podV4, 8080))
        let served = try app.accept()
        #expect(served.peer?.address == sources[0])
        #expect(try talk(probe, served))

        // A restarted agent finds the entries, and takes away only what is nobody's.
        let successor = HostProbes(probeSources: sources, namespace: topology.node)
        try await successor.install()
        #expect(await successor.addresses(of: "uid-1") == [Topology.podV4])
        // The address passed to another pod: the old pod's end does not touch it.
        try await successor.set("uid-2", to: [Topology.podV4])
        try await successor.set("uid-1", to: [])
        #expect(await successor.addresses(of: "uid-2") == [Topology.podV4])
        try await successor.keep(only: [])
        _ = try TCP.connect(in: topology.node, to: endpoint(Topology.podV4, 8080))
        _ = try proxy.inbound.accept()

        try await successor.set("uid-3", to: [Topology.podV4, Topology.podV6])
        _ = try await topology.node.perform { try Program.run(["nft", "flush", "ruleset"]) }
        #expect(try await successor.repair() == 2)
        _ = try TCP.connect(in: topology.node, to: endpoint(Topology.podV4, 8080))
        #expect(try app.accept().peer?.address == sources[0])
        try await successor.removeAll()
        let left = try await topology.node.perform { try Program.run(["nft", "list", "ruleset"]) }
        #expect(left.standardOutput == "")
    }

    @Test("refuses at once while the proxy is away, loopback aside, and works again without us (34)")
    func proxyAway() async throws {
        let topology = try await Topology()
        _ = try await self.network.capture(topology.pod, PodRules())
        let app = try TCP.listen(in: topology.pod, port: 8080)
        let started = ContinuousClock.now
        #expect(throws: TCP.Failure.self) {
            try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        }
        #expect(throws: TCP.Failure.self) {
            try TCP.connect(in: topology.pod, to: endpoint(Topology.clientV4, 8080))
        }
        #expect(ContinuousClock.now - started < .seconds(3), "refused, not timed out")
        #expect(try talk(TCP.connect(in: topology.pod, to: endpoint(Topology.podV4, 8080)), app.accept()))
        let proxy = try Proxy(topology.pod)
        _ = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        _ = try proxy.inbound.accept()
    }

    @Test("does not touch connections that were open before, and counts them (40)")
    func busyPod() async throws {
        let topology = try await Topology()
        let app = try TCP.listen(in: topology.pod, port: 8080)
        let server = try TCP.listen(in: topology.client, port: 9090)
        let client = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        let inbound = try app.accept()
        let outbound = try TCP.connect(in: topology.pod, to: endpoint(Topology.clientV4, 9090))
        let far = try server.accept()
        let captured = try await self.network.capture(topology.pod, PodRules())
        #expect(captured.openConnections == 2)
        #expect(captured.handOverTrouble == nil)
        #expect(!captured.wasThere)
        let proxy = try Proxy(topology.pod)
        #expect(try talk(client, inbound))
        #expect(try talk(inbound, client))
        #expect(try talk(outbound, far))
        #expect(try talk(far, outbound))
        _ = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        #expect(try proxy.inbound.accept().originalDestination?.port == 8080, "a new one is captured")
        let again = try await self.network.capture(topology.pod, PodRules())
        #expect(again.wasThere, "nothing is done twice")
        #expect(try talk(client, inbound))
        let setting = try await topology.pod.perform { try Files.readText("/proc/sys/net/ipv4/tcp_migrate_req") }
        #expect(setting == "1\n")
    }

    @Test("lets captured connections end in their own time when the pod leaves, and leaves nothing behind (41, 45)")
    func leaving() async throws {
        let (topology, proxy) = try await self.enrolled()
        let app = try TCP.listen(in: topology.pod, port: 8080)
        let client = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        let captured = try proxy.inbound.accept()
        let dialled = try TCP.connect(
            in: topology.pod, to: endpoint(Topology.podV4, 8080), mark: Self.mark, source: Topology.clientV4)
        var served: TCP? = try app.accept()
        let outgoing = try TCP.connect(in: topology.pod, to: endpoint(Topology.clientV4, 9090))
        var outbound: TCP? = try proxy.outbound.accept()
        #expect(try await self.network.servedConnections(topology.pod) == 2)

        try await self.network.drain(topology.pod, PodRules())
        #expect(try talk(client, captured))
        #expect(try talk(dialled, served!))
        #expect(try talk(outgoing, outbound!))
        let direct = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        let directly = try app.accept()
        #expect(directly.peer?.address == Topology.clientV4)
        #expect(try talk(direct, directly))
        #expect(!proxy.inbound.hasWaiting)
        #expect(try await self.network.servedConnections(topology.pod) == 2)
        outbound = nil
        #expect(try await self.network.servedConnections(topology.pod) == 1)
        served = nil

        try await self.network.removeAll(topology.pod)
        #expect(try talk(direct, directly))
        let left = try await topology.pod.perform {
            try [
                ["nft", "list", "ruleset"], ["ip", "rule", "list", "pref", "32764"],
                ["ip", "-6", "rule", "list", "pref", "32764"], ["ip", "route", "show", "table", "100"],
                ["ip", "-6", "route", "show", "table", "100"],
            ].map { try Program.run($0).standardOutput }
        }
        #expect(left == ["", "", "", "", ""])
        try await self.network.removeAll(topology.pod)
    }

    @Test("enrols a pod that has no IPv6 (39)")
    func withoutIPv6() async throws {
        let topology = try await Topology()
        for interface in ["lo", "eth0"] {
            try await topology.pod.perform {
                try Files.writeSetting("1", to: "/proc/sys/net/ipv6/conf/\(interface)/disable_ipv6")
            }
        }
        _ = try await self.network.capture(topology.pod, PodRules())
        let proxy = try Proxy(topology.pod)
        _ = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        _ = try proxy.inbound.accept()
        #expect(try await !self.network.hasDrifted(topology.pod, PodRules()))
        try await self.network.removeAll(topology.pod)
    }

    @Test("notices rules, routes and the policy rule that somebody removed (44)")
    func drift() async throws {
        let (topology, proxy) = try await self.enrolled()
        #expect(try await !self.network.hasDrifted(topology.pod, PodRules()))
        for damage in [
            ["nft", "delete", "table", "inet", "martlet_pod"],
            ["nft", "flush", "chain", "inet", "martlet_pod", "capture_in"],
            ["ip", "rule", "del", "pref", "32764"], ["ip", "route", "flush", "table", "100"],
        ] {
            let output = try await topology.pod.perform { try Program.run(damage) }
            #expect(output.exitCode == 0, "\(output.standardError)")
            #expect(try await self.network.hasDrifted(topology.pod, PodRules()), "\(damage)")
            _ = try await self.network.capture(topology.pod, PodRules())
            #expect(try await !self.network.hasDrifted(topology.pod, PodRules()))
        }
        _ = try TCP.connect(in: topology.client, to: endpoint(Topology.podV4, 8080))
        _ = try proxy.inbound.accept()
    }

    @Test("does not look at what a new pod has, and finds it right all the same when somebody asks")
    func newPods() async throws {
        let (first, _) = try await self.enrolled()
        #expect(try await self.network.capture(first.pod, PodRules()).wasThere, "the yardstick is known")
        // A runtime that tries again, in the same namespace: looked at or not, the rules are whole.
        for _ in 0..<2 {
            #expect(try await !self.network.capture(first.pod, PodRules(), isNew: true).wasThere)
            #expect(try await !self.network.hasDrifted(first.pod, PodRules()))
        }
    }

    @Test("is replaced under load without a connection lost or uncaptured (13)")
    func replacement() async throws {
        let (topology, proxy) = try await self.enrolled()
        var other = PodRules()
        other.virtualInterfaces = ["vnet0"]
        let replacing = Task { [other] in
            for round in 0..<20 {
                _ = try await self.network.capture(topology.pod, round % 2 == 0 ? other : PodRules())
            }
        }
        // On a thread of its own: the load is to be there whatever else the machine's tasks have to do.
        let misled = try await KernelThread.perform {
            try (0..<200).filter { _ in
                let app = try TCP.connect(in: topology.pod, to: endpoint(Topology.clientV4, 8080))
                return try proxy.outbound.accept().peer != app.local
            }
        }
        #expect(misled == [])
        try await replacing.value
    }
}
