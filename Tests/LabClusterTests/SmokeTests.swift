import Foundation
import KubeAPI
import KubeClient
import LabCluster
import LabNode
import Testing

private let martletLab: String? = {
    let beside = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        .appendingPathComponent("martlet-lab").path
    return FileManager.default.isExecutableFile(atPath: beside) ? beside : nil
}()

/// A lab on this very machine, made and removed by the program itself.
@Suite(
    "A lab",
    .enabled(if: geteuid() == 0, "SKIPPED: making network namespaces needs root"),
    .enabled(if: martletLab != nil, "SKIPPED: martlet-lab is not built beside the tests"), .serialized,
    .timeLimit(.minutes(5)))
struct SmokeTests {
    private struct Result {
        var code: Int32
        var output, error: String
    }

    private let directory = FileManager.default.temporaryDirectory.appendingPathComponent("lab-\(UUID().uuidString)")
    private var kubeconfig: String { self.directory.appendingPathComponent("config").path }

    /// The program, with an open file that a cluster must not keep.
    private func lab(_ arguments: String...) async throws -> Result {
        try FileManager.default.createDirectory(at: self.directory, withIntermediateDirectories: true)
        // The shell opens the file, because whatever we have open is closed on the way to the program.
        let result = try await Self.programs.run(
            ["/bin/sh", "-c", "exec \"$0\" \"$@\" 9>'\(self.callersFile)'", try #require(martletLab)] + arguments,
            environment: ["HOME": self.directory.path, "KUBECONFIG": self.kubeconfig], deadline: .seconds(150))
        return Result(code: result.exit.code, output: result.text, error: result.errorText)
    }

    private static let programs = CommandRunner(processes: ProcessTable(reapsOrphans: false), networkNamespace: nil)
    private var callersFile: String { self.directory.appendingPathComponent("caller").path }

    /// The pids of a cluster's processes, with their command lines.
    private func processes(_ name: String) -> [(pid: String, command: String)] {
        let pids = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).filter { Int($0) != nil }
        return pids.compactMap { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return nil }
            let command = String(decoding: line, as: UTF8.self)
            return command.contains("/var/lib/martlet/lab/\(name)/") ? (pid, command) : nil
        }
    }

    /// Everything of a cluster that a machine could keep.
    private func remains(_ name: String) -> [String] {
        [
            "/var/lib/martlet/lab/\(name)", "/run/martlet/lab/\(name)", "/run/martlet/lab/\(name).lock",
            "/sys/class/net/\(LabSpec.bridge(name))",
        ]
        .filter { FileManager.default.fileExists(atPath: $0) }
            + self.processes(name).map { "process \($0.pid): \($0.command)" }
    }

    /// Whether a process has a file open.
    private func holds(_ pid: String, _ file: String) -> Bool {
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd")) ?? []
        return descriptors.contains {
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\($0)")) == file
        }
    }

    /// A test's body, after which its cluster is gone.
    private func cleaning(_ name: String, _ body: () async throws -> Void) async throws {
        let outcome: Swift.Result<Void, any Error>
        do { outcome = .success(try await body()) } catch { outcome = .failure(error) }
        _ = try? await self.lab("delete", name)
        try? FileManager.default.removeItem(at: self.directory)
        try outcome.get()
    }

    @Test(
        "is made with Ready nodes, answers kubectl's kubeconfig, refuses a second of its name, and leaves nothing behind"
    )
    func life() async throws {
        let name = "smoke-\(getpid())"
        try await self.cleaning(name) { try await self.live(name) }
    }

    private func live(_ name: String) async throws {
        let port = Int.random(in: 20_000..<30_000)
        let created = try await self.lab("create", name, "--agents", "1", "--api-port", "\(port)", "--timeout", "120s")
        try #require(created.code == 0, "\(created.error)")
        let running = self.processes(name)
        // And whatever a node is about to start, which has the node's command line until then.
        #expect(running.count >= 5, "a server, two keepers and two nodes: \(running)")
        for process in running { #expect(!self.holds(process.pid, self.callersFile), "\(process) holds it") }
        let client = try KubeClient(try KubeConfiguration.kubeconfig(path: self.kubeconfig))
        let nodes = try await client.list(.nodes).items
        try await client.shutdown()
        #expect(Set(nodes.map(\.name)) == ["k3d-\(name)-server-0", "k3d-\(name)-agent-0"])
        #expect(nodes.allSatisfy { $0.condition("Ready") == "True" })

        let again = try await self.lab("create", name)
        #expect(again.code != 0 && again.error.contains("already exists"))
        let inside = try await self.lab("exec", "k3d-\(name)-agent-0", "--", "hostname")
        #expect(inside.output == "k3d-\(name)-agent-0\n", "\(inside.error)")

        let deleted = try await self.lab("delete", name)
        #expect(deleted.code == 0, "\(deleted.error)")
        #expect(self.remains(name) == [])
        #expect(try JSONValue(yaml: String(contentsOfFile: self.kubeconfig, encoding: .utf8))["contexts"] == [])
    }

    @Test("that was killed at any point is removed by delete")
    func crash() async throws {
        let name = "crash-\(getpid())"
        try await self.cleaning(name) { try await self.crash(name) }
    }

    private func crash(_ name: String) async throws {
        let created = try await self.lab(
            "create", name, "--api-port", "\(Int.random(in: 20_000..<30_000))", "--timeout", "120s")
        try #require(created.code == 0, "\(created.error)")
        for file in ["server.pid", "nodes/k3d-\(name)-server-0/keeper.pid"] {
            let text = try String(contentsOfFile: "/run/martlet/lab/\(name)/\(file)", encoding: .utf8)
            kill(try #require(text.split(separator: " ").first.flatMap { pid_t($0) }), SIGKILL)
        }
        // And lose the files, too. The node is still dying, and may make a new one while the others go.
        let files = "/run/martlet/lab/\(name)"
        for _ in 0..<500 where FileManager.default.fileExists(atPath: files) {
            try? FileManager.default.removeItem(atPath: files)
            try await Task.sleep(for: .milliseconds(10))
        }
        try #require(!FileManager.default.fileExists(atPath: files))
        #expect(try await self.lab("delete", name).code == 0)
        #expect(self.remains(name) == [])
    }
}
