import ArgumentParser
import KubeAPI
package import KubeClient
import MeshInjection

struct CheckInjectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-inject", abstract: "Whether a pod gets a sidecar, webhook by webhook, and why.")

    @OptionGroup var global: GlobalOptions
    @Option(name: [.short, .long], help: "Namespace (default: the context's).") var namespace: String?
    @Option(name: [.short, .long], help: "Labels of a pod that is not there yet, e.g. app=web,istio.io/rev=x.")
    var labels: String?
    @Argument(help: "[TYPE/]NAME[.NAMESPACE] of a pod.") var name: String?

    func run() async throws {
        guard (self.name == nil) != (self.labels == nil) else {
            throw ValidationError("name a pod, or give the labels of one with -l")
        }
        try await self.global.withCluster { cluster in
            let home = self.namespace ?? cluster.configuration.namespace
            let check = InjectionCheck(cluster: cluster, output: .standard)
            if let name {
                let pod = try await PodReference(parsing: name).pod(in: cluster, defaultNamespace: home)
                try await check.run(
                    namespace: pod.namespace, labels: pod.labels, hostNetwork: pod.spec["hostNetwork"]?.bool == true)
            } else {
                let selector = try LabelSelector(query: self.labels ?? "")
                let labels = Dictionary(
                    selector.requirements.map { ($0.key, $0.values.first ?? "") }, uniquingKeysWith: { $1 })
                try await check.run(namespace: home, labels: labels, hostNetwork: false)
            }
        }
    }
}

struct InjectorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "injector", abstract: "Injectors of sidecars and their namespaces.", subcommands: [List.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Namespaces that get sidecars, and the injectors.", aliases: ["ls"])
        @OptionGroup var global: GlobalOptions

        func run() async throws {
            try await self.global.withCluster { cluster in
                try await InjectionCheck(cluster: cluster, output: .standard).list(
                    systemNamespace: self.global.istioNamespace)
            }
        }
    }
}

/// What the cluster's injectors do, from their webhook configurations.
package struct InjectionCheck {
    let cluster: any KubeCluster
    let output: Output

    package init(cluster: any KubeCluster, output: Output) {
        self.cluster = cluster
        self.output = output
    }

    private func webhooks() async throws -> [InjectorWebhook] {
        try await self.cluster.list(.mutatingWebhookConfigurations).items.flatMap { InjectorWebhook.entries(of: $0) }
    }

    package func run(namespace: String, labels: [String: String], hostNetwork: Bool) async throws {
        guard let home = try await self.cluster.find(.namespaces, name: namespace) else {
            throw CommandError("there is no namespace \(namespace)")
        }
        let webhooks = try await self.webhooks()
        if webhooks.isEmpty {
            throw CommandError("no injector is installed: no webhook configuration has the label app=sidecar-injector")
        }
        var table = Table(["WEBHOOK", "REVISION", "INJECTED", "REASON"], gap: 2)
        for webhook in webhooks {
            var obstacle = webhook.obstacle(namespaceLabels: home.labels, podLabels: labels)
            if obstacle == nil, hostNetwork { obstacle = "the pod uses the node's network (hostNetwork)" }
            if obstacle == nil, InjectionDecision.systemNamespaces.contains(namespace) {
                obstacle = "\(namespace) is a namespace of the system"
            }
            table.add([
                webhook.name, webhook.revision, obstacle == nil ? "✔" : "✘", obstacle ?? Self.reason(home, labels),
            ])
        }
        table.print(self.output)
    }

    private static func reason(_ namespace: KubeObject, _ labels: [String: String]) -> String {
        for name in ["sidecar.istio.io/inject", "istio.io/rev"] {
            if let value = labels[name] { return "pod label \(name)=\(value)" }
        }
        for name in ["istio-injection", "istio.io/rev"] {
            if let value = namespace.labels[name] { return "namespace label \(name)=\(value)" }
        }
        return "the selectors match"
    }

    package func list(systemNamespace: String) async throws {
        let webhooks = try await self.webhooks()
        let namespaces = try await self.cluster.list(.namespaces).items.filter {
            !InjectionDecision.systemNamespaces.contains($0.name)
        }
        let pods = try await self.cluster.list(.pods).items
        var injecting = Table(["NAMESPACE", "ISTIO-REVISION", "POD-REVISIONS"], gap: 2)
        var byConfiguration: [String: [String]] = [:]
        var count = 0
        for namespace in namespaces.sorted(by: { $0.name < $1.name }) {
            guard let webhook = webhooks.first(where: { $0.injects(namespaceLabels: namespace.labels) }) else {
                continue
            }
            count += 1
            byConfiguration[webhook.configuration, default: []].append(namespace.name)
            let revisions = pods.filter { $0.namespace == namespace.name }.map {
                $0.annotations["sidecar.istio.io/status"] == nil
                    ? "<none>" : $0.annotations["istio.io/rev"] ?? "default"
            }
            let counts = Dictionary(grouping: revisions, by: { $0 }).sorted { $0.key < $1.key }
            injecting.add([
                namespace.name, webhook.revision, counts.map { "\($0.key): \($0.value.count)" }.joined(separator: " "),
            ])
        }
        if count == 0 {
            self.output.line("No namespace gets sidecars by its labels.")
        } else {
            injecting.print(self.output)
        }
        self.output.line("")
        if webhooks.isEmpty { return self.output.line("No injector is installed.") }
        let image = try await self.image(systemNamespace)
        var hooks = Table(["NAMESPACES", "INJECTOR-HOOK", "ISTIO-REVISION", "SIDECAR-IMAGE"], gap: 2)
        for (name, entries) in Dictionary(grouping: webhooks, by: \.configuration).sorted(by: { $0.key < $1.key }) {
            hooks.add([
                byConfiguration[name, default: []].joined(separator: ","), name, entries[0].revision, image,
            ])
        }
        hooks.print(self.output)
    }

    private func image(_ namespace: String) async throws -> String {
        let map = try await self.cluster.find(
            .configMaps, namespace: namespace, name: InjectionSettings.configMapName)
        guard let map else { return "<unknown>" }
        return try InjectionSettings(data: map.json["data"]?.stringMap ?? [:]).image ?? "<unknown>"
    }
}
