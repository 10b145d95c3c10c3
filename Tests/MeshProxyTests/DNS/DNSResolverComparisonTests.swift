import Foundation
import MeshDNS
import MeshModel
import MeshProxy
import MeshTestSupport
import NIOCore
import NIOPosix
import Testing

/// Asks a real resolver (unbound, from Debian) directly and through the name service: not a byte may differ but the id,
/// which is ours to change on the way and is changed back.
@Suite(
    "Forwarding beside a real resolver", .timeLimit(.minutes(5)),
    .enabled(if: FileManager.default.isExecutableFile(atPath: Unbound.program), "unbound is not installed"))
struct DNSResolverComparisonTests {
    private static let records = [
        "plain.zone.test. 300 IN A 192.0.2.1", "plain.zone.test. 300 IN AAAA 2001:db8::1",
        "zone.test. 300 IN SOA ns.zone.test. mail.zone.test. 1 2 3 4 5", "zone.test. 300 IN NS ns.zone.test.",
        "zone.test. 300 IN MX 10 mail.zone.test.", "text.zone.test. 300 IN TXT \"hello\" \"world\"",
        "_sip._tcp.zone.test. 300 IN SRV 1 2 3 srv.zone.test.", "zone.test. 300 IN CAA 0 issue \"ca.test\"",
        "alias.zone.test. 300 IN CNAME plain.zone.test.", "1.2.0.192.in-addr.arpa. 300 IN PTR plain.zone.test.",
        "naptr.zone.test. 300 IN NAPTR 1 2 \"u\" \"x\" \"!a!b!\" .",
        "https.zone.test. 300 IN HTTPS 1 . alpn=h2", "new.zone.test. 300 IN TYPE65280 \\# 3 010203",
    ]

    @Test("every type, size and oddity is passed on as it is", arguments: [DNSTransport.udp, .tcp])
    func same(transport: DNSTransport) async throws {
        let long = (0..<60).map { "long.zone.test. 300 IN A 198.51.100.\($0)" }
        let host = transport == .udp ? "127.77.0.1" : "127.77.0.2"
        let unbound = try await Unbound.start(records: Self.records + long, host: host)
        defer { unbound.stop() }
        var questions: [[UInt8]] = []
        let names = [
            "plain.zone.test", "PLAIN.Zone.test", "zone.test", "text.zone.test", "_sip._tcp.zone.test",
            "alias.zone.test", "1.2.0.192.in-addr.arpa", "naptr.zone.test", "https.zone.test", "new.zone.test",
            "long.zone.test", "nothing.zone.test", "refused.example",
        ]
        let types: [UInt16] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 65, 255, 257, 65_280]
        for name in names {
            for type in types {
                for edns in [nil, 512, 1232, 4096] as [UInt16?] {
                    questions.append(question(name, DNSRecordType(rawValue: type), edns: edns))
                }
            }
        }
        // CHAOS class, a wrong opcode, no question, two questions, an unknown EDNS version.
        var chaos = question("version.bind", .txt)
        chaos[chaos.count - 1] = 3
        var notify = question("zone.test", .soa)
        notify[2] = 0x20
        var version = question("plain.zone.test", edns: 1232)
        version[version.count - 5] = 9
        questions += [chaos, notify, version, [0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
        let all = questions
        try await NameBench().serving([unbound.endpoint]) { _, port in
            let direct = try await DNSPeer(unbound.endpoint.port, transport, from: host)
            let through = try await DNSPeer(port, transport)
            var compared = 0
            for message in all {
                let expected = try await unbound.watched("asked directly", message) { try await direct.ask(message) }
                let got = try await unbound.watched("asked through us", message) { try await through.ask(message) }
                #expect(got == expected, "\(message)")
                compared += 1
            }
            #expect(compared == all.count)
            await direct.close()
            await through.close()
        }
    }
}

/// A resolver with a local zone, on a free port of loopback, until it is stopped.
final class Unbound: Sendable {
    static let program = "/usr/sbin/unbound"

    let endpoint: IPEndpoint
    private let process: ChildProgram
    private let folder: URL

    struct NotStarted: Error {}

    /// - Parameter host: on loopback, nobody else's: between the search for a free port and its use nobody takes it.
    static func start(records: [String], host: String) async throws -> Unbound {
        let probe = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: host, port: 0).get()
        let port = probe.localAddress!.port!
        try await probe.close().get()
        let unbound = try Unbound(host: host, port: port, records: records)
        for _ in 0..<600 {
            if let peer = try? await DNSPeer(UInt16(port), .tcp, from: host) {
                await peer.close()
                return unbound
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        unbound.stop()
        throw NotStarted()
    }

    private init(host: String, port: Int, records: [String]) throws {
        self.endpoint = IPEndpoint(address: IPAddress(host)!, port: UInt16(port))
        self.folder = FileManager.default.temporaryDirectory.appendingPathComponent("unbound-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
        let file = self.folder.appendingPathComponent("unbound.conf")
        let data = records.map { "  local-data: '\($0)'" }.joined(separator: "\n")
        try """
        server:
          directory: "\(self.folder.path)"
          chroot: ""
          username: ""
          pidfile: ""
          use-syslog: no
          logfile: "\(self.folder.path)/log"
          do-daemonize: no
          interface: \(host)@\(port)
          access-control: 127.0.0.0/8 allow
          do-not-query-localhost: yes
          rrset-roundrobin: no
          tcp-idle-timeout: 60000
          # With most of its few slots taken it would close the connection that we ask it by directly.
          incoming-num-tcp: 500
          module-config: "iterator"
          local-zone: "." refuse
          local-zone: "zone.test." static
          local-zone: "2.0.192.in-addr.arpa." static
        \(data)
        remote-control:
          control-enable: no

        """.write(to: file, atomically: true, encoding: .utf8)
        self.process = try ChildProgram([Self.program, "-d", "-c", file.path], isQuiet: true)
    }

    /// Says who did not answer, and how the resolver is.
    func watched(_ who: String, _ message: [UInt8], _ body: () async throws -> [UInt8]) async throws -> [UInt8] {
        do {
            return try await body()
        } catch {
            let log = (try? String(contentsOf: self.folder.appendingPathComponent("log"), encoding: .utf8)) ?? "no log"
            Issue.record("\(who), no answer to \(message): \(error); runs: \(self.process.isRunning); log: \(log)")
            throw error
        }
    }

    func stop() {
        self.process.stop()
        try? FileManager.default.removeItem(at: self.folder)
    }
}
