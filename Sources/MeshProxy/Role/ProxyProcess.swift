internal import Logging
internal import MeshIdentity
internal import MeshLinux
package import MeshTelemetry
package import MeshTunnel
package import MeshXDS
internal import MeshZDS
internal import NIOPosix

/// The parts of a node proxy, put together and run in order.
///
/// 1. Readiness answers, with what is missing. 2. Admin and metrics. 3. The control plane is followed. 4. Once the
/// mesh is known completely, the tunnel starts. 5. Only then the node agent sees us, and pods are served. At the end:
/// no more orders, no more new connections, those that are open finish or are cut at the deadline.
package struct ProxyProcess: Sendable {
    /// What stands outside; scripted in tests.
    package struct Surroundings: Sendable {
        /// Follows the control plane into the sink, until cancelled.
        package var followMesh: @Sendable (any MeshStateSink) async -> Void
        package var signer: any CertificateSigner
        /// Obeys the node agent, until cancelled.
        package var obeyAgent: @Sendable (PodEnrolment) async -> Void
        package var makeTunnel: @Sendable (MeshSnapshot, any CertificateSource, any ConnectionObserver) -> any Tunnel

        package init(
            followMesh: @escaping @Sendable (any MeshStateSink) async -> Void, signer: any CertificateSigner,
            obeyAgent: @escaping @Sendable (PodEnrolment) async -> Void,
            makeTunnel:
                @escaping @Sendable (
                    MeshSnapshot, any CertificateSource, any ConnectionObserver
                ) -> any Tunnel
        ) {
            self.followMesh = followMesh
            self.signer = signer
            self.obeyAgent = obeyAgent
            self.makeTunnel = makeTunnel
        }
    }

    /// The name in the readiness answer, until the first complete picture of the mesh.
    package static let stateTask = "state manager"

    let configuration: ProxyConfiguration
    let log: MeshLog
    let surroundings: Surroundings
    let shutdown: ShutdownSignal
    let version: String
    /// Told the ports once all servers are bound: readiness, admin, metrics.
    let bound: @Sendable (BoundPorts) -> Void

    package struct BoundPorts: Hashable, Sendable {
        package var readiness, admin, metrics: Int
    }

    package init(
        configuration: ProxyConfiguration, log: MeshLog, surroundings: Surroundings, shutdown: ShutdownSignal,
        version: String, bound: @escaping @Sendable (BoundPorts) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.log = log
        self.surroundings = surroundings
        self.shutdown = shutdown
        self.version = version
        self.bound = bound
    }

    /// - Throws: when a port cannot be bound.
    package func run() async throws {
        let configuration = self.configuration
        let app = self.log.logger("app")
        let readiness = Readiness(pending: [Self.stateTask, PodEnrolment.readinessTask])
        let group = MultiThreadedEventLoopGroup.singleton
        let everywhere = LocalAddresses.everywhere(isIPv6Enabled: configuration.isIPv6Enabled)
        let ready = try await HTTPEndpoints.bind(
            [.init(host: everywhere, port: configuration.readinessPort)], routes: [.readiness(readiness)], group: group)

        let registry = MetricsRegistry()
        registry.addProcessMetrics(component: "ztunnel", tag: self.version)
        let metrics = TrafficMetrics(registry)
        let telemetry = ConnectionTelemetry(log: self.log, metrics: metrics)
        let slot = TunnelSlot()
        let certificates = CertificateManager(signer: self.surroundings.signer, log: self.log.logger("ca")) {
            slot.certificateRenewed($0)
        }
        let directory = MeshDirectory(
            nodeName: configuration.nodeName, settings: configuration.routing(self.log), flows: FlowTable(metrics),
            published: { slot.publish($0) },
            identitiesChanged: { added, removed in
                certificates.prefetch(added)
                certificates.forget(removed)
            })
        let enrolment = PodEnrolment(
            server: SlotPodServer(slot: slot), readiness: readiness, registry: registry, log: self.log.logger("zds"),
            trustDomain: { slot.snapshot?.identity(of: $0)?.trustDomain })
        let admin: HTTPEndpoints
        do {
            admin = try await HTTPEndpoints.bind(
                LocalAddresses.loopback(isIPv6Enabled: configuration.isIPv6Enabled).map {
                    .init(host: $0, port: configuration.adminPort)
                },
                routes: self.adminRoutes(directory, certificates, enrolment, telemetry), group: group)
        } catch {
            await ready.close()
            throw error
        }
        let stats: HTTPEndpoints
        do {
            stats = try await HTTPEndpoints.bind(
                [.init(host: everywhere, port: configuration.statsPort)], routes: EndpointRoute.metrics(registry),
                group: group)
        } catch {
            await ready.close()
            await admin.close()
            throw error
        }
        self.bound(
            BoundPorts(readiness: ready.ports[0], admin: admin.ports[0], metrics: stats.ports[0]))
        app.info(
            "node proxy started", metadata: ["version": "\(self.version)", "node": "\(configuration.nodeName ?? "-")"])

        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.surroundings.followMesh(directory) }
            tasks.addTask { await certificates.run() }
            let orders = Task { [surroundings] in
                await directory.waitUntilSynced()
                if Task.isCancelled { return }
                _ = slot.fill { surroundings.makeTunnel($0, certificates, telemetry) }
                if let own = configuration.ownPod {
                    do { try slot.tunnel?.serveSelf(own) } catch {
                        app.warning(
                            "our metrics cannot be scraped through the mesh", metadata: ["error": "\(error)"])
                    }
                }
                readiness.done(Self.stateTask)
                app.info("the mesh is known; serving pods")
                await withTaskGroup(of: Void.self) { both in
                    both.addTask { await surroundings.obeyAgent(enrolment) }
                    both.addTask { await enrolment.retryForever() }
                }
            }
            let reason = await self.shutdown.wait()
            app.info("shutting down", metadata: ["why": "\(reason)", "deadline": "\(configuration.drainDeadline)"])
            readiness.block(on: "shutting down")
            // No more orders; whoever waits for the mesh stops waiting.
            orders.cancel()
            await directory.stopWaiting()
            await orders.value
            await slot.tunnel?.drain(deadline: configuration.drainDeadline)
            tasks.cancelAll()
        }
        for server in [admin, stats, ready] { await server.close() }
        app.info("node proxy ended")
        await self.log.flush()
    }

    private func adminRoutes(
        _ directory: MeshDirectory, _ certificates: CertificateManager, _ enrolment: PodEnrolment,
        _ telemetry: ConnectionTelemetry
    ) -> [EndpointRoute] {
        let (configuration, version, shutdown) = (self.configuration, self.version, self.shutdown)
        return [
            EndpointRoute("/") { _ in AdminPage.answer },
            EndpointRoute("/config_dump") { _ in
                let dump = ConfigDump(
                    snapshot: await directory.snapshot,
                    certificates: certificates.states.map { (state: $0.state, identity: $0.identity.description) },
                    pods: await enrolment.pods, connections: telemetry.live, configuration: configuration,
                    version: version)
                return .json(dump.json)
            },
            .logging(self.log.filter),
            .quit { shutdown.request("POST /quitquitquit") },
        ]
    }
}

