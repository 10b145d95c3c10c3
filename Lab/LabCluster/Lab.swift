internal import Foundation
internal import KubeAPI
internal import KubeClient
internal import LabAPIServer
internal import LabNode

/// Makes, starts, stops and deletes lab clusters on this machine.
///
/// A cluster is one server process (API server, controllers, DNS, port maps), one process per node, a bridge, and two
/// directories. Everything is found again by its name, so a command can clean up after a lab that crashed anywhere.
public struct Lab: Sendable {
    public let paths: LabPaths
    /// Told what happens, one line at a time.
    public let progress: @Sendable (String) -> Void
    /// The environment of the user: `KUBECONFIG`, `HOME`, `SUDO_USER`.
    public let environment: [String: String]

    public init(
        paths: LabPaths = LabPaths(), environment: [String: String], progress: @escaping @Sendable (String) -> Void
    ) {
        self.paths = paths
        self.environment = environment
        self.progress = progress
    }

    public struct CreateOptions: Sendable {
        public var name = LabSpec.nameDefault
        public var agents = 0
        /// Nil takes the first default network that is free.
        public var subnet: IPv4Network?
        public var apiHost = "127.0.0.1"
        public var apiPort = 6_550
        public var ports: [PortMapping] = []
        public var arguments: [K3sArgument] = []
        /// Return when all nodes are Ready.
        public var waits = true
        public var timeout: Duration = .seconds(60)
        public var updatesKubeconfig = true
        public var switchesContext = true
        public init() {}
    }

    // MARK: Create

    public func create(_ options: CreateOptions) async throws {
        try Preflight.checkRoot("martlet lab create")
        try Preflight.checkPrograms()
        var spec = try LabSpec(
            name: options.name, agents: options.agents, subnet: options.subnet ?? LabSpec.subnetDefaults[0],
            apiHost: options.apiHost, apiPort: options.apiPort, ports: options.ports)
        for argument in options.arguments { try spec.apply(argument) }
        for mapping in spec.ports where spec.targets(mapping).isEmpty {
            throw LabError("--port \(mapping): the filter matches none of the \(spec.nodes.count) nodes")
        }
        let lock = try await LabLock.take(self.paths.lock(spec.name), cluster: spec.name)
        var isGone = false
        defer { lock.release(removing: isGone) }
        // A specification that cannot be read belongs to a cluster, too: that error is for `delete`.
        if let existing = try self.paths.load(spec.name), existing.phase == .created {
            let state = self.state(existing)
            throw LabError(
                "cluster \(spec.name) already exists\(state.isServerRunning ? "" : " (stopped)"); nothing was changed. "
                    + (state.isServerRunning
                        ? "Delete it first with: martlet lab delete \(spec.name)"
                        : "Start it with: martlet lab start \(spec.name)"))
        }
        // Remains of a creation or deletion that did not finish.
        await self.wipe(spec.name)
        let clock = ContinuousClock.now
        do {
            spec.subnet = try self.freeSubnet(options.subnet)
            try self.checkPorts(spec)
            try self.paths.save(spec)
            try await self.launch(&spec, options.waits ? options.timeout : nil, since: clock)
            spec.phase = .created
            try self.paths.save(spec)
        } catch {
            await self.wipe(spec.name)
            isGone = true
            throw error
        }
        try self.introduce(spec, options)
        self.progress("Cluster \(spec.name) is ready after \(Self.seconds(since: clock))")
    }

    private func introduce(_ spec: LabSpec, _ options: CreateOptions) throws {
        guard options.updatesKubeconfig else {
            self.progress("kubeconfig: \(self.paths.kubeconfig(spec.name))")
            return
        }
        let file = KubeconfigFile(environment: self.environment)
        try file.merge(try self.kubeconfig(spec.name), switchContext: options.switchesContext)
        self.progress(
            "kubeconfig: \(file.path)"
                + (options.switchesContext ? " (current context: \(spec.context))" : " (context: \(spec.context))"))
    }

