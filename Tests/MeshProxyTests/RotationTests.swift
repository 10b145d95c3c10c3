import Crypto
import Foundation
import MeshCA
import MeshIdentity
import MeshModel
import MeshProxy
import MeshTestSupport
import MeshTunnel
import Synchronization
import Testing

@Suite("Root rotation under traffic", .timeLimit(.minutes(3)))
struct RotationTests {
    /// Issues with the mesh's own CA code, from whatever authority is in force for each identity: workloads renew at
    /// different times.
    private final class RotatingCertificates: CertificateSource {
        private struct State {
            var authorities: [WorkloadIdentity: CertificateAuthority] = [:]
            var version: UInt64 = 0
        }
        private let state = Mutex(State())

        func use(_ authority: CertificateAuthority, for identity: WorkloadIdentity) {
            self.state.withLock { $0.authorities[identity] = authority }
        }

        func certificate(
            for identity: WorkloadIdentity,
            completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
        ) {
            let (authority, version) = self.state.withLock { state in
                state.version += 1
                return (state.authorities[identity], state.version)
            }
            completion(
                Result {
                    guard let authority else { throw CertificateUnavailable("nobody signs for \(identity)") }
                    let key = P256.Signing.PrivateKey()
                    let pems = try authority.sign(
                        csrPEM: try CertificateClient.signingRequest(identity, key), identity: identity)
                    let signed = try CertificateAnswer.verify(pems, for: identity, key: key, now: Date())
                    return WorkloadCertificate(
                        identity: identity, chain: signed.chain, privateKey: signed.privateKey, roots: signed.roots,
                        version: version)
                }.mapError { CertificateUnavailable("\($0)") })
        }
    }

    private static func identity(_ account: String) -> WorkloadIdentity {
        WorkloadIdentity(trustDomain: "cluster.local", namespace: "ns1", serviceAccount: account)
    }

    /// Goes through `steps` (the authority that each side uses from then on) while one connection lives through all of
    /// them and others, each in a tunnel of its own, come and go without a pause.
    private func run(_ first: CertificateAuthority, _ steps: [(String, CertificateAuthority)]) async throws {
        let certificates = RotatingCertificates()
        for account in ["client", "server"] { certificates.use(first, for: Self.identity(account)) }
        let mesh = try LoopbackMesh(certificates: certificates)
        // No tunnel is used twice: each connection is a handshake.
        mesh.configure = { $0.tunnelAgeMax = .zero }
        let echo = try BlockingServer.echo(address: mesh.network | 2)
        var world = World()
        world.add(workload("client", mesh.text(1)), workload("server", mesh.text(2)))
        let destination = IPEndpoint(address: mesh.address(2), port: echo.port)
        let port = try mesh.serve(pod("client"), at: 1, dials: destination, world.snapshot)
        try mesh.serve(pod("server"), at: 2, dials: destination, world.snapshot)
        let address = mesh.network | 1

        let isOver = Mutexed(false)
        let exchanged = Mutexed(0)
        let traffic = Task {
            try await offThread {
                while !isOver.value.withLock({ $0 }) {
                    try Self.exchange(port, address)
                    exchanged.value.withLock { $0 += 1 }
                }
            }
        }
        let old = try await offThread { try BlockingSocket.connect(port: port, address: address) }
        for (account, authority) in steps {
            certificates.use(authority, for: Self.identity(account))
            mesh.renewed(Self.identity(account))
            try await offThread {
                for _ in 0..<5 { try Self.exchange(port, address) }
                try old.send([9])
                let back = try old.receive(exactly: 1)
                #expect(back == [9])
            }
        }
        try await offThread {
            old.finishWriting()
            _ = try old.receiveToEnd()
        }
        isOver.value.withLock { $0 = true }
        try await traffic.value
        #expect(exchanged.value.withLock { $0 } > 0)
        let failed = await mesh.stop().filter { $0.contains("error=") }
        #expect(failed.isEmpty)
    }

    private static func exchange(_ port: UInt16, _ address: UInt32) throws {
        let socket = try BlockingSocket.connect(port: port, address: address)
        try socket.send([1, 2, 3])
        let back = try socket.receive(exactly: 3)
        guard back == [1, 2, 3] else { throw CancellationError() }
        socket.finishWriting()
        _ = try socket.receiveToEnd()
    }

    @Test("C13: to a root of another key: every mix of workloads that have and have not renewed reach each other")
    func anotherKey() async throws {
        let (a, b) = (
            try CertificateAuthority.selfSigned(trustDomain: "cluster.local"),
            try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        )
        let next = try CertificateAuthority(
            certificatePEM: b.certificatePEM, privateKeyPEM: b.privateKeyPEM, rootsPEM: a.rootsPEM + b.rootsPEM)
        // What the control plane has in force, step by step.
        var transition = TrustTransition(a, overlap: .seconds(100))
        let start = Date()
        func after(_ seconds: Double, _ offered: CertificateAuthority) -> CertificateAuthority {
            _ = transition.offer(offered, now: start + seconds)
            return transition.inForce
        }
        let staged = after(0, next)
        let adopted = after(101, next)
        let alone = after(202, b)
        #expect(staged.certificatePEM == a.certificatePEM && adopted.certificatePEM == b.certificatePEM)
        #expect(alone.rootsPEM == b.rootsPEM)
        try await self.run(
            a,
            [staged, adopted, alone].enumerated().flatMap { number, authority in
                (number % 2 == 0 ? ["client", "server"] : ["server", "client"]).map { ($0, authority) }
            })
    }

    @Test("to a root of the same key, as a self-signed one is renewed, with and without the old one beside it")
    func sameKey() async throws {
        let a = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let both = try a.renewingRoot(validity: .seconds(20 * 365 * 86_400))
        let alone = try CertificateAuthority(certificatePEM: both.certificatePEM, privateKeyPEM: both.privateKeyPEM)
        #expect(both.rootsPEM != alone.rootsPEM)
        try await self.run(
            a, [("client", both), ("server", both), ("server", alone), ("client", alone), ("server", a), ("client", a)])
    }
}

/// A value behind a lock, to share with a thread.
private final class Mutexed<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
}
