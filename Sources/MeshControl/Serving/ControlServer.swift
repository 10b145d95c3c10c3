import GRPCCore
import GRPCNIOTransportHTTP2
import KubeAPI
package import KubeClient
package import Logging
import MeshCA
import MeshTelemetry
import MeshXDS
import NIOCertificateReloading

/// One running control plane, from key material to the last drained stream.
package struct ControlServer: Sendable {
    /// What is left of open streams after a stop is cut.
    static let drainMax = Duration.seconds(10)
    let options: ControlOptions
    let cluster: any KubeCluster
    let version: String
    let logger: Logger

    package init(_ options: ControlOptions, cluster: any KubeCluster, version: String, logger: Logger) {
        self.options = options
        self.cluster = cluster
        self.version = version
        self.logger = logger
    }

    /// The ports in use, told once everything listens.
    package struct Ports: Sendable {
        package var secureGRPC, readiness, monitoring, webhooks: Int
    }

    /// Serves until the task is cancelled or `stop` says so; then drains.
    package func run(
        stop: AsyncStream<Void>, listening: @escaping @Sendable (Ports) -> Void = { _ in }
    ) async throws {
        let settings = SettingsHolder(try await self.firstSettings())
        let store = AuthorityStore(
            self.cluster, namespace: self.options.namespace, rootValidity: self.options.rootRotation.validity)
        let authority = KeyMaterial(
            try await store.load(trustDomain: settings.current.trustDomain), overlap: self.options.rootOverlap,
            logger: self.logger)
        let metrics = ControlMetrics(version: self.version)
        metrics.show(authority.current)
        let pods = PodRegistry()
        let waypoints = WaypointRegistry()
        let sidecars = SidecarRegistry()
        let authenticator = TokenReviewAuthenticator(self.cluster, audiences: self.options.audiences)
        let xds = XDSServer(
            .init(quiet: self.options.quiet, longest: self.options.longest), authenticator: authenticator,
            admission: self.admission(waypoints, sidecars), logger: self.logger, record: metrics.record)
        let statuses = StatusWriter(self.cluster, logger: self.logger)
        let placed = PlacedStatusWriter(self.cluster, logger: self.logger)
        let addresses = AddressAllocator(self.cluster, logger: self.logger)
        let gateways = GatewayWriters(self.cluster, logger: self.logger)
        let nodeVersions = NodeVersions()
        let plane = ControlPlane(
            self.options.settings, settings: settings, server: xds, pods: pods, statuses: statuses,
            addresses: addresses, placed: placed, waypoints: waypoints, sidecars: sidecars, gateways: gateways,
            nodeVersions: nodeVersions, logger: self.logger)
        let trusted = self.options.trustedNodeAccounts
        if trusted.isEmpty {
            self.logger.warning("CA_TRUSTED_NODE_ACCOUNTS is empty: no node proxy will be served")
        }
        let ca = CertificateService(
            authenticator: authenticator, authority: { authority.current },
            rule: { ImpersonationRule(trustedAccounts: trusted, trustDomain: settings.current.trustDomain) },
            pods: pods, logger: self.logger, record: metrics.record)
        let certificate = try ServerCertificate(
            authority: { authority.current }, names: self.options.serverNames)

        let injection = InjectionService(
            self.cluster, namespace: self.options.namespace, settings: settings, nodes: nodeVersions,
            wantsNativeSidecars: self.options.wantsNativeSidecars, metrics: InjectionMetrics(metrics.registry),
            logger: self.logger)
        var endpoints = try await self.endpoints(xds, plane, metrics)
        endpoints.append(try await self.webhooks(certificate, injection))
        var transports: [HTTP2ServerTransport.Posix] = [
            self.transport(
                port: self.options.secureGRPCPort, try .tls(certificateReloader: certificate) { $0.requireALPN = true })
        ]
        if let port = self.options.plaintextGRPCPort {
            self.logger.warning(
                "serving gRPC without TLS: tokens cross the network in the clear", metadata: ["port": "\(port)"])
            transports.append(self.transport(port: port, .plaintext))
        }
        let servers = transports.map { GRPCServer(transport: $0, services: [XDSService(xds), ca]) }
        let secure = transports[0]
        let bound = endpoints

        try await withThrowingTaskGroup(of: Void.self) { group in
            // One that fails ends the others; at a shutdown each has its own time.
            group.addTask {
                try await withThrowingDiscardingTaskGroup { serving in
                    for server in servers { serving.addTask { try await server.serve() } }
                }
            }
            group.addTask {
                let address = try await secure.listeningAddress
                let port = address.ipv6?.port ?? address.ipv4?.port ?? self.options.secureGRPCPort
                listening(
                    Ports(
                        secureGRPC: port, readiness: bound[0].ports[0], monitoring: bound[1].ports[0],
                        webhooks: bound[2].ports[0]))
                try await self.background(
                    plane: plane, xds: xds, store: store, authority: authority, certificate: certificate,
                    metrics: metrics, statuses: statuses, placed: placed, addresses: addresses, gateways: gateways,
                    injection: injection, settings: settings)
            }
            group.addTask {
                for await _ in stop { break }
                if Task.isCancelled { return }
                self.logger.info("stopping: streams are ended, clients connect to another replica")
                xds.drain()
                for server in servers { server.beginGracefulShutdown() }
                try? await Task.sleep(for: Self.drainMax)
            }
            // The first to end ends all: the servers when their streams have ended, or the drain's deadline.
            try await group.next()
            group.cancelAll()
        }
        for endpoint in endpoints { await endpoint.close() }
    }

    private func admission(_ waypoints: WaypointRegistry, _ sidecars: SidecarRegistry) -> XDSServer.Admission {
        let rule = XDSAdmissionRule(
            nodeProxies: self.options.trustedNodeAccounts, waypoints: { waypoints.gateways(of: $0) },
            runsEnvoy: { waypoints.runsEnvoy($0) }, sidecar: { sidecars.pod($0) })
        return { caller, node, metadata in
            do throws(XDSAdmissionRule.Refusal) {
                return try rule.check(caller, metadata, node: node, isOpening: node.isEmpty)
            } catch {
                return .refused(error.description)
            }
        }
    }

    private func firstSettings() async throws -> MeshSettings {
        let map = try await self.cluster.find(
            .configMaps, namespace: self.options.settings.rootNamespace, name: "istio")
        do throws(InvalidMeshConfig) {
            return try self.options.settings.merging(meshConfig: map?.json.at("data", "mesh")?.string ?? "")
        } catch {
            self.logger.error("MeshConfig is not used; defaults are in force", metadata: ["why": "\(error)"])
            return self.options.settings
        }
    }

    private func background(
        plane: ControlPlane, xds: XDSServer, store: AuthorityStore, authority: KeyMaterial,
        certificate: ServerCertificate, metrics: ControlMetrics, statuses: StatusWriter,
        placed: PlacedStatusWriter, addresses: AddressAllocator, gateways: GatewayWriters,
        injection: InjectionService, settings: SettingsHolder
    ) async throws {
        let publisher = RootCertificatePublisher(
            self.cluster, .roots, content: { authority.current.rootsPEM }, changes: authority.changes(),
            logger: self.logger)
        let revocations = RootCertificatePublisher(
            self.cluster, .revocations, content: { authority.current.revocationsPEM }, changes: authority.changes(),
            logger: self.logger)
        let webhooks = WebhookKeeper(
            self.cluster, namespace: self.options.namespace, revision: settings.current.revision,
            roots: { authority.current.rootsPEM }, changes: authority.changes(), logger: self.logger)
        let changes = authority.changes()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await plane.run(self.cluster) }
            group.addTask { await xds.run() }
            group.addTask { await injection.run() }
            group.addTask { await certificate.keepFresh(self.logger) }
            group.addTask { await certificate.follow(changes, self.logger) }
            group.addTask { await self.renewRoot(store, authority, metrics, settings) }
            group.addTask {
                await self.followKeyMaterial(store, authority, metrics, settings)
            }
            group.addTask {
                await self.election("istio-namespace-controller-election").run {
                    await self.publish(publisher, revocations)
                }
            }
            group.addTask {
                await self.election("istio-webhook-controller-election").run { await webhooks.run() }
            }
            if self.options.deploysWaypoints {
                group.addTask {
                    await self.election("istio-gateway-deployment").run {
                        await gateways.run { await plane.receive(trouble: $1, ofGateway: $0) }
                    }
                }
            }
            group.addTask { await self.election("istio-status-leader").run { await self.write(statuses, placed) } }
            if self.options.allocatesAddresses {
                group.addTask { await self.election("istio-ip-autoallocate").run { await addresses.run() } }
            }
            try await group.waitForAll()
        }
    }

    private func election(_ name: String) -> LeaderElection {
        LeaderElection(
            self.cluster, namespace: self.options.namespace, name: name, identity: self.options.podName,
            logger: self.logger)
    }

    private func write(_ statuses: StatusWriter, _ placed: PlacedStatusWriter) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await statuses.run() }
            group.addTask { await placed.run() }
        }
    }

    private func publish(_ roots: RootCertificatePublisher, _ revocations: RootCertificatePublisher) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await roots.run() }
            if self.options.publishesRevocations { group.addTask { await revocations.run() } }
        }
    }
}
