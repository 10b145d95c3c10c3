internal import ArgumentParser
internal import Foundation
internal import KubeAPI

struct DeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Remove clusters and everything they left on this machine.", aliases: ["rm"])

    @Argument(help: "Names of clusters.")
    var names: [String] = []
    @Flag(name: .shortAndLong, help: "All clusters.")
    var all = false

    func run() async throws {
        let lab = Lab.current()
        if self.all {
            let names = lab.paths.clusters()
            if names.isEmpty { lab.progress("there are no clusters") }
            for name in names { try await lab.delete(name) }
        } else {
            for name in self.names.isEmpty ? [LabSpec.nameDefault] : self.names { try await lab.delete(name) }
        }
    }
}

struct StartCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "start",
        abstract: "Start stopped clusters: their objects are as they were, pods start anew.",
        discussion: "Where only the server has died, it alone is started; nodes and pods ran on and find it again.")

    @Argument(help: "Names of clusters.")
    var names: [String] = []
    @Flag(name: .shortAndLong, help: "All clusters.")
    var all = false
    @Option(help: "How long to wait for the nodes, e.g. 60s.")
    var timeout = GoDuration.minute

    func run() async throws {
        let lab = Lab.current()
        for name in try lab.names(self.names, all: self.all) {
            try await lab.start(name, timeout: self.timeout.duration)
        }
    }
}

struct StopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Stop clusters; their objects are kept.")

    @Argument(help: "Names of clusters.")
    var names: [String] = []
    @Flag(name: .shortAndLong, help: "All clusters.")
    var all = false

    func run() async throws {
        let lab = Lab.current()
        for name in try lab.names(self.names, all: self.all) { try await lab.stop(name) }
    }
}

extension Lab {
    /// The clusters that a command is for: those named, all, or the default one.
    func names(_ given: [String], all: Bool) throws -> [String] {
        if all { return self.list().map(\.spec.name) }
        return given.isEmpty ? [LabSpec.nameDefault] : given
    }
}

enum OutputFormat: String, ExpressibleByArgument {
    case json
}

struct ListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Show the clusters of this machine.", aliases: ["ls", "get"])

    @Argument(help: "Names of clusters; none for all.")
    var names: [String] = []
    @Option(name: .shortAndLong, help: "Output format: json.")
    var output: OutputFormat?
    @Flag(name: .customLong("no-headers"), help: "Only the rows.")
    var isHeadless = false

    func run() async throws {
        let lab = Lab.current()
        var clusters = lab.list()
        for name in self.names where !clusters.contains(where: { $0.spec.name == name }) { _ = try lab.existing(name) }
        if !self.names.isEmpty { clusters = clusters.filter { self.names.contains($0.spec.name) } }
        if self.output == .json {
            print(JSONValue.array(clusters.map { Self.json($0.spec, $0.state) }))
            return
        }
        let rows = clusters.map { spec, state -> [String] in
            let servers = spec.nodes.filter { $0.role == .server }
            let agents = spec.nodes.filter { $0.role == .agent }
            func running(_ nodes: [LabSpec.Node]) -> String {
                "\(nodes.count { state.runningNodes.contains(spec.nodeName($0)) })/\(nodes.count)"
            }
            return [
                spec.name, running(servers), running(agents), spec.ports.isEmpty ? "false" : "true",
                state.isServerRunning ? "https://\(spec.apiHost):\(spec.apiPort)" : "-",
            ]
        }
        let header = [["NAME", "SERVERS", "AGENTS", "LOADBALANCER", "API"]]
        print(TextTable.render((self.isHeadless ? [] : header) + rows), terminator: "")
    }

    private static func json(_ spec: LabSpec, _ state: Lab.State) -> JSONValue {
        [
            "name": .string(spec.name), "network": ["name": .string(spec.bridge), "subnet": .string("\(spec.subnet)")],
            "serversCount": .int(1), "agentsCount": .int(Int64(spec.nodes.count - 1)),
            "serversRunning": .int(state.isServerRunning ? 1 : 0),
            "agentsRunning": .int(
                Int64(spec.nodes.count { $0.role == .agent && state.runningNodes.contains(spec.nodeName($0)) })),
            "hasLoadbalancer": .bool(!spec.ports.isEmpty),
            "api": ["host": .string(spec.apiHost), "port": .int(Int64(spec.apiPort))],
            "nodes": .array(
                spec.nodes.map { node in
                    [
                        "name": .string(spec.nodeName(node)), "role": .string(node.role.rawValue),
                        "IP": ["IP": .string(spec.nodeIP(node))],
                        "State": [
                            "Running": .bool(state.runningNodes.contains(spec.nodeName(node))),
                            "Status": state.runningNodes.contains(spec.nodeName(node)) ? "running" : "exited",
                        ],
                    ]
                }),
        ]
    }
}
