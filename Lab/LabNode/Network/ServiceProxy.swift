import Foundation
import KubeAPI
import KubeClient
import Logging
import Synchronization

/// The Services that the node knows, for the environment of new containers.
final class ServiceView: Sendable {
    private let state = Mutex<[String: KubeObject]>([:])

    func services() -> [KubeObject] { self.state.withLock { $0.values.sorted { $0.key < $1.key } } }
    func set(_ services: [String: KubeObject]) { self.state.withLock { $0 = services } }
}

/// Keeps the node's nftables rules in step with Services and EndpointSlices.
actor ServiceProxy {
    /// Changes that come within it are applied together.
    static let gathering = Duration.milliseconds(20)

    private let configuration: NodeConfiguration
    private let cluster: any KubeCluster
    private let commands: CommandRunner
    private let view: ServiceView
    private let logger: Logger
    private var services: [String: KubeObject] = [:]
    private var slices: [String: KubeObject] = [:]
    private var haveServices = false
    private var haveSlices = false
    private var applied: ServiceRules?
    private var appliedText = ""
    private let changes: AsyncStream<Void>
    private let changed: AsyncStream<Void>.Continuation

    init(
        _ configuration: NodeConfiguration, cluster: any KubeCluster, commands: CommandRunner, view: ServiceView,
        logger: Logger
    ) {
        self.configuration = configuration
        self.cluster = cluster
        self.commands = commands
        self.view = view
        self.logger = logger
        (self.changes, self.changed) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.follow(.services) }
            group.addTask { await self.follow(.endpointSlices) }
            group.addTask { await self.applyChanges() }
        }
    }

    private func follow(_ type: ResourceType) async {
        for await event in Informer(self.cluster, type).events() { self.take(event, type) }
    }

    private func take(_ event: InformerEvent, _ type: ResourceType) {
        var objects = type == .services ? self.services : self.slices
        switch event {
        case .snapshot(let all): objects = Dictionary(all.map { ($0.key, $0) }, uniquingKeysWith: { $1 })
        case .updated(let object): objects[object.key] = object
        case .deleted(let object): objects[object.key] = nil
        }
        if type == .services {
            self.services = objects
            self.haveServices = true
            self.view.set(objects)
        } else {
            self.slices = objects
            self.haveSlices = true
        }
        self.changed.yield()
    }

    private func applyChanges() async {
        for await _ in self.changes {
            try? await Task.sleep(for: Self.gathering)
            // Half of the truth would refuse connections to services whose endpoints are not read yet.
            guard self.haveServices, self.haveSlices else { continue }
            let rules = ServiceRules(
                services: Array(self.services.values), slices: Array(self.slices.values),
                podCIDR: self.configuration.podCIDR, clusterCIDR: self.configuration.clusterCIDR,
                serviceCIDR: self.configuration.serviceCIDR, nodeName: self.configuration.nodeName)
            await self.apply(rules)
        }
    }

    private func apply(_ rules: ServiceRules) async {
        let text = rules.ruleset
        guard text != self.appliedText else { return }
        do {
            try await self.commands.check(["nft", "-f", "-"], input: Array(text.utf8))
            let old = self.applied
            self.applied = rules
            self.appliedText = text
            await self.forgetStaleFlows(old, rules)
        } catch {
            self.logger.error("service rules not applied", metadata: ["error": "\(error)"])
            try? await Task.sleep(for: .seconds(1))
            self.changed.yield()
        }
    }

    /// UDP has no end of connection: a client that keeps its port would keep its endpoint, also a dead one.
    private func forgetStaleFlows(_ old: ServiceRules?, _ new: ServiceRules) async {
        let before = Dictionary(
            (old?.ports ?? []).map { ($0.key, $0) }, uniquingKeysWith: { $1 })
        for port in new.ports where port.proto == "udp" {
            guard let known = before[port.key], known.endpoints != port.endpoints else { continue }
            for address in port.addresses {
                // Ends with 1 when there was nothing to forget.
                _ = try? await self.commands.run([
                    "conntrack", "-D", "-p", "udp", "--orig-dst", address, "--orig-port-dst", "\(port.port)",
                ])
            }
        }
    }
}
