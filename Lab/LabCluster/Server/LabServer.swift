internal import Dispatch
internal import Foundation
internal import KubeAPI
internal import KubeClient
internal import LabAPIServer
internal import LabControllers
internal import LabNode
internal import Logging

/// The server process of a cluster: API server, controllers, scheduler, DNS, and the port maps.
struct LabServer {
    private let spec: LabSpec
    private let paths: LabPaths
    private let log: Logger

    /// - Parameter specification: path of the cluster's `cluster.json`.
    init(specification: String) throws {
        let state = (specification as NSString).deletingLastPathComponent
        let name = (state as NSString).lastPathComponent
        self.paths = LabPaths(stateRoot: (state as NSString).deletingLastPathComponent)
        guard let spec = try self.paths.load(name) else { throw LabError("cannot read \(specification)") }
        self.spec = spec
        self.log = Logger(label: "server") { StreamLogHandler.standardError(label: $0) }
    }

    static func certificateNames(_ spec: LabSpec) -> [String] {
        spec.apiHost == "0.0.0.0" ? [spec.gateway] : [spec.apiHost, spec.gateway]
    }

    /// Serves until SIGTERM or SIGINT. Says that it is ready on the descriptor of ``DetachedProcess``.
    func run() async throws {
        let task = Task { try await self.serve() }
        let signals = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number)
            source.setEventHandler { task.cancel() }
            source.resume()
            return source
        }
        signal(SIGPIPE, SIG_IGN)
        defer { for source in signals { source.cancel() } }
        do {
            try await task.value
        } catch is CancellationError {
            // Asked to end.
        } catch {
            if task.isCancelled { return }
            throw error
        }
    }

    private func serve() async throws {
        let name = self.spec.name
        let gateway = APIServerConfiguration.Endpoint(host: self.spec.gateway, port: LabSpec.internalAPIPort)
        let api = try APIServer(
            configuration: APIServerConfiguration(
                endpoints: [.init(host: self.spec.apiHost, port: self.spec.apiPort), gateway],
                dataDirectory: self.paths.objects(name), pkiDirectory: self.paths.pki(name),
                certificateNames: Self.certificateNames(self.spec),
                serviceCIDR: LabSpec.serviceNetwork.description, advertised: gateway,
                nodeConnector: Kubelets(spec: self.spec), log: self.log))
        try await api.bootstrap()
        let cluster = api.client(named: "martlet-lab")
        try await SystemObjects.ensure(cluster, dnsAddress: self.spec.gateway)
        let dns = try ClusterDNS(
            cluster: cluster,
            configuration: .init(
                host: self.spec.gateway, domain: LabSpec.clusterDomain,
                resolvConf: Files.read("/etc/resolv.conf") ?? ""),
            logger: self.log)
        let controllers = ControllerManager(
            cluster: api.client(named: "kube-controller-manager"),
            configuration: .init(authority: api.pki.caCertificate), logger: self.log)
        let (ready, isReady) = AsyncStream.makeStream(of: Void.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await api.run { _ in isReady.yield(()) } }
            group.addTask { try await dns.run { _ in isReady.yield(()) } }
            group.addTask { await controllers.run() }
            for mapping in self.spec.ports {
                let forwarder = PortForwarder(
                    host: mapping.host, port: mapping.port,
                    targets: self.spec.targets(mapping).map { (self.spec.nodeIP($0), mapping.target) }, log: self.log)
                group.addTask { try await forwarder.run { isReady.yield(()) } }
            }
            let parts = 2 + self.spec.ports.count
            group.addTask {
                var count = 0
                for await _ in ready {
                    count += 1
                    if count == parts {
                        DetachedProcess.sayReady()
                        break
                    }
                }
                // Only the end of another part, or of us, ends this one.
                while true { try await Task.sleep(for: .seconds(3_600)) }
            }
            // The first part to end takes the others with it.
            defer { group.cancelAll() }
            _ = try await group.next()
        }
    }

    /// Where the nodes' kubelets listen.
    private struct Kubelets: NodeConnector {
        let spec: LabSpec
        let paths = LabPaths()
        func kubeletSocket(node: String) async -> String? {
            self.spec.nodes.contains { self.spec.nodeName($0) == node }
                ? self.paths.kubeletSocket(self.spec.name, node) : nil
        }

        func podSocket(node: String, host: String, port: Int, timeout: Duration) async throws -> CInt? {
            guard let pid = self.paths.runningNode(self.spec.name, node) else {
                throw LabError("node \(node) does not run")
            }
            return try await NodeDial.connect(
                namespace: "/proc/\(pid)/ns/net", host: host, port: port, timeout: timeout)
        }
    }
}
