package import Crypto
package import Foundation
package import MeshIdentity
import X509

/// Decides whether what the CA sent is what was asked for. The roots come from the same answer, over a connection
/// whose server was already verified; what is checked here is that the pieces belong together.
package enum CertificateAnswer {
    /// Leaf, intermediates, root. Real chains have at most three.
    static let chainMax = 10

    package static func verify(
        _ pems: [String], for identity: WorkloadIdentity, key: P256.Signing.PrivateKey, now: Date
    ) throws(CertificateError) -> SignedCertificate {
        func bad(_ reason: String) -> CertificateError { .badAnswer(identity: identity.description, reason: reason) }
        guard pems.count >= 2 else {
            throw bad(pems.isEmpty ? "no certificate in it" : "no root certificate in it")
        }
        guard pems.count <= Self.chainMax else { throw bad("\(pems.count) certificates are too many") }
        let chain: [Certificate]
        let roots: [Certificate]
        do {
            chain = try pems.dropLast().flatMap { try CertificateBundle.parse($0) }
            roots = try CertificateBundle.parse(pems[pems.count - 1])
        } catch {
            throw bad("unreadable certificate: \(error)")
        }
        let leaf = chain[0]
        guard leaf.alternativeNames == ["URI:\(identity)"] else {
            throw bad("it names \(leaf.alternativeNames), not the identity asked for")
        }
        guard leaf.publicKey == Certificate.PublicKey(key.publicKey) else { throw bad("it is for another key") }
        guard leaf.notValidBefore <= now, now < leaf.notValidAfter else {
            throw bad(
                "valid from \(leaf.notValidBefore) to \(leaf.notValidAfter), and it is \(now) here; "
                    + "do the clocks agree?")
        }
        for (child, parent) in zip(chain, chain.dropFirst()) where !Self.issued(child, by: parent) {
            throw bad("a certificate of the chain was not signed by the next")
        }
        let top = chain[chain.count - 1]
        guard roots.contains(where: { $0 == top || Self.issued(top, by: $0) }) else {
            throw bad("the chain does not end at any of its \(roots.count) roots")
        }
        do {
            return SignedCertificate(
                chain: try chain.map(CertificateBundle.der), privateKey: Array(key.derRepresentation),
                roots: try roots.map(CertificateBundle.der),
                notBefore: Int64(leaf.notValidBefore.timeIntervalSince1970),
                notAfter: Int64(leaf.notValidAfter.timeIntervalSince1970))
        } catch {
            throw bad("cannot be encoded again: \(error)")
        }
    }

    static func issued(_ child: Certificate, by parent: Certificate) -> Bool {
        parent.isAuthority && child.issuer == parent.subject
            && parent.publicKey.isValidSignature(child.signature, for: child)
    }
}
