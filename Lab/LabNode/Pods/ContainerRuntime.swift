import CLabNode
import Foundation
import KubeAPI

/// Containers on this node, made by runc over an overlay of the host's root file system.
struct ContainerRuntime: Sendable {
    let paths: NodePaths
    let commands: CommandRunner

    /// A container whose first process exists.
    struct Running: Sendable {
        var id: String
        var process: ProcessTable.Child
        var log: ContainerLog
        /// The write end of its standard input, when it asked for one.
        var input: Int32?
    }

    /// runc's own words about what it could not do.
    struct Failed: Error, Hashable, CustomStringConvertible {
        let description: String
    }

    private var runc: [String] { ["runc", "--root", self.paths.runc] }

    private func directory(_ id: String) -> String { "\(self.paths.scratch)/\(id)" }

    /// Where the root file system of a container will be; part of its bundle.
    func root(_ id: String) -> String { "\(self.directory(id))/rootfs" }

    /// Makes the root file system and the container, and leaves its process waiting for ``start(_:)``.
    func create(_ id: String, _ configuration: JSONValue, log: ContainerLog, stdin: Bool, tty: Bool) async throws
        -> Running
    {
        let directory = self.directory(id)
        for part in ["rootfs", "upper", "work"] {
            try FileManager.default.createDirectory(
                atPath: "\(directory)/\(part)", withIntermediateDirectories: true)
        }
        chmod("\(directory)/upper", 0o755)
        do {
            try mount(
                "overlay", on: "\(directory)/rootfs", type: "overlay",
                data: "lowerdir=/,upperdir=\(directory)/upper,workdir=\(directory)/work")
            try writeBytes(configuration.encoded, to: "\(directory)/config.json", mode: 0o600)
            return try await self.createProcess(id, log: log, stdin: stdin, tty: tty)
        } catch {
            await self.remove(id)
            throw error
        }
    }

    private func createProcess(_ id: String, log: ContainerLog, stdin: Bool, tty: Bool) async throws -> Running {
        let directory = self.directory(id)
        var closing: [Int32] = []
        defer { for descriptor in closing { close(descriptor) } }
        var streams = ProcessTable.Streams(input: -1, output: -1, error: -1)
        var input: Int32?
        if tty {
            var controller: Int32 = -1
            var terminal: Int32 = -1
            let code = clabnode_open_terminal(&controller, &terminal)
            if code < 0 { throw SystemError("opening a terminal", code: -code) }
            closing.append(terminal)
            streams = .init(input: terminal, output: terminal, error: terminal)
            input = stdin ? dup(controller) : nil
            log.follow(controller, as: .stdout)
        } else {
            let (output, error) = (try CommandRunner.pipe(), try CommandRunner.pipe())
            closing += [output.write, error.write]
            log.follow(output.read, as: .stdout)
            log.follow(error.read, as: .stderr)
            streams = .init(input: -1, output: output.write, error: error.write)
            if stdin {
                let pipe = try CommandRunner.pipe()
                closing.append(pipe.read)
                streams.input = pipe.read
                input = pipe.write
            } else {
                let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
                closing.append(null)
                streams.input = null
            }
        }
        let report = "\(directory)/runc.log"
        let runc = try self.commands.processes.spawn(
            self.runc + [
                "--log", report, "--log-format", "json", "create", "--bundle", directory, "--pid-file",
                "\(directory)/pid", id,
            ], environment: ["PATH": CommandRunner.path], streams: streams,
            networkNamespace: self.commands.networkNamespace)
        let exit = await runc.exit
        guard exit.code == 0, let pid = readText("\(directory)/pid").flatMap({ pid_t($0) }) else {
            if let input { close(input) }
            throw Failed(
                description: "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
                    + (Self.reason(in: report) ?? "runc create ended with exit code \(exit.code)"))
        }
        return Running(id: id, process: self.commands.processes.adopt(pid), log: log, input: input)
    }

    /// Lets the container's program run. A program that does not exist is refused here.
    func start(_ id: String) async throws {
        let report = "\(self.directory(id))/runc.log"
        let result = try await self.commands.run(
            self.runc + ["--log", report, "--log-format", "json", "start", id])
        if result.exit.code != 0 {
            throw Failed(
                description: "OCI runtime start failed: "
                    + (Self.reason(in: report) ?? "runc start ended with exit code \(result.exit.code)"))
        }
    }

    /// Takes away everything of a container; kills what is left of it.
    func remove(_ id: String) async {
        _ = try? await self.commands.run(self.runc + ["delete", "--force", id])
        _ = clabnode_unmount("\(self.directory(id))/rootfs")
        try? FileManager.default.removeItem(atPath: self.directory(id))
    }

    /// The command line that runs a program in a container, in its environment.
    func execArguments(_ command: [String], in id: String, isTerminal: Bool, report: String) -> [String] {
        self.runc + ["--log", report, "--log-format", "json", "exec"] + (isTerminal ? ["--tty"] : []) + [id] + command
    }

    func newReport() -> String { "\(self.paths.scratch)/exec-\(UUID().uuidString).log" }

    /// Runs a program in a container to its end. At the deadline it dies by signal 9.
    func run(_ command: [String], in id: String, deadline: Duration) async throws -> CommandRunner.Result {
        let report = self.newReport()
        defer { unlink(report) }
        return try await self.commands.run(
            self.execArguments(command, in: id, isTerminal: false, report: report), deadline: deadline)
    }

    /// runc's last error in a JSON log: nil when it had none to tell.
    static func reason(in report: String) -> String? {
        readText(report)?.split(separator: "\n").reversed()
            .compactMap { try? JSONValue(parsing: String($0)) }
            .first { $0["level"]?.string == "error" }?["msg"]?.string
    }
}
