import ArgumentParser
import KubeAPI
import KubeClient

/// Flags of every `waypoint` command.
struct WaypointOptions: ParsableArguments {
    @OptionGroup var global: GlobalOptions
    @Option(name: [.short, .long], help: "Namespace (default: the context's).") var namespace: String?
    @Option(help: "Name of the waypoint (default: waypoint).") var name: String?
}

struct WaypointKindOptions: ParsableArguments {
    @Option(name: .customLong("for"), help: "Traffic it is for: service, workload, all or none (default: service).")
    var trafficType: String?
    @Option(name: [.short, .long], help: "Control plane revision that is to serve it.") var revision: String?
    @Option(
        name: .customLong("class"),
        help: "GatewayClass: istio-waypoint, or martlet-envoy-waypoint for Envoy (default: istio-waypoint).")
    var gatewayClass = Waypoint.className
}

struct WaypointWaitOptions: ParsableArguments {
    @Option(name: .customLong("waypoint-timeout"), help: "How long to wait for a waypoint to be ready.")
    var timeout = "90s"

    func limit() throws -> Duration {
        guard let limit = InstallCommand.duration(self.timeout) else {
            throw ValidationError("--waypoint-timeout: \"\(self.timeout)\" is no duration like 90s or 2m")
        }
        return limit
    }
}

struct WaypointCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "waypoint", abstract: "Make, look at and remove waypoints: the proxies of HTTP.",
        subcommands: [Generate.self, Apply.self, Delete.self, List.self, Status.self])

    struct Generate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print the object that asks for a waypoint.")
        @OptionGroup var options: WaypointOptions
        @OptionGroup var kind: WaypointKindOptions

        func run() async throws {
            let waypoint = try Waypoint(
                name: self.options.name ?? "", namespace: self.options.namespace, trafficType: self.kind.trafficType,
                revision: self.kind.revision, gatewayClass: self.kind.gatewayClass)
            print(try waypoint.object.json.yaml, terminator: "")
        }
    }

    struct Apply: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a waypoint.")
        @OptionGroup var options: WaypointOptions
        @OptionGroup var kind: WaypointKindOptions
        @Flag(help: "Label the namespace, so that its traffic uses the waypoint.") var enrollNamespace = false
        @Option(help: "Label an object of the namespace instead, e.g. service/cart (repeatable).")
        var enroll: [String] = []
        @Flag(help: "Replace a label that names another waypoint.") var overwrite = false
        @Option(name: [.short, .long], defaultAsFlag: true, help: "Wait until it is ready.") var wait: Bool?
        @OptionGroup var waiting: WaypointWaitOptions

        func run() async throws {
            let limit = self.wait == true ? try self.waiting.limit() : nil
            let named = try self.enroll.map(WaypointApply.Enrolment.init(parsing:))
            // Refused before a cluster is asked.
            _ = try Waypoint(
                name: self.options.name ?? "", namespace: nil, trafficType: self.kind.trafficType,
                gatewayClass: self.kind.gatewayClass)
            try await self.options.global.withCluster { cluster in
                let namespace = self.options.namespace ?? cluster.configuration.namespace
                let waypoint = try Waypoint(
                    name: self.options.name ?? "", namespace: namespace, trafficType: self.kind.trafficType,
                    revision: self.kind.revision, gatewayClass: self.kind.gatewayClass)
                try await WaypointApply(
                    cluster: cluster, waypoint: waypoint, namespace: namespace,
                    enrolled: (self.enrollNamespace ? [.namespace(namespace)] : []) + named,
                    overwrites: self.overwrite, wait: limit, output: .standard
                ).run()
            }
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove waypoints.")
        @OptionGroup var options: WaypointOptions
        @Argument(help: "Names.") var names: [String] = []
        @Flag(help: "All of the namespace.") var all = false
        @Option(name: [.short, .long], help: "Those of a revision.") var revision: String?
        @Flag(help: "Take the labels of everything that uses them away too.") var unenroll = false

        func run() async throws {
            let names = self.names + (self.options.name.map { [$0] } ?? [])
            try await self.options.global.withCluster { cluster in
                try await WaypointDelete(
                    cluster: cluster, namespace: self.options.namespace ?? cluster.configuration.namespace,
                    names: names, all: self.all, revision: self.revision, unenrols: self.unenroll, output: .standard
                ).run()
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List waypoints.")
        @OptionGroup var options: WaypointOptions
        @Flag(name: [.customShort("A"), .long], help: "Of all namespaces.") var allNamespaces = false

        func run() async throws {
            try await self.options.global.withCluster { cluster in
                let own = self.options.namespace ?? cluster.configuration.namespace
                try await WaypointList(
                    cluster: cluster, namespace: self.allNamespaces ? nil : own, output: .standard
                ).run()
            }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Wait for waypoints and show their state.")
        @OptionGroup var options: WaypointOptions
        @Argument(help: "Names (default: all).") var names: [String] = []
        @Flag(name: [.customShort("A"), .long], help: "Of all namespaces.") var allNamespaces = false
        @Option(name: [.short, .long], defaultAsFlag: true, help: "Wait until they are ready (default: true).")
        var wait: Bool?
        @OptionGroup var waiting: WaypointWaitOptions

        func run() async throws {
            let limit = self.wait != false ? try self.waiting.limit() : nil
            let names = self.names + (self.options.name.map { [$0] } ?? [])
            try await self.options.global.withCluster { cluster in
                let own = self.options.namespace ?? cluster.configuration.namespace
                try await WaypointStatus(
                    cluster: cluster, namespace: self.allNamespaces ? nil : own, names: names, wait: limit,
                    output: .standard
                ).run()
            }
        }
    }
}
