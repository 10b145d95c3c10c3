import MeshLinux
import MeshModel
import MeshNode
import Testing

/// The init step of a pod with a sidecar, compared with the reference's rules row by row, as operators list them.
@Suite("The rules of a sidecar")
struct SidecarRulesTests {
    /// What the injection template writes.
    static let template = [
        "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d",
        "15090,15021,15020",
    ]

    private func options(
        _ arguments: [String], _ environment: [String: String] = [:], resolvConf: String = Self.resolvConf
    ) throws -> SidecarRulesOptions {
        try SidecarRulesOptions(environment: environment, arguments: arguments, resolvConf: resolvConf)
    }

    private static let resolvConf = "search foo.svc.cluster.local\nnameserver 10.77.0.3\nnameserver fd77::3\n"

    @Test("are one transaction, with Istio's rows in its order")
    func text() throws {
        let text = try self.options(Self.template).rules.installation(.v4, present: [:])
        #expect(
            text == """
                *nat
                :ISTIO_INBOUND - [0:0]
                :ISTIO_REDIRECT - [0:0]
                :ISTIO_IN_REDIRECT - [0:0]
                :ISTIO_OUTPUT - [0:0]
                -A PREROUTING -p tcp -j ISTIO_INBOUND
                -A OUTPUT -j ISTIO_OUTPUT
                -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
                -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
                -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
                -A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
                -A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
                -A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
                -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
                -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
                -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
                -A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
                -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
                -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
                -A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
                -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
                -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
                -A ISTIO_OUTPUT -j ISTIO_REDIRECT
                COMMIT

                """)
    }

    @Test("keep to the ports, ranges and interfaces that annotations name, each family to its own ranges")
    func selections() throws {
        let rules = try self.options([
            "-b", "80,443", "-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.0.0/16", "-q", "9000", "-o", "3306", "-c", "eth1",
            "-k", "vnet0", "--drop-invalid",
        ]).rules
        let v4 = rules.installation(.v4, present: [:]).split(separator: "\n").map(String.init)
        func rows(_ chain: String) -> [String] { v4.filter { $0.dropFirst(3).hasPrefix("\(chain) ") } }
        #expect(
            rows("ISTIO_INBOUND").suffix(2) == [
                "-A ISTIO_INBOUND -p tcp -m tcp --dport 80 -j ISTIO_IN_REDIRECT",
                "-A ISTIO_INBOUND -p tcp -m tcp --dport 443 -j ISTIO_IN_REDIRECT",
            ])
        #expect(
            rows("ISTIO_OUTPUT").prefix(2) == [
                "-A ISTIO_OUTPUT -p tcp -m tcp --dport 3306 -j RETURN",
                "-A ISTIO_OUTPUT -p udp -m udp --dport 3306 -j RETURN",
            ])
        #expect(
            rows("ISTIO_OUTPUT").suffix(4) == [
                "-A ISTIO_OUTPUT -d 10.1.0.0/16 -j RETURN",
                "-A ISTIO_OUTPUT -p tcp -m tcp --dport 9000 -j ISTIO_REDIRECT",
                "-A ISTIO_OUTPUT -d 10.0.0.0/8 -j ISTIO_REDIRECT", "-A ISTIO_OUTPUT -j RETURN",
            ])
        #expect(v4.contains("-I PREROUTING -i eth1 -j RETURN") && v4.contains("-I OUTPUT -o eth1 -j RETURN"))
        #expect(v4.contains("-I PREROUTING -d 10.0.0.0/8 -i vnet0 -j ISTIO_REDIRECT"))
        #expect(v4.contains("-A PREROUTING -m conntrack --ctstate INVALID -j ISTIO_DROP"))
        let v6 = rules.installation(.v6, present: [:])
        #expect(v6.contains("-A ISTIO_OUTPUT -d fd00::/8 -j ISTIO_REDIRECT") && !v6.contains("10."))
        #expect(v6.contains("-s ::6/128 -o lo") && v6.contains("-d ::1/128 -j RETURN"))
    }

    /// As `iptables-save` lists them, with the rows of the reference (its own golden files) in their order.
    private static func namesRows(_ own: String, _ resolver: String) -> [String: [String]] {
        let owners = ["uid", "gid"].map { "-m owner --\($0)-owner 1337" }
        return [
            "nat ISTIO_OUTPUT": [
                "-A ISTIO_OUTPUT -s \(own == "127.0.0.1/32" ? "127.0.0.6/32" : "::6/128") -o lo -j RETURN",
                "-A ISTIO_OUTPUT ! -d \(own) -o lo -p tcp -m multiport ! --dports 53,15008 \(owners[0]) -j ISTIO_IN_REDIRECT",
                "-A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN",
                "-A ISTIO_OUTPUT \(owners[0]) -j RETURN",
                "-A ISTIO_OUTPUT ! -d \(own) -o lo -p tcp -m tcp ! --dport 15008 \(owners[1]) -j ISTIO_IN_REDIRECT",
                "-A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --gid-owner 1337 -j RETURN",
                "-A ISTIO_OUTPUT \(owners[1]) -j RETURN",
                "-A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS",
                "-A ISTIO_OUTPUT -d \(own) -j RETURN",
                "-A ISTIO_OUTPUT -j ISTIO_REDIRECT",
            ],
            "nat ISTIO_OUTPUT_DNS": [
                "-A ISTIO_OUTPUT_DNS -d \(resolver) -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 15053",
                "-A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 \(owners[0]) -j RETURN",
                "-A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 \(owners[1]) -j RETURN",
                "-A ISTIO_OUTPUT_DNS -d \(resolver) -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053",
            ],
            "raw OUTPUT": ["-A OUTPUT -j ISTIO_OUTPUT_DNS"],
            "raw PREROUTING": ["-A PREROUTING -j ISTIO_INBOUND"],
            "raw ISTIO_OUTPUT_DNS": [
                "-A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 \(owners[0]) -j CT --zone 1",
                "-A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 \(owners[0]) -j CT --zone 2",
                "-A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 \(owners[1]) -j CT --zone 1",
                "-A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 \(owners[1]) -j CT --zone 2",
                "-A ISTIO_OUTPUT_DNS -d \(resolver) -p udp -m udp --dport 53 -j CT --zone 2",
            ],
            "raw ISTIO_INBOUND": ["-A ISTIO_INBOUND -s \(resolver) -p udp -m udp --sport 53 -j CT --zone 1"],
        ]
    }

    /// By table and chain.
    private static func rows(_ text: String) -> [String: [String]] {
        var rows: [String: [String]] = [:]
        var table = ""
        for line in text.split(separator: "\n") {
            if line.hasPrefix("*") { table = String(line.dropFirst()) }
            guard line.hasPrefix("-A ") else { continue }
            rows["\(table) \(line.dropFirst(3).prefix { $0 != " " })", default: []].append(String(line))
        }
        return rows
    }

    private static let families: [(SidecarRules.Family, own: String, resolver: String)] = [
        (.v4, "127.0.0.1/32", "10.77.0.3/32"), (.v6, "::1/128", "fd77::3/128"),
    ]

    @Test("lead questions for names to the agent where the flag or the environment says so, each resolver's by a row")
    func names() throws {
        let wanted: [(arguments: [String], environment: [String: String])] = [
            (["--redirect-dns"], [:]), ([], ["ISTIO_META_DNS_CAPTURE": "true"]),
            (["--redirect-dns=true"], ["ISTIO_META_DNS_CAPTURE": "false"]),
        ]
        for (arguments, environment) in wanted {
            let rules = try self.options(Self.template + arguments, environment).rules
            for (family, own, resolver) in Self.families {
                let rows = Self.rows(rules.installation(family, present: [:]))
                for (chain, expected) in Self.namesRows(own, resolver) { #expect(rows[chain] == expected, "\(chain)") }
            }
        }
        let plain = try self.options(Self.template).rules
        for (arguments, environment) in [
            (["--redirect-dns=false"], ["ISTIO_META_DNS_CAPTURE": "true"]), (["--capture-all-dns"], [:]),
            ([], ["ISTIO_META_DNS_CAPTURE": "yes"]),
        ] { #expect(try self.options(Self.template + arguments, environment).rules == plain) }
        let all = try self.options(Self.template + ["--redirect-dns", "--capture-all-dns"], resolvConf: "").rules
        let rows = Self.rows(all.installation(.v4, present: [:]))
        #expect(
            rows["nat ISTIO_OUTPUT_DNS"]?.last
                == "-A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053")
        #expect(rows["raw ISTIO_INBOUND"] == ["-A ISTIO_INBOUND -p udp -m udp --sport 53 -j CT --zone 1"])
        let error = #expect(throws: SidecarRulesOptions.Invalid.self) {
            try self.options(["--redirect-dns"], resolvConf: "search a.b\n")
        }
        #expect(error?.description.contains("resolv.conf") == true)
    }

    @Test("capture nothing inbound without ports, and nothing outbound without ranges")
    func nothing() throws {
        let text = try self.options(["-b", "", "-i", ""]).rules.installation(.v4, present: [:])
        #expect(!text.contains("-A PREROUTING") && !text.contains("-A ISTIO_OUTPUT -j "))
    }

    @Test(
        "are refused with the flag and what it wants",
        arguments: [
            (["-p", "0"], "--envoy-port"), (["-i", "10.0.0.0/33"], "--istio-service-cidr"),
            (["-b", "80,x"], "--istio-inbound-ports"),
            (["-m", "TPROXY"], "REDIRECT"), (["-u", ""], "--proxy-uid"),
            (["-c", "a b;c"], "--istio-exclude-interfaces"),
            (["--run-validation"], "--run-validation"), (["--what"], "--what"), (["-p"], "a value"),
            (["15001"], "flags only"),
        ])
    func refusals(_ arguments: [String], _ wanted: String) throws {
        let error = #expect(throws: SidecarRulesOptions.Invalid.self) { try self.options(arguments) }
        #expect(error?.description.contains(wanted) == true, "\(error?.description ?? "")")
    }

    // MARK: In the kernel

    private static func run(_ namespace: SharedNetworkNamespace, _ arguments: [String]) async throws -> String {
        let output = try await namespace.perform { try Program.run(arguments) }
        try #require(output.exitCode == 0, "\(arguments): \(output.standardError)")
        return output.standardOutput
    }

    private static func set(_ namespace: SharedNetworkNamespace, _ arguments: [String]) async throws {
        let options = try SidecarRulesOptions(
            environment: [:], arguments: arguments, resolvConf: Self.resolvConf)
        _ = try await namespace.perform { try SidecarRulesRole.run(options, isIPv6: true) }
    }

    private static func save(_ namespace: SharedNetworkNamespace) async throws -> [String] {
        var lines: [String] = []
        for program in ["iptables-save", "ip6tables-save"] {
            lines += try await self.run(namespace, [program]).split(separator: "\n").map(String.init).filter {
                !$0.hasPrefix("#")
            }
        }
        return lines
    }

    @Test(
        "are listed by iptables as the reference's are, set twice are the same, and go without a trace",
        .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"), .timeLimit(.minutes(2)))
    func listed() async throws {
        let pod = try await NetworkNamespace.create()
        // What others set stays.
        _ = try await Self.run(pod, ["iptables", "-t", "nat", "-A", "OUTPUT", "-d", "192.0.2.1", "-j", "RETURN"])
        let before = try await Self.save(pod).filter { !$0.hasPrefix("*") && !$0.hasPrefix(":") && $0 != "COMMIT" }
        try await Self.set(pod, Self.template)
        #expect(try await Self.listing(pod, "iptables") == Self.expected(loopback: "127.0.0.1", source: "127.0.0.6"))
        #expect(try await Self.listing(pod, "ip6tables") == Self.expected(loopback: "::1", source: "::6"))
        let first = try await Self.save(pod)
        try await Self.set(pod, Self.template)
        #expect(try await Self.save(pod) == first)
        // Other wishes replace the old ones.
        let others = ["-p", "16001", "-b", "80", "-c", "eth1", "--drop-invalid"]
        try await Self.set(pod, others)
        #expect(!(try await Self.save(pod)).contains { $0.contains("15001") || $0.contains("15090") })
        try await Self.set(pod, others + ["--cleanup-only"])
        let after = try await Self.save(pod).filter { !$0.hasPrefix("*") && !$0.hasPrefix(":") && $0 != "COMMIT" }
        #expect(after == before)
        #expect(!(try await Self.save(pod)).contains { $0.contains("ISTIO") })
    }

    @Test(
        "with names are listed by iptables as they were written, replace those without, and go without a trace",
        .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"), .timeLimit(.minutes(2)))
    func listedWithNames() async throws {
        let pod = try await NetworkNamespace.create()
        try await Self.set(pod, Self.template)
        try await Self.set(pod, Self.template + ["--redirect-dns"])
        for (program, family) in zip(["iptables-save", "ip6tables-save"], Self.families) {
            let rows = Self.rows(try await Self.run(pod, [program]))
            let expected = Self.rows(
                try self.options(Self.template + ["--redirect-dns"]).rules.installation(family.0, present: [:]))
            #expect(rows == expected)
        }
        let names = try await Self.save(pod)
        try await Self.set(pod, Self.template + ["--redirect-dns"])
        #expect(try await Self.save(pod) == names)
        try await Self.set(pod, Self.template)
        #expect(!(try await Self.save(pod)).contains { $0.contains("DNS") })
        try await Self.set(pod, Self.template + ["--redirect-dns"])
        try await Self.set(pod, Self.template + ["--cleanup-only"])
        #expect(!(try await Self.save(pod)).contains { $0.contains("ISTIO") })
    }

    /// Chain by chain: `target protocol in out source destination extra`, with names for protocols whatever the version.
    private static func listing(_ pod: SharedNetworkNamespace, _ program: String) async throws -> [String: [String]] {
        let text = try await self.run(pod, [program, "-t", "nat", "-vnL"])
        var chains: [String: [String]] = [:]
        var chain = ""
        for line in text.split(separator: "\n") {
            var words = line.split(separator: " ").map(String.init)
            if words.first == "Chain" {
                chain = words[1]
                if chain.hasPrefix("ISTIO") { chains[chain] = [words[2...].joined(separator: " ")] }
                continue
            }
            if words.first == "pkts" || !chain.hasPrefix("ISTIO") || words.count < 8 { continue }
            words.removeFirst(2)
            words[1] = ["0": "all", "6": "tcp"][words[1]] ?? words[1]
            // The column of options is empty for IPv6 in some versions.
            if words[2] == "--" { words.remove(at: 2) }
            let row = words.joined(separator: " ").replacing("0.0.0.0/0", with: "any").replacing("::/0", with: "any")
                .replacing("::1/128", with: "::1").replacing("::6/128", with: "::6")
            chains[chain, default: []].append(row)
        }
        return chains
    }

    private static func expected(loopback: String, source: String) -> [String: [String]] {
        [
            "ISTIO_INBOUND": [
                "(1 references)", "RETURN tcp * * any any tcp dpt:15008", "RETURN tcp * * any any tcp dpt:15090",
                "RETURN tcp * * any any tcp dpt:15021", "RETURN tcp * * any any tcp dpt:15020",
                "ISTIO_IN_REDIRECT tcp * * any any",
            ],
            "ISTIO_IN_REDIRECT": ["(3 references)", "REDIRECT tcp * * any any redir ports 15006"],
            "ISTIO_OUTPUT": [
                "(1 references)", "RETURN all * lo \(source) any",
                "ISTIO_IN_REDIRECT tcp * lo any !\(loopback) tcp dpt:!15008 owner UID match 1337",
                "RETURN all * lo any any ! owner UID match 1337", "RETURN all * * any any owner UID match 1337",
                "ISTIO_IN_REDIRECT tcp * lo any !\(loopback) tcp dpt:!15008 owner GID match 1337",
                "RETURN all * lo any any ! owner GID match 1337", "RETURN all * * any any owner GID match 1337",
                "RETURN all * * any \(loopback)", "ISTIO_REDIRECT all * * any any",
            ],
            "ISTIO_REDIRECT": ["(1 references)", "REDIRECT tcp * * any any redir ports 15001"],
        ]
    }

    @Test(
        "lead an app's connections to Envoy with their destination, and leave the exempt ports alone",
        .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"), .timeLimit(.minutes(2)))
    func traffic() async throws {
        let topology = try await Topology()
        try await Self.set(topology.pod, Self.template)
        let outbound = try TCP.listen(in: topology.pod, port: 15001)
        let inbound = try TCP.listen(in: topology.pod, port: 15006)
        let health = try TCP.listen(in: topology.pod, port: 15021)
        for (client, pod) in [(Topology.clientV4, Topology.podV4), (Topology.clientV6, Topology.podV6)] {
            let app = try TCP.connect(in: topology.pod, to: endpoint(client, 8080))
            let captured = try outbound.accept()
            #expect(captured.originalDestination == endpoint(client, 8080))
            #expect(try talk(app, captured))
            let caller = try TCP.connect(in: topology.client, to: endpoint(pod, 8080))
            let arrived = try inbound.accept()
            #expect(arrived.originalDestination == endpoint(pod, 8080) && arrived.peer == caller.local)
            let probe = try TCP.connect(in: topology.client, to: endpoint(pod, 15021))
            #expect(try talk(probe, try health.accept()))
        }
    }

    /// An agent, which is who it is by its user, and an application beside it that asks two resolvers.
    private static let questioner = """
        import os, socket, sys
        loopback, resolver, other = sys.argv[1:]
        family = socket.AF_INET6 if ":" in loopback else socket.AF_INET
        os.seteuid(1337)
        agent, own = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        os.seteuid(0)
        agent.bind((loopback, 15053))
        app = socket.socket(family, socket.SOCK_DGRAM)
        for each in (agent, app): each.settimeout(10)
        app.sendto(b"question", (resolver, 53))
        text, client = agent.recvfrom(100)
        print(text.decode())
        own.sendto(b"the agent's own", (resolver, 53))
        agent.sendto(b"answer", client)
        text, source = app.recvfrom(100)
        print(text.decode(), source[0], source[1])
        app.sendto(b"elsewhere", (other, 53))
        """

    @Test(
        "lead an app's questions to the agent, whose answers come as if from the resolver; the agent's own pass",
        .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"), .timeLimit(.minutes(2)))
    func questions() async throws {
        let topology = try await Topology()
        try await Self.set(topology.pod, Self.template + ["--redirect-dns"])
        for (loopback, client, node) in [
            ("127.0.0.1", Topology.clientV4, "10.77.0.1"), ("::1", Topology.clientV6, "fd77::1"),
        ] {
            let resolver = try TCP.datagrams(in: topology.client, at: endpoint(client, 53))
            let other = try TCP.datagrams(in: topology.node, at: endpoint(IPAddress(node)!, 53))
            let said = try await Self.run(
                topology.pod, ["python3", "-c", Self.questioner, loopback, "\(client)", node])
            #expect(said == "question\nanswer \(client) 53\n")
            #expect(try resolver.receive() == "the agent's own")
            #expect(try other.receive() == "elsewhere")
        }
        let stream = try TCP.listen(in: topology.pod, port: 15053)
        let app = try TCP.connect(in: topology.pod, to: endpoint(Topology.clientV4, 53))
        #expect(try talk(app, try stream.accept()))
    }
}
