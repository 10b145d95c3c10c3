import KubeAPI
import MeshHTTP
package import MeshRoutes
import Synchronization

/// The rules of a gate's ``TokenPolicy``s, compiled: where tokens are looked for, whose they may be, how they are
/// verified.
///
/// A token at a place that a rule names must be good by a rule for its issuer that names the place; every token of a
/// request must. Where several are good, the first rule's says who asks. A request without token passes: policies demand
/// tokens (`requestPrincipals`).
///
/// Synchronous: a signature is checked where the request is; ``TokenMemory`` spares most of them.
package final class TokenChecker: TokenChecking {
    /// How far clocks may differ; Envoy's value.
    package static let skewSeconds: Int64 = 60
    /// Tokens of one request.
    package static let tokensMax = 8

    private enum Place: Hashable {
        case header(TokenPolicy.HeaderSource)
        case parameter(String)
        case cookie(String)
    }

    private struct Rule: Sendable {
        let rule: TokenPolicy.Rule
        let keys: VerificationKeySet?
        let words: Set<String>
    }

    private let rules: [Rule]
    /// With the rules that look there, ascending.
    private let places: [(place: Place, rules: [Int])]
    /// Fields that the server must be able to believe.
    private let ownFields: [String]
    private let number: UInt64

    private static let numbers = Atomic<UInt64>(0)

    package init(_ policies: [TokenPolicy]) {
        let rules = policies.flatMap(\.rules)
        self.rules = rules.map {
            Rule(
                rule: $0, keys: $0.keys.flatMap { VerificationKeySet($0) },
                words: Set($0.spaceDelimitedClaims + ["scope", "permission"]))
        }
        var places: [(place: Place, rules: [Int])] = []
        for (index, rule) in rules.enumerated() {
            let named: [Place] =
                rule.headers.map { .header($0) } + rule.parameters.map { .parameter($0) }
                + rule.cookies.map { .cookie($0) }
            for place in named {
                if let at = places.firstIndex(where: { $0.place == place }) {
                    if places[at].rules.last != index { places[at].rules.append(index) }
                } else {
                    places.append((place, [index]))
                }
            }
        }
        self.places = places
        self.ownFields = rules.flatMap { rule in
            (rule.payloadHeader.map { [$0.lowercased()] } ?? []) + rule.claimHeaders.map { $0.header.lowercased() }
        }
        self.number = Self.numbers.wrappingAdd(1, ordering: .relaxed).newValue
    }

    package func check(
        _ request: inout RequestHead, unixSeconds: Int64, memory: inout TokenMemory
    ) -> TokenOutcome {
        for name in self.ownFields { request.fields.remove(named: name) }
        var found: [(place: Place, rule: Int, entry: TokenMemory.Entry)] = []
        for (place, rules) in self.places {
            for token in Self.tokens(at: place, of: request) {
                if found.count == Self.tokensMax { return .refused(.malformed) }
                do throws(TokenRefusal) {
                    let (rule, entry) = try self.verify(token, rules, unixSeconds, &memory)
                    found.append((place, rule, entry))
                } catch {
                    return .refused(error)
                }
            }
        }
        guard let first = found.min(by: { $0.rule < $1.rule }) else { return .none }
        for (_, rule, entry) in found { Self.tell(self.rules[rule].rule, entry, &request) }
        for (place, rule, _) in found where !self.rules[rule].rule.forwardsToken { Self.remove(place, from: &request) }
        return .verified(first.entry.token)
    }

    // MARK: Finding

    private static func tokens(at place: Place, of request: RequestHead) -> [String] {
        switch place {
        case .header(let source):
            var tokens: [String] = []
            for index in 0..<request.fields.count where request.fields.hasName(index, text: source.name) {
                if let token = Self.token(request.fields.value(index), after: source.prefix) { tokens.append(token) }
            }
            return tokens
        case .parameter(let name):
            let target = request.path.utf8.span
            guard let range = QueryParameters.find(Array(name.utf8), in: target) else { return [] }
            return [String(decoding: QueryParameters.decoded(target, range), as: UTF8.self)]
        case .cookie(let name):
            return CookieField.value(named: name, in: request.fields).map { [$0] } ?? []
        }
    }

    /// nil: the field carries something else. Prefixes are compared without regard to case, as RFC 9110, 11.1 wants it
    /// for `Bearer`: a token that the server would accept must not pass unseen.
    private static func token(_ value: String, after prefix: String) -> String? {
        let (octets, wanted) = (value.utf8, prefix.utf8)
        guard octets.count >= wanted.count, zip(octets, wanted).allSatisfy({ Self.lower($0) == Self.lower($1) }) else {
            return nil
        }
        let rest = octets.dropFirst(wanted.count).drop { $0 == UInt8(ascii: " ") }
        return rest.isEmpty && !prefix.isEmpty ? nil : String(rest)
    }

    private static func lower(_ byte: UInt8) -> UInt8 { (65...90).contains(byte) ? byte | 0x20 : byte }

    // MARK: Verifying

    private func verify(
        _ token: String, _ rules: [Int], _ now: Int64, _ memory: inout TokenMemory
    ) throws(TokenRefusal) -> (Int, TokenMemory.Entry) {
        // Swift's texts are equal by meaning: outside ASCII another text could pass for one that memory knows.
        guard token.utf8.allSatisfy({ $0 < 0x80 }) else { throw .malformed }
        // Known by the first rule that accepts it; a place has few rules.
        for rule in rules {
            let key = TokenMemory.Key(checker: self.number, rule: rule, token: token)
            guard let entry = memory[key] else { continue }
            try Self.checkTime(entry, now)
            return (rule, entry)
        }
        let parsed = try SignedToken(token)
        var refusal = TokenRefusal.issuerNotConfigured
        for rule in rules where self.rules[rule].rule.issuer.utf8.elementsEqual(parsed.issuer.utf8) {
            do throws(TokenRefusal) {
                let entry = try self.entry(parsed, self.rules[rule], now)
                memory.insert(entry, for: TokenMemory.Key(checker: self.number, rule: rule, token: token))
                return (rule, entry)
            } catch {
                // The first rule for the issuer says what was wrong.
                if refusal == .issuerNotConfigured { refusal = error }
            }
        }
        throw refusal
    }

    private func entry(
        _ token: SignedToken, _ rule: Rule, _ now: Int64
    ) throws(TokenRefusal) -> TokenMemory.Entry {
        let subject = token.payload["sub"]?.string ?? ""
        let entry = TokenMemory.Entry(
            token: VerifiedToken(
                principal: token.issuer.isEmpty || subject.isEmpty ? "" : "\(token.issuer)/\(subject)",
                audiences: token.audiences, presenter: token.payload["azp"]?.string ?? "",
                claims: ClaimValue(token.payload, words: rule.words) ?? .object([:])),
            expires: try token.time("exp"), notBefore: try Self.later(token.time("nbf"), token.time("iat")),
            payload: token.payloadText)
        try Self.checkTime(entry, now)
        let isMeant = rule.rule.audiences.contains { wanted in
            token.audiences.contains { $0.utf8.elementsEqual(wanted.utf8) }
        }
        guard rule.rule.audiences.isEmpty || isMeant else { throw .audienceNotAllowed }
        guard let keys = rule.keys else { throw .noKeys }
        try keys.verify(token)
        return entry
    }

    private static func later(_ left: Int64?, _ right: Int64?) -> Int64? {
        guard let left, let right else { return left ?? right }
        return max(left, right)
    }

    private static func checkTime(_ entry: TokenMemory.Entry, _ now: Int64) throws(TokenRefusal) {
        if let expires = entry.expires, now.subtractingReportingOverflow(Self.skewSeconds).partialValue >= expires {
            throw .expired
        }
        if let notBefore = entry.notBefore, now + Self.skewSeconds < notBefore { throw .notYetValid }
    }

    // MARK: Preparing the request

    private static func tell(_ rule: TokenPolicy.Rule, _ entry: TokenMemory.Entry, _ request: inout RequestHead) {
        if let header = rule.payloadHeader {
            request.fields.replace(header.lowercased(), entry.payload, sensitive: true)
        }
        for claimHeader in rule.claimHeaders {
            let path = claimHeader.claim.split(separator: ".").map(String.init)
            // A claim whose name has dots itself, such as an address, comes first.
            let value = entry.token.claims[[claimHeader.claim]] ?? entry.token.claims[path]
            guard case .text(let text) = value, Self.isFieldValue(text) else { continue }
            request.fields.replace(claimHeader.header.lowercased(), text)
        }
    }

    /// Whoever signs tokens does not thereby write fields: nothing that could end one.
    private static func isFieldValue(_ text: String) -> Bool {
        guard let first = text.utf8.first, let last = text.utf8.last, first != 32, last != 32 else { return false }
        return text.utf8.allSatisfy { $0 >= 32 && $0 != 127 }
    }

    private static func remove(_ place: Place, from request: inout RequestHead) {
        switch place {
        case .header(let source):
            var index = request.fields.count - 1
            while index >= 0 {
                if request.fields.hasName(index, text: source.name),
                    Self.token(request.fields.value(index), after: source.prefix) != nil
                {
                    request.fields.remove(at: index)
                }
                index -= 1
            }
        case .parameter(let name):
            let wanted = Array(name.utf8)
            while let range = QueryParameters.find(wanted, in: request.path.utf8.span) {
                request.path = Self.without(range, request.path)
            }
        case .cookie(let name): CookieField.remove(named: name, from: &request.fields)
        }
    }

    /// Without the parameter whose value is there.
    private static func without(_ value: Range<Int>, _ target: String) -> String {
        var octets = Array(target.utf8)
        let start = octets[..<value.lowerBound].lastIndex { $0 == UInt8(ascii: "&") || $0 == UInt8(ascii: "?") }!
        if octets[start] == UInt8(ascii: "?"), value.upperBound < octets.count {
            octets.removeSubrange(start + 1...value.upperBound)
        } else {
            octets.removeSubrange(start..<value.upperBound)
        }
        return String(decoding: octets, as: UTF8.self)
    }
}
