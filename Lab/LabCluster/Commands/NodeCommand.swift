internal import ArgumentParser
internal import Foundation
internal import KubeAPI

struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Look at the nodes of clusters.", subcommands: [List.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Show the nodes of this machine's clusters.", aliases: ["ls", "get"])
        @Flag(name: .customLong("no-headers"), help: "Only the rows.")
        var isHeadless = false

        func run() async throws {
            let lab = Lab.current()
            let rows = lab.list().flatMap { spec, state in
                spec.nodes.map { node -> [String] in
                    let name = spec.nodeName(node)
                    let pid = lab.nodePID(spec.name, name).map { String($0) } ?? "-"
                    return [
                        name, node.role.rawValue, spec.name, state.runningNodes.contains(name) ? "running" : "stopped",
                        spec.nodeIP(node), pid,
                    ]
                }
            }
            let header = [["NAME", "ROLE", "CLUSTER", "STATUS", "ADDRESS", "PID"]]
            print(TextTable.render((self.isHeadless ? [] : header) + rows), terminator: "")
        }
    }
}

extension LabPaths {
    /// The node's pid 1 as the host numbers it; nil for a node that does not run.
    func runningNode(_ cluster: String, _ node: String) -> pid_t? {
        guard ProcessIdentity.read(self.keeperPID(cluster, node)) != nil,
            let text = Files.read(self.nodePID(cluster, node)),
            let pid = pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)), ProcessIdentity(pid: pid) != nil,
            // The number may belong to somebody else by now.
            ProcessIdentity.arguments(of: pid).last == self.nodeConfiguration(cluster, node)
        else { return nil }
        return pid
    }
}

extension Lab {
    /// The node's pid 1 as the host numbers it; nil for a node that does not run.
    func nodePID(_ cluster: String, _ node: String) -> pid_t? { self.paths.runningNode(cluster, node) }

    /// The cluster and the running pid 1 of a node. The bare role is enough when it names one node: `agent-0`.
    func find(node name: String) throws(LabError) -> (cluster: String, node: String, pid: pid_t) {
        let all = self.list().flatMap { spec, _ in spec.nodes.map { (spec.name, spec.nodeName($0)) } }
        let found = all.filter { $0.1 == name || $0.1.hasSuffix("-\(name)") }
        guard let (cluster, node) = found.first(where: { $0.1 == name }) ?? (found.count == 1 ? found.first : nil)
        else {
            let known = all.map(\.1).joined(separator: ", ")
            throw LabError(
                "there is no node \(name)\(known.isEmpty ? "" : " (known: \(known))"); see: martlet lab node list")
        }
        guard let pid = self.nodePID(cluster, node) else {
            throw LabError("node \(node) does not run; start its cluster with: martlet lab start \(cluster)")
        }
        return (cluster, node, pid)
    }
}

/// `martlet lab exec NODE -- CMD`: what `docker exec` is to k3d's nodes.
struct ExecCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Run a command in the namespaces of a node.",
        discussion: "martlet lab exec k3d-k3s-default-agent-0 -- ps -ef")

    // `docker exec -it` is in everybody's fingers; the command always has our terminal.
    @Flag(name: .customShort("i"), help: .hidden) var isInteractive = false
    @Flag(name: .customShort("t"), help: .hidden) var hasTerminal = false
    @Argument(help: "The node.")
    var node: String
    @Argument(parsing: .captureForPassthrough, help: "The command and its arguments.")
    var command: [String] = []

    func run() async throws {
        try Preflight.checkRoot("martlet lab exec")
        let command = self.command.first == "--" ? Array(self.command.dropFirst()) : self.command
        guard !command.isEmpty else {
            throw ValidationError("a command is missing; wanted: martlet lab exec \(self.node) -- CMD")
        }
        let target = try Lab.current().find(node: self.node)
        guard let program = Command.find("nsenter") else {
            throw LabError("nsenter is not installed; apt-get install util-linux")
        }
        let arguments =
            [program, "--target", "\(target.pid)", "--mount", "--uts", "--ipc", "--net", "--pid", "--"] + command
        // SAFETY: the vector ends in nil; on success it is gone with this program, on failure we exit.
        var vector = arguments.map { strdup($0) } + [nil]
        // The runtime's threads block signals, and a program inherits the mask of the thread that becomes it.
        var none = sigset_t()
        sigemptyset(&none)
        sigprocmask(SIG_SETMASK, &none, nil)
        execv(program, &vector)
        throw LabError("cannot start \(program): \(String(cString: strerror(errno)))")
    }
}