    static func seconds(since start: ContinuousClock.Instant) -> String {
        let duration = ContinuousClock.now - start
        let tenths = duration.components.seconds * 10 + duration.components.attoseconds / 100_000_000_000_000_000
        return "\(tenths / 10).\(tenths % 10) s"
    }

    private func freeSubnet(_ wanted: IPv4Network?) throws(LabError) -> IPv4Network {
        let routes = Preflight.routes(try Command.check("ip", "-4", "route", "show", "table", "all"))
            // The machine's own addresses and broadcasts repeat the networks they are in.
            .filter { $0.network.prefixLength < 32 && $0.device != "lo" }
        for (purpose, network) in [("pods", LabSpec.podNetwork), ("services", LabSpec.serviceNetwork)] {
            if let user = Preflight.overlap(network, with: routes) {
                throw LabError("\(network) is for the cluster's \(purpose) and overlaps \(user) of this machine")
            }
        }
        if let wanted {
            if let user = Preflight.overlap(wanted, with: routes) {
                throw LabError("--subnet \(wanted) overlaps \(user); choose another one with --subnet")
            }
            return wanted
        }
        for network in LabSpec.subnetDefaults where Preflight.overlap(network, with: routes) == nil { return network }
        throw LabError(
            "none of \(LabSpec.subnetDefaults.map(\.description).joined(separator: ", ")) is free on this machine; "
                + "choose a network with --subnet, e.g. --subnet 192.168.240.0/20")
    }

    private func checkPorts(_ spec: LabSpec) throws(LabError) {
        try Preflight.checkPort(host: spec.apiHost, port: spec.apiPort, option: "--api-port")
        for mapping in spec.ports {
            try Preflight.checkPort(host: mapping.host, port: mapping.port, option: "--port")
        }
    }

    // MARK: Launch

    /// Starts everything. Returns when the server serves and, with a timeout, when all nodes are Ready.
    private func launch(_ spec: inout LabSpec, _ timeout: Duration?, since clock: ContinuousClock.Instant) async throws
    {
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let name = spec.name
        self.progress(
            "Creating cluster \(name): 1 server, \(spec.nodes.count - 1) agents, network \(spec.subnet)")
        try LabBridge.ensure(spec)
        let material = try ClusterPKI.load(directory: self.paths.pki(name), names: LabServer.certificateNames(spec))
        try Files.write(
            ClusterPKI.kubeconfig(
                material, server: "https://\(Self.reachable(spec.apiHost)):\(spec.apiPort)", name: spec.context),
            to: self.paths.kubeconfig(name))
        if !FileManager.default.fileExists(atPath: self.paths.images(name)) {
            try Files.write("{\"images\":{}}\n", to: self.paths.images(name))
        }
        for node in spec.nodes { try self.configure(node, of: spec, material) }
        let server = try self.beginServer(spec, program)
        var keepers: [(LabSpec.Node, ProcessIdentity)] = []
        for node in spec.nodes {
            let nodeName = spec.nodeName(node)
            let started = try DetachedProcess.start(
                [program, "internal", "node", self.paths.nodeConfiguration(name, nodeName)],
                log: self.paths.log(name, nodeName))
            try started.identity.write(self.paths.keeperPID(name, nodeName))
            keepers.append((node, started.identity))
        }
        try await self.awaitServer(spec, server, since: clock)
        for mapping in spec.ports {
            self.progress("  \(Self.seconds(since: clock))  \(mapping) leads to port \(mapping.target) of the cluster")
        }
        if let timeout {
            try await NodeWait(spec, keepers, self).run(within: timeout, since: clock)
        }
    }

    private func beginServer(_ spec: LabSpec, _ program: String) throws -> DetachedProcess.Started {
        let server = try DetachedProcess.start(
            [program, "internal", "server", self.paths.specification(spec.name)],
            log: self.paths.log(spec.name, "server"))
        try server.identity.write(self.paths.serverPID(spec.name))
        return server
    }

