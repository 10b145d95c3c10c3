import Crypto
import CryptoExtras
import FoundationEssentials
import KubeAPI
import MeshRoutes

/// One key of a JSON Web Key Set (RFC 7517) that can verify signatures.
struct VerificationKey: Sendable {
    enum Material: Sendable {
        case rsa(_RSA.Signing.PublicKey)
        case p256(P256.Signing.PublicKey)
        case p384(P384.Signing.PublicKey)
        case p521(P521.Signing.PublicKey)
        case ed25519(Curve25519.Signing.PublicKey)
        case secret(SymmetricKey)
    }

    /// RSA: no more, a signature check's time grows with it.
    static let rsaBitsMax = 8192
    /// RFC 7518, 3.2 wants as much as the hash; 32 octets for the shortest.
    static let secretBytesMin = 32

    let id: String?
    /// Which it is for; nil: each that fits its kind.
    let algorithm: String?
    let material: Material

    /// nil for keys of other kinds or for other uses, and for broken ones: a set may contain them.
    init?(_ key: JSONValue) {
        if let use = key["use"]?.string, use != "sig" { return nil }
        if let operations = key["key_ops"]?.array, !operations.contains("verify"), !operations.contains("sign") {
            return nil
        }
        guard let material = Self.material(key) else { return nil }
        self.id = key["kid"]?.string
        self.algorithm = key["alg"]?.string
        self.material = material
    }

    private static func material(_ key: JSONValue) -> Material? {
        func octets(_ name: String) -> [UInt8]? { key[name]?.string.flatMap(Base64URL.decode) }
        switch (key["kty"]?.string, key["crv"]?.string) {
        case ("RSA", _):
            guard let n = octets("n"), let e = octets("e"), n.count <= Self.rsaBitsMax / 8, e.count <= 8 else {
                return nil
            }
            // Smaller than 2048 bits is refused by this initializer.
            return (try? _RSA.Signing.PublicKey(n: n, e: e)).map { .rsa($0) }
        case ("EC", let curve?):
            guard let x = octets("x"), let y = octets("y"), x.count == y.count, x.count <= 66 else { return nil }
            switch curve {
            case "P-256": return (try? P256.Signing.PublicKey(rawRepresentation: x + y)).map { .p256($0) }
            case "P-384": return (try? P384.Signing.PublicKey(rawRepresentation: x + y)).map { .p384($0) }
            case "P-521": return (try? P521.Signing.PublicKey(rawRepresentation: x + y)).map { .p521($0) }
            default: return nil
            }
        case ("OKP", "Ed25519"):
            guard let x = octets("x") else { return nil }
            return (try? Curve25519.Signing.PublicKey(rawRepresentation: x)).map { .ed25519($0) }
        case ("oct", _):
            guard let secret = octets("k"), secret.count >= Self.secretBytesMin else { return nil }
            return .secret(SymmetricKey(data: secret))
        default: return nil
        }
    }

    /// nil: the algorithm is none for this key, so that a token cannot choose how its key is understood.
    func verify(_ algorithm: String, _ signed: [UInt8], _ signature: [UInt8]) -> Bool? {
        if let own = self.algorithm, own != algorithm { return nil }
        switch (self.material, algorithm) {
        case (.rsa(let key), "RS256"): return Self.rsa(key, SHA256.hash(data: signed), signature, .insecurePKCS1v1_5)
        case (.rsa(let key), "RS384"): return Self.rsa(key, SHA384.hash(data: signed), signature, .insecurePKCS1v1_5)
        case (.rsa(let key), "RS512"): return Self.rsa(key, SHA512.hash(data: signed), signature, .insecurePKCS1v1_5)
        case (.rsa(let key), "PS256"): return Self.rsa(key, SHA256.hash(data: signed), signature, .PSS)
        case (.rsa(let key), "PS384"): return Self.rsa(key, SHA384.hash(data: signed), signature, .PSS)
        case (.rsa(let key), "PS512"): return Self.rsa(key, SHA512.hash(data: signed), signature, .PSS)
        case (.p256(let key), "ES256"):
            guard let signature = try? P256.Signing.ECDSASignature(rawRepresentation: signature) else { return false }
            return key.isValidSignature(signature, for: SHA256.hash(data: signed))
        case (.p384(let key), "ES384"):
            guard let signature = try? P384.Signing.ECDSASignature(rawRepresentation: signature) else { return false }
            return key.isValidSignature(signature, for: SHA384.hash(data: signed))
        case (.p521(let key), "ES512"):
            guard let signature = try? P521.Signing.ECDSASignature(rawRepresentation: signature) else { return false }
            return key.isValidSignature(signature, for: SHA512.hash(data: signed))
        case (.ed25519(let key), "EdDSA"), (.ed25519(let key), "Ed25519"):
            return key.isValidSignature(signature, for: signed)
        case (.secret(let key), "HS256"):
            return HMAC<SHA256>.isValidAuthenticationCode(signature, authenticating: signed, using: key)
        case (.secret(let key), "HS384"):
            return HMAC<SHA384>.isValidAuthenticationCode(signature, authenticating: signed, using: key)
        case (.secret(let key), "HS512"):
            return HMAC<SHA512>.isValidAuthenticationCode(signature, authenticating: signed, using: key)
        default: return nil
        }
    }

    private static func rsa(
        _ key: _RSA.Signing.PublicKey, _ digest: some Digest, _ signature: [UInt8], _ padding: _RSA.Signing.Padding
    ) -> Bool {
        key.isValidSignature(_RSA.Signing.RSASignature(rawRepresentation: signature), for: digest, padding: padding)
    }
}

/// The keys of one issuer.
package struct VerificationKeySet: Sendable {
    package static let textBytesMax = 1 << 20
    package static let keysMax = 256

    let keys: [VerificationKey]

    /// How many can be used; sets with others beside them are good.
    package var count: Int { self.keys.count }

    /// `{"keys": […]}`; nil for what is no set, and for a set without any key that we can use.
    package init?(_ text: String) {
        guard text.utf8.count <= Self.textBytesMax, let set = try? JSONValue(parsing: text),
            let keys = set["keys"]?.array, keys.count <= Self.keysMax
        else { return nil }
        self.keys = keys.compactMap(VerificationKey.init)
        if self.keys.isEmpty { return nil }
    }

    /// Every key that may be meant is tried: those with the token's id; for a token without id all of them.
    func verify(_ token: SignedToken) throws(TokenRefusal) {
        guard SignedToken.algorithms.contains(token.algorithm) else { throw .algorithmNotSupported }
        var wasTried = false
        for key in self.keys {
            if let id = token.keyID, let own = key.id, own != id { continue }
            guard let isValid = key.verify(token.algorithm, token.signed, token.signature) else { continue }
            if isValid { return }
            wasTried = true
        }
        throw wasTried ? .badSignature : .noKey
    }
}
