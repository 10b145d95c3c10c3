import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Logging
import MeshCA
import MeshChannel
import MeshIdentity
import MeshModel
import MeshXDS
import Synchronization
import Testing

struct OneToken: CallerAuthenticator {
    let wanted = "the right token"
    let token: String
    func authenticate(bearer token: String, clusterID: String) async throws -> AuthenticatedCaller {
        guard token == self.token else { throw AuthenticationFailure("wrong token") }
        return AuthenticatedCaller(namespace: "istio-system", serviceAccount: "ztunnel")
    }
}

/// Keeps what it is told, and can be waited on.
actor Recorder: MeshStateSink {
    private(set) var addresses: [String: MeshAddress] = [:]
    private(set) var policies: [NamespacedName: AuthorizationPolicy] = [:]
    private(set) var isSynced = false
    private(set) var updates: [MeshUpdate] = []

    func apply(_ update: MeshUpdate) {
        self.updates.append(update)
        switch update {
        case .addresses(let upserted, let removed):
            for name in removed { self.addresses[name] = nil }
            for address in upserted { self.addresses[address.resourceName] = address }
        case .policies(let upserted, let removed):
            for name in removed { self.policies[name] = nil }
            for policy in upserted { self.policies[policy.key] = policy }
        }
    }

    func synced() { self.isSynced = true }
    func demandsChanged(answered: [String], forgotten: [String]) {}

    func clear() { self.updates = [] }

    func wait(_ what: String, _ condition: @Sendable (isolated Recorder) -> Bool) async throws {
        for _ in 0..<3000 {
            if condition(self) { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("never happened: \(what)")
    }
}

@Suite("xDS over real gRPC and TLS", .serialized)
struct LoopbackTests {
    static func logger(_ level: Logger.Level) -> Logger {
        var logger = Logger(label: "test")
        logger.logLevel = level
        return logger
    }

    static func authority() throws -> CertificateAuthority { try .selfSigned(trustDomain: "cluster.local") }

    /// Runs a server; the body gets its port. A port that was asked for may be another test's for a moment.
    static func serving(
        _ xds: XDSServer, _ authority: CertificateAuthority, port: Int = 0,
        _ body: @escaping @Sendable (Int) async throws -> Void
    ) async throws {
        let certificate = try authority.serverCertificate(dnsNames: ["istiod.istio-system.svc", "localhost"])
        var isServed = false
        while !isServed {
            let transport = HTTP2ServerTransport.Posix(
                address: .ipv4(host: "127.0.0.1", port: port),
                transportSecurity: .tls(
                    certificateChain: [.bytes(Array(certificate.chainPEM.utf8), format: .pem)],
                    privateKey: .bytes(Array(certificate.privateKeyPEM.utf8), format: .pem)))
            let server = GRPCServer(transport: transport, services: [XDSService(xds)])
            let serving = Task { try await server.serve() }
            guard let bound = try? await transport.listeningAddress.ipv4?.port else {
                try await Task.sleep(for: .milliseconds(100))
                continue
            }
            isServed = true
            let pacing = Task { await xds.run() }
            defer { pacing.cancel() }
            let outcome = await Task { try await body(bound) }.result
            xds.drain()
            await server.end(serving)
            try outcome.get()
        }
    }

    static func endpoint(_ port: Int, _ authority: CertificateAuthority, token: String) throws -> ControlPlaneEndpoint {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("token-\(UUID())").path
        try Data(token.utf8).write(to: URL(fileURLWithPath: path))
        return ControlPlaneEndpoint(
            host: "127.0.0.1", port: port, alternativeHost: "istiod.istio-system.svc",
            roots: .pem(authority.rootsPEM), token: .file(path))
    }

    static func configuration(_ endpoint: ControlPlaneEndpoint) -> XDSClientConfiguration {
        XDSClientConfiguration(
            endpoint: endpoint,
            nodeID: XDSClientConfiguration.nodeID(
                instanceIP: "10.0.0.1", podName: "ztunnel-a", podNamespace: "istio-system"),
            metadata: ["NODE_NAME": .string("a"), "NAMESPACE": .string("istio-system")])
    }

    static let policy = AuthorizationPolicy(
        key: NamespacedName(namespace: "ns", name: "p"), scope: .namespace, action: .allow, rules: [])

    @Test(
        "the client follows: everything, a change, a removal; and after a reconnect only the difference",
        .timeLimit(.minutes(2)))
    func follows() async throws {
        let authority = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let sink = Recorder()
        let logger = Self.logger(.critical)
        let (first, second) = (
            SessionTests.workload("a", ip: "10.0.0.1"), SessionTests.workload("b", ip: "10.0.0.2")
        )
        func server() -> XDSServer { XDSServer(authenticator: OneToken(token: "good"), logger: logger) }

        let port = Mutex(0)
        let client = Mutex<Task<Void, Never>?>(nil)
        let one = server()
        one.apply(.addresses(upserted: [first, second], removed: []))
        one.apply(.policies(upserted: [Self.policy], removed: []))
        one.becomeReady()
        try await Self.serving(one, authority) { bound in
            port.withLock { $0 = bound }
            let endpoint = try Self.endpoint(bound, authority, token: "good")
            client.withLock {
                $0 = Task { [logger] in
                    await MeshXDSClient(Self.configuration(endpoint), sink: sink, logger: logger).run()
                }
            }
            try await sink.wait("first state") { $0.isSynced && $0.addresses.count == 2 && $0.policies.count == 1 }
            #expect(await sink.addresses[first.resourceName] == first)
            #expect(one.clients.map(\.account) == ["istio-system/ztunnel"])
            let third = SessionTests.workload("c", ip: "10.0.0.3")
            one.apply(.addresses(upserted: [third], removed: [second.resourceName]))
            try await sink.wait("change") { $0.addresses[third.resourceName] != nil && $0.addresses.count == 2 }
            try await sink.wait("acknowledged") { _ in one.clients.allSatisfy { $0.types.allSatisfy(\.isInSync) } }
        }
        await sink.clear()
        // Another server on the same port: c and the policy are gone, a is unchanged, d is new.
        let two = server()
        let fourth = SessionTests.workload("d", ip: "10.0.0.4")
        two.apply(.addresses(upserted: [first, fourth], removed: []))
        two.becomeReady()
        try await Self.serving(two, authority, port: port.withLock { $0 }) { _ in
            try await sink.wait("the new state") {
                Set($0.addresses.keys) == [first.resourceName, fourth.resourceName] && $0.policies.isEmpty
            }
            // a was not sent again.
            let resent = await sink.updates.contains {
                if case .addresses(let upserted, _) = $0 { upserted.contains(first) } else { false }
            }
            #expect(!resent)
        }
        let task = client.withLock { $0 }
        task?.cancel()
        await task?.value
    }

    @Test("a mesh of more than 4 MiB arrives", .timeLimit(.minutes(2)))
    func bigMesh() async throws {
        let authority = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let sink = Recorder()
        let server = XDSServer(authenticator: OneToken(token: "good"), logger: Self.logger(.critical))
        let long = String(repeating: "x", count: 50_000)
        let mesh = (1...100).map { index -> MeshAddress in
            var workload = Workload(uid: "Kubernetes//Pod/ns/pod-\(index)")
            workload.canonicalName = long
            return .workload(workload)
        }
        server.apply(.addresses(upserted: mesh, removed: []))
        server.becomeReady()
        try await Self.serving(server, authority) { port in
            let endpoint = try Self.endpoint(port, authority, token: "good")
            let logger = Self.logger(.critical)
            let client = Task { await MeshXDSClient(Self.configuration(endpoint), sink: sink, logger: logger).run() }
            try await sink.wait("the whole mesh") { $0.isSynced && $0.addresses.count == mesh.count }
            client.cancel()
            await client.value
        }
    }

    @Test("a wrong token gets nothing; a corrected token file is enough to get in", .timeLimit(.minutes(2)))
    func tokens() async throws {
        let authority = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let logger = Self.logger(.critical)
        let counter = Counting()
        let xds = XDSServer(authenticator: OneToken(token: "good"), logger: logger) { event in
            if event == .unauthenticated { counter.add() }
        }
        xds.becomeReady()
        let log = logger
        try await Self.serving(xds, authority) { port in
            let sink = Recorder()
            let endpoint = try Self.endpoint(port, authority, token: "bad")
            let client = Task { await MeshXDSClient(Self.configuration(endpoint), sink: sink, logger: log).run() }
            try await sink.wait("refusals") { _ in counter.value >= 2 }
            #expect(await sink.updates.isEmpty)
            guard case .file(let path) = endpoint.token else { return }
            try Data("good".utf8).write(to: URL(fileURLWithPath: path))
            try await sink.wait("served") { $0.isSynced }
            client.cancel()
            await client.value
        }
    }

    @Test("a server that our roots did not sign is not talked to", .timeLimit(.minutes(2)))
    func untrusted() async throws {
        let authority = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let other = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let logger = Self.logger(.critical)
        let counter = Counting()
        let xds = XDSServer(authenticator: OneToken(token: "good"), logger: logger) { _ in counter.add() }
        xds.becomeReady()
        let log = logger
        try await Self.serving(xds, authority) { port in
            let sink = Recorder()
            let endpoint = try Self.endpoint(port, other, token: "good")
            let client = Task { await MeshXDSClient(Self.configuration(endpoint), sink: sink, logger: log).run() }
            try await Task.sleep(for: .milliseconds(500))
            #expect(await sink.updates.isEmpty && counter.value == 0)
            client.cancel()
            await client.value
        }
    }
}

final class Counting: Sendable {
    private let count = Mutex(0)
    func add() { self.count.withLock { $0 += 1 } }
    var value: Int { self.count.withLock { $0 } }
}
