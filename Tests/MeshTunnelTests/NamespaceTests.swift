import Foundation
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// Real network namespaces: needs root, `ip` and `socat`.
@Suite(
    "Pods in their own network namespace", .timeLimit(.minutes(2)),
    .enabled(
        if: TestNamespace.isPossible, "SKIPPED: network namespaces need root and the programs ip and socat"))
struct NamespaceTests {
    @Test("Z14: listeners and dials are inside the pod's namespace, with the mark; ours stays as it was")
    func inside() async throws {
        let namespace = try TestNamespace()
        defer { namespace.remove() }
        let server = try namespace.start(["socat", "TCP-LISTEN:8080,reuseaddr,fork", "EXEC:cat"])
        // Not SIGTERM: a child inherits the signal mask of the thread that made it, where that is blocked.
        defer { kill(server.processIdentifier, SIGKILL) }
        try await eventually { (try? namespace.output(["ss", "-Hltn", "sport = :8080"]).isEmpty) == false }

        let before = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self/ns/net")
        let marked: (inout TunnelConfiguration) -> Void = {
            $0.mark = 1337
            $0.sourceSpoofing = .bestEffort
        }
        let pods = try TwoPods(
            target: 8080, configure: marked, configureServer: marked, namespace: namespace.descriptor)
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self/ns/net") == before)
        // Outside, nobody listens there.
        #expect((try? BlockingSocket.connect(port: pods.clientPorts.outbound)) == nil)

        let answer = try await offThread {
            try namespace.output(
                ["sh", "-c", "printf hello | socat -t 10 - TCP:127.0.0.1:\(pods.clientPorts.outbound)"])
        }
        #expect(answer == "hello")
        let end = await pods.serverObserver.firstClosed()
        #expect(end.end.error == nil)
        _ = await pods.stop()
    }

    @Test("a descriptor that is no namespace is refused")
    func noNamespace() async throws {
        let file = try #require(FileHandle(forReadingAtPath: "/dev/null"))
        let engine = TunnelEngine(
            configuration: TwoPods.configuration(IPEndpoint(address: TwoPods.loopback, port: 9)),
            view: FakeView(identity: nil), certificates: NoCertificates(), observer: RecordingObserver())
        #expect(throws: PodStartError.self) {
            try engine.addPod(TwoPods.serverPod, namespace: file.fileDescriptor)
        }
        await engine.drain(deadline: .zero)
    }
}

/// A network namespace with loopback up, removed by the test.
final class TestNamespace: Sendable {
    static var isPossible: Bool {
        getuid() == 0
            && ["/usr/bin/socat", "/usr/sbin/ip", "/usr/bin/ss"].allSatisfy {
                FileManager.default.isExecutableFile(atPath: $0)
                    || FileManager.default.isExecutableFile(atPath: $0.replacingOccurrences(of: "/usr", with: ""))
            }
    }

    let name = "mlt-\(UInt32.random(in: 0 ... .max))"
    private let handle: FileHandle
    var descriptor: CInt { self.handle.fileDescriptor }

    init() throws {
        _ = try Self.run(["ip", "netns", "add", self.name])
        self.handle = try #require(FileHandle(forReadingAtPath: "/run/netns/\(self.name)"))
        _ = try self.output(["ip", "link", "set", "lo", "up"])
    }

    func remove() { _ = try? Self.run(["ip", "netns", "del", self.name]) }

    /// Runs a program inside and returns what it wrote.
    func output(_ command: [String]) throws -> String {
        try Self.run(["ip", "netns", "exec", self.name] + command)
    }

    func start(_ command: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ip", "netns", "exec", self.name] + command
        try process.run()
        return process
    }

    private static func run(_ command: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: output, as: UTF8.self)
    }
}
