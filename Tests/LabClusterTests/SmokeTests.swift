import Foundation
import KubeAPI
import KubeClient
import LabCluster
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

    private func lab(_ arguments: String...) throws -> Result {
        try FileManager.default.createDirectory(at: self.directory, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(martletLab))
        process.arguments = arguments
        process.environment = [
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.directory.path, "KUBECONFIG": self.kubeconfig,
        ]
        // Files, not pipes: the cluster's processes must not keep us reading.
        let output = self.directory.appendingPathComponent("out-\(UUID().uuidString)")
        let error = self.directory.appendingPathComponent("err-\(UUID().uuidString)")
        for file in [output, error] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: error)
        try process.run()
        process.waitUntilExit()
        return Result(
            code: process.terminationStatus, output: try String(contentsOf: output, encoding: .utf8),
            error: try String(contentsOf: error, encoding: .utf8))
    }

    /// Everything of a cluster that a machine could keep.
    private func remains(_ name: String) -> [String] {
        var found = [
            "/var/lib/martlet/lab/\(name)", "/run/martlet/lab/\(name)", "/sys/class/net/\(LabSpec.bridge(name))",
        ]
        .filter { FileManager.default.fileExists(atPath: $0) }
        let pids = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).filter { Int($0) != nil }
        for pid in pids {
            let arguments =
                FileManager.default.contents(atPath: "/proc/\(pid)/cmdline").map { String(decoding: $0, as: UTF8.self) }
                ?? ""
            if arguments.contains("/var/lib/martlet/lab/\(name)/") { found.append("process \(pid): \(arguments)") }
        }
        return found
    }

    @Test(
        "is made with Ready nodes, answers kubectl's kubeconfig, refuses a second of its name, and leaves nothing behind"
    )
    func life() async throws {
        let name = "smoke-\(getpid())"
        let port = Int.random(in: 20_000..<30_000)
        defer {
            _ = try? self.lab("delete", name)
            try? FileManager.default.removeItem(at: self.directory)
        }
        let created = try self.lab("create", name, "--agents", "1", "--api-port", "\(port)", "--timeout", "120s")
        try #require(created.code == 0, "\(created.error)")
        let client = try KubeClient(try KubeConfiguration.kubeconfig(path: self.kubeconfig))
        let nodes = try await client.list(.nodes).items
        try await client.shutdown()
        #expect(Set(nodes.map(\.name)) == ["k3d-\(name)-server-0", "k3d-\(name)-agent-0"])
        #expect(nodes.allSatisfy { $0.condition("Ready") == "True" })

        let again = try self.lab("create", name)
        #expect(again.code != 0 && again.error.contains("already exists"))
        let inside = try self.lab("exec", "k3d-\(name)-agent-0", "--", "hostname")
        #expect(inside.output == "k3d-\(name)-agent-0\n", "\(inside.error)")

        let deleted = try self.lab("delete", name)
        #expect(deleted.code == 0, "\(deleted.error)")
        #expect(self.remains(name) == [])
        #expect(try JSONValue(yaml: String(contentsOfFile: self.kubeconfig, encoding: .utf8))["contexts"] == [])
    }

    @Test("that was killed at any point is removed by delete")
    func crash() throws {
        let name = "crash-\(getpid())"
        defer {
            _ = try? self.lab("delete", name)
            try? FileManager.default.removeItem(at: self.directory)
        }
        let created = try self.lab(
            "create", name, "--api-port", "\(Int.random(in: 20_000..<30_000))", "--timeout", "120s")
        try #require(created.code == 0, "\(created.error)")
        let files = ["server.pid", "nodes/k3d-\(name)-server-0/keeper.pid"]
        for file in files {
            let text = try String(contentsOfFile: "/run/martlet/lab/\(name)/\(file)", encoding: .utf8)
            kill(try #require(text.split(separator: " ").first.flatMap { pid_t($0) }), SIGKILL)
        }
        // And lose the files, too.
        try FileManager.default.removeItem(atPath: "/run/martlet/lab/\(name)")
        #expect(try self.lab("delete", name).code == 0)
        #expect(self.remains(name) == [])
    }
}
