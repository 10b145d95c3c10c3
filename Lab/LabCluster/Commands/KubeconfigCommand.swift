internal import ArgumentParser
internal import Foundation
internal import KubeAPI
internal import KubeClient

struct KubeconfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kubeconfig", abstract: "Get at the kubeconfig of clusters.",
        subcommands: [Get.self, Merge.self])

    struct Get: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "get", abstract: "Print the kubeconfig of clusters.", aliases: ["print", "show"])
        @Argument(help: "Names of clusters.")
        var names: [String] = []
        @Flag(name: .shortAndLong, help: "All clusters.")
        var all = false

        func run() async throws {
            let lab = Lab.current()
            print(try Self.combined(lab, try lab.names(self.names, all: self.all)).yaml, terminator: "")
        }

        static func combined(_ lab: Lab, _ names: [String]) throws -> JSONValue {
            var config: JSONValue = ["apiVersion": "v1", "kind": "Config", "preferences": [:]]
            for name in names {
                _ = try lab.existing(name)
                config = KubeconfigFile.merged(config, try lab.kubeconfig(name), switchContext: false)
            }
            return config
        }
    }

    struct Merge: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "merge", abstract: "Write or merge the kubeconfig of clusters into a file.", aliases: ["write"]
        )
        @Argument(help: "Names of clusters.")
        var names: [String] = []
        @Flag(name: .shortAndLong, help: "All clusters.")
        var all = false
        @Option(name: .shortAndLong, help: "File to merge into; by default one of the cluster's own.")
        var output: String?
        @Flag(
            name: [.customShort("d"), .customLong("kubeconfig-merge-default")],
            help: "Merge into the default kubeconfig.")
        var intoDefault = false
        @Flag(
            name: .customLong("kubeconfig-switch-context"), inversion: .prefixedNo,
            help: "Make the cluster's context the current one.")
        var switchesContext = true

        func validate() throws {
            if self.intoDefault, self.output != nil {
                throw ValidationError("--kubeconfig-merge-default and --output name two files; give one")
            }
        }

        func run() async throws {
            let lab = Lab.current()
            let names = try lab.names(self.names, all: self.all)
            let config = try Get.combined(lab, names)
            let file: KubeconfigFile
            if self.intoDefault {
                file = KubeconfigFile(environment: lab.environment)
            } else {
                let home = lab.environment["HOME"] ?? NSHomeDirectory()
                let directory = lab.environment["XDG_CONFIG_HOME"] ?? "\(home)/.config"
                file = KubeconfigFile(
                    path: self.output ?? "\(directory)/martlet/kubeconfig-\(names.joined(separator: "-")).yaml")
            }
            try file.merge(config, switchContext: self.switchesContext)
            print(file.path)
        }
    }
}
