import ArgumentParser
import Foundation
import KubeAPI
import KubeClient

/// The settings shared by `install` and `manifest generate`.
struct ValueOptions: ParsableArguments {
    @Option(name: [.short, .long], help: "IstioOperator file, - for standard input (repeatable).")
    var filename: [String] = []

    @Option(name: [.customShort("s"), .customLong("set")], help: "path=value (repeatable), e.g. profile=ambient.")
    var settings: [String] = []

    @Flag(help: "Go on when a setting is not honoured; each is reported.")
    var force = false

    func values(_ terminal: Terminal) throws -> InstallValues {
        var values = InstallValues()
        func lenient(_ body: () throws -> Void) throws {
            do {
                try body()
            } catch let error as InstallValues.Invalid where self.force {
                terminal.warn("ignored: \(error)")
            }
        }
        for name in self.filename {
            let text: String
            if name == "-" {
                text = String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self)
            } else {
                do {
                    text = try String(contentsOfFile: name, encoding: .utf8)
                } catch {
                    throw CommandError("cannot read \(name): \(error.localizedDescription)")
                }
            }
            for document in try JSONValue.documents(yaml: text) { try lenient { try values.apply(operator: document) } }
        }
        for setting in self.settings {
            guard let equals = setting.firstIndex(of: "=") else {
                throw ValidationError("--set wants path=value, got \"\(setting)\"")
            }
            try lenient {
                try values.set(String(setting[..<equals]), to: String(setting[setting.index(after: equals)...]))
            }
        }
        return values
    }
}

struct InstallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "install", abstract: "Install the mesh, or change an installation, and wait until it is ready.",
        aliases: ["apply", "upgrade"])

    @OptionGroup var global: GlobalOptions
    @OptionGroup var input: ValueOptions
    @Flag(name: [.customShort("y"), .long], help: "Do not ask.") var skipConfirmation = false
    @Option(help: "How long each component may take, e.g. 300s or 5m.") var readinessTimeout = "300s"
    @Flag(help: "Say what would be applied; send nothing.") var dryRun = false
    @Option(name: [.short, .long], help: "Only the default revision exists.") var revision = "default"

    func run() async throws {
        let terminal = Terminal()
        guard self.revision == "default" else {
            throw CommandError("revision \"\(self.revision)\": several revisions side by side are not supported")
        }
        guard let timeout = Self.duration(self.readinessTimeout) else {
            throw ValidationError("--readiness-timeout: \"\(self.readinessTimeout)\" is no duration like 300s or 5m")
        }
        let values = try self.input.values(terminal)
        let components = try Components.render(values)
        if self.dryRun {
            for component in components {
                for object in component.objects { print("\(component.id)\t\(object.kind)\t\(object.key)") }
            }
            return
        }
        try await self.global.withCluster { cluster in
            let server = try JSONValue(parsing: try await cluster.request("GET", "/version"))
            terminal.plain(
                "Martlet \(MartletVersion.current), profile \(values.profile), into \(values.namespace) of "
                    + "\(cluster.configuration.server) (Kubernetes \(server["gitVersion"]?.string ?? "?"))")
            if !self.skipConfirmation,
                !terminal.confirm(
                    "This will install Martlet \(MartletVersion.current) with profile \"\(values.profile)\" "
                        + "into the cluster. Proceed?")
            {
                terminal.plain("Cancelled.")
                throw ExitCode(1)
            }
            try await Installer(cluster: cluster, values: values, timeout: timeout, terminal: terminal)
                .run(components)
        }
    }

    /// `300s`, `5m`, `1h`, or bare seconds.
    static func duration(_ text: String) -> Duration? {
        let unit = text.last.flatMap { ["s": 1.0, "m": 60.0, "h": 3600.0][$0] }
        guard let number = Double(unit == nil ? text[...] : text.dropLast()), number > 0, number < 1e6 else {
            return nil
        }
        return .seconds(number * (unit ?? 1))
    }
}

/// Applies components in their order and follows each until it is ready.
struct Installer: Sendable {
    let cluster: any KubeCluster
    let values: InstallValues
    let timeout: Duration
    let terminal: Terminal

    static let fieldManager = "istio-operator"

