import ArgumentParser
import KubeAPI
import KubeClient

struct ProxyStatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "proxy-status",
        abstract: "Which proxies are connected to the control plane, and are they up to date.",
        aliases: ["ps"])

    @OptionGroup var global: GlobalOptions
    @Option(name: [.short, .long], help: "Only proxies of this namespace.") var namespace: String?
    @Option(name: [.short, .long], help: "table, json or yaml.") var output = "table"
    @Option(name: [.short, .long], help: "1: a column for each type.") var verbosity = 0

    /// Of the control plane's metrics, and of what it knows about its clients.
    private static let port = 15014

    func run() async throws {
        guard ["table", "json", "yaml"].contains(self.output) else {
            throw CommandError("-o: \"\(self.output)\" is no format; it is table, json or yaml")
        }
        guard [0, 1].contains(self.verbosity) else {
            throw CommandError("--verbosity: \(self.verbosity) is not 0 or 1")
        }
        let answers = try await self.global.withCluster(self.ask)
        if self.output != "table" {
            let document = JSONValue.object(Dictionary(answers, uniquingKeysWith: { $1 }))
            print(try self.output == "json" ? document.pretty : document.yaml)
            return
        }
        var status = ProxyStatus()
        for (pod, document) in answers { status.add(document, from: pod, namespace: self.namespace) }
        (self.verbosity == 0 ? status.table : status.details).print(.standard)
    }

    private func ask(_ cluster: KubeClient) async throws -> [(String, JSONValue)] {
        let pods = try await cluster.list(
            .pods, namespace: self.global.istioNamespace, ListOptions(labelSelector: "app=istiod")
        ).items.filter { $0.status["phase"]?.string == "Running" && !$0.isBeingDeleted }.sorted { $0.name < $1.name }
        guard !pods.isEmpty else {
            throw CommandError(
                "no control plane runs in namespace \(self.global.istioNamespace) (pods with the label app=istiod)")
        }
        var answers: [(String, JSONValue)] = []
        for pod in pods {
            let answer = try await cluster.podRequest(
                namespace: pod.namespace, pod: pod.name, port: Self.port, path: "/debug/syncz")
            guard answer.status == 200 else {
                throw CommandError("\(pod.key) answered GET /debug/syncz with \(answer.status)")
            }
            answers.append((pod.name, try JSONValue(parsing: answer.body)))
        }
        return answers
    }
}
