import KubeAPI
import MeshRoutes

/// A JSON Web Token in its compact form (RFC 7515, 7.1; RFC 7519), taken apart and believed in nothing.
struct SignedToken {
    static let tokenBytesMax = 16_384
    /// RFC 7518, 3.1 and RFC 8037. `none` is no algorithm.
    static let algorithms: Set<String> = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "HS256",
        "HS384", "HS512",
    ]

    let algorithm: String
    let keyID: String?
    /// Header and payload as they were signed.
    let signed: [UInt8]
    let signature: [UInt8]
    /// Base64url, as it came.
    let payloadText: String
    /// An object.
    let payload: JSONValue

    init(_ text: String) throws(TokenRefusal) {
        let octets = text.utf8.span
        guard octets.count <= Self.tokenBytesMax else { throw .tooLarge }
        var dots: [Int] = []
        for at in octets.indices where octets[at] == UInt8(ascii: ".") {
            dots.append(at)
            if dots.count > 2 { throw .malformed }
        }
        guard dots.count == 2, let header = Base64URL.decode(octets, 0..<dots[0]),
            let payload = Base64URL.decode(octets, dots[0] + 1..<dots[1]),
            let signature = Base64URL.decode(octets, dots[1] + 1..<octets.count),
            let headerValue = try? JSONValue(parsing: header), let payloadValue = try? JSONValue(parsing: payload),
            payloadValue.object != nil, let algorithm = headerValue["alg"]?.string,
            // Extensions that must be understood: we know none (RFC 7515, 4.1.11).
            headerValue["crit"] == nil
        else { throw .malformed }
        if let id = headerValue["kid"], id.string == nil { throw .malformed }
        self.algorithm = algorithm
        self.keyID = headerValue["kid"]?.string
        self.signed = Array(text.utf8.prefix(dots[1]))
        self.signature = signature
        self.payloadText = String(text.utf8.prefix(dots[1]).dropFirst(dots[0] + 1)) ?? ""
        self.payload = payloadValue
    }

    var issuer: String { self.payload["iss"]?.string ?? "" }

    var audiences: [String] {
        switch self.payload["aud"] {
        case .string(let one): [one]
        case .array(let many): many.compactMap(\.string)
        default: []
        }
    }

    /// A NumericDate: seconds since 1970, possibly with a fraction, which counts down.
    func time(_ claim: String) throws(TokenRefusal) -> Int64? {
        switch self.payload[claim] {
        case nil: return nil
        case .int(let seconds): return seconds
        case .double(let seconds):
            guard let whole = Int64(exactly: seconds.rounded(.down)) else { throw .malformed }
            return whole
        default: throw .malformed
        }
    }
}

extension ClaimValue {
    /// - Parameter words: names of members of the topmost object that are lists of words with spaces between them.
    init?(_ value: JSONValue, words: Set<String> = []) {
        switch value {
        case .null: return nil
        case .bool(let bool): self = .text(bool ? "true" : "false")
        case .int(let number): self = .text(String(number))
        case .double(let number): self = .text(String(number))
        case .string(let text): self = .text(text)
        case .array(let values): self = .list(values.compactMap { ClaimValue($0) })
        case .object(let members):
            var claims: [String: ClaimValue] = [:]
            for (name, value) in members {
                if words.contains(name), case .string(let text) = value {
                    claims[name] = .list(text.split(separator: " ").map { .text(String($0)) })
                } else {
                    claims[name] = ClaimValue(value)
                }
            }
            self = .object(claims)
        }
    }
}
