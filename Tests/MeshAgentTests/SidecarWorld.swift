import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import KubeAPI
import Logging
import MeshAgent
import MeshChannel
import MeshControl
import MeshEnvoy
import MeshIdentity
import MeshTestSupport
import MeshXDS
import Synchronization

/// A control plane without Kubernetes: objects in, Envoy's configuration out to sidecars over the real protocol.
///
/// `@unchecked`: the index is used by whoever calls ``set(_:)``, one at a time.
final class SidecarControlPlane: @unchecked Sendable {
    let xds: XDSServer
    private let index: MeshIndex
    private let changes = Mutex<[(key: String, resource: EnvoyResource?)]>([])
    private let server: GRPCServer<HTTP2ServerTransport.Posix>
    private let serving: Task<Void, any Error>
    private let pacing: Task<Void, Never>
    let port: Int

    init() async throws {
        var logger = Logger(label: "xds")
        logger.logLevel = .warning
        let xds = XDSServer(
            .init(), authenticator: AnyToken(), admission: { _, node, _ in .sidecar(Self.pod(node)) }, logger: logger)
        self.xds = xds
        self.index = MeshIndex(MeshSettings())
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext)
        let server = GRPCServer(transport: transport, services: [XDSService(xds)])
        self.server = server
        self.serving = Task { try await server.serve() }
        self.pacing = Task { await xds.run() }
        self.port = try await transport.listeningAddress.ipv4?.port ?? 0
        for kind in GatewayKind.builtin {
            self.index.gatewayClasses.set(kind.object.key, GatewayClassView(kind.object))
        }
        self.index.envoyResources.observe { [unowned self] changed in
            self.changes.withLock { $0 += changed.map { ($0.key, $0.new) } }
        }
    }

    /// `<namespace>/<pod>` of `sidecar~<ip>~<pod>.<namespace>~<domain>`; before a node has said who it is: nobody's.
    private static func pod(_ node: String) -> String {
        let parts = node.split(separator: "~")
        guard parts.count == 4, let dot = parts[2].lastIndex(of: ".") else { return "/" }
        return "\(parts[2][parts[2].index(after: dot)...])/\(parts[2][..<dot])"
    }

    func stop() async {
        self.xds.drain()
        self.pacing.cancel()
        await self.server.end(self.serving)
    }

    /// Takes objects in, and tells the sidecars.
    func set(_ objects: KubeObject...) {
        for object in objects { self.feed(object) }
        self.index.settle()
        let changes = self.changes.withLock { changes in
            defer { changes = [] }
            return changes
        }
        var byLayer: [String: [EnvoyResourceSet.Name: EncodedResource?]] = [:]
        for (key, resource) in changes {
            let parts = key.split(separator: "|", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            byLayer[parts[0], default: [:]].updateValue(
                resource.map { EncodedResource(type: $0.type, name: $0.name, bytes: $0.bytes) },
                forKey: .init(type: parts[1], name: parts[2]))
        }
        for (layer, changes) in byLayer { self.xds.apply(envoys: layer, changes) }
        if !self.xds.isReady { self.xds.becomeReady() }
    }

    private func feed(_ object: KubeObject) {
        switch object.kind {
        case "Pod": self.index.pods.set(object.key, PodView(object))
        case "Service": self.index.services.set(object.key, ServiceView(object))
        case "Namespace": self.index.namespaces.set(object.key, NamespaceView(object))
        case "Gateway": self.index.gateways.set(object.key, GatewayView(object))
        case "PeerAuthentication": self.index.peerAuthentications.set(object.key, PeerAuthenticationView(object))
        case "AuthorizationPolicy": self.index.authorizationPolicies.set(object.key, PolicyView(object))
        default: preconditionFailure("\(object.kind) is not fed")
        }
    }
}

/// A sidecar in a network namespace: Envoy as the agent starts it, with the socket that the agent serves.
final class NamespaceSidecar {
    private let folder: URL
    private let envoy: ChildProgram
    private let server: GRPCServer<HTTP2ServerTransport.Posix>
    private let serving: Task<Void, any Error>

    init(
        _ name: String, namespace: String, account: String, address: String, in network: PodNetwork,
        _ plane: SidecarControlPlane, _ ca: TestCA
    ) async throws {
        self.folder = FileManager.default.temporaryDirectory.appending(path: "sc-\(UInt32.random(in: 0 ... .max))")
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
        let token = self.folder.appending(path: "token").path
        try "a token".write(toFile: token, atomically: true, encoding: .utf8)
        var configuration = try AgentConfiguration(
            environment: [
                "POD_NAME": name, "POD_NAMESPACE": namespace, "SERVICE_ACCOUNT": account, "INSTANCE_IP": address,
                "PROXY_DIRECTORY": self.folder.path, "ISTIO_META_WORKLOAD_NAME": name,
            ], arguments: ["sidecar", "--domain", "\(namespace).svc.cluster.local"])
        configuration.xds = ControlPlaneEndpoint(
            host: "127.0.0.1", port: plane.port, roots: .plaintext, token: .file(token), clusterID: "")
        let secrets = SecretService()
        let issued = try ca.issue(
            WorkloadIdentity(trustDomain: "cluster.local", namespace: namespace, serviceAccount: account))
        secrets.publish(
            EnvoySecrets.encoded(chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots))
        let transport = HTTP2ServerTransport.Posix(
            address: .unixDomainSocket(path: configuration.socketPath), transportSecurity: .plaintext)
        let server = GRPCServer(
            transport: transport, services: [secrets, XDSRelay(configuration.xds, logger: Logger(label: "relay"))])
        self.server = server
        self.serving = Task { try await server.serve() }
        _ = try await transport.listeningAddress
        try Data(EnvoyBootstrap(configuration).json.encoded).write(
            to: URL(fileURLWithPath: configuration.bootstrapPath))
        let environment = configuration.envoyEnvironment.map { "\($0.key)=\($0.value)" }
        self.envoy = try ChildProgram(
            network.inside(
                name,
                ["setpriv", "--regid", "1337", "--clear-groups", "env"] + environment + [
                    Envoy.path ?? "", "-c", configuration.bootstrapPath, "--disable-hot-restart", "--concurrency", "1",
                    "--log-level", "error", "--component-log-level", "misc:off", "--drain-time-s", "45",
                    "--drain-strategy", "immediate",
                ]), in: self.folder.path)
    }

    func stop() async {
        self.envoy.stop()
        await self.server.end(self.serving)
        try? FileManager.default.removeItem(at: self.folder)
    }
}
