internal import Logging
package import MeshCertificates
internal import MeshDirectory
internal import MeshIdentity
internal import MeshLinux
internal import MeshModel
internal import MeshNameService
package import MeshProcess
package import MeshTelemetry
package import MeshTunnel
package import MeshXDS
internal import MeshZDS
internal import NIOCore
internal import NIOPosix

/// The parts of a node proxy, put together and run in order.
///
/// 1. Readiness answers, with what is missing. 2. Admin and metrics. 3. The control plane is followed. 4. Once the
/// mesh is known completely, the tunnel starts. 5. The certificates of this node's workloads are fetched: as soon as we
/// listen in a pod beside a predecessor, half of its connections are ours. 6. Only then the node agent sees us, and
/// pods are served. At the end: no more pods, no more new connections, those that are open finish or are cut at the
/// deadline.
package struct ProxyProcess: Sendable {
    /// What stands outside; scripted in tests.
    package struct Surroundings: Sendable {
        /// Follows the control plane into the sink, until cancelled.
        package var followMesh: @Sendable (any MeshStateSink) async -> Void
        /// On demand: asks the control plane for one destination; see `RoutingSettings`.
        package var demand: (@Sendable (String) -> Void)?
        package var signer: any CertificateSigner
        /// Obeys the node agent, until cancelled.
        package var obeyAgent: @Sendable (PodEnrolment) async -> Void
        /// When it throws, the process ends with that error.
        package var makeTunnel:
            @Sendable (MeshSnapshot, any CertificateSource, any ConnectionObserver, any HostResolver) throws
                -> any Tunnel

        package init(
            followMesh: @escaping @Sendable (any MeshStateSink) async -> Void, signer: any CertificateSigner,
            obeyAgent: @escaping @Sendable (PodEnrolment) async -> Void,
            makeTunnel:
                @escaping @Sendable (
                    MeshSnapshot, any CertificateSource, any ConnectionObserver, any HostResolver
                ) throws -> any Tunnel
        ) {
            self.followMesh = followMesh
            self.signer = signer
            self.obeyAgent = obeyAgent
            self.makeTunnel = makeTunnel
        }
    }

    /// The name in the readiness answer, until the first complete picture of the mesh.
    package static let stateTask = "state manager"
    /// For the first certificates. Afterwards pods are served without: what needs none works, and the rest waits.
    package static let certificatesLimit = Duration.seconds(10)

    let configuration: ProxyConfiguration
    let log: MeshLog
    let surroundings: Surroundings
    let shutdown: ShutdownSignal
    let version: String
    let certificatesLimit: Duration
    /// Told the ports once all servers are bound: readiness, admin, metrics.
    let bound: @Sendable (BoundPorts) -> Void

    package struct BoundPorts: Hashable, Sendable {
        package var readiness, admin, metrics: Int
    }

    package init(
        configuration: ProxyConfiguration, log: MeshLog, surroundings: Surroundings, shutdown: ShutdownSignal,
        version: String, certificatesLimit: Duration = Self.certificatesLimit,
        bound: @escaping @Sendable (BoundPorts) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.log = log
        self.surroundings = surroundings
        self.shutdown = shutdown
        self.version = version
        self.certificatesLimit = certificatesLimit
        self.bound = bound
    }

    /// - Throws: when a port cannot be bound, or the tunnel cannot be made.
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
        let budget = SeriesBudget(seriesMax: configuration.seriesMax)
        let metrics = TrafficMetrics(registry, budget: budget)
        registry.show(budget)
        let telemetry = ConnectionTelemetry(log: self.log, metrics: metrics)
        let slot = TunnelSlot()
        let forwarder = self.forwarder(group)
        let hosts = MeshHostResolver(
            forwarder: forwarder, isIPv6Enabled: configuration.isIPv6Enabled,
            system: SystemHostResolver(isIPv6Enabled: configuration.isIPv6Enabled))
        let names = configuration.dns.map {
            DNSService(
                $0, forwarder: forwarder, metrics: DNSMetrics(registry, budget: budget), log: self.log, group: group)
        }
        let certificates = CertificateManager(signer: self.surroundings.signer, log: self.log.logger("ca")) {
            slot.certificateRenewed($0)
        }
        var routing = configuration.routing(self.log)
        routing.demand = self.surroundings.demand
        let memory = MemoryRelease()
        let revocations = configuration.revocationFile.map { path in
            RevocationWatch(path: path, log: self.log.logger("crl")) { slot.publish($0) }
        }
        revocations?.start()
        let directory = MeshDirectory(
            nodeName: configuration.nodeName, settings: routing, flows: FlowTable(metrics),
            published: { snapshot in
                names?.publish(snapshot)
                slot.publish(snapshot)
            },
            identitiesChanged: { added, removed in
                certificates.prefetch(added)
                certificates.forget(removed)
            },
            applied: { memory.ask(after: $0) })
        let enrolment = PodEnrolment(
            server: SlotPodServer(slot: slot, names: names), readiness: readiness, registry: registry,
            log: self.log.logger("zds"),
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

        let outcome = await withTaskGroup(of: Void.self) { tasks in
            if let local = configuration.localMesh {
                await directory.apply(.policies(upserted: local.policies, removed: []))
                await directory.apply(.addresses(upserted: local.addresses, removed: []))
            }
            tasks.addTask { await self.surroundings.followMesh(directory) }
            tasks.addTask { await certificates.run() }
            tasks.addTask { await memory.run() }
            if let revocations { tasks.addTask { await revocations.run() } }
            let orders = Task { [surroundings, shutdown, certificatesLimit] in
                await directory.waitUntilSynced()
                if Task.isCancelled { return }
                do {
                    _ = try slot.fill { try surroundings.makeTunnel($0, certificates, telemetry, hosts) }
                } catch {
                    shutdown.request("\(error)")
                    throw error
                }
                if let own = configuration.ownPod {
                    do { try slot.tunnel?.serveSelf(own) } catch {
                        app.warning(
                            "our metrics cannot be scraped through the mesh", metadata: ["error": "\(error)"])
                    }
                }
                readiness.done(Self.stateTask)
                await certificates.waitForFirst(within: certificatesLimit)
                app.info("the mesh is known; serving pods")
                memory.ask()
                await withTaskGroup(of: Void.self) { both in
                    both.addTask { await surroundings.obeyAgent(enrolment) }
                    both.addTask { await enrolment.retryForever() }
                }
            }
            let reason = await self.shutdown.wait()
            app.info("shutting down", metadata: ["why": "\(reason)", "deadline": "\(configuration.drainDeadline)"])
            readiness.block(on: "shutting down")
            // The agent is listened to until the end: a pod that is deleted meanwhile is let go.
            await enrolment.shutDown()
            if slot.tunnel == nil { orders.cancel() }
            await directory.stopWaiting()
            async let namesDrained: Void? = names?.drain(deadline: configuration.drainDeadline)
            await slot.tunnel?.drain(deadline: configuration.drainDeadline)
            await namesDrained
            orders.cancel()
            let outcome = await orders.result
            tasks.cancelAll()
            return outcome
        }
        for server in [admin, stats, ready] { await server.close() }
        app.info("node proxy ended")
        await self.log.flush()
        try outcome.get()
    }

    private func forwarder(_ group: any EventLoopGroup) -> DNSForwarder {
        var resolvers: [IPEndpoint] = []
        let log = self.log.logger(DNSService.scope)
        do throws(SystemError) {
            resolvers = DNSResolvers.parse(try Files.readText(self.configuration.resolverFile))
            if resolvers.isEmpty {
                log.error(
                    "no resolver is known: names outside the mesh are answered SERVFAIL",
                    metadata: ["file": "\(self.configuration.resolverFile)"])
            }
        } catch {
            log.error(
                "the list of resolvers cannot be read: names outside the mesh are answered SERVFAIL",
                metadata: ["error": "\(error)"])
        }
        return DNSForwarder(
            resolvers: resolvers, limits: self.configuration.dns?.limits ?? DNSLimits(), group: group)
    }

    private func adminRoutes(
        _ directory: MeshDirectory<MeshSnapshot>, _ certificates: CertificateManager, _ enrolment: PodEnrolment,
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

/// Serves pods with the tunnel that stands in the slot, and with names: both or nothing.
private struct SlotPodServer: PodServer {
    let slot: TunnelSlot
    let names: DNSService?

    func start(_ pod: EnrolledPod, _ namespace: any PodNamespace) throws {
        guard let tunnel = self.slot.tunnel else { throw NotStarted() }
        try namespace.withDescriptor { descriptor in
            try self.names?.start(pod, namespace: descriptor)
            do {
                try tunnel.serve(pod, namespace: descriptor)
            } catch {
                self.names?.stop(uid: pod.uid)
                throw error
            }
        }
    }

    func stop(uid: String, whenDone: @escaping @Sendable () -> Void) {
        self.names?.stop(uid: uid)
        guard let tunnel = self.slot.tunnel else { return whenDone() }
        tunnel.removePod(uid: uid, whenDone: whenDone)
    }

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
