internal import Foundation
internal import GRPCCore
internal import GRPCNIOTransportHTTP2
internal import Logging
package import MeshCertificates
internal import MeshChannel
internal import MeshEnvoy
internal import MeshLinux
package import MeshProcess
package import MeshTelemetry
internal import MeshTunnel
internal import MeshXDS
internal import NIOPosix

/// The parts of the agent, put together and run in order.
///
/// 1. Readiness and metrics answer, and questions for names where they are captured. 2. Our certificate is fetched, and
/// kept fresh. 3. Secrets and the control plane's stream are served on a socket. 4. Envoy is started, and asked until it is
/// ready. At the end: not ready any more, Envoy tells its clients to go elsewhere, what is under way finishes or is cut at
/// the deadline.
package struct AgentProcess: Sendable {
    /// The names in the readiness answer.
    package enum Step: String, CaseIterable, Sendable { case certificate, envoy }

    package struct EnvoyEnded: Error, CustomStringConvertible {
        package let description: String
    }

    /// Between two questions whether Envoy is ready, or idle.
    private static let askInterval = Duration.milliseconds(25)
    /// Between two looks whether it still runs.
    private static let lookInterval = Duration.milliseconds(200)

    let configuration: AgentConfiguration
    let log: MeshLog
    let signer: any CertificateSigner
    let shutdown: ShutdownSignal
    let version: String
    /// Told the ports once all servers are bound: readiness, metrics.
    let bound: @Sendable (_ readiness: Int, _ metrics: Int) -> Void

    package init(
        configuration: AgentConfiguration, log: MeshLog, signer: any CertificateSigner, shutdown: ShutdownSignal,
        version: String, bound: @escaping @Sendable (_ readiness: Int, _ metrics: Int) -> Void = { _, _ in }
    ) {
        self.configuration = configuration
        self.log = log
        self.signer = signer
        self.shutdown = shutdown
        self.version = version
        self.bound = bound
    }

    package func run() async throws {
        let configuration = self.configuration
        let app = self.log.logger("app")
        let readiness = Readiness(pending: Step.allCases.map(\.rawValue))
        let admin = EnvoyAdmin(addressFile: configuration.adminAddressPath)
        let registry = MetricsRegistry()
        registry.addProcessMetrics(component: "envoy-agent", tag: self.version)
        let prober = AppProber()
        let servers: [HTTPEndpoints]
        do { servers = try await self.bind(readiness, admin, registry, prober) } catch {
            await prober.close()
            throw error
        }
        let names: AgentNameService?
        do { names = try configuration.capturesNames ? AgentNameService(configuration, registry, self.log) : nil } catch
        {
            for server in servers { await server.close() }
            await prober.close()
            throw error
        }
        let secrets = SecretService()
        let wake = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let certificates = CertificateManager(signer: self.signer, log: self.log.logger("ca")) { _ in
            wake.continuation.yield()
        }
        app.info(
            "agent started",
            metadata: [
                "version": "\(self.version)", "of": "\(configuration.subject)",
            ])
        let outcome: Result<Void, any Error> = await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await certificates.run() }
            if let names { tasks.addTask { await names.run() } }
            let body = _Concurrency.Task {
                guard await self.publish(certificates, secrets) else { return }
                readiness.done(Step.certificate.rawValue)
                try await self.serve(secrets, readiness, admin)
            }
            tasks.addTask {
                for await _ in wake.stream { _ = await self.publish(certificates, secrets) }
            }
            tasks.addTask {
                let reason = await self.shutdown.wait()
                app.info(
                    "shutting down", metadata: ["why": "\(reason)", "deadline": "\(configuration.drainDeadline)"])
                readiness.block(on: "shutting down")
                certificates.forget([configuration.identity])
                body.cancel()
            }
            let outcome = await body.result
            if case .failure(let error) = outcome { self.shutdown.request("\(error)") }
            wake.continuation.finish()
            tasks.cancelAll()
            return outcome
        }
        // The application may ask for names as long as Envoy may carry what it does with them.
        await names?.close()
        for server in servers { await server.close() }
        await prober.close()
        app.info("agent ended")
        await self.log.flush()
        do { try outcome.get() } catch is CancellationError {}
    }

    // MARK: Certificates

    /// Between two questions for our certificate after it was refused; the certificate manager has its own pace.
    private static let certificateRetry = Duration.milliseconds(100)

    /// Hands the certificate in force to Envoy.
    /// - Returns: false when the process ends before there is one.
    private func publish(_ certificates: CertificateManager, _ secrets: SecretService) async -> Bool {
        while !_Concurrency.Task.isCancelled {
            let answer = await withCheckedContinuation { continuation in
                certificates.certificate(for: self.configuration.identity) { continuation.resume(returning: $0) }
            }
            if case .success(let certificate) = answer {
                secrets.publish(
                    EnvoySecrets.encoded(
                        chain: certificate.chain, privateKey: certificate.privateKey, roots: certificate.roots))
                return true
            }
            try? await _Concurrency.Task.sleep(for: Self.certificateRetry)
        }
        return false
    }

    // MARK: Envoy

    private func serve(_ secrets: SecretService, _ readiness: Readiness, _ admin: EnvoyAdmin) async throws {
        let configuration = self.configuration
        try Self.prepare(configuration)
        let transport = HTTP2ServerTransport.Posix(
            address: .unixDomainSocket(path: configuration.socketPath), transportSecurity: .plaintext)
        let server = GRPCServer(
            transport: transport, services: [secrets, XDSRelay(configuration.xds, logger: self.log.logger("xds"))])
        // Not a child task: Envoy's streams stay until Envoy has ended, also when we are told to end.
        let serving = _Concurrency.Task { try await server.serve() }
        defer { serving.cancel() }
        _ = try await transport.listeningAddress
        let envoy = try EnvoyProcess(
            configuration.envoyPath, Self.arguments(configuration), in: configuration.directory,
            environment: configuration.envoyEnvironment)
        await self.watch(envoy, readiness, admin)
        let isByItself = !envoy.isRunning
        if !isByItself {
            // Told to end: what is under way has until the deadline.
            await _Concurrency.Task { await self.drain(envoy, admin) }.value
        }
        await envoy.stop()
        await server.end(serving)
        if isByItself { throw EnvoyEnded(description: await envoy.wait()) }
    }

    /// Returns when Envoy has ended, or the task is cancelled.
    private func watch(_ envoy: EnvoyProcess, _ readiness: Readiness, _ admin: EnvoyAdmin) async {
        var isKnown = false
        while envoy.isRunning, !_Concurrency.Task.isCancelled {
            if !isKnown, await admin.isReady {
                isKnown = true
                readiness.done(Step.envoy.rawValue)
                self.log.logger("app").info("Envoy knows its configuration; it takes traffic")
            }
            try? await _Concurrency.Task.sleep(for: isKnown ? Self.lookInterval : Self.askInterval)
        }
    }

    private static func prepare(_ configuration: AgentConfiguration) throws {
        try FileManager.default.createDirectory(atPath: configuration.directory, withIntermediateDirectories: true)
        for left in [configuration.socketPath, configuration.adminAddressPath] {
            try? FileManager.default.removeItem(atPath: left)
        }
        try Data(EnvoyBootstrap(configuration).json.encoded).write(
            to: URL(fileURLWithPath: configuration.bootstrapPath), options: .atomic)
    }

    /// What a changed policy leaves to connections of the filter chains that it changes (Istio's `drainDuration`).
    private static let drainSeconds = 45

    private static func arguments(_ configuration: AgentConfiguration) -> [String] {
        var arguments = [
            "-c", configuration.bootstrapPath, "--disable-hot-restart", "--concurrency",
            "\(configuration.concurrency)", "--admin-address-path", configuration.adminAddressPath, "--log-level",
            configuration.envoyLogLevel,
            "--drain-time-s", "\(Self.drainSeconds)", "--drain-strategy", "immediate",
        ]
        if !configuration.envoyComponentLogLevel.isEmpty {
            arguments += ["--component-log-level", configuration.envoyComponentLogLevel]
        }
        return arguments
    }

    /// Those who have not heard yet that a pod ends still come for so long.
    private static let drainMin = Duration.seconds(1)

    /// Clients are told to take their next tunnels or requests elsewhere; returns when none is left, or at the deadline. What
    /// the application of a sidecar still has to say to others goes on all the time.
    private func drain(_ envoy: EnvoyProcess, _ admin: EnvoyAdmin) async {
        let isSidecar = self.configuration.role == .sidecar
        _ = await admin.ask("/drain_listeners?graceful\(isSidecar ? "&inboundonly" : "")", method: "POST")
        let begin = ContinuousClock.now
        let end = begin + self.configuration.drainDeadline
        while envoy.isRunning, ContinuousClock.now < end {
            if isSidecar {
                if ContinuousClock.now >= begin + Self.drainMin, await admin.openConnections == 0 { return }
            } else if await admin.openTunnelConnections == 0 {
                return
            }
            try? await _Concurrency.Task.sleep(for: Self.lookInterval)
        }
    }

    // MARK: Ports

    /// All or none.
    private func bind(
        _ readiness: Readiness, _ admin: EnvoyAdmin, _ registry: MetricsRegistry, _ prober: AppProber
    ) async throws -> [HTTPEndpoints] {
        let everywhere = LocalAddresses.everywhere(isIPv6Enabled: self.configuration.isIPv6Enabled)
        let wanted: [(port: Int, routes: [EndpointRoute])] = [
            (self.configuration.readinessPort, [Self.readiness(readiness, admin)]),
            (
                self.configuration.statsPort,
                Self.metrics(registry, admin, self.configuration.scrape)
                    + (self.configuration.role == .sidecar ? self.sidecarRoutes(readiness, admin, prober) : [])
            ),
        ]
        var servers: [HTTPEndpoints] = []
        for (port, routes) in wanted {
            do {
                servers.append(
                    try await HTTPEndpoints.bind(
                        [.init(host: everywhere, port: port)], routes: routes,
                        group: MultiThreadedEventLoopGroup.singleton))
            } catch {
                for server in servers { await server.close() }
                throw error
            }
        }
        self.bound(servers[0].ports[0], servers[1].ports[0])
        return servers
    }

    /// Once Envoy was ready, it is asked anew each time.
    private static func readiness(_ readiness: Readiness, _ admin: EnvoyAdmin) -> EndpointRoute {
        EndpointRoute("/healthz/ready", methods: ["GET"]) { _ in
            let pending = readiness.pending
            guard pending.isEmpty else {
                return .text("not ready, pending: \(pending.joined(separator: ", "))\n", status: 500)
            }
            return await admin.isReady ? .text("ready\n") : .text("not ready, Envoy says so\n", status: 500)
        }
    }

    /// Envoy's, ours and, of a sidecar, the application's, as one text.
    private static func metrics(
        _ registry: MetricsRegistry, _ admin: EnvoyAdmin, _ scrape: AppScrape?
    ) -> [EndpointRoute] {
        ["/metrics", "/stats/prometheus"].map { path in
            EndpointRoute(path, methods: ["GET"]) { _ in
                let own = registry.text(.prometheus)
                async let envoy = admin.ask("/stats/prometheus")?.body ?? ""
                async let application = scrape?.read() ?? ""
                return EndpointAnswer(
                    contentType: MetricsFormat.prometheus.contentType,
                    body: Array((await application + envoy + own).utf8))
            }
        }
    }

    /// What the kubelet asks of the application, and how a job's container ends the sidecar beside it.
    private func sidecarRoutes(
        _ readiness: Readiness, _ admin: EnvoyAdmin, _ prober: AppProber
    ) -> [EndpointRoute] {
        let shutdown = self.shutdown
        let quit = EndpointRoute("/quitquitquit", methods: ["POST"]) { request in
            guard request.isFromThisMachine else { return .text("only the pod itself may ask for this\n", status: 403) }
            shutdown.request("somebody in the pod asked for it")
            return .text("ending\n")
        }
        let probes = self.configuration.probes.map { path, probe in
            EndpointRoute(path, methods: ["GET"]) { _ in
                guard let trouble = await prober.ask(probe) else { return .text("well\n") }
                return .text(trouble + "\n", status: 500)
            }
        }
        return [Self.readiness(readiness, admin), quit] + probes
    }
}
