public import Foundation
import X509

/// A root that is its own signer comes to its end. Its successor has the same name and the same key, so that whatever
/// either of them signed can be verified with either of them: nobody needs to learn the new one by a certain time,
/// except before the old one ends.
extension CertificateAuthority {
    /// Old roots are handed out beside the new one while they live longer than the longest-lived certificate: a bundle
    /// is used until the certificate that came with it ends, and must not contain an expired root before that.
    static let oldRootMargin = Self.workloadTTLMax

    /// The signer is a root itself.
    public var isSelfSigned: Bool { self.intermediates.isEmpty && self.signer.issuer == self.signer.subject }

    /// - Parameter gracePercent: of the root's whole life; what is left when a new one is due.
    public func needsRenewal(gracePercent: Int, now: Date = Date()) -> Bool {
        guard self.isSelfSigned else { return false }
        let life = self.signer.notValidAfter.timeIntervalSince(self.signer.notValidBefore)
        return self.signer.notValidAfter.timeIntervalSince(now) < life * Double(gracePercent) / 100
    }

    /// The same authority with a root that ends later.
    public func renewingRoot(validity: Duration, now: Date = Date()) throws(AuthorityError) -> CertificateAuthority {
        guard self.isSelfSigned else { throw .unusable("its root is somebody else's, who has to renew it") }
        do {
            let root = try Self.root(
                self.signer.subject, self.signerKey, keyID: try self.signer.extensions.subjectKeyIdentifier,
                validity: validity, now: now)
            let margin = Double(Self.oldRootMargin.components.seconds)
            let old = self.roots.filter { $0.notValidAfter > now + margin }
            let bundle = try CertificateBundle.text([root] + old)
            return try CertificateAuthority(
                certificatePEM: try CertificateBundle.text([root]), privateKeyPEM: self.privateKeyPEM,
                rootsPEM: bundle, now: now)
        } catch let error as AuthorityError {
            throw error
        } catch {
            throw .unusable("cannot make a new root: \(error)")
        }
    }

    /// The same signer, with the roots and revocations of `other` to hand out.
    func handingOut(_ other: CertificateAuthority, now: Date) throws(AuthorityError) -> CertificateAuthority {
        var next = try CertificateAuthority(
            certificatePEM: self.certificatePEM, privateKeyPEM: self.privateKeyPEM,
            chainPEM: self.intermediatesPEM.joined(), rootsPEM: other.rootsPEM, now: now)
        next.revocationsPEM = other.revocationsPEM
        return next
    }

    /// Whether somebody who trusts `roots` can verify what this authority signs.
    func isTrusted(by roots: some Sequence<Certificate>) -> Bool {
        let top = self.intermediates.last ?? self.signer
        return roots.contains { root in
            root == top || CertificateAnswer.issued(top, by: root)
                || (root.subject == top.subject && root.publicKey == top.publicKey)
        }
    }
}
