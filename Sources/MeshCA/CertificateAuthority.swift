import Crypto
public import Foundation
public import MeshIdentity
import SwiftASN1
import X509

/// The mesh's signer: one signing certificate with its key, the intermediates above it, and the roots to hand out.
/// Immutable; a new root makes a new value.
public struct CertificateAuthority: Sendable {
    let signer: Certificate
    let signerKey: Certificate.PrivateKey
    /// Between a leaf and the roots, the signer first; empty when the signer is a root itself.
    let intermediates: [Certificate]
    let roots: [Certificate]

    /// PEM, one string per intermediate.
    public let intermediatesPEM: [String]
    /// What everyone in the mesh has to trust, PEM.
    public let rootsPEM: String
    /// How the private key and its certificate are stored, PEM.
    public let certificatePEM, privateKeyPEM: String
    /// Certificates that were taken back: revocation lists that came with the key material, PEM, to be handed out.
    public var revocationsPEM: String?

    /// A leaf lives this long unless less is asked for.
    public static let workloadTTL = Duration.seconds(24 * 3600)
    /// Nobody gets a longer one.
    public static let workloadTTLMax = Duration.seconds(90 * 24 * 3600)
    /// A certificate is valid a little before it was made, for peers whose clocks are behind.
    static let backdateSeconds = 120.0
    /// A P-256 request takes about 400 bytes, an RSA 4096 one about 1800.
    static let csrBytesMax = 16 << 10

    /// Loads key material: that of a Secret `istio-ca-secret` (chain and roots empty: the certificate is the root)
    /// or of a plugged-in `cacerts`.
    public init(
        certificatePEM: String, privateKeyPEM: String, chainPEM: String = "", rootsPEM: String = "", now: Date = Date()
    ) throws(AuthorityError) {
        do {
            let certificates = try CertificateBundle.parse(certificatePEM)
            self.signer = certificates[0]
            self.signerKey = try Certificate.PrivateKey(pemEncoded: privateKeyPEM)
            self.roots = rootsPEM.isEmpty ? [certificates[0]] : try CertificateBundle.parse(rootsPEM)
            var between = Array(certificates)
            if !chainPEM.isEmpty {
                for link in try CertificateBundle.parse(chainPEM) where !between.contains(link) {
                    between.append(link)
                }
            }
            let roots = self.roots
            self.intermediates = between.filter { !roots.contains($0) }
            self.intermediatesPEM = try self.intermediates.map { try CertificateBundle.text([$0]) }
            self.rootsPEM = try CertificateBundle.text(self.roots)
            self.certificatePEM = certificatePEM
            self.privateKeyPEM = privateKeyPEM
        } catch {
            throw .unreadable("\(error)")
        }
        guard self.signer.isAuthority else { throw .unusable("the signing certificate is no CA certificate") }
        guard self.signer.publicKey == self.signerKey.publicKey else {
            throw .unusable("the private key does not belong to the signing certificate")
        }
        guard now < self.signer.notValidAfter else {
            throw .unusable("the signing certificate expired on \(self.signer.notValidAfter)")
        }
        var top = self.signer
        for link in self.intermediates where link != self.signer {
            guard CertificateAnswer.issued(top, by: link) else {
                throw .unusable("the chain is broken: \(top.subject) was not signed by \(link.subject)")
            }
            top = link
        }
        guard self.roots.contains(where: { $0 == top || CertificateAnswer.issued(top, by: $0) }) else {
            throw .unusable("the signing certificate does not lead to any of the root certificates")
        }
    }

    /// A new root: P-256, ten years unless said otherwise, organisation = the trust domain.
    public static func selfSigned(
        trustDomain: String, validity: Duration = .seconds(10 * 365 * 24 * 3600), now: Date = Date()
    ) throws -> CertificateAuthority {
        let key = P256.Signing.PrivateKey()
        let certificate = try Self.root(
            try DistinguishedName { OrganizationName(trustDomain) }, Certificate.PrivateKey(key), keyID: nil,
            validity: validity, now: now)
        return try CertificateAuthority(
            certificatePEM: try CertificateBundle.text([certificate]), privateKeyPEM: key.pemRepresentation, now: now)
    }

