import Foundation
import Logging
import MeshCA
import NIOCertificateReloading
import NIOSSL
import Synchronization

/// The certificate of our own gRPC and webhook ports, issued by our own CA and renewed before it ends, without a restart.
final class ServerCertificate: CertificateReloader {
    private struct Current {
        var override: NIOSSLContextConfigurationOverride
        var issued: Date
        var notAfter: Date
    }
    private let authority: @Sendable () -> CertificateAuthority
    private let names: [String]
    private let current: Mutex<Current>

    init(authority: @escaping @Sendable () -> CertificateAuthority, names: [String]) throws {
        self.authority = authority
        self.names = names
        self.current = Mutex(try Self.issue(authority(), names))
    }

    var sslContextConfigurationOverride: NIOSSLContextConfigurationOverride {
        self.current.withLock { $0.override }
    }

    private static func issue(_ authority: CertificateAuthority, _ names: [String]) throws -> Current {
        let issued = try authority.serverCertificate(dnsNames: names)
        var override = NIOSSLContextConfigurationOverride()
        override.certificateChain = try NIOSSLCertificate.fromPEMBytes(Array(issued.chainPEM.utf8))
            .map { .certificate($0) }
        override.privateKey = .privateKey(
            try NIOSSLPrivateKey(bytes: Array(issued.privateKeyPEM.utf8), format: .pem))
        return Current(override: override, issued: Date(), notAfter: issued.notAfter)
    }

    /// Issues a new one after half its life; looks every minute, so that a machine that slept catches up. Until the
    /// task is cancelled.
    func keepFresh(_ logger: Logger) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(60))
            let (issued, notAfter) = self.current.withLock { ($0.issued, $0.notAfter) }
            if Date() < issued + notAfter.timeIntervalSince(issued) / 2 { continue }
            self.renew(logger)
        }
    }

    /// A new signer may be the only one that clients trust one day: its certificate is proven from now on.
    func follow(_ changes: AsyncStream<Void>, _ logger: Logger) async {
        for await _ in changes { self.renew(logger) }
    }

    private func renew(_ logger: Logger) {
        do {
            let next = try Self.issue(self.authority(), self.names)
            self.current.withLock { $0 = next }
            logger.info("server certificate renewed", metadata: ["notAfter": "\(next.notAfter)"])
        } catch {
            logger.error("cannot renew the server certificate", metadata: ["why": "\(error)"])
        }
    }
}
