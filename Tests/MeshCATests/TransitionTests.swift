import Crypto
import Foundation
import MeshCA
import MeshIdentity
import Testing
import X509

@Suite("From one CA to the next")
struct TransitionTests {
    private let now = Date()
    private let hour = 3600.0
    private let old: CertificateAuthority
    private let new: CertificateAuthority
    /// The new signer, with both roots.
    private let both: CertificateAuthority

    init() throws {
        self.old = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        self.new = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        self.both = try CertificateAuthority(
            certificatePEM: self.new.certificatePEM, privateKeyPEM: self.new.privateKeyPEM,
            rootsPEM: self.old.rootsPEM + self.new.rootsPEM)
    }

    private func answer(_ authority: CertificateAuthority) throws -> SignedCertificate {
        let key = P256.Signing.PrivateKey()
        let pems = try authority.sign(
            csrPEM: try CertificateClient.signingRequest(AuthorityTests.identity, key),
            identity: AuthorityTests.identity)
        return try CertificateAnswer.verify(pems, for: AuthorityTests.identity, key: key, now: Date())
    }

    @Test("C13: several roots in the last element of the chain are all taken")
    func severalRoots() throws {
        let signed = try self.answer(self.both)
        #expect(signed.chain.count == 1 && signed.roots.count == 2)
        #expect(try signed.roots == self.answer(self.old).roots + self.answer(self.new).roots)
    }

    @Test("a new signer waits until everybody has had its root for a certificate's life; the old one signs meanwhile")
    func staged() {
        var transition = TrustTransition(self.old, overlap: .seconds(24 * 3600))
        #expect(transition.offer(self.old, now: self.now) == .unchanged)
        let until = self.now + 24 * self.hour
        #expect(transition.offer(self.both, now: self.now) == .staged(until: until))
        #expect(transition.inForce.certificatePEM == self.old.certificatePEM)
        #expect(transition.inForce.rootsPEM == self.both.rootsPEM)
        #expect(transition.offer(self.both, now: self.now + 23 * self.hour) == .staged(until: until))
        #expect(transition.offer(self.both, now: until) == .adopted)
        #expect(transition.inForce.certificatePEM == self.new.certificatePEM)
    }

    @Test("the old root stays while there are certificates that need it")
    func removal() {
        var transition = TrustTransition(self.both, overlap: .seconds(24 * 3600))
        #expect(transition.offer(self.new, now: self.now) == .adopted)

        transition = TrustTransition(self.old, overlap: .seconds(24 * 3600))
        guard case .refused(let why) = transition.offer(self.new, now: self.now) else {
            Issue.record("a root in use was dropped")
            return
        }
        #expect(why.contains("keep the old root beside the new one"))
        _ = transition.offer(self.both, now: self.now)
        #expect(transition.offer(self.both, now: self.now + 25 * self.hour) == .adopted)
        // Just now the old one still signed.
        guard case .refused = transition.offer(self.new, now: self.now + 26 * self.hour) else {
            Issue.record("a root in use was dropped")
            return
        }
        #expect(transition.offer(self.new, now: self.now + 50 * self.hour) == .adopted)
        #expect(transition.inForce.rootsPEM == self.new.rootsPEM)
    }

    @Test("adding a root first, and its signer later, is the same in two steps")
    func twoSteps() throws {
        let prepared = try CertificateAuthority(
            certificatePEM: self.old.certificatePEM, privateKeyPEM: self.old.privateKeyPEM,
            rootsPEM: self.both.rootsPEM)
        var transition = TrustTransition(self.old, overlap: .seconds(24 * 3600))
        #expect(transition.offer(prepared, now: self.now) == .adopted)
        #expect(transition.offer(self.both, now: self.now + self.hour) == .staged(until: self.now + 24 * self.hour))
        #expect(transition.offer(self.both, now: self.now + 24 * self.hour) == .adopted)
    }

    @Test("a root ahead of its end gets a successor of the same key at once: either verifies what the other signed")
    func renewal() throws {
        let life = 100 * 24 * self.hour
        #expect(!self.old.needsRenewal(gracePercent: 20, now: self.now))
        let short = try CertificateAuthority.selfSigned(
            trustDomain: "cluster.local", validity: .seconds(Int64(life)), now: self.now)
        #expect(!short.needsRenewal(gracePercent: 20, now: self.now + 79 * 24 * self.hour))
        #expect(short.needsRenewal(gracePercent: 20, now: self.now + 81 * 24 * self.hour))
        let next = try short.renewingRoot(validity: .seconds(Int64(10 * life)), now: self.now)
        #expect(next.privateKeyPEM == short.privateKeyPEM && next.notAfter > short.notAfter)
        // Both while the old one outlives every certificate.
        #expect(next.rootsPEM == next.certificatePEM + short.certificatePEM)
        let late = try short.renewingRoot(validity: .seconds(Int64(10 * life)), now: self.now + 20 * 24 * self.hour)
        #expect(late.rootsPEM == late.certificatePEM)
        var transition = TrustTransition(short)
        #expect(transition.offer(late, now: self.now) == .adopted)

        let alone = try CertificateAuthority(certificatePEM: next.certificatePEM, privateKeyPEM: next.privateKeyPEM)
        for (signer, roots) in [(short, alone), (alone, short)] {
            let leaf = try Certificate(derEncoded: self.answer(signer).chain[0])
            let root = try Certificate(pemEncoded: roots.certificatePEM)
            #expect(root.publicKey.isValidSignature(leaf.signature, for: leaf) && leaf.issuer == root.subject)
            #expect(
                try leaf.extensions.authorityKeyIdentifier?.keyIdentifier
                    == root.extensions.subjectKeyIdentifier?.keyIdentifier)
        }
    }

    @Test("a root that is somebody else's is not renewed here")
    func foreign() {
        #expect(throws: AuthorityError.self) {
            let chain = try CertificateAuthority(
                certificatePEM: self.both.certificatePEM, privateKeyPEM: self.old.privateKeyPEM)
            _ = try chain.renewingRoot(validity: .seconds(60))
        }
    }
}