    /// - Parameter keyID: of a root with the same key before this one; nil: made from the key.
    static func root(
        _ name: DistinguishedName, _ key: Certificate.PrivateKey, keyID: SubjectKeyIdentifier?, validity: Duration,
        now: Date
    ) throws -> Certificate {
        try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: key.publicKey,
            notValidBefore: now - Self.backdateSeconds, notValidAfter: now + Double(validity.components.seconds),
            issuer: name, subject: name,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                keyID ?? SubjectKeyIdentifier(hash: key.publicKey)
            },
            issuerPrivateKey: key)
    }

    public var notAfter: Date { self.signer.notValidAfter }
    /// The first root to expire: after it, someone in the mesh stops trusting.
    public var rootNotAfter: Date { self.roots.map(\.notValidAfter).min() ?? self.signer.notValidAfter }

    /// Signs a request for exactly `identity`.
    ///
    /// - Parameter ttl: nil or not positive means ``workloadTTL``; longer than ``workloadTTLMax`` is cut to it, and
    ///   nothing outlives the signing certificate.
    /// - Returns: PEM strings as the protocol wants them: leaf, intermediates one by one, all roots in the last.
    public func sign(
        csrPEM: String, identity: WorkloadIdentity, ttl: Duration? = nil, now: Date = Date()
    ) throws(AuthorityError) -> [String] {
        let request = try Self.verified(csrPEM, identity)
        let leaf = try self.leaf(
            request.publicKey, names: [.uniformResourceIdentifier(identity.description)], isCritical: true, ttl: ttl,
            now: now)
        do {
            return [try CertificateBundle.text([leaf])] + self.intermediatesPEM + [self.rootsPEM]
        } catch {
            throw .unusable("cannot encode the new certificate: \(error)")
        }
    }

    /// A certificate for the control plane's own servers.
    /// - Returns: chain (with intermediates) and key, PEM.
    public func serverCertificate(
        dnsNames: [String], identity: WorkloadIdentity? = nil, ttl: Duration? = nil, now: Date = Date()
    ) throws(AuthorityError) -> (chainPEM: String, privateKeyPEM: String, notAfter: Date) {
        let key = P256.Signing.PrivateKey()
        let names =
            dnsNames.map { GeneralName.dnsName($0) }
            + (identity.map { [GeneralName.uniformResourceIdentifier($0.description)] } ?? [])
        let leaf = try self.leaf(
            Certificate.PublicKey(key.publicKey), names: names, isCritical: true, ttl: ttl, now: now)
        do {
            return (try CertificateBundle.text([leaf] + self.intermediates), key.pemRepresentation, leaf.notValidAfter)
        } catch {
            throw .unusable("cannot encode the new certificate: \(error)")
        }
    }

    private static func verified(
        _ csrPEM: String, _ identity: WorkloadIdentity
    ) throws(AuthorityError) -> CertificateSigningRequest {
        guard csrPEM.utf8.count <= Self.csrBytesMax else {
            throw .badRequest("a signing request of \(csrPEM.utf8.count) bytes is too long")
        }
        let request: CertificateSigningRequest
        let names: [String]
        do {
            request = try CertificateSigningRequest(pemEncoded: csrPEM)
            names = try request.attributes.compactMap { attribute -> ExtensionRequest? in
                attribute.oid == .CSRAttributes.extensionRequest ? try ExtensionRequest(attribute) : nil
            }.flatMap { try $0.extensions.subjectAlternativeNames.map { $0.map(\.text) } ?? [] }
        } catch {
            throw .badRequest("unreadable signing request: \(error)")
        }
        guard request.publicKey.isValidSignature(request.signature, for: request) else {
            throw .badRequest("the signing request is not signed by its own key")
        }
        guard names.isEmpty || names == ["URI:\(identity)"] else {
            throw .badRequest("the signing request names \(names), allowed is \(identity) alone")
        }
        return request
    }

    private func leaf(
        _ publicKey: Certificate.PublicKey, names: [GeneralName], isCritical: Bool, ttl: Duration?, now: Date
    ) throws(AuthorityError) -> Certificate {
        guard now < self.signer.notValidAfter else {
            throw .unusable("the signing certificate expired on \(self.signer.notValidAfter)")
        }
        var seconds = (ttl ?? Self.workloadTTL).components.seconds
        if seconds <= 0 { seconds = Self.workloadTTL.components.seconds }
        seconds = min(seconds, Self.workloadTTLMax.components.seconds)
        do {
            let signerKeyID = try self.signer.extensions.subjectKeyIdentifier?.keyIdentifier
            return try Certificate(
                version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
                notValidBefore: max(now - Self.backdateSeconds, self.signer.notValidBefore),
                notValidAfter: min(now + Double(seconds), self.signer.notValidAfter),
                issuer: self.signer.subject, subject: DistinguishedName(),
                extensions: try Certificate.Extensions {
                    Critical(KeyUsage(digitalSignature: true, keyEncipherment: true))
                    try ExtendedKeyUsage([.serverAuth, .clientAuth])
                    Critical(BasicConstraints.notCertificateAuthority)
                    if let signerKeyID { AuthorityKeyIdentifier(keyIdentifier: signerKeyID) }
                    Critical(SubjectAlternativeNames(names))
                },
                issuerPrivateKey: self.signerKey)
        } catch {
            throw .unusable("cannot sign: \(error)")
        }
    }
}

public enum AuthorityError: Error, Hashable, CustomStringConvertible {
    case unreadable(String)
    case unusable(String)
    /// The caller's fault.
    case badRequest(String)

    public var description: String {
        switch self {
        case .unreadable(let why): "cannot read the CA's key material: \(why)"
        case .unusable(let why): "the CA cannot sign: \(why)"
        case .badRequest(let why): why
        }
    }
}