    func run(_ components: [Component]) async throws {
        let started = ContinuousClock.now
        try await self.ensureNamespace()
        var tasks: [String: Task<Void, any Error>] = [:]
        for component in components {
            let parents = component.after.compactMap { tasks[$0] }
            tasks[component.id] = Task {
                for parent in parents { try await parent.value }
                try await self.install(component)
            }
        }
        var failures = 0
        for component in components {
            do {
                try await tasks[component.id]!.value
            } catch is DependencyFailed {
                failures += 1
            } catch {
                failures += 1
                self.terminal.failed("\(component.name) encountered an error: \(error)")
            }
        }
        guard failures == 0 else {
            throw CommandError(
                "the installation is incomplete; mend the cause and run the same command again: it goes on where it stopped"
            )
        }
        self.terminal.done("Installation complete (\((ContinuousClock.now - started).brief))")
    }

    private struct DependencyFailed: Error {}

    private func ensureNamespace() async throws {
        let namespace = KubeObject(.namespaces, name: self.values.namespace)
        if try await self.cluster.find(.namespaces, name: self.values.namespace) == nil {
            try await self.cluster.create(.namespaces, namespace)
        }
        if !self.values.network.isEmpty {
            _ = try await self.cluster.patch(
                .namespaces, namespace: nil, name: self.values.namespace, subresource: nil,
                .merge(["metadata": ["labels": ["topology.istio.io/network": .string(self.values.network)]]]))
        }
    }

    private func install(_ component: Component) async throws {
        let started = ContinuousClock.now
        for object in component.objects {
            guard let type = Components.type(of: object) else {
                throw CommandError("\(object.kind) \(object.key) of the manifest has no known type")
            }
            if type == .customResourceDefinitions,
                let live = try await self.cluster.find(type, name: object.name), Components.isForeign(live)
            {
                self.terminal.plain("  Left as it is: \(object.name), which somebody else installed")
                continue
            }
            do {
                _ = try await self.cluster.patch(
                    type, namespace: type.isNamespaced ? object.namespace : nil, name: object.name, subresource: nil,
                    .apply(object.json, fieldManager: Self.fieldManager, force: true))
            } catch let error as StatusError {
                throw CommandError("\(object.kind) \(object.key): \(error)")
            }
        }
        try await self.awaitReady(component, started)
        self.terminal.done("\(component.name) installed (\((ContinuousClock.now - started).brief))")
    }

    /// How often the objects are looked at.
    private static let pollInterval = Duration.milliseconds(200)

    private func awaitReady(_ component: Component, _ started: ContinuousClock.Instant) async throws {
        while true {
            var waiting: [(KubeObject, String)] = []
            for object in component.objects {
                guard let type = Components.type(of: object),
                    [.customResourceDefinitions, .deployments, .daemonSets].contains(type)
                else { continue }
                let live = try await self.cluster.get(
                    type, namespace: type.isNamespaced ? object.namespace : nil, name: object.name)
                if case .waiting(let reason) = Readiness.of(live) { waiting.append((live, reason)) }
            }
            if waiting.isEmpty { return }
            if ContinuousClock.now - started > self.timeout {
                throw CommandError(try await self.explain(waiting))
            }
            self.terminal.progress(
                "Waiting for \(component.name): "
                    + waiting.map { "\($0.0.kind)/\($0.0.key) (\($0.1))" }.joined(separator: ", "))
            try await Task.sleep(for: Self.pollInterval)
        }
    }

    private func explain(_ waiting: [(KubeObject, String)]) async throws -> String {
        var text = "not ready within \(self.timeout.brief):"
        for (object, reason) in waiting {
            text += "\n  \(object.kind)/\(object.key): \(reason)"
            let selector = object.spec.at("selector", "matchLabels")?.stringMap ?? [:]
            guard !selector.isEmpty else { continue }
            let pods = try await self.cluster.list(
                .pods, namespace: object.namespace,
                ListOptions(labelSelector: LabelSelector(matchLabels: selector).query))
            for pod in pods.items {
                guard let trouble = Readiness.trouble(of: pod) else { continue }
                text += "\n    pod \(pod.name) on \(pod.spec["nodeName"]?.string ?? "no node"): \(trouble)"
            }
        }
        return text
    }
}
