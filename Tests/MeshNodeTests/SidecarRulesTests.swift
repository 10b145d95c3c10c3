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

    private func options(_ arguments: [String], _ environment: [String: String] = [:]) throws -> SidecarRulesOptions {
        try SidecarRulesOptions(environment: environment, arguments: arguments)
    }

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
            (["--redirect-dns"], "--redirect-dns"), (["--what"], "--what"), (["-p"], "a value"),
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
        let options = try SidecarRulesOptions(environment: [:], arguments: arguments)
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
}
