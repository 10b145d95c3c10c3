import Foundation
import KubeAPI
import KubeClient
import Logging
import MeshCA
import MeshControl
import MeshIdentity
import Synchronization
import Testing
import X509

@Suite("Root rotation by the control plane", .serialized, .timeLimit(.minutes(3)))
struct RotationTests {
    private let cluster = ControlServerTests.cluster()
    private static let identity = WorkloadIdentity(
        trustDomain: "cluster.local", namespace: "ns1", serviceAccount: "sa1")

    private func client(_ port: Int, _ root: String) throws -> CertificateClient {
        var silent = Logger(label: "test")
        silent.logLevel = .critical
        return CertificateClient(
            CertificateClientConfiguration(
                endpoint: try ControlServerTests.endpoint(port, root, token: "node-token")), logger: silent)
    }

    private static func published(
        _ cluster: FakeCluster, _ name: String = "istio-ca-root-cert", _ key: String = "root-cert.pem"
    ) async throws -> String {
        try await cluster.find(.configMaps, namespace: "ns1", name: name)?.json.at("data", key)?.string ?? ""
    }

    private static func base64(_ text: String) -> JSONValue { .string(Data(text.utf8).base64EncodedString()) }

    private static func secret(
        _ signer: CertificateAuthority, roots: String, revocations: String = ""
    ) -> KubeObject {
        var secret = KubeObject(.secrets, namespace: "istio-system", name: "cacerts")
        secret.json["data"] = [
            "ca-cert.pem": Self.base64(signer.certificatePEM), "ca-key.pem": Self.base64(signer.privateKeyPEM),
            "cert-chain.pem": "", "root-cert.pem": Self.base64(roots), "ca-crl.pem": Self.base64(revocations),
        ]
        return secret
    }

    @Test("a self-signed root is renewed ahead of its end and published everywhere; clients of either root are served")
    func selfSigned() async throws {
        let cluster = self.cluster
        // Of its year 265 days are left: less than 99 %, and more than the longest-lived certificate needs.
        let old = try CertificateAuthority.selfSigned(
            trustDomain: "cluster.local", validity: .seconds(365 * 86_400), now: Date() - 100 * 86_400)
        var secret = KubeObject(.secrets, namespace: "istio-system", name: "istio-ca-secret")
        secret.json["data"] = [
            "ca-cert.pem": Self.base64(old.certificatePEM), "ca-key.pem": Self.base64(old.privateKeyPEM),
            "root-cert.pem": "",
        ]
        cluster.store(.secrets, secret)
        try await ControlServerTests.running(
            cluster,
            changing: {
                $0.rootRotation.checkInterval = .milliseconds(200)
                $0.rootRotation.hasJitter = false
                $0.rootRotation.gracePercent = 99
                $0.keyMaterialInterval = .milliseconds(100)
            }
        ) { ports in
            let oldClient = try self.client(ports.secureGRPC, old.rootsPEM)
            try await eventually("the new root beside the old one") {
                // Nobody ever fails.
                _ = try await oldClient.sign(Self.identity)
                let roots = try await Self.published(cluster)
                return roots.hasSuffix(old.rootsPEM) && roots != old.rootsPEM
            }
            let roots = try await Self.published(cluster)
            #expect(try await self.client(ports.secureGRPC, roots).sign(Self.identity).roots.count == 2)
            #expect(try await oldClient.sign(Self.identity).roots.count == 2)
            // Once, and for good: the next look finds nothing to do.
            let stored = try await AuthorityStore(cluster, namespace: "istio-system").load(trustDomain: "cluster.local")
            #expect(stored.rootsPEM == roots && stored.privateKeyPEM == old.privateKeyPEM)
            #expect(!stored.needsRenewal(gracePercent: 99))
        }
    }

    @Test("a plugged-in CA is replaced in one step by its operator: roots first, then the signer; nobody fails")
    func pluggedIn() async throws {
        let cluster = self.cluster
        let (a, b) = (
            try CertificateAuthority.selfSigned(trustDomain: "cluster.local"),
            try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        )
        cluster.store(.secrets, Self.secret(a, roots: a.rootsPEM, revocations: "list 1"))
        let key = try Certificate(pemEncoded: b.certificatePEM).publicKey
        try await ControlServerTests.running(
            cluster,
            changing: {
                $0.keyMaterialInterval = .milliseconds(50)
                $0.rootOverlap = .seconds(2)
            }
        ) { ports in
            try await eventually("the roots and revocations") {
                let lists = try await Self.published(cluster, "istio-ca-crl", "ca-crl.pem")
                return try await Self.published(cluster) == a.rootsPEM && lists == "list 1"
            }
            // A root that is in use is not dropped.
            cluster.store(.secrets, Self.secret(b, roots: b.rootsPEM))
            cluster.store(.secrets, Self.secret(b, roots: a.rootsPEM + b.rootsPEM, revocations: "list 2"))
            let client = try self.client(ports.secureGRPC, a.rootsPEM + b.rootsPEM)
            let hadBothRoots = Mutex(false)
            try await eventually("the new signer") {
                let signed = try await client.sign(Self.identity)
                let leaf = try Certificate(derEncoded: signed.chain[0])
                if key.isValidSignature(leaf.signature, for: leaf) { return true }
                if signed.roots.count == 2 { hadBothRoots.withLock { $0 = true } }
                return false
            }
            #expect(hadBothRoots.withLock { $0 })
            try await eventually("both roots and the new lists everywhere") {
                let lists = try await Self.published(cluster, "istio-ca-crl", "ca-crl.pem")
                return try await Self.published(cluster) == a.rootsPEM + b.rootsPEM && lists == "list 2"
            }
            // The control plane proves itself with the new signer too.
            try await eventually("its own certificate") {
                (try? await self.client(ports.secureGRPC, b.rootsPEM).sign(Self.identity)) != nil
            }
        }
    }
}
