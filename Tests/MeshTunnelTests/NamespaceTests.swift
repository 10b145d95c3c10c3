import Glibc
import MeshLinux
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// Real network namespaces, without names: nothing is left behind.
@Suite(
    "Pods in their own network namespace", .timeLimit(.minutes(2)),
    .enabled(if: geteuid() == 0, "SKIPPED: needs root to make network namespaces"))
struct PodNamespaceTests {
    @Test("Z14: listeners and dials are inside the pod's namespace, with the mark; ours stays as it was")
    func inside() async throws {
        let namespace = try await NetworkNamespace.create()
        let up = try await namespace.perform { try Program.run(["ip", "link", "set", "lo", "up"]) }
        try #require(up.exitCode == 0, "\(up.standardError)")
        // Threads that are started in a namespace stay there, and so do their sockets.
        let echo = try await namespace.perform { try BlockingServer.echo() }

        let marked: @Sendable (inout TunnelConfiguration) -> Void = {
            $0.mark = 1337
            $0.sourceSpoofing = .bestEffort
        }
        let pods = try await KernelThread.perform {
            let before = try NetworkNamespace.current().identity()
            let pods = try namespace.namespace.withDescriptor {
                try TwoPods(target: echo.port, configure: marked, configureServer: marked, namespace: $0)
            }
            #expect(try NetworkNamespace.current().identity() == before)
            return pods
        }
        let answer = try await namespace.perform {
            let socket = try BlockingSocket.connect(port: pods.clientPorts.outbound)
            try socket.send("hello".utf8)
            socket.finishWriting()
            return try socket.receiveToEnd()
        }
        #expect(answer == Array("hello".utf8))
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.error == nil)
        withExtendedLifetime(echo) {}
        _ = await pods.stop()
    }

    @Test("a descriptor that is no namespace is refused")
    func noNamespace() async throws {
        let file = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        let engine = try TunnelEngine(
            configuration: TwoPods.configuration(IPEndpoint(address: TwoPods.loopback, port: 9)),
            view: FakeView(identity: nil), certificates: NoCertificates(), observer: RecordingObserver())
        #expect(throws: PodStartError.self) { try engine.addPod(TwoPods.serverPod, namespace: file) }
        await engine.drain(deadline: .zero)
    }
}
