internal import Foundation
internal import Logging
package import MeshModel
package import MeshNameService
package import MeshTelemetry
internal import MeshXDS
internal import NIOCore
internal import NIOPosix

/// The agent's name service: its ports on the pod's loopback device, the way to the pod's resolvers, and the conversation with
/// the control plane about names.
package struct AgentNameService: Sendable {
    private let names: AgentNames
    private let server: DNSServer
    private let client: NameTableClient
    package let port: UInt16

    /// Returns once it takes questions.
    ///
    /// - Throws: when the ports are somebody's. A file of resolvers that cannot be read is no reason: names of the mesh are
    ///   answered without.
    ///
    /// - Parameter resolvers: instead of those in the file.
    package init(
        _ configuration: AgentConfiguration, _ registry: MetricsRegistry, _ log: MeshLog,
        resolvers: [IPEndpoint]? = nil, limits: DNSLimits = DNSLimits()
    ) throws(DNSStartError) {
        let logger = log.logger(AgentNames.scope)
        let group = MultiThreadedEventLoopGroup.singleton
        let path = configuration.resolverFile
        let resolvConf = FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let resolvers = resolvers ?? DNSResolvers.parse(resolvConf)
        if resolvers.isEmpty {
            logger.error(
                "no resolver is known: names outside the mesh are answered SERVFAIL", metadata: ["file": "\(path)"])
        }
        var listening = DNSListening()
        (listening.port, listening.limits) = (configuration.namesPort, limits)
        listening.isIPv6Enabled = configuration.isIPv6Enabled
        let names = AgentNames(configuration, resolvConf: resolvConf, registry, log)
        (self.server, self.port) = try DNSServer.start(
            pod: "\(configuration.podNamespace)/\(configuration.podName)", names, listening,
            forwarder: DNSForwarder(resolvers: resolvers, limits: listening.limits, group: group), log: logger,
            // The packet rules let our user's questions pass: no mark is needed, nor allowed to us.
            namespace: nil, loop: group.next())
        self.names = names
        self.client = NameTableClient(
            XDSClientConfiguration(
                endpoint: configuration.xds, nodeID: configuration.nodeID, metadata: configuration.nodeMetadata),
            logger: log.logger("xds"), apply: { names.publish($0) })
    }

    /// Follows the control plane's table until cancelled; what it told last stays.
    package func run() async { await self.client.run() }

    /// Nobody is answered any more.
    package func close() async {
        let server = self.server
        try? await server.loop.submit { server.close() }.get()
    }
}
