import Foundation
import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// A captured pod at 10.98.0.2 and a client at 10.98.0.1, both real namespaces, with the rules and routes of the node
/// agent in the pod. The application answers with the address that its client seems to have.
@Suite(
    "The client's address, as the application sees it", .timeLimit(.minutes(3)), .serialized,
    .enabled(
        if: TestNamespace.isPossible && FileManager.default.isExecutableFile(atPath: "/usr/sbin/nft"),
        "SKIPPED: needs root and the programs ip, nft, socat and ss"))
struct ClientAddressTests {
    private static let podIP = "10.98.0.2"
    private static let clientIP = "10.98.0.1"

    private static let rules = """
        table inet mesh {
          chain flow_in {
            type filter hook prerouting priority -150;
            meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
          }
          chain flow_out {
            type route hook output priority -150;
            ct mark & 0xfff == 0x111 meta mark set ct mark
          }
          chain prerouting {
            type nat hook prerouting priority -100;
            meta mark & 0xfff == 0x539 accept
            ip daddr 127.0.0.0/8 accept
            tcp dport != 15008 redirect to :15006
          }
          chain output {
            type nat hook output priority -100;
            meta mark & 0xfff == 0x539 accept
            meta mark & 0xfff == 0x111 accept
            oifname "lo" accept
            meta l4proto tcp redirect to :15001
          }
        }
        """

    private final class Rig: Sendable {
        let pod, client: TestNamespace
        let podEngine, clientEngine: TunnelEngine
        let observer = RecordingObserver()
        private let app: pid_t

        init() async throws {
            self.pod = try TestNamespace()
            self.client = try TestNamespace()
            _ = try self.client.output(
                ["ip", "link", "add", "c0", "type", "veth", "peer", "name", "p0", "netns", self.pod.name])
            for (namespace, device, address) in [
                (self.client, "c0", ClientAddressTests.clientIP), (self.pod, "p0", ClientAddressTests.podIP),
            ] {
                _ = try namespace.output(["ip", "address", "add", "\(address)/24", "dev", device])
                _ = try namespace.output(["ip", "link", "set", device, "up"])
            }
            _ = try self.pod.output(["sh", "-c", "echo '\(ClientAddressTests.rules)' | nft -f -"])
            _ = try self.pod.output(
                ["ip", "rule", "add", "fwmark", "0x111/0xfff", "pref", "32764", "lookup", "100"])
            _ = try self.pod.output(["ip", "route", "add", "local", "default", "dev", "lo", "table", "100"])
            let pod = self.pod
            self.app = try pod.start(["socat", "TCP-LISTEN:8080,reuseaddr,fork", "SYSTEM:echo $SOCAT_PEERADDR; cat"])
            let ca = try TestCA()
            var configuration = TunnelConfiguration()
            configuration.loops = 1
            configuration.isIPv6Enabled = false
            configuration.sourceSpoofing = .required
            self.podEngine = try TunnelEngine(
                configuration: configuration,
                view: FakeView(
                    identity: TwoPods.serverIdentity,
                    route: { .passthrough(to: $0.destination, labels: Labels()) }),
                certificates: FakeCertificates(ca), observer: self.observer)
            try self.podEngine.addPod(TwoPods.serverPod, namespace: self.pod.descriptor)
            // Another node's proxy: what its pod sends to the outbound port goes into a tunnel to our pod.
            configuration.sourceSpoofing = .off
            let target = IPEndpoint("\(ClientAddressTests.podIP):8080")!
            configuration.outboundDestination = .fixed(target)
            let route = TunnelRoute(
                peer: IPEndpoint("\(ClientAddressTests.podIP):15008")!, authority: "\(target)",
                source: TwoPods.clientIdentity, expected: [TwoPods.serverIdentity], headers: [], labels: Labels())
            self.clientEngine = try TunnelEngine(
                configuration: configuration,
                view: FakeView(identity: TwoPods.clientIdentity, route: { _ in .tunnel(route) }),
                certificates: FakeCertificates(ca), observer: RecordingObserver())
            try self.clientEngine.addPod(TwoPods.clientPod, namespace: self.client.descriptor)
            try await eventually { (try? pod.output(["ss", "-Hltn", "sport = :8080"]).isEmpty) == false }
        }

        /// What the application says to a connection to `address` that sends one word.
        func ask(_ address: String, _ port: Int) async throws -> String {
            let client = self.client
            return try await offThread {
                try client.output([
                    "sh", "-c", "echo word | timeout 20 socat -t 10 - TCP:\(address):\(port) 2>&1; true",
                ])
            }
        }

        func stop() async {
            await self.podEngine.drain(deadline: .zero)
            await self.clientEngine.drain(deadline: .zero)
            kill(self.app, SIGKILL)
            self.pod.remove()
            self.client.remove()
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

    @Test("of captured plaintext, whose destination the kernel remembers")
    func plaintext() async throws {
        try await self.withRig { rig in
            #expect(try await rig.ask(Self.podIP, 8080) == "\(Self.clientIP)\nword\n")
            let end = try await rig.observer.firstClosed()
            #expect(end.record.originalDestination == IPEndpoint("\(Self.podIP):8080"))
            #expect(end.record.source.address == IPAddress(Self.clientIP))
        }
    }

    @Test("of a tunnel")
    func tunnel() async throws {
        try await self.withRig { rig in
            #expect(try await rig.ask(Self.clientIP, 15001) == "\(Self.clientIP)\nword\n")
            let end = try await rig.observer.firstClosed()
            #expect(end.record.transport == .hbone && end.record.source.address == IPAddress(Self.clientIP))
        }
    }
}
