internal import Crypto
internal import Foundation
internal import Synchronization
internal import X509

/// Finds out who makes a request: by bearer token or by client certificate.
struct Authenticator: Sendable {
    let tokens: StaticTokens
    let api: ClusterAPI

    enum Failure: Error { case badCredentials }

    /// - Throws: ``Failure`` for credentials that prove nothing; no credentials at all are the anonymous caller.
    func authenticate(authorization: String?, certificate: [UInt8]?) throws(Failure) -> Caller {
        if let authorization {
            guard authorization.lowercased().hasPrefix("bearer ") else { throw .badCredentials }
            let token = authorization.dropFirst("bearer ".count).trimmingCharacters(in: .whitespaces)
            if let caller = self.tokens.find(token) { return caller }
            guard let (caller, audiences) = self.api.authenticate(token: token),
                audiences.contains(TokenAuthority.issuer)
            else { throw .badCredentials }
            return caller
        }
        if let certificate { return try Self.caller(ofCertificate: certificate) }
        return .anonymous
    }

    /// The TLS layer has verified the chain; here the subject is read: CN is the user, each O a group.
    static func caller(ofCertificate der: [UInt8]) throws(Failure) -> Caller {
        guard let certificate = try? Certificate(derEncoded: der) else { throw .badCredentials }
        var name = ""
        var groups: [String] = []
        for part in certificate.subject {
            for attribute in part {
                if attribute.type == .RDNAttributeType.commonName { name = attribute.value.description }
                if attribute.type == .RDNAttributeType.organizationName { groups.append(attribute.value.description) }
            }
        }
        if name.isEmpty { throw .badCredentials }
        return Caller(name: name, groups: groups + [Caller.authenticatedGroup])
    }
}

/// The static tokens of a PKI directory. Read anew when an unknown one arrives, so that a node added later is known.
final class StaticTokens: Sendable {
    private let material: ClusterPKI.Material
    private let known: Mutex<[SHA256Digest: Caller]>

    init(_ material: ClusterPKI.Material) {
        self.material = material
        self.known = Mutex(Self.load(material))
    }

    /// Looks up digests, so that the time taken says nothing about the tokens.
    private static func load(_ material: ClusterPKI.Material) -> [SHA256Digest: Caller] {
        let tokens = (try? ClusterPKI.staticTokens(material)) ?? [:]
        return Dictionary(
            tokens.map { (SHA256.hash(data: Data($0.key.utf8)), $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    func find(_ token: String) -> Caller? {
        // Ours are 64 hexadecimal digits; others cannot be in the directory.
        guard token.utf8.count == 64 else { return nil }
        let digest = SHA256.hash(data: Data(token.utf8))
        return self.known.withLock { known in
            if let caller = known[digest] { return caller }
            known = Self.load(self.material)
            return known[digest]
        }
    }
}
