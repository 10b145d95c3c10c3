internal import Logging
package import MeshCertificates
internal import MeshDirectory
package import MeshExchange
internal import MeshLinux
package import MeshProcess
internal import MeshRoutes
package import MeshTelemetry
package import MeshTunnel
package import MeshXDS
internal import NIOCore
internal import NIOPosix

/// The parts of a waypoint, put together and run in order.
///
/// 1. Readiness answers, with what is missing. 2. Admin and metrics. 3. The control plane is followed and our certificate
/// fetched. 4. Once both the mesh and our certificate are there, the engine starts and listens. At the end: not ready any
/// more, and once the mesh had time to hear of it GOAWAY to all clients; what is under way finishes or is cut at the
/// deadline.
package struct WaypointProcess: Sendable {
    /// What stands outside; scripted in tests.
    package struct Surroundings: Sendable {
        /// Follows the control plane into the sink, until cancelled.
        package var followMesh: @Sendable (any WaypointSink) async -> Void
        package var signer: any CertificateSigner
        /// When it throws, the process ends with that error.
        package var makeEngine:
            @Sendable (
                WaypointSnapshot, any CertificateSource, any ConnectionObserver, any ExchangeObserver
            ) throws -> any WaypointEngine
        /// Delivers spans.
        package var post: SpanExporter.Post

        package init(
            followMesh: @escaping @Sendable (any WaypointSink) async -> Void, signer: any CertificateSigner,
            makeEngine:
                @escaping @Sendable (
                    WaypointSnapshot, any CertificateSource, any ConnectionObserver, any ExchangeObserver
                ) throws -> any WaypointEngine,
            post: @escaping SpanExporter.Post = SpanExporter.http
        ) {
            self.followMesh = followMesh
            self.signer = signer
            self.makeEngine = makeEngine
            self.post = post
        }
    }

    /// The names in the readiness answer.
    package enum Task: String, CaseIterable, Sendable {
        /// Addresses, and the rules of the services behind us.
        case mesh = "mesh"
        /// The control plane knows our Gateway.
        case gateway = "gateway"
        case certificate = "certificate"
        case listener = "listener"
    }
    /// Between two questions for our certificate after it was refused; the certificate manager has its own pace.
    static let certificateRetry = Duration.milliseconds(100)

    let configuration: WaypointConfiguration
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
        configuration: WaypointConfiguration, log: MeshLog, surroundings: Surroundings, shutdown: ShutdownSignal,
        version: String, bound: @escaping @Sendable (BoundPorts) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.log = log
        self.surroundings = surroundings
        self.shutdown = shutdown
        self.version = version
        self.bound = bound
    }

    /// - Throws: when a port cannot be bound, or the engine cannot be made.
    package func run() async throws {
        let configuration = self.configuration
        let app = self.log.logger("app")
        let readiness = Readiness(pending: Task.allCases.map(\.rawValue))
        let registry = MetricsRegistry()
        registry.addProcessMetrics(component: "waypoint", tag: self.version)
        let budget = SeriesBudget(seriesMax: configuration.seriesMax)
        let exchangeMetrics = ExchangeMetrics(registry, budget: budget)
        let trafficMetrics = TrafficMetrics(registry, budget: budget)
        registry.show(budget)
        let spans = SpanExporter(
            exchangeMetrics, resource: configuration.spanResource, version: self.version, log: self.log.logger("trace"),
            post: self.surroundings.post)
        let access = self.log.logger("access_log")
        let formats = AccessLogFormats(own: configuration.accessLog, environment: configuration.environment) {
            problem in
            access.warning(
                "a format that MeshConfig or a Telemetry asks for cannot be used; the standard one is",
                metadata: ["why": "\(problem)"])
        }
        let telemetry = ExchangeTelemetry(
            log: self.log, formats: formats, metrics: exchangeMetrics, flows: FlowTable(trafficMetrics),
            picture: MeshPicture(state: MeshState(nodeName: nil), network: configuration.network))
        registry.observedGauge("martlet_waypoint_streams_open", "Opaque streams that are open") {
            Int64(telemetry.openStreams)
        }
        let watch = TunnelWatch(log: self.log, metrics: trafficMetrics)
        let slot = EngineSlot()
        let certificates = CertificateManager(signer: self.surroundings.signer, log: self.log.logger("ca")) {
            slot.engine?.certificateRenewed($0)
        }
        let memory = MemoryRelease()
        let revocations = configuration.revocationFile.map { path in
            RevocationWatch(path: path, log: self.log.logger("crl")) { slot.publish($0) }
        }
        revocations?.start()
        let (settings, backends) = (configuration.settings, BackendTable())
        let routes = self.log.logger("routes")
        let compiler = RuleCompiler(
            trustDomains: [configuration.trustDomain] + configuration.trustDomainAliases.sorted()
        ) { problem in
            routes.warning("a match cannot be used; the rest of its route is", metadata: ["why": "\(problem)"])
        }
        let directory = WaypointDirectory(
            nodeName: configuration.nodeName,
            make: { WaypointSnapshot($0, settings, backends: backends, compiler: compiler) },
            published: { snapshot in
                spans.send(to: snapshot.picture.traceCollector)
                telemetry.publish(snapshot, spans: spans.queue)
                slot.publish(snapshot)
                readiness.set(Task.gateway.rawValue, isDone: snapshot.picture.waypoint != nil)
            },
            applied: { memory.ask(after: $0) })
        let servers = try await self.bind(
            readiness, registry, self.adminRoutes(slot, certificates, readiness), MultiThreadedEventLoopGroup.singleton)
        app.info(
            "waypoint started", metadata: ["version": "\(self.version)", "gateway": "\(settings.gateway)"])

        let outcome = await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.surroundings.followMesh(directory) }
            tasks.addTask { await certificates.run() }
            tasks.addTask { await memory.run() }
            tasks.addTask { await spans.run() }
            if let revocations { tasks.addTask { await revocations.run() } }
            let start = _Concurrency.Task { [surroundings, shutdown] in
                async let isCertified = self.certify(certificates)
                await directory.waitUntilSynced()
                if _Concurrency.Task.isCancelled { return }
                readiness.done(Task.mesh.rawValue)
                guard await isCertified else { return }
                readiness.done(Task.certificate.rawValue)
                do {
                    let engine = try slot.fill { try surroundings.makeEngine($0, certificates, watch, telemetry) }
                    try engine?.listen(as: configuration.pod)
                } catch {
                    shutdown.request("\(error)")
                    throw error
                }
                readiness.done(Task.listener.rawValue)
                app.info("the mesh and our certificate are known; taking traffic")
                memory.ask()
            }
            let reason = await self.shutdown.wait()
            app.info("shutting down", metadata: ["why": "\(reason)", "deadline": "\(configuration.drainDeadline)"])
            readiness.block(on: "shutting down")
            start.cancel()
            await directory.stopWaiting()
            // Who waits for it does so no longer; who serves needs it until the end.
            if slot.engine == nil { certificates.forget([configuration.identity]) }
            let outcome = await start.result
            if let engine = slot.engine {
                try? await _Concurrency.Task.sleep(for: configuration.farewell)
                certificates.forget([configuration.identity])
                await engine.drain(deadline: configuration.drainDeadline - configuration.farewell)
            }
            tasks.cancelAll()
            return outcome
        }
        await spans.flush()
        for server in servers { await server.close() }
        app.info("waypoint ended")
        await self.log.flush()
        try outcome.get()
    }

    /// - Returns: false when the process ends before there is a certificate.
    private func certify(_ certificates: CertificateManager) async -> Bool {
        while !_Concurrency.Task.isCancelled {
            let answer = await withCheckedContinuation { continuation in
                certificates.certificate(for: self.configuration.identity) { continuation.resume(returning: $0) }
            }
            if case .success = answer { return true }
            try? await _Concurrency.Task.sleep(for: Self.certificateRetry)
        }
        return false
    }

    /// All or none.
    private func bind(
        _ readiness: Readiness, _ registry: MetricsRegistry, _ admin: [EndpointRoute], _ group: any EventLoopGroup
    ) async throws -> [HTTPEndpoints] {
        let configuration = self.configuration
        let everywhere = LocalAddresses.everywhere(isIPv6Enabled: configuration.isIPv6Enabled)
        let loopback = LocalAddresses.loopback(isIPv6Enabled: configuration.isIPv6Enabled)
        let wanted: [(addresses: [HTTPEndpoints.Address], routes: [EndpointRoute])] = [
            ([.init(host: everywhere, port: configuration.readinessPort)], [.readiness(readiness)]),
            (loopback.map { .init(host: $0, port: configuration.adminPort) }, admin),
            ([.init(host: everywhere, port: configuration.statsPort)], EndpointRoute.metrics(registry)),
        ]
        var servers: [HTTPEndpoints] = []
        for (addresses, routes) in wanted {
            do {
                servers.append(try await HTTPEndpoints.bind(addresses, routes: routes, group: group))
            } catch {
                for server in servers { await server.close() }
                throw error
            }
        }
        self.bound(
            BoundPorts(readiness: servers[0].ports[0], admin: servers[1].ports[0], metrics: servers[2].ports[0]))
        return servers
    }

    private func adminRoutes(
        _ slot: EngineSlot, _ certificates: CertificateManager, _ readiness: Readiness
    ) -> [EndpointRoute] {
        let (configuration, version, shutdown) = (self.configuration, self.version, self.shutdown)
        return [
            EndpointRoute("/") { _ in WaypointPage.answer },
            EndpointRoute("/config_dump") { request in
                let wanted = request.query.first { $0.name == "view" }?.value
                guard let view = wanted.map({ WaypointDump.View(rawValue: $0) }) ?? .some(.all) else {
                    return .text(WaypointDump.usage, status: 400)
                }
                let dump = WaypointDump(
                    snapshot: slot.snapshot, certificates: certificates.states, configuration: configuration,
                    version: version)
                return .json(dump.json(view))
            },
            .readiness(readiness),
            .logging(self.log.filter),
            .quit { shutdown.request("POST /quitquitquit") },
        ]
    }
}

private enum WaypointPage {
    static let answer = EndpointAnswer(
        contentType: "text/html; charset=utf-8",
        body: Array(
            """
            <!DOCTYPE html><html><head><title>Martlet waypoint</title></head><body><h1>Martlet waypoint</h1><ul>
            <li><a href="config_dump">config_dump</a>: everything this waypoint knows and does, as JSON;
            ?view=listeners, routes, clusters, endpoints or secrets shows a part</li>
            <li><a href="healthz/ready">healthz/ready</a>: what is missing, if anything is</li>
            <li>logging: POST shows the log levels, POST ?level=debug sets them, POST ?reset goes back</li>
            <li>quitquitquit: POST ends the process in order</li>
            </ul></body></html>

            """.utf8))
}