    private func awaitServer(
        _ spec: LabSpec, _ server: DetachedProcess.Started, since clock: ContinuousClock.Instant
    ) async throws {
        guard await DetachedProcess.waitUntilReady(server) else {
            throw LabError("the server of cluster \(spec.name) did not start:\(self.tail(spec.name, "server"))")
        }
        self.progress("  \(Self.seconds(since: clock))  API server on https://\(spec.apiHost):\(spec.apiPort)")
    }

    /// Listening on all addresses is no address to connect to.
    private static func reachable(_ host: String) -> String { host == "0.0.0.0" ? "127.0.0.1" : host }

    private func configure(_ node: LabSpec.Node, of spec: LabSpec, _ material: ClusterPKI.Material) throws {
        let nodeName = spec.nodeName(node)
        let server = "https://\(spec.gateway):\(LabSpec.internalAPIPort)"
        try Files.write(
            ClusterPKI.kubeconfig(
                material, server: server, name: spec.context,
                token: try ClusterPKI.token(material, for: .node(nodeName))),
            to: self.paths.nodeKubeconfig(spec.name, nodeName))
        try FileManager.default.createDirectory(
            atPath: self.paths.nodeState(spec.name, nodeName), withIntermediateDirectories: true)
        try FileManager.default.createDirectory(
            atPath: self.paths.nodeRun(spec.name, nodeName), withIntermediateDirectories: true)
        try Files.write(
            self.nodeConfiguration(node, of: spec).json.description + "\n",
            to: self.paths.nodeConfiguration(spec.name, nodeName))
    }

    func nodeConfiguration(_ node: LabSpec.Node, of spec: LabSpec) -> NodeConfiguration {
        let nodeName = spec.nodeName(node)
        var configuration = NodeConfiguration(
            clusterName: spec.name, nodeName: nodeName, nodeIndex: spec.position(node),
            kubeconfig: self.paths.nodeKubeconfig(spec.name, nodeName), bridge: spec.bridge,
            nodeIP: spec.nodeIP(node), prefixLength: spec.subnet.prefixLength, gateway: spec.gateway,
            podCIDR: spec.podCIDR(node).description, stateDirectory: self.paths.nodeState(spec.name, nodeName),
            runDirectory: self.paths.run(spec.name))
        configuration.server = "https://\(spec.gateway):\(LabSpec.internalAPIPort)"
        configuration.clusterCIDR = LabSpec.podNetwork.description
        configuration.serviceCIDR = LabSpec.serviceNetwork.description
        configuration.clusterDNS = LabSpec.clusterDNS
        configuration.clusterDomain = LabSpec.clusterDomain
        configuration.labels = node.labels
        if node.role == .server {
            for role in ["control-plane", "master"] { configuration.labels["node-role.kubernetes.io/\(role)"] = "true" }
        }
        configuration.taints = node.taints
        configuration.imagesFile = self.paths.images(spec.name)
        return configuration
    }

    /// The last lines of a process's log, for errors.
    func tail(_ cluster: String, _ process: String) -> String {
        let text = Files.read(self.paths.log(cluster, process)) ?? ""
        let lines = text.split(separator: "\n").suffix(8)
        return lines.isEmpty ? " it left no log" : "\n  " + lines.joined(separator: "\n  ")
    }

    // MARK: Start, stop, delete

