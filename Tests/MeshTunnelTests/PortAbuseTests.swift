import Foundation
import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// A captured pod at 10.99.0.2, with redirection as the node agent installs it, and a node at 10.99.0.1 whose proxy
/// has its own HBONE listener and two HTTP ports; both real namespaces. Needs root, `ip`, `nft` and `socat`.
@Suite(
    "The ports of the mesh, called by applications", .timeLimit(.minutes(3)), .serialized,
    .enabled(
        if: TestNamespace.isPossible && FileManager.default.isExecutableFile(atPath: "/usr/sbin/nft"),
        "SKIPPED: needs root and the programs ip, nft, socat and ss"))
struct PortAbuseTests {
    private static let podIP = "10.99.0.2"
    private static let nodeIP = "10.99.0.1"

    private static let rules = """
        table inet mesh {
          chain output {
            type nat hook output priority -100;
            meta mark & 0xfff == 0x539 accept
            oifname "lo" accept
            meta l4proto tcp redirect to :15001
          }
          chain prerouting {
            type nat hook prerouting priority -100;
            meta mark & 0xfff == 0x539 accept
            ip daddr 127.0.0.0/8 accept
            tcp dport != 15008 redirect to :15006
          }
        }
        """

    private final class Rig: Sendable {
        let pod, node: TestNamespace
        let podEngine, nodeEngine: TunnelEngine
        let observer = RecordingObserver()
        private let http: [pid_t]

        init() async throws {
            self.pod = try TestNamespace()
            self.node = try TestNamespace()
            _ = try self.node.output(
                ["ip", "link", "add", "n0", "type", "veth", "peer", "name", "p0", "netns", self.pod.name])
            for (namespace, device, address) in [
                (self.node, "n0", PortAbuseTests.nodeIP), (self.pod, "p0", PortAbuseTests.podIP),
            ] {
                _ = try namespace.output(["ip", "address", "add", "\(address)/24", "dev", device])
                _ = try namespace.output(["ip", "link", "set", device, "up"])
            }
            _ = try self.pod.output(["sh", "-c", "echo '\(PortAbuseTests.rules)' | nft -f -"])
            let node = self.node
            self.http = try [15020, 15021].map {
                try node.start([
                    "socat", "TCP-LISTEN:\($0),reuseaddr,fork",
                    "SYSTEM:read line; echo HTTP/1.1 404 Not Found",
                ])
            }
            let ca = try TestCA()
            func engine(_ ports: TunnelConfiguration.Ports, _ observer: RecordingObserver) throws -> TunnelEngine {
                var configuration = TunnelConfiguration()
                configuration.ports = ports
                configuration.sourceSpoofing = .off
                configuration.loops = 1
                return try TunnelEngine(
                    configuration: configuration,
                    view: FakeView(
                        identity: TwoPods.serverIdentity,
                        route: { .passthrough(to: $0.destination, labels: Labels()) }),
                    certificates: FakeCertificates(ca), observer: observer)
            }
            self.podEngine = try engine(.init(), self.observer)
            self.nodeEngine = try engine(
                .init(outbound: 0, inboundPlaintext: 0, inboundTunnel: 15008), RecordingObserver())
            try self.podEngine.addPod(TwoPods.clientPod, namespace: self.pod.descriptor)
            try self.nodeEngine.addPod(TwoPods.serverPod, namespace: self.node.descriptor)
            try await eventually { (try? node.output(["ss", "-Hltn", "sport = :15021"]).isEmpty) == false }
        }

        /// What a simple HTTP client inside `namespace` gets, or the reason why not.
        func get(from namespace: TestNamespace, _ address: String, _ port: Int) async throws -> String {
            try await offThread {
                try namespace.output([
                    "sh", "-c",
                    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 20 socat -t 5 - TCP:\(address):\(port) 2>&1; true",
                ])
            }
        }

        func stop() async {
            await self.podEngine.drain(deadline: .zero)
            await self.nodeEngine.drain(deadline: .zero)
            for process in self.http { kill(process, SIGKILL) }
            self.pod.remove()
            self.node.remove()
        }
    }

    private func withRig(_ body: (Rig) async throws -> Void) async throws {
        let rig = try await Rig()
        do { try await body(rig) } catch {
            await rig.stop()
            throw error
        }
        await rig.stop()
    }

    /// TCP was accepted, and then it ended without an answer.
    private func isClosedWithoutAnswer(_ answer: String) -> Bool {
        !answer.contains("refused") && !answer.contains("HTTP/") && !answer.contains("timed out")
    }

    @Test("M1, M2, M3, M4: from a captured pod to the proxy's node")
    func toNode() async throws {
        try await self.withRig { rig in
            for port in [15001, 15006, 15008, 15080, 15000] {
                let answer = try await rig.get(from: rig.pod, Self.nodeIP, port)
                #expect(self.isClosedWithoutAnswer(answer), "port \(port): \(answer)")
            }
            for port in [15020, 15021] {
                let answer = try await rig.get(from: rig.pod, Self.nodeIP, port)
                #expect(answer.contains("404"), "port \(port): \(answer)")
            }
        }
    }

    @Test("M5, M6: from a captured pod to itself")
    func toItself() async throws {
        try await self.withRig { rig in
            for address in [Self.podIP, "127.0.0.1"] {
                for port in [15001, 15006, 15008] {
                    let answer = try await rig.get(from: rig.pod, address, port)
                    #expect(self.isClosedWithoutAnswer(answer), "\(address):\(port): \(answer)")
                }
                for port in [15080, 15000, 15020, 15021] {
                    let answer = try await rig.get(from: rig.pod, address, port)
                    #expect(answer.contains("refused"), "\(address):\(port): \(answer)")
                }
            }
            let log = rig.observer.log
            #expect(log.refused.count { $0.kind == .selfCall } == 4)
            #expect(log.refused.count { $0.kind == .handshake || $0.kind == .other } == 2)
        }
    }

    @Test("M7, M8: from outside the mesh to the node and to a captured pod")
    func fromOutside() async throws {
        try await self.withRig { rig in
            for port in [15001, 15006, 15000, 15080] {
                let answer = try await rig.get(from: rig.node, Self.nodeIP, port)
                #expect(answer.contains("refused"), "node \(port): \(answer)")
            }
            for port in [15001, 15006, 15008, 15080, 15000, 15020, 15021] {
                let answer = try await rig.get(from: rig.node, Self.podIP, port)
                #expect(self.isClosedWithoutAnswer(answer), "pod \(port): \(answer)")
            }
        }
    }
}
