import Foundation
import MeshIdentity
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

/// What resting connections and tunnels cost, both sides together, as resident memory. A figure and no verdict, so it
/// is printed on demand: `MARTLET_MEMORY=1 swift test -c release --filter MemoryTests`. Run it alone, and on a release
/// build.
@Suite(
    "Memory at rest", .serialized, .timeLimit(.minutes(5)),
    .enabled(if: ProcessInfo.processInfo.environment["MARTLET_MEMORY"] != nil))
struct MemoryTests {
    @Test("connections in few tunnels", arguments: [3_000])
    func connections(count: Int) async throws {
        try await self.measure(count, streamsPerTunnel: 100, "connection")
    }

    @Test("tunnels of one connection each", arguments: [1_000])
    func tunnels(count: Int) async throws { try await self.measure(count, streamsPerTunnel: 1, "tunnel") }

    private func measure(_ count: Int, streamsPerTunnel: Int, _ what: String) async throws {
        // Sockets are kept by nobody's thread: those have stacks.
        let held = Mutex<[BlockingSocket]>([])
        let server = try BlockingServer { socket in
            guard let byte = try? socket.receive(exactly: 1) else { return }
            try? socket.send(byte)
            held.withLock { $0.append(socket) }
        }
        let number = Mutex(0)
        let pods = try TwoPods(
            target: server.port,
            route: { _, good in
                // Another key, another tunnel.
                var route = good
                if streamsPerTunnel == 1 {
                    let name = number.withLock { number in
                        number += 1
                        return "other-\(number)"
                    }
                    route.expected.append(
                        WorkloadIdentity(trustDomain: "cluster.local", namespace: "default", serviceAccount: name))
                }
                return .tunnel(route)
            },
            configure: { $0.streamsPerTunnelMax = streamsPerTunnel },
            configureServer: { $0.inboundStreamsMax = streamsPerTunnel })
        let warmUp = try await self.connect(pods, count / 10)
        let before = Self.residentBytes()
        let sockets = try await self.connect(pods, count)
        let after = Self.residentBytes()
        print("memory: \((after - before) / count) bytes for each \(what), both sides and the test's own socket")
        withExtendedLifetime((warmUp, sockets)) {}
        _ = await pods.stop()
    }

    private func connect(_ pods: TwoPods, _ count: Int) async throws -> [BlockingSocket] {
        try await offThread {
            try (0..<count).map { _ in
                let socket = try pods.connect()
                try socket.send([1])
                _ = try socket.receive(exactly: 1)
                return socket
            }
        }
    }

    private static func residentBytes() -> Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * 4096
    }
}
