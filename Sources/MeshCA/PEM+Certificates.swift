import SwiftASN1
package import X509

/// Reading and writing of certificates as text. A bundle is what Kubernetes objects and the CA protocol carry:
/// PEM blocks one after the other.
package enum CertificateBundle {
    /// Far above any real bundle; keeps a hostile one from costing much.
    static let bytesMax = 1 << 20

    /// - Throws: `CertificateError.local` in words, also for a bundle without a certificate.
    package static func parse(_ pem: String) throws -> [Certificate] {
        guard pem.utf8.count <= Self.bytesMax else {
            throw CertificateError.local(reason: "a certificate bundle of \(pem.utf8.count) bytes is too long")
        }
        let documents = try PEMDocument.parseMultiple(pemString: pem)
            .filter { $0.discriminator == Certificate.defaultPEMDiscriminator }
        guard !documents.isEmpty else { throw CertificateError.local(reason: "no certificate in the bundle") }
        return try documents.map { try Certificate(pemDocument: $0) }
    }

    package static func text(_ certificates: [Certificate]) throws -> String {
        try certificates.map { try $0.serializeAsPEM().pemString + "\n" }.joined()
    }

    package static func der(_ certificate: Certificate) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return serializer.serializedBytes
    }
}

extension Certificate {
    /// Every subject alternative name as text: `URI:...`, `DNS:...`, or the kind alone.
    package var alternativeNames: [String] {
        guard let names = try? self.extensions.subjectAlternativeNames else { return [] }
        return names.map(\.text)
    }

    var isAuthority: Bool {
        guard let constraints = try? self.extensions.basicConstraints else { return false }
        if case .isCertificateAuthority = constraints { return true }
        return false
    }
}

extension GeneralName {
    var text: String {
        switch self {
        case .uniformResourceIdentifier(let uri): "URI:\(uri)"
        case .dnsName(let name): "DNS:\(name)"
        default: "\(self)"
        }
    }
}