/// Serves pods with the tunnel that stands in the slot.
private struct SlotPodServer: PodServer {
    let slot: TunnelSlot

    func start(_ pod: EnrolledPod, _ namespace: any PodNamespace) throws {
        guard let tunnel = self.slot.tunnel else { throw NotStarted() }
        try namespace.withDescriptor { try tunnel.serve(pod, namespace: $0) }
    }

    func stop(uid: String) { self.slot.tunnel?.removePod(uid: uid) }

    struct NotStarted: Error, CustomStringConvertible {
        let description = "the mesh is not known yet; is the control plane connected?"
    }
}

private enum AdminPage {
    static let answer = EndpointAnswer(
        contentType: "text/html; charset=utf-8",
        body: Array(
            """
            <!DOCTYPE html><html><head><title>Martlet node proxy</title></head><body><h1>Martlet node proxy</h1><ul>
            <li><a href="config_dump">config_dump</a>: everything this proxy knows and does, as JSON</li>
            <li>logging: POST shows the log levels, POST ?level=debug sets them, POST ?reset goes back</li>
            <li>quitquitquit: POST ends the process in order</li>
            </ul></body></html>

            """.utf8))
}

/// Which wildcard and loopback addresses this machine has.
enum LocalAddresses {
    static func everywhere(isIPv6Enabled: Bool) -> String { isIPv6Enabled && Self.hasIPv6 ? "::" : "0.0.0.0" }

    static func loopback(isIPv6Enabled: Bool) -> [String] {
        isIPv6Enabled && Self.hasIPv6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"]
    }

    /// A kernel without IPv6 has no such file; one where it is switched off says 1.
    private static var hasIPv6: Bool {
        guard let text = try? Files.readText("/proc/sys/net/ipv6/conf/lo/disable_ipv6") else { return false }
        return text.first == "0"
    }
}
