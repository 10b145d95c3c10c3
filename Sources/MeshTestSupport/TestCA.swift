internal import Crypto
internal import Foundation
public import MeshIdentity
internal import SwiftASN1
internal import X509

/// A certificate authority for tests: issues SPIFFE certificates on P-256 keys, valid for a day, as DER.
public struct TestCA: Sendable {
    /// A leaf as a workload receives it.
    public struct Issued: Hashable, Sendable {
        /// DER, leaf first.
        public var chain: [[UInt8]]
        /// PKCS#8 DER.
        public var privateKey: [UInt8]
        /// DER.
        public var roots: [[UInt8]]
    }

    let key: P256.Signing.PrivateKey
    let name: DistinguishedName
    private let certificate: Certificate
    /// From this authority up to, without, the root.
    private let intermediates: [Certificate]
    private let root: Certificate

    /// A root of its own.
    public init(name: String = "test root") throws {
        let key = P256.Signing.PrivateKey()
        let subject = try DistinguishedName { CommonName(name) }
        let certificate = try Self.authority(key.publicKey, subject, issuer: subject, issuerKey: key)
        self.init(key: key, name: subject, certificate: certificate, intermediates: [], root: certificate)
    }

    private init(
        key: P256.Signing.PrivateKey, name: DistinguishedName, certificate: Certificate,
        intermediates: [Certificate], root: Certificate
    ) {
        self.key = key
        self.name = name
        self.certificate = certificate
        self.intermediates = intermediates
        self.root = root
    }

    /// An authority below this one; what it issues carries the chain.
    public func intermediate(name: String = "test intermediate") throws -> TestCA {
        let key = P256.Signing.PrivateKey()
        let subject = try DistinguishedName { CommonName(name) }
        let certificate = try Self.authority(key.publicKey, subject, issuer: self.name, issuerKey: self.key)
        return TestCA(
            key: key, name: subject, certificate: certificate, intermediates: [certificate] + self.intermediates,
            root: self.root)
    }

    /// - Parameters:
    ///   - uris: the URI names, in order; usually one SPIFFE identity.
    ///   - validity: seconds from now, negative: in the past.
    public func issue(uris: [String], validity: Range<Double> = -60..<86_400) throws -> Issued {
        let key = P256.Signing.PrivateKey()
        let names = uris.map { GeneralName.uniformResourceIdentifier($0) }
        let now = Date()
        let leaf = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: .init(key.publicKey),
            notValidBefore: now.addingTimeInterval(validity.lowerBound),
            notValidAfter: now.addingTimeInterval(validity.upperBound), issuer: self.name,
            subject: DistinguishedName(), signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
                try ExtendedKeyUsage([.serverAuth, .clientAuth])
                Critical(SubjectAlternativeNames(names))
            }, issuerPrivateKey: .init(self.key))
        return Issued(
            chain: try ([leaf] + self.intermediates).map(Self.der), privateKey: Array(key.derRepresentation),
            roots: [try Self.der(self.root)])
    }

    public func issue(_ identity: WorkloadIdentity) throws -> Issued {
        try self.issue(uris: [identity.description])
    }

    /// This authority's trust anchor, DER.
    public var rootDER: [UInt8] { get throws { try Self.der(self.root) } }

    private static func authority(
        _ key: P256.Signing.PublicKey, _ subject: DistinguishedName, issuer: DistinguishedName,
        issuerKey: P256.Signing.PrivateKey
    ) throws -> Certificate {
        let now = Date()
        return try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: .init(key),
            notValidBefore: now.addingTimeInterval(-60), notValidAfter: now.addingTimeInterval(86_400),
            issuer: issuer, subject: subject, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
            }, issuerPrivateKey: .init(issuerKey))
    }

    private static func der(_ certificate: Certificate) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return serializer.serializedBytes
    }
}
