import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Logging
import MeshCA
import MeshChannel
import MeshIdentity
import Testing

struct NodeProxyToken: CallerAuthenticator {
    let wanted = "the token good"
    func authenticate(bearer token: String, clusterID: String) async throws -> AuthenticatedCaller {
        guard token == "good", clusterID == "Kubernetes" else { throw AuthenticationFailure("wrong token") }
        return ImpersonationTests.caller()
    }
}

@Suite("The CA over real gRPC and TLS", .timeLimit(.minutes(2)))
struct LoopbackTests {
    static func serving(_ body: @Sendable (Int, CertificateAuthority, Logger) async throws -> Void) async throws {
        let authority = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let certificate = try authority.serverCertificate(dnsNames: ["istiod.istio-system.svc"])
        var silent = Logger(label: "test")
        silent.logLevel = .critical
        let logger = silent
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: 0),
            transportSecurity: .tls(
                certificateChain: [.bytes(Array(certificate.chainPEM.utf8), format: .pem)],
                privateKey: .bytes(Array(certificate.privateKeyPEM.utf8), format: .pem)))
        let service = CertificateService(
            authenticator: NodeProxyToken(), authority: { authority }, rule: { ImpersonationTests.rule },
            pods: ImpersonationTests.pods, logger: logger)
        try await withGRPCServer(transport: transport, services: [service]) { _ in
            let port = try await transport.listeningAddress.ipv4?.port ?? 0
            try await body(port, authority, logger)
        }
    }

    static func client(_ port: Int, roots: String, token: String, _ logger: Logger) throws -> CertificateClient {
        try Self.client(port, roots: .pem(roots), token: token, logger)
    }

    static func client(
        _ port: Int, roots: ControlPlaneEndpoint.Roots, token: String, _ logger: Logger
    ) throws -> CertificateClient {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("token-\(UUID())").path
        try Data(token.utf8).write(to: URL(fileURLWithPath: path))
        // The server's certificate names the service, not this address: the alternative name carries it.
        let endpoint = ControlPlaneEndpoint(
            host: "127.0.0.1", port: port, alternativeHost: "istiod.istio-system.svc", roots: roots,
            token: .file(path))
        return CertificateClient(CertificateClientConfiguration(endpoint: endpoint), logger: logger)
    }

    @Test("a node proxy gets a certificate for a pod of its node, and for no other")
    func signs() async throws {
        try await Self.serving { port, authority, logger in
            let client = try Self.client(port, roots: authority.rootsPEM, token: "good", logger)
            let identity = try WorkloadIdentity(spiffe: ImpersonationTests.wanted)
            let signed = try await client.sign(identity)
            #expect(signed.chain.count == 1 && signed.roots.count == 1)
            let other = WorkloadIdentity(trustDomain: "cluster.local", namespace: "ns", serviceAccount: "elsewhere")
            let error = await #expect(throws: CertificateError.self) { try await client.sign(other) }
            guard case .refused(_, _, let message) = error else {
                Issue.record("unexpected \(String(describing: error))")
                return
            }
            // The reason stays in the CA's log.
            #expect(message == "request impersonation authentication failure")
        }
    }

    @Test(
        "C12: a root file that changes is used from the next call on; one that is spoilt or gone leaves the old roots")
    func rootFile() async throws {
        try await Self.serving { port, authority, logger in
            let file = FileManager.default.temporaryDirectory.appendingPathComponent("roots-\(UUID()).pem")
            defer { try? FileManager.default.removeItem(at: file) }
            func write(_ text: String) throws { try Data(text.utf8).write(to: file) }
            let foreign = try CertificateAuthority.selfSigned(trustDomain: "cluster.local").rootsPEM
            let client = try Self.client(port, roots: .file(file.path), token: "good", logger)
            let identity = try WorkloadIdentity(spiffe: ImpersonationTests.wanted)
            func isServed() async throws -> Bool {
                do {
                    return try await client.sign(identity).chain.count == 1
                } catch is CertificateError {
                    return false
                }
            }
            // Nothing to fall back to yet.
            try write("rubbish")
            #expect(try await !isServed())
            try write(foreign)
            #expect(try await !isServed())
            try write(foreign + authority.rootsPEM)
            #expect(try await isServed())
            for spoilt in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
                try write(spoilt)
                #expect(try await isServed())
            }
            try FileManager.default.removeItem(at: file)
            #expect(try await isServed())
            // A good file counts again, also when it trusts the server no longer.
            try write(foreign)
            #expect(try await !isServed())
        }
    }

    @Test("a bad token and an unknown root are told apart")
    func failures() async throws {
        try await Self.serving { port, authority, logger in
            let identity = try WorkloadIdentity(spiffe: ImpersonationTests.wanted)
            let stranger = try Self.client(port, roots: authority.rootsPEM, token: "bad", logger)
            let refused = await #expect(throws: CertificateError.self) { try await stranger.sign(identity) }
            guard case .refused(_, _, let message) = refused else {
                Issue.record("unexpected \(String(describing: refused))")
                return
            }
            #expect(message == "request authenticate failure; wanted the token good")
            let foreign = try CertificateAuthority.selfSigned(trustDomain: "cluster.local").rootsPEM
            let untrusting = try Self.client(port, roots: foreign, token: "good", logger)
            let unreachable = await #expect(throws: CertificateError.self) { try await untrusting.sign(identity) }
            if case .unreachable = unreachable {} else { Issue.record("unexpected \(String(describing: unreachable))") }
            let empty = try Self.client(port, roots: authority.rootsPEM, token: " \n", logger)
            let local = await #expect(throws: CertificateError.self) { try await empty.sign(identity) }
            if case .local = local {} else { Issue.record("unexpected \(String(describing: local))") }
        }
    }
}
