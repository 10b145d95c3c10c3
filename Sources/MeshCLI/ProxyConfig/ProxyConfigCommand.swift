import ArgumentParser
import Foundation
import KubeAPI
import KubeClient

/// Which waypoint or sidecar is looked at, and how it is shown.
struct ProxyConfigOptions: ParsableArguments {
    @OptionGroup var global: GlobalOptions
    @Argument(help: "[TYPE/]NAME[.NAMESPACE] of a waypoint or of a pod with a sidecar, e.g. gateway/waypoint.") var pod:
        String?
    @Option(name: [.short, .long], help: "Namespace (default: the context's).") var namespace: String?
    @Option(name: [.short, .long], help: "short, json or yaml.") var output = "short"
    @Option(name: [.short, .long], help: "A dump from a file, - for standard input, instead of a pod.")
    var file: String?
    @Option(help: "Port of the admin endpoints.") var proxyAdminPort = 15000

    func check() throws {
        guard ["short", "json", "yaml"].contains(self.output) else {
            throw CommandError("-o: \"\(self.output)\" is no format; it is short, json or yaml")
        }
        guard (self.pod == nil) != (self.file == nil) else {
            throw CommandError("name a pod, or a dump with --file: one of them")
        }
    }

    /// The proxy's dump. A file needs no cluster.
    func config() async throws -> any ProxyDump {
        try self.check()
        if let file {
            let data =
                file == "-"
                ? FileHandle.standardInput.readDataToEndOfFile() : FileManager.default.contents(atPath: file)
            guard let data else { throw CommandError("cannot read \(file)") }
            if let dump = EnvoyDump(Array(data)) { return dump }
            return try WaypointDump(parsing: Array(data))
        }
        return try await self.global.withCluster { cluster in
            let pod = try await self.find(cluster)
            guard Self.runsEnvoy(pod) else {
                return try WaypointDump(parsing: try await self.ask(cluster, pod, method: "GET", path: "/config_dump"))
            }
            let answer = try await self.ask(cluster, pod, method: "GET", path: "/config_dump?include_eds")
            let certificates = try await self.ask(cluster, pod, method: "GET", path: "/certs")
            guard let dump = EnvoyDump(answer, certificates: certificates) else {
                throw CommandError("\(pod.key) answered with no dump of an Envoy")
            }
            return dump
        }
    }

    /// The pod that is meant.
    func find(_ cluster: KubeClient) async throws -> KubeObject {
        let reference = try PodReference(parsing: self.pod ?? "")
        let pod = try await reference.pod(
            in: cluster, defaultNamespace: self.namespace ?? cluster.configuration.namespace)
        if pod.labels["app"] == "ztunnel" {
            throw CommandError("\(pod.key) is a node proxy; look at it with: martlet ztunnel-config (zc)")
        }
        return pod
    }

    /// Sidecars, and waypoints of the class that Envoy serves. A sidecar may be an init container that stays.
    static func runsEnvoy(_ pod: KubeObject) -> Bool {
        let containers = (pod.spec["containers"]?.array ?? []) + (pod.spec["initContainers"]?.array ?? [])
        return containers.contains { container in
            let arguments = container["args"]?.array?.compactMap(\.string) ?? []
            return arguments.starts(with: ["proxy", "sidecar"]) || arguments.starts(with: ["proxy", "waypoint"])
        }
    }

    /// Asks the admin port of the proxy.
    func ask(_ cluster: KubeClient, _ pod: KubeObject, method: String, path: String) async throws -> [UInt8] {
        let answer = try await cluster.podRequest(
            namespace: pod.namespace, pod: pod.name, port: self.proxyAdminPort, method: method, path: path)
        guard answer.status == 200 else {
            let text = String(decoding: answer.body.prefix(400), as: UTF8.self)
            throw CommandError("\(pod.key) answered \(method) \(path) with \(answer.status): \(text)")
        }
        return answer.body
    }

    func show(_ view: ProxyConfigView, document: JSONValue? = nil) throws {
        switch self.output {
        case "json": print(try (document ?? .array(view.items)).pretty)
        case "yaml": print(try (document ?? .array(view.items)).yaml, terminator: "")
        default: view.table.print(.standard)
        }
    }
}

