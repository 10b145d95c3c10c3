package import MeshModel

/// A RequestAuthentication: a request with a token that one of the rules speaks about must carry a valid one (401 else);
/// a request without a token passes.
package struct TokenPolicy: Hashable, Sendable {
    package struct HeaderSource: Hashable, Sendable {
        /// Lower case.
        package var name: String
        /// With the space behind it, as `Bearer `.
        package var prefix: String
        package init(name: String, prefix: String) {
            self.name = name
            self.prefix = prefix
        }
    }
    package struct ClaimHeader: Hashable, Sendable {
        package var header: String
        /// Nested claims are written with dots.
        package var claim: String
        package init(header: String, claim: String) {
            self.header = header
            self.claim = claim
        }
    }

    package struct Rule: Hashable, Sendable {
        package var issuer: String
        /// Any of them; none: every audience.
        package var audiences: [String] = []
        /// A JSON Web Key Set as text. The control plane fetches what is given by address and keeps it fresh; nil: it
        /// has none yet, and every token of this issuer is refused.
        package var keys: String?
        package var headers: [HeaderSource] = [HeaderSource(name: "authorization", prefix: "Bearer ")]
        package var parameters: [String] = ["access_token"]
        package var cookies: [String] = []
        package var forwardsToken = false
        package var payloadHeader: String?
        package var claimHeaders: [ClaimHeader] = []
        /// Claims of space-separated words, beside `scope` and `permission`.
        package var spaceDelimitedClaims: [String] = []

        package init(issuer: String) { self.issuer = issuer }
    }

    package var key: NamespacedName
    package var rules: [Rule]

    package init(key: NamespacedName, rules: [Rule]) {
        self.key = key
        self.rules = rules
    }
}
