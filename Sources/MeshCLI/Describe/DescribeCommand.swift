import ArgumentParser
import KubeAPI
import KubeClient

struct DescribeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe", abstract: "What decides about the traffic of one pod or service.",
        subcommands: [Pod.self, Service.self], aliases: ["des"])

    struct Options: ParsableArguments {
        @OptionGroup var global: GlobalOptions
        @Option(name: [.short, .long], help: "Namespace (default: the context's).") var namespace: String?

        func describe(_ body: (KubeClient, String, Describe) async throws -> Void) async throws {
            try await self.global.withCluster { cluster in
                let page = Describe(
                    cluster: cluster, rootNamespace: self.global.istioNamespace, output: .standard)
                try await body(cluster, self.namespace ?? cluster.configuration.namespace, page)
            }
        }
    }

    struct Pod: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "A pod and its services.", aliases: ["po", "pods"])
        @OptionGroup var options: Options
        @Argument(help: "[TYPE/]NAME[.NAMESPACE]") var name: String

        func run() async throws {
            let reference = try PodReference(parsing: self.name)
            try await self.options.describe { cluster, namespace, page in
                try await page.pod(try await reference.pod(in: cluster, defaultNamespace: namespace))
            }
        }
    }

    struct Service: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "A service.", aliases: ["svc", "services"])
        @OptionGroup var options: Options
        @Argument(help: "NAME[.NAMESPACE]") var name: String

        func run() async throws {
            let reference = try PodReference(parsing: "service/\(self.name)")
            try await self.options.describe { cluster, namespace, page in
                let home = reference.suffix ?? namespace
                guard let service = try await cluster.find(.services, namespace: home, name: reference.name) else {
                    throw CommandError("there is no service \(reference.name) in namespace \(home)")
                }
                try await page.service(service)
            }
        }
    }
}

/// Where istioctl has `describe`.
struct ExperimentalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "experimental", abstract: "Commands under the names that istioctl gives them.",
        subcommands: [DescribeCommand.self, CheckInjectCommand.self, InjectorCommand.self, MigrateCommand.self],
        aliases: ["x", "exp"])
}
