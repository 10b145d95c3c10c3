package import ArgumentParser
internal import Foundation

/// `martlet lab create`, with k3d's options.
package struct CreateCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Make a cluster and wait until its nodes are Ready.")

    @Argument(help: "The cluster's name.")
    package var name = LabSpec.nameDefault

    @Option(name: [.short, .long], help: "Number of agent nodes.")
    package var agents = 0

    @Option(name: [.short, .long], help: "Number of server nodes: always 1.")
    package var servers = 1

    @Option(name: .customLong("api-port"), help: "[HOST:]PORT of the API server on this machine.")
    package var apiPort = "6550"

    @Option(
        name: .shortAndLong, parsing: .unconditionalSingleValue,
        help: "Lead a port of this machine into the cluster: [HOST:]PORT:TARGET[@FILTER]; e.g. 9080:80@loadbalancer.")
    package var port: [String] = []

    @Option(
        name: .customLong("k3s-arg"), parsing: .unconditionalSingleValue,
        help: "An argument for k3s, ARG@FILTER; e.g. --disable=traefik@server:*, --node-label=KEY=VALUE@agent:0.")
    package var k3sArg: [String] = []

    @Option(name: .customLong("k3s-node-label"), help: "KEY=VALUE@FILTER: a label of the nodes.")
    package var nodeLabel: [String] = []

    @Option(help: "The network of the nodes, CIDR; by default the first free one of 172.28.0.0/16 to 172.31.0.0/16.")
    package var subnet: String?

    @Flag(inversion: .prefixedNo, help: "Wait until all nodes are Ready.")
    package var wait = true

    @Option(help: "How long to wait, e.g. 60s or 2m; then the cluster is removed again.")
    var timeout = GoDuration.minute

    @Flag(
        name: .customLong("kubeconfig-update-default"), inversion: .prefixedNo,
        help: "Merge the cluster into the default kubeconfig.")
    package var updatesKubeconfig = true

    @Flag(
        name: .customLong("kubeconfig-switch-context"), inversion: .prefixedNo,
        help: "Make the new context the current one.")
    package var switchesContext = true

    @Flag(name: .customLong("no-lb"), help: "No port maps to the load balancer.")
    package var isWithoutBalancer = false

    // True of every lab; taken so that k3d command lines work as typed.
    @Flag(name: .customLong("no-image-volume"), help: .hidden)
    var isWithoutImageVolume = false

    @OptionGroup var refused: RefusedOptions

    package init() {}

    /// What the command line asks for.
    package func options() throws -> Lab.CreateOptions {
        try self.refused.check()
        guard self.servers == 1 else {
            throw LabError(
                "--servers \(self.servers): a lab has one server, because its API server is one process; use --agents")
        }
        var options = Lab.CreateOptions()
        options.name = self.name
        options.agents = self.agents
        (options.apiHost, options.apiPort) = try Self.endpoint(self.apiPort)
        options.ports = try self.port.map { try PortMapping($0) }
        if self.isWithoutBalancer, options.ports.contains(where: { $0.filter.parts.contains(.loadBalancer) }) {
            throw LabError("--no-lb and a --port for the load balancer contradict each other")
        }
        options.arguments = try self.k3sArg.map { try K3sArgument($0) }
        for label in self.nodeLabel {
            let (pair, filter) = try NodeFilter.split(label)
            let (key, value) = try K3sArgument.pair(pair)
            options.arguments.append(.label(key: key, value: value, filter ?? NodeFilter([.all])))
        }
        if let subnet = self.subnet, subnet != "auto" {
            guard let network = IPv4Network(subnet), subnet.contains("/") else {
                throw LabError("--subnet \(subnet) is no network; wanted one like 172.28.0.0/16")
            }
            options.subnet = network
        }
        options.waits = self.wait
        options.timeout = self.timeout.duration
        options.updatesKubeconfig = self.updatesKubeconfig
        options.switchesContext = self.switchesContext
        return options
    }

    static func endpoint(_ text: String) throws(LabError) -> (String, Int) {
        let fields = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (1...2).contains(fields.count), let port = Int(fields[fields.count - 1]), (1...65_535).contains(port)
        else {
            throw LabError("--api-port \(text): wanted PORT or HOST:PORT")
        }
        var host = fields.count == 2 ? fields[0] : "127.0.0.1"
        if host == "localhost" { host = "127.0.0.1" }
        guard IPv4Network.address(host) != nil else {
            throw LabError("--api-port \(text): \"\(host)\" is no IPv4 address")
        }
        return (host, port)
    }

    package func run() async throws { try await Lab.current().create(self.options()) }
}

extension GoDuration {
    static let minute = GoDuration(seconds: 60)
    private init(seconds: Int64) { self.duration = .seconds(seconds) }
}

/// Options of k3d that a lab cannot honour. Each is refused with its reason, never ignored.
struct RefusedOptions: ParsableArguments {
    @Option(name: .shortAndLong, help: .hidden) var image: String?
    @Option(name: .shortAndLong, help: .hidden) var config: String?
    @Option(name: .shortAndLong, help: .hidden) var env: [String] = []
    @Option(name: .shortAndLong, help: .hidden) var volume: [String] = []
    @Option(help: .hidden) var network: String?
    @Option(help: .hidden) var token: String?
    @Option(help: .hidden) var gpus: String?
    @Option(name: .customLong("servers-memory"), help: .hidden) var serversMemory: String?
    @Option(name: .customLong("agents-memory"), help: .hidden) var agentsMemory: String?
    @Option(name: .customLong("host-alias"), help: .hidden) var hostAlias: [String] = []
    @Option(name: .customLong("registry-create"), help: .hidden) var registryCreate: String?
    @Option(name: .customLong("registry-use"), help: .hidden) var registryUse: [String] = []
    @Option(name: .customLong("registry-config"), help: .hidden) var registryConfig: String?
    @Option(name: .customLong("lb-config-override"), help: .hidden) var balancerOverride: [String] = []
    @Option(name: .customLong("runtime-label"), help: .hidden) var runtimeLabel: [String] = []

    init() {}

    func check() throws(LabError) {
        let why: [(String, Bool, String)] = [
            ("--image", self.image != nil, "a node is this machine's own file system, not an image"),
            ("--config", self.config != nil, "config files are not read; give the options themselves"),
            ("--env", !self.env.isEmpty, "a node has no environment of its own"),
            ("--volume", !self.volume.isEmpty, "nodes see this machine's files: use a hostPath volume in the pod"),
            ("--network", self.network != nil, "there is no container network to join; see --subnet"),
            ("--token", self.token != nil, "nodes get tokens of their own"),
            ("--gpus", self.gpus != nil, "devices are not handed to nodes"),
            ("--servers-memory", self.serversMemory != nil, "nodes share this machine's memory"),
            ("--agents-memory", self.agentsMemory != nil, "nodes share this machine's memory"),
            ("--host-alias", !self.hostAlias.isEmpty, "use spec.hostAliases in the pod"),
            ("--registry-create", self.registryCreate != nil, "no registry is needed: see martlet lab image import"),
            ("--registry-use", !self.registryUse.isEmpty, "no registry is reachable: see martlet lab image import"),
            ("--registry-config", self.registryConfig != nil, "no registry is reachable: see martlet lab image import"),
            ("--lb-config-override", !self.balancerOverride.isEmpty, "the load balancer has no configuration"),
            ("--runtime-label", !self.runtimeLabel.isEmpty, "a node is no container; see --k3s-node-label"),
        ]
        for (option, isGiven, reason) in why where isGiven {
            throw LabError("\(option) cannot be honoured by the lab: \(reason)")
        }
    }
}
