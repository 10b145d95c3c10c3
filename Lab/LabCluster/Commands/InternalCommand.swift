internal import ArgumentParser
internal import LabNode

/// The processes of a cluster; started by `create` and `start`, not by people.
struct InternalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "internal", shouldDisplay: false, subcommands: [Server.self, Node.self])

    struct Server: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "server")
        @Argument var specification: String
        func run() async throws { try await LabServer(specification: self.specification).run() }
    }

    struct Node: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "node")
        @Argument var configuration: String
        func run() async throws { try await LabNodeProcess.run(configurationPath: self.configuration) }
    }
}
