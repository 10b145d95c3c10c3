import ArgumentParser
import KubeAPI
import KubeClient

struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "What changes when namespaces move from sidecars to the node proxy.",
        discussion: """
            Reads the cluster and changes nothing. Exit code 0: labels and restarts are all there is to do; 2: some \
            objects have to be looked after first.
            """)

    @OptionGroup var global: GlobalOptions
    @Argument(help: "Namespaces (default: all that have sidecars).") var namespaces: [String] = []
    @Flag(help: "Say what would change. Without it the command is refused: it moves nothing itself.") var dryRun = false
    @Option(name: [.short, .long], help: "table, json or yaml.") var output = "table"

    func run() async throws {
        guard ["table", "json", "yaml"].contains(self.output) else {
            throw CommandError("-o: \"\(self.output)\" is no format; it is table, json or yaml")
        }
        guard self.dryRun else {
            throw CommandError(
                "martlet x migrate moves nothing itself; run it with --dry-run and then the commands that it prints")
        }
        let root = self.global.istioNamespace
        let input = try await self.global.withCluster { try await MigrationInput.read($0, rootNamespace: root) }
        let known = Set(input.namespaces.map(\.name))
        let missing = self.namespaces.filter { !known.contains($0) }
        guard missing.isEmpty else {
            throw CommandError("there is no namespace \(missing.joined(separator: ", "))")
        }
        let plan = MigrationPlanner.plan(input, namespaces: self.namespaces)
        switch self.output {
        case "json": print(try plan.json.pretty)
        case "yaml": print(try plan.json.yaml, terminator: "")
        default: MigrationPage.print(plan, .standard)
        }
        if !plan.isReady { throw ExitCode(2) }
    }
}