struct ProxyConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "proxy-config", abstract: "Look at what one waypoint or sidecar knows.",
        subcommands: [
            Clusters.self, Listeners.self, Routes.self, Endpoints.self, Secrets.self, Bootstrap.self, Log.self,
            All.self,
        ], aliases: ["pc"])

    struct Clusters: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cluster", abstract: "Services that it balances over.", aliases: ["clusters", "c"])
        @OptionGroup var options: ProxyConfigOptions
        @Option(help: "Host name of a service.") var fqdn: String?
        @Option(help: "Port of a service.") var port: Int?
        @Option var subset: String?
        @Option(help: "inbound or outbound.") var direction: String?

        func run() async throws {
            var filter = ProxyConfigFilter()
            (filter.fqdn, filter.port, filter.subset, filter.direction) = (
                self.fqdn, self.port, self.subset, self.direction
            )
            try self.options.show(try await self.options.config().clusters(filter))
        }
    }

    struct Listeners: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "listener", abstract: "What it accepts, and what happens to it.", aliases: ["listeners", "l"])
        @OptionGroup var options: ProxyConfigOptions
        @Option(help: "Name of a listener.") var name: String?
        @Option var address: String?
        @Option var port: Int?

        func run() async throws {
            var filter = ProxyConfigFilter()
            (filter.name, filter.address, filter.port) = (self.name, self.address, self.port)
            try self.options.show(try await self.options.config().listeners(filter))
        }
    }

    struct Routes: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "route", abstract: "Rules in the order in which they are tried.", aliases: ["routes", "r"])
        @OptionGroup var options: ProxyConfigOptions
        @Option(help: "Name of a rule, as the table shows it.") var name: String?

        func run() async throws {
            var filter = ProxyConfigFilter()
            filter.name = self.name
            try self.options.show(try await self.options.config().routes(filter))
        }
    }

    struct Endpoints: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "endpoint", abstract: "Where requests go in the end.", aliases: ["endpoints", "ep"])
        @OptionGroup var options: ProxyConfigOptions
        @Option var address: String?
        @Option var port: Int?
        @Option(help: "As the table shows it.") var cluster: String?
        @Option(help: "healthy, unhealthy or draining.") var status: String?

        func run() async throws {
            var filter = ProxyConfigFilter()
            (filter.address, filter.port, filter.cluster, filter.status) = (
                self.address, self.port, self.cluster, self.status
            )
            try self.options.show(try await self.options.config().endpoints(filter))
        }
    }

    struct Secrets: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "secret", abstract: "Its certificates.", aliases: ["secrets", "s"])
        @OptionGroup var options: ProxyConfigOptions

        func run() async throws { try self.options.show(try await self.options.config().secrets(now: Date())) }
    }

    struct Bootstrap: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "bootstrap", abstract: "Its version and the settings it started with.", aliases: ["b"])
        @OptionGroup var options: ProxyConfigOptions

        func run() async throws {
            let view = try await self.options.config().bootstrap
            try self.options.show(view, document: view.items.first)
        }
    }

    struct Log: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "log", abstract: "Show or set its log levels.", aliases: ["o"])
        @OptionGroup var options: ProxyConfigOptions
        @Option(help: "LEVEL, or SCOPE=LEVEL,... (trace, debug, info, warn, error, off).") var level: String?
        @Flag(name: [.short, .long], help: "Back to the levels of the start.") var reset = false

        func run() async throws {
            try self.options.check()
            guard self.options.file == nil else { throw CommandError("a file has no log levels") }
            guard self.level == nil || !self.reset else {
                throw CommandError("--level and --reset cannot be given together")
            }
            let level = try self.level.map { try LogLevels.normalised($0) }
            let answer = try await self.options.global.withCluster { cluster in
                let pod = try await self.options.find(cluster)
                let query =
                    ProxyConfigOptions.runsEnvoy(pod)
                    ? LogLevels.envoyQuery(level, reset: self.reset)
                    : self.reset ? "?reset" : level.map { "?level=\($0)" } ?? ""
                return try await self.options.ask(cluster, pod, method: "POST", path: "/logging" + query)
            }
            print(String(decoding: answer, as: UTF8.self), terminator: "")
        }
    }

    struct All: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "all", abstract: "Everything.", aliases: ["a"])
        @OptionGroup var options: ProxyConfigOptions

        func run() async throws {
            let config = try await self.options.config()
            let filter = ProxyConfigFilter()
            let views = [
                config.clusters(filter), config.listeners(filter), config.routes(filter), config.endpoints(filter),
                config.secrets(now: Date()),
            ]
            guard self.options.output == "short" else {
                try self.options.show(views[0], document: config.raw)
                return
            }
            for (index, view) in views.enumerated() {
                if index > 0 { print() }
                view.table.print(.standard)
            }
        }
    }
}

/// Words for log levels, before a process is asked.
package enum LogLevels {
    private static let words = [
        "trace": "trace", "debug": "debug", "info": "info", "warning": "warn", "warn": "warn", "error": "error",
        "critical": "error", "off": "off", "none": "off",
    ]

    /// One level, or levels of scopes with `:` or `=`, in the form that a process understands.
    /// - Throws: ``CommandError`` for an unknown word.
    package static func normalised(_ text: String) throws -> String {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            let separator = part.lastIndex { $0 == ":" || $0 == "=" }
            let word = separator.map { part[part.index(after: $0)...] } ?? part
            let scope = separator.map { part[..<$0] }
            guard let level = Self.words[word.lowercased()], scope?.isEmpty != true,
                (scope ?? "").allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "_:-.".contains($0)) })
            else {
                throw CommandError(
                    "--level: \"\(part)\" is no level; it is trace, debug, info, warn, error or off, or SCOPE=LEVEL")
            }
            return scope.map { "\($0)=\(level)" } ?? level
        }.joined(separator: ",")
    }

    /// Envoy's own words for the same. It has levels of components, and begins with `warning`.
    /// - Parameter level: normalised; nil: only shown.
    package static func envoyQuery(_ level: String?, reset: Bool) -> String {
        if reset { return "?level=warning" }
        guard let level else { return "" }
        func word(_ text: some StringProtocol) -> String { text == "warn" ? "warning" : String(text) }
        let parts = level.split(separator: ",")
        if parts.count == 1, !level.contains("=") { return "?level=\(word(level))" }
        let paths = parts.filter { $0.contains("=") }.map { part in
            let equals = part.lastIndex(of: "=") ?? part.startIndex
            return "\(part[..<equals]):\(word(part[part.index(after: equals)...]))"
        }
        return "?paths=\(paths.joined(separator: ","))"
    }
}
