import ArgumentParser
import KubeAPI
import KubeClient

struct VersionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "The versions of this program and of the mesh in the cluster.")

    @OptionGroup var global: GlobalOptions
    @Option(help: "Ask the cluster too (true or false).") var remote = true
    @Option(name: [.short, .long], help: "json for scripts.") var output: String?

    func run() async throws {
        if let output, output != "json" { throw ValidationError("-o knows json, not \"\(output)\"") }
        guard self.remote else {
            print(self.output == nil ? MartletVersion.current : Self.document([]).description)
            return
        }
        var components: [(String, String)] = []
        do {
            components = try await self.global.withCluster { try await self.components($0) }
        } catch {
            Terminal().plain("no mesh found: \(error)")
        }
        if self.output != nil {
            print(Self.document(components))
            return
        }
        print("client version: \(MartletVersion.current)")
        for (name, version) in components { print("\(name) version: \(version)") }
    }

    private func components(_ cluster: KubeClient) async throws -> [(String, String)] {
        var found: [(String, String)] = []
        for (name, type, object) in [
            ("control plane", ResourceType.deployments, "istiod"), ("node agent", .daemonSets, "istio-cni-node"),
            ("node proxy", .daemonSets, "ztunnel"),
        ] {
            guard
                let live = try await cluster.find(type, namespace: self.global.istioNamespace, name: object)
            else { continue }
            found.append((name, live.labels["operator.istio.io/version"] ?? "unknown"))
        }
        if found.isEmpty { Terminal().plain("no mesh is installed in namespace \(self.global.istioNamespace)") }
        return found
    }

    private static func document(_ components: [(String, String)]) -> JSONValue {
        [
            "clientVersion": ["version": .string(MartletVersion.current)],
            "meshVersion": .array(
                components.map { ["Component": .string($0.0), "Info": ["version": .string($0.1)]] }),
        ]
    }
}
