import Crypto
import Foundation
import MeshCA
import MeshIdentity
import Testing
import X509

@Suite("The certificate authority")
struct AuthorityTests {
    static let identity = WorkloadIdentity(trustDomain: "cluster.local", namespace: "ns", serviceAccount: "sa")
    static let authority: CertificateAuthority = {
        guard let authority = try? CertificateAuthority.selfSigned(trustDomain: "cluster.local") else {
            preconditionFailure("a new authority")
        }
        return authority
    }()

    static func leaf(_ pems: [String]) throws -> Certificate { try Certificate(pemEncoded: pems[0]) }

    @Test("signs exactly the identity, for both sides of TLS, critically, and no CA")
    func leafContent() throws {
        let key = P256.Signing.PrivateKey()
        let csr = try CertificateClient.signingRequest(Self.identity, key)
        let now = Date()
        let pems = try Self.authority.sign(csrPEM: csr, identity: Self.identity, now: now)
        let leaf = try Self.leaf(pems)
        #expect(leaf.alternativeNames == ["URI:spiffe://cluster.local/ns/ns/sa/sa"])
        #expect(leaf.extensions[oid: .X509ExtensionID.subjectAlternativeName]?.critical == true)
        #expect(leaf.subject.isEmpty)
        #expect(leaf.publicKey == Certificate.PublicKey(key.publicKey))
        #expect(try leaf.extensions.basicConstraints == .notCertificateAuthority)
        let usage = try #require(try leaf.extensions.keyUsage)
        #expect(usage.digitalSignature && usage.keyEncipherment && !usage.keyCertSign)
        #expect(abs(leaf.notValidAfter.timeIntervalSince(now) - 86400) < 2)
        #expect(abs(now.timeIntervalSince(leaf.notValidBefore) - 120) < 2)
        #expect(pems.count == 2 && pems[1] == Self.authority.rootsPEM)
    }

    @Test("cuts a lifetime to 90 days and to its own")
    func lifetimes() throws {
        let csr = try CertificateClient.signingRequest(Self.identity, P256.Signing.PrivateKey())
        let now = Date()
        func days(_ ttl: Duration, _ authority: CertificateAuthority) throws -> Double {
            let leaf = try Self.leaf(try authority.sign(csrPEM: csr, identity: Self.identity, ttl: ttl, now: now))
            return (leaf.notValidAfter.timeIntervalSince(now) / 86400).rounded()
        }
        #expect(try days(.seconds(86400 * 365), Self.authority) == 90)
        #expect(try days(.seconds(-1), Self.authority) == 1)
        let short = try CertificateAuthority.selfSigned(trustDomain: "x", validity: .seconds(2 * 86400), now: now)
        #expect(try days(.seconds(86400 * 30), short) == 2)
        #expect(throws: AuthorityError.self) {
            try short.sign(csrPEM: csr, identity: Self.identity, now: now + 3 * 86400)
        }
    }

    @Test("refuses a request for somebody else, a forged one, and rubbish")
    func badRequests() throws {
        let other = WorkloadIdentity(trustDomain: "cluster.local", namespace: "ns", serviceAccount: "admin")
        let csr = try CertificateClient.signingRequest(other, P256.Signing.PrivateKey())
        #expect(throws: AuthorityError.self) { try Self.authority.sign(csrPEM: csr, identity: Self.identity) }
        // Flip a bit of the signature, the last part of the DER.
        let own = try CertificateClient.signingRequest(Self.identity, P256.Signing.PrivateKey())
        let body = own.split(separator: "\n").filter { !$0.hasPrefix("-") }.joined()
        var der = try #require(Data(base64Encoded: body))
        der[der.count - 1] ^= 1
        let forged =
            "-----BEGIN CERTIFICATE REQUEST-----\n\(der.base64EncodedString())\n-----END CERTIFICATE REQUEST-----\n"
        #expect(throws: AuthorityError.self) { try Self.authority.sign(csrPEM: forged, identity: Self.identity) }
        for rubbish in ["", "x", String(repeating: "a", count: 100_000)] {
            #expect(throws: AuthorityError.self) { try Self.authority.sign(csrPEM: rubbish, identity: Self.identity) }
        }
    }

    @Test("keeps its root through storage, and refuses a key that is not its own")
    func storage() throws {
        let again = try CertificateAuthority(
            certificatePEM: Self.authority.certificatePEM, privateKeyPEM: Self.authority.privateKeyPEM)
        #expect(again.rootsPEM == Self.authority.rootsPEM)
        let other = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        #expect(throws: AuthorityError.self) {
            try CertificateAuthority(
                certificatePEM: Self.authority.certificatePEM, privateKeyPEM: other.privateKeyPEM)
        }
        #expect(throws: AuthorityError.self) {
            try CertificateAuthority(
                certificatePEM: Self.authority.certificatePEM, privateKeyPEM: Self.authority.privateKeyPEM,
                rootsPEM: other.rootsPEM)
        }
    }

    @Test(
        "C9: the client takes only what it asked for",
        arguments: ["good", "empty", "no root", "other identity", "other key", "other root"])
    func answers(_ kind: String) throws {
        let key = P256.Signing.PrivateKey()
        let csr = try CertificateClient.signingRequest(Self.identity, key)
        var pems = try Self.authority.sign(csrPEM: csr, identity: Self.identity)
        var wanted = Self.identity
        var own = key
        switch kind {
        case "empty": pems = []
        case "no root": pems.removeLast()
        case "other identity":
            wanted = WorkloadIdentity(trustDomain: "cluster.local", namespace: "ns", serviceAccount: "x")
        case "other key": own = P256.Signing.PrivateKey()
        case "other root": pems[1] = try CertificateAuthority.selfSigned(trustDomain: "cluster.local").rootsPEM
        default: break
        }
        let answer = pems
        let (identity, keyPair) = (wanted, own)
        if kind == "good" {
            let signed = try CertificateAnswer.verify(answer, for: identity, key: keyPair, now: Date())
            #expect(signed.chain.count == 1 && signed.roots.count == 1)
            #expect(signed.notAfter - signed.notBefore == 86400 + 120)
            #expect(
                try P256.Signing.PrivateKey(derRepresentation: signed.privateKey).rawRepresentation
                    == key.rawRepresentation)
        } else {
            var refusal: MeshCA.CertificateError?
            do throws(MeshCA.CertificateError) {
                _ = try CertificateAnswer.verify(answer, for: identity, key: keyPair, now: Date())
            } catch {
                refusal = error
            }
            #expect(refusal != nil)
        }
    }
}
