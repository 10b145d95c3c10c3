/// Why a request's token is no good. The texts are the body of the answer; they are those that Istio's users know.
package enum TokenRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    case malformed
    case tooLarge
    case issuerNotConfigured
    case audienceNotAllowed
    case expired
    case notYetValid
    /// No key of the issuer's set has this id, or none fits the algorithm.
    case noKey
    /// The issuer's keys have not been fetched yet, or make no sense.
    case noKeys
    case algorithmNotSupported
    case badSignature

    package var description: String {
        switch self {
        case .malformed: "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
        case .tooLarge: "Jwt is too large"
        case .issuerNotConfigured: "Jwt issuer is not configured"
        case .audienceNotAllowed: "Audiences in Jwt are not allowed"
        case .expired: "Jwt is expired"
        case .notYetValid: "Jwt not yet valid"
        case .noKey: "Jwks doesn't have key to match kid or alg from Jwt"
        case .noKeys: "Jwks remote fetch is failed"
        case .algorithmNotSupported: "Jwt header [alg] is not supported"
        case .badSignature: "Jwt verification fails"
        }
    }

    /// 403 for a good token that is meant for others, as Envoy has it.
    package var status: Int { self == .audienceNotAllowed ? 403 : 401 }

    /// The value of `www-authenticate` (RFC 6750, 3).
    package func challenge(_ request: RequestHead) -> String {
        let realm = "\(request.scheme)://\(request.authority)\(RequestPath.path(request.path))"
            .filter { $0 != "\"" && $0 != "\\" }
        return "Bearer realm=\"\(realm)\", error=\"invalid_token\""
    }
}

package enum TokenOutcome: Sendable {
    /// The request carries no token that anybody asks about.
    case none
    case verified(VerifiedToken)
    case refused(TokenRefusal)
}

/// Checks tokens for the engine, which knows no cryptography. Made for a gate's ``RequestGate/tokens``, shared by all
/// event loops.
package protocol TokenChecking: Sendable {
    /// Looks for tokens, verifies them, and prepares the request for the server: fields that only a verified token may
    /// fill are taken away from the client, tokens that are not to be forwarded are removed.
    ///
    /// - Parameters:
    ///   - unixSeconds: the time.
    ///   - memory: of the calling event loop.
    func check(_ request: inout RequestHead, unixSeconds: Int64, memory: inout TokenMemory) -> TokenOutcome
}

/// Tokens that one event loop has verified: clients send the same one with each request, and a signature is expensive.
package struct TokenMemory: Sendable {
    package static let tokensMax = 1024

    package struct Key: Hashable, Sendable {
        /// Of the checker: another configuration, another memory.
        package let checker: UInt64
        package let rule: Int
        package let token: String

        package init(checker: UInt64, rule: Int, token: String) {
            self.checker = checker
            self.rule = rule
            self.token = token
        }
    }

    package struct Entry: Sendable {
        package let token: VerifiedToken
        /// `exp` and `nbf`, which time decides anew with each request.
        package let expires: Int64?
        package let notBefore: Int64?
        package let payload: String

        package init(token: VerifiedToken, expires: Int64?, notBefore: Int64?, payload: String) {
            self.token = token
            self.expires = expires
            self.notBefore = notBefore
            self.payload = payload
        }
    }

    private var entries: [Key: Entry] = [:]
    /// Keys as they came; the oldest at ``oldest``.
    private var order: [Key] = []
    private var oldest = 0

    package init() {}

    package var count: Int { self.entries.count }

    package subscript(key: Key) -> Entry? { self.entries[key] }

    /// The oldest entry leaves when there are too many.
    package mutating func insert(_ entry: Entry, for key: Key) {
        guard self.entries.updateValue(entry, forKey: key) == nil else { return }
        if self.order.count < Self.tokensMax {
            self.order.append(key)
            return
        }
        self.entries[self.order[self.oldest]] = nil
        self.order[self.oldest] = key
        self.oldest = (self.oldest + 1) % Self.tokensMax
    }
}