    public func start(_ name: String, timeout: Duration = .seconds(60)) async throws {
        try Preflight.checkRoot("martlet lab start")
        try Preflight.checkPrograms()
        let lock = try await LabLock.take(self.paths.lock(name), cluster: name)
        defer { lock.release() }
        var spec = try self.existing(name)
        let state = self.state(spec)
        if state.isServerRunning, state.runningNodes.count == spec.nodes.count {
            self.progress("cluster \(name) runs already")
            return
        }
        let clock = ContinuousClock.now
        if state.runningNodes.count == spec.nodes.count {
            // Only the server died. The nodes and their pods live on, and find it again when it is back.
            try self.checkPorts(spec)
            let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            try await self.awaitServer(spec, try self.beginServer(spec, program), since: clock)
            self.progress("The server of cluster \(name) is back; its nodes ran on")
            return
        }
        // Any other half of a cluster is brought down first: its parts are started together.
        await self.halt(spec)
        try self.checkPorts(spec)
        do {
            try await self.launch(&spec, timeout, since: clock)
        } catch {
            await self.halt(spec)
            throw error
        }
        self.progress("Cluster \(name) is ready after \(Self.seconds(since: clock))")
    }

    public func stop(_ name: String) async throws {
        try Preflight.checkRoot("martlet lab stop")
        let lock = try await LabLock.take(self.paths.lock(name), cluster: name)
        defer { lock.release() }
        let spec = try self.existing(name)
        await self.halt(spec)
        self.progress("Stopped cluster \(name)")
    }

    /// Removes every trace, also of a cluster of which only traces are left.
    public func delete(_ name: String) async throws {
        try Preflight.checkRoot("martlet lab delete")
        // Names become paths and links: nothing else is looked for.
        _ = try LabSpec(
            name: name, agents: 0, subnet: LabSpec.subnetDefaults[0], apiHost: "127.0.0.1", apiPort: 6_550, ports: [])
        let wasKnown = self.isKnown(name)
        // Somebody whose creation is still running, perhaps behind a script that was killed, wants it gone all the same.
        let lock = try await LabLock.take(self.paths.lock(name), cluster: name, within: Self.creationMax) {
            self.progress("Waiting for another command that works on cluster \(name)")
        }
        defer { lock.release(removing: true) }
        guard wasKnown || self.isKnown(name) else {
            throw LabError("there is no cluster \(name); see: martlet lab list")
        }
        await self.wipe(name)
        try KubeconfigFile(environment: self.environment).remove(context: "k3d-\(name)")
        self.progress("Deleted cluster \(name)")
    }

    /// As long as a creation with the default timeout can take.
    private static let creationMax = Duration.seconds(90)

    /// Whether anything of a cluster is left on this machine.
    private func isKnown(_ name: String) -> Bool {
        self.paths.clusters().contains(name)
            || FileManager.default.fileExists(atPath: "/sys/class/net/\(LabSpec.bridge(name))")
    }

    func existing(_ name: String) throws(LabError) -> LabSpec {
        guard let spec = try self.paths.load(name), spec.phase == .created else {
            let known = self.paths.clusters().joined(separator: ", ")
            throw LabError(
                "there is no cluster \(name)\(known.isEmpty ? "" : " (known: \(known))"); see: martlet lab list")
        }
        return spec
    }

    // MARK: State

    public struct State: Sendable {
        public var isServerRunning: Bool
        /// Names.
        public var runningNodes: Set<String>
    }

    public func state(_ spec: LabSpec) -> State {
        let server = ProcessIdentity.read(self.paths.serverPID(spec.name))
        let nodes = spec.nodes.map { spec.nodeName($0) }.filter {
            ProcessIdentity.read(self.paths.keeperPID(spec.name, $0)) != nil
        }
        return State(isServerRunning: server != nil, runningNodes: Set(nodes))
    }

    public func list() -> [(spec: LabSpec, state: State)] {
        self.paths.clusters().compactMap { name in
            guard let spec = try? self.paths.load(name), spec.phase == .created else { return nil }
            return (spec, self.state(spec))
        }
    }

    /// The cluster's own kubeconfig, with the one context `k3d-NAME`.
    func kubeconfig(_ name: String) throws(LabError) -> JSONValue {
        guard let text = Files.read(self.paths.kubeconfig(name)), let config = try? JSONValue(yaml: text) else {
            throw LabError("cannot read the kubeconfig of cluster \(name); are you root?")
        }
        return config
    }
}
