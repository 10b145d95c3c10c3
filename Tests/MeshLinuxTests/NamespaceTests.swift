import Glibc
import MeshLinux
import Testing

let isRoot = geteuid() == 0

@Suite("A network namespace", .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"))
struct NamespaceTests {
    @Test("is entered by a thread of its own, and by nobody else")
    func enter() async throws {
        let other = try await NetworkNamespace.create()
        let here = try NetworkNamespace.current().identity()
        #expect(other.identity != here)
        let inside = try await other.perform { try NetworkNamespace.current().identity() }
        #expect(inside == other.identity)
        #expect(try NetworkNamespace.current().identity() == here)
        let interfaces = try await other.perform { try Program.run(["ip", "-o", "link"]).standardOutput }
        #expect(interfaces.split(separator: "\n").count == 1, "a program started inside sees only lo")
    }

    @Test("holds sockets that are used from outside")
    func socket() async throws {
        let other = try await NetworkNamespace.create()
        let here = try NetworkNamespace.current().identity()
        for _ in 0..<200 {
            let socket = try other.namespace.socket(domain: AF_INET, type: CInt(SOCK_STREAM.rawValue))
            close(socket)
        }
        #expect(try NetworkNamespace.current().identity() == here)
    }

    @Test("gets routes and rule for answers once, and loses them completely")
    func routing() async throws {
        let other = try await NetworkNamespace.create()
        let routing = ReplyRouting(table: 100, mark: 0x111, mask: 0xfff, preference: 32764, isIPv6Enabled: true)
        func look() async throws -> [String] {
            try await other.perform {
                try [
                    ["ip", "rule", "list", "pref", "32764"], ["ip", "-6", "rule", "list", "pref", "32764"],
                    ["ip", "route", "show", "table", "100"], ["ip", "-6", "route", "show", "table", "100"],
                ].map { try Program.run($0).standardOutput }
            }
        }
        _ = try await other.perform { try Program.run(["ip", "link", "set", "lo", "up"]) }
        #expect(try await other.perform { try routing.install() } == 4)
        let made = try await look()
        #expect(made[0].contains("from all fwmark 0x111/0xfff lookup 100"))
        #expect(made[1].contains("from all fwmark 0x111/0xfff lookup 100"))
        #expect(made[2].hasPrefix("local default dev lo") && made[2].contains("scope host"))
        #expect(made[3].hasPrefix("local default dev lo"))
        #expect(try await other.perform { try routing.install() } == 0, "nothing was missing")
        try await other.perform { try routing.remove() }
        #expect(try await look() == ["", "", "", ""])
        try await other.perform { try routing.remove() }
    }

    @Test("of a pod is found through its oldest process that holds the pod's address")
    func processTable() async throws {
        let root = "/tmp/proc-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        defer { _ = try? Program.run(["rm", "-rf", root]) }
        let uid = "1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11"
        let namespaces = [
            try await NetworkNamespace.create(), try await NetworkNamespace.create(),
            try await NetworkNamespace.create(), try await NetworkNamespace.create(),
        ]
        // Two of the pod's (a sandbox was made anew), one without its address, one of the node.
        for index in [0, 1] {
            _ = try await namespaces[index].perform {
                try Program.run(["ip", "-batch", "-"], input: "link set lo up\naddr add 10.1.0.9/32 dev lo\n")
            }
        }
        for (index, (process, start)) in [("10", 500), ("11", 400), ("12", 100), ("13", 1)].enumerated() {
            try Files.makeDirectory("\(root)/\(process)/ns")
            let target = namespaces[index].namespace.withDescriptor { "/proc/\(getpid())/fd/\($0)" }
            symlink(target, "\(root)/\(process)/ns/net")
            let stat = "\(process) (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 \(start) 1"
            try Files.writeAtomically(Array(stat.utf8), to: "\(root)/\(process)/stat", mode: 0o600)
            try Files.writeAtomically(
                Array("0::/kubepods/pod\(uid)/c\n".utf8), to: "\(root)/\(process)/cgroup", mode: 0o600)
        }
        let table = ProcessTable(root: root)
        let found = await table.namespaces(ofPods: [uid: [[10, 1, 0, 9]]], excluding: namespaces[3].identity)
        #expect(found[uid]?.identity == namespaces[1].identity)
        #expect(await table.namespaces(ofPods: [uid: []], excluding: nil).isEmpty, "no address yet")
        #expect(await table.namespaces(ofPods: ["other": [[10, 1, 0, 9]]], excluding: nil).isEmpty)
    }
}
