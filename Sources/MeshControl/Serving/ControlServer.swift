import GRPCCore
import GRPCNIOTransportHTTP2
import KubeAPI
package import KubeClient
package import Logging
import MeshCA
import MeshTelemetry
import MeshXDS
import NIOCertificateReloading
import NIOCore
import NIOPosix
import NIOSSL

/// One running control plane, from key material to the last drained stream.
package struct ControlServer: Sendable {
    /// What is left of open streams after a stop is cut.
    static let drainMax = Duration.seconds(10)
    /// A node proxy that connects again lists every version it holds: about 100 bytes for each of 200 000 resources.
    static let requestBytesMax = 64 << 20

    private let options: ControlOptions
    private let cluster: any KubeCluster
    private let version: String
    private let logger: Logger

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
            for server in servers { group.addTask { try await server.serve() } }
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
            // The first to end ends all: a server that stopped by itself, or the drain's deadline.
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

    private func transport(
        port: Int, _ security: HTTP2ServerTransport.Posix.TransportSecurity
    ) -> HTTP2ServerTransport.Posix {
        HTTP2ServerTransport.Posix(
            address: self.options.bind.contains(":")
                ? .ipv6(host: self.options.bind, port: port) : .ipv4(host: self.options.bind, port: port),
            transportSecurity: security,
            config: .defaults { config in
                config.rpc.maxRequestPayloadSize = Self.requestBytesMax
                // Streams move to other replicas now and then; a client comes back with what it has.
                config.connection.maxAge = .seconds(30 * 60)
                config.connection.maxGraceTime = .seconds(10)
                config.connection.keepalive = .init(
                    time: .seconds(30), timeout: .seconds(10),
                    clientBehavior: .init(minPingIntervalWithoutCalls: .seconds(10), allowWithoutCalls: true))
                config.http2.maxConcurrentStreams = 1000
            })
    }

    private func endpoints(
        _ xds: XDSServer, _ plane: ControlPlane, _ metrics: ControlMetrics
    ) async throws -> [HTTPEndpoints] {
        let ready = EndpointRoute("/ready", methods: ["GET"]) { _ in
            if xds.isReady { return .text("ready\n") }
            let pending = await plane.pending
            return .text("not ready, not listed yet: \(pending.joined(separator: ", "))\n", status: 503)
        }
        let version = EndpointRoute("/version", methods: ["GET"]) { _ in .text("martlet control \(self.version)\n") }
        let clients = EndpointRoute("/debug/syncz", methods: ["GET"]) { _ in .json(Self.text(xds.clients)) }
        let group = MultiThreadedEventLoopGroup.singleton
        return [
            try await HTTPEndpoints.bind(
                [.init(host: self.options.bind, port: self.options.readinessPort)], routes: [ready], group: group),
            try await HTTPEndpoints.bind(
                [.init(host: self.options.bind, port: self.options.monitoringPort)],
                routes: EndpointRoute.metrics(metrics.registry) + [version, clients], group: group),
        ]
    }

    /// A review holds an object and its former state, of 3 MiB each at most.
    static let reviewBytesMax = 8 << 20

    /// What the API server asks, over TLS with our own certificate.
    private func webhooks(
        _ certificate: ServerCertificate, _ injection: InjectionService
    ) async throws -> HTTPEndpoints {
        var tls = try TLSConfiguration.makeServerConfiguration(certificateReloader: certificate)
        tls.minimumTLSVersion = .tlsv12
        tls.applicationProtocols = ["http/1.1"]
        let context = try NIOSSLContext(configuration: tls)
        var limits = HTTPEndpoints.Limits()
        limits.headTimeout = .seconds(30)
        limits.bodyBytesMax = Self.reviewBytesMax
        return try await HTTPEndpoints.bind(
            [.init(host: self.options.bind, port: self.options.webhookPort)],
            routes: [injection.route, ValidationService(logger: self.logger).route],
            group: MultiThreadedEventLoopGroup.singleton, limits: limits,
            prepare: { try $0.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context)) })
    }

    /// Who is connected and whether it is up to date. Names and counts only: nothing of the mesh itself.
    private static func text(_ clients: [XDSClientStatus]) -> [UInt8] {
        JSONValue.array(
            clients.map { client in
                [
                    "node": .string(client.nodeID), "peer": .string(client.peer), "account": .string(client.account),
                    "types": .array(
                        client.types.map { type in
                            [
                                "type": .string(type.type), "inSync": .bool(type.isInSync),
                                "sentRevision": .int(Int64(type.sentRevision)),
                                "ackedRevision": .int(Int64(type.ackedRevision)),
                                "resourcesSent": .int(Int64(type.resourcesSent)),
                                "refusals": .int(Int64(type.refusals)), "lastRefusal": .string(type.lastRefusal),
                            ]
                        }),
                ]
            }
        ).encoded
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

    /// Key material that an operator, or another replica, replaced is taken over within a minute.
    private func followKeyMaterial(
        _ store: AuthorityStore, _ authority: KeyMaterial, _ metrics: ControlMetrics, _ settings: SettingsHolder
    ) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: self.options.keyMaterialInterval)
            if Task.isCancelled { return }
            await self.takeOver(store, authority, metrics, settings)
        }
    }

    private func takeOver(
        _ store: AuthorityStore, _ authority: KeyMaterial, _ metrics: ControlMetrics, _ settings: SettingsHolder
    ) async {
        do {
            authority.offer(try await store.load(trustDomain: settings.current.trustDomain))
            metrics.show(authority.current)
        } catch {
            self.logger.error("the CA keeps its key material", metadata: ["why": "\(error)"])
        }
    }

    private func renewRoot(
        _ store: AuthorityStore, _ authority: KeyMaterial, _ metrics: ControlMetrics, _ settings: SettingsHolder
    ) async {
        let rotation = self.options.rootRotation
        guard rotation.checkInterval > .zero else { return }
        var wait = rotation.firstWait()
        while !Task.isCancelled {
            try? await Task.sleep(for: wait)
            if Task.isCancelled { return }
            wait = rotation.checkInterval
            do {
                guard try await store.renewRootIfDue(rotation) else { continue }
                self.logger.notice("the root certificate was renewed ahead of its end")
            } catch {
                self.logger.error(
                    "the root certificate cannot be renewed; trying again after \(wait)", metadata: ["why": "\(error)"])
                continue
            }
            await self.takeOver(store, authority, metrics, settings)
        }
    }
}
