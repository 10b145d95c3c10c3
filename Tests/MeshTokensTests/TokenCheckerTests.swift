import Crypto
import Foundation
import MeshHTTP
import MeshModel
import MeshRoutes
import MeshTokens
import Testing

/// Signed by PyJWT (Golden/make.py), one token for each algorithm.
private enum Golden {
    static let lines = String(decoding: PackageResources.tokens_txt, as: UTF8.self).split(separator: "\n")
    static let keys = String(lines[0].dropFirst("keys ".count))
    static let tokens: [(name: String, text: String)] = lines.dropFirst().map { line in
        let words = line.split(separator: " ")
        return (String(words[1]), String(words[2]))
    }
    static func token(_ name: String) -> String { tokens.first { $0.name == name }!.text }
    static let now: Int64 = 1_800_000_000
}

/// Signs with a secret of its own, so that each test says what its token says.
private struct Issuer {
    static let secret = [UInt8](repeating: 7, count: 32)
    static let keys = #"{"keys":[{"kty":"oct","kid":"k","k":"\#(Base64URL.encode(secret))"}]}"#

    static func token(
        _ payload: String, header: String = #"{"alg":"HS256","kid":"k"}"#, secret: [UInt8] = Self.secret
    ) -> String {
        let signed = Base64URL.encode(Array(header.utf8)) + "." + Base64URL.encode(Array(payload.utf8))
        let code = HMAC<SHA256>.authenticationCode(for: Data(signed.utf8), using: SymmetricKey(data: secret))
        return signed + "." + Base64URL.encode(Array(code))
    }

    static func rule(_ change: (inout TokenPolicy.Rule) -> Void = { _ in }) -> TokenPolicy.Rule {
        var rule = TokenPolicy.Rule(issuer: "me")
        rule.keys = Self.keys
        change(&rule)
        return rule
    }
}

private func request(_ fields: HTTP2HeaderList = [:], path: String = "/") -> RequestHead {
    RequestHead(method: "GET", scheme: "http", authority: "web.shop", path: path, fields: fields)
}

private func checker(_ rules: TokenPolicy.Rule...) -> TokenChecker {
    TokenChecker([TokenPolicy(key: NamespacedName(namespace: "shop", name: "jwt"), rules: rules)])
}

private func refusal(_ outcome: TokenOutcome) -> TokenRefusal? {
    if case .refused(let refusal) = outcome { refusal } else { nil }
}

private func verified(_ outcome: TokenOutcome) -> VerifiedToken? {
    if case .verified(let token) = outcome { token } else { nil }
}

@Suite("Tokens")
struct TokenCheckerTests {
    private func check(
        _ token: String, _ rules: TokenPolicy.Rule..., now: Int64 = Golden.now
    ) -> TokenOutcome {
        var head = request(["authorization": "Bearer \(token)"])
        var memory = TokenMemory()
        return TokenChecker([TokenPolicy(key: NamespacedName(namespace: "shop", name: "jwt"), rules: rules)])
            .check(&head, unixSeconds: now, memory: &memory)
    }

    private func golden(_ change: (inout TokenPolicy.Rule) -> Void = { _ in }) -> TokenPolicy.Rule {
        var rule = TokenPolicy.Rule(issuer: "https://issuer.example")
        rule.keys = Golden.keys
        change(&rule)
        return rule
    }

    @Test("of PyJWT, with every algorithm, say who and what", arguments: Golden.tokens.map(\.name))
    func interop(name: String) throws {
        let token = try #require(verified(self.check(Golden.token(name), self.golden())))
        #expect(token.principal == "https://issuer.example/alice")
        #expect(token.audiences == ["shop", "bank"])
        #expect(token.presenter == "app")
        #expect(token.claims[["scope"]] == .list([.text("read"), .text("write")]))
        #expect(token.claims[["groups"]] == .list([.text("a"), .text("b")]))
        #expect(token.claims[["nested", "role"]] == .text("admin"))
        #expect(token.claims[["nested", "level"]] == .text("3"))
        #expect(token.claims[["nested", "on"]] == .text("true"))
        #expect(token.claims[["nested", "none"]] == nil)
    }

    @Test("with one bit changed are none", arguments: Golden.tokens.map(\.name))
    func changed(name: String) {
        var octets = Array(Golden.token(name).utf8)
        let at = octets.lastIndex(of: UInt8(ascii: "."))! + 3
        octets[at] = octets[at] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
        #expect(refusal(self.check(String(decoding: octets, as: UTF8.self), self.golden())) == .badSignature)
    }

    @Test("cannot choose how their key is understood")
    func algorithmConfusion() {
        let payload = #"{"iss":"https://issuer.example","sub":"mallory"}"#
        func forged(_ header: String) -> TokenRefusal? {
            refusal(self.check(Issuer.token(payload, header: header, secret: Array(Golden.keys.utf8)), self.golden()))
        }
        #expect(forged(#"{"alg":"none"}"#) == .algorithmNotSupported)
        #expect(forged(#"{"alg":"None","kid":"rsa"}"#) == .algorithmNotSupported)
        #expect(forged(#"{"alg":"HS256","kid":"rsa"}"#) == .noKey)
        #expect(forged(#"{"alg":"ES256","kid":"rsa"}"#) == .noKey)
        #expect(forged(#"{"alg":"RS256","kid":"unknown"}"#) == .noKey)
        #expect(forged(#"{"alg":"HS256","kid":"secret"}"#) == .badSignature)
        // The secret is tried as well, for a token that names no key.
        #expect(forged(#"{"alg":"HS256"}"#) == .badSignature)
        #expect(forged(#"{"alg":"RS256","kid":"rsa","crit":["x"]}"#) == .malformed)
        let unsigned =
            Base64URL.encode(Array(#"{"alg":"none"}"#.utf8)) + "." + Base64URL.encode(Array(payload.utf8)) + "."
        #expect(refusal(self.check(unsigned, self.golden())) == .algorithmNotSupported)
    }

    @Test(
        "say what is wrong with them",
        arguments: [
            ("", "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
            ("a.b", "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
            ("a.b.c.d", "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
            (Issuer.token("[]"), "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
            (
                Issuer.token(#"{"iss":"me","exp":"soon"}"#),
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            ),
            (Issuer.token(#"{"iss":"you"}"#), "Jwt issuer is not configured"),
            (Issuer.token("{}"), "Jwt issuer is not configured"),
            (Issuer.token(#"{"iss":"me","exp":1799999940}"#), "Jwt is expired"),
            (Issuer.token(#"{"iss":"me","nbf":1800000061}"#), "Jwt not yet valid"),
            (Issuer.token(#"{"iss":"me","iat":1800000061.5}"#), "Jwt not yet valid"),
            (Issuer.token(#"{"iss":"me"}"#, secret: [1, 2, 3]), "Jwt verification fails"),
            (
                Issuer.token(#"{"iss":"me"}"#, header: #"{"alg":"HS256","kid":"other"}"#),
                "Jwks doesn't have key to match kid or alg from Jwt"
            ),
            (Issuer.token(#"{"iss":"me","x":"\#(String(repeating: "x", count: 20_000))"}"#), "Jwt is too large"),
        ])
    func refusals(token: String, text: String) {
        let refused = refusal(self.check(token.isEmpty ? "." : token, Issuer.rule()))
        #expect(refused?.description == text)
        #expect(refused?.status == 401)
    }

    @Test(
        "are as late or early as clocks differ",
        arguments: [
            #"{"iss":"me","exp":1799999941}"#, #"{"iss":"me","nbf":1800000060,"iat":1800000060.9}"#, #"{"iss":"me"}"#,
        ])
    func skew(payload: String) { #expect(verified(self.check(Issuer.token(payload), Issuer.rule())) != nil) }

    @Test("without issuer's keys are refused: nothing can be known of them")
    func noKeys() {
        for keys in [nil, "", "{}", #"{"keys":[]}"#, #"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#] {
            #expect(refusal(self.check(Issuer.token(#"{"iss":"me"}"#), Issuer.rule { $0.keys = keys })) == .noKeys)
        }
        // Others beside a good key do no harm.
        let mixed = #"{"keys":[{"kty":"new"},5,{"kty":"RSA","n":"AQAB","e":"AQAB"},"# + Issuer.keys.dropFirst(9)
        #expect(verified(self.check(Issuer.token(#"{"iss":"me"}"#), Issuer.rule { $0.keys = mixed })) != nil)
    }

    @Test("are for an audience")
    func audiences() {
        let one = Issuer.token(#"{"iss":"me","aud":"shop"}"#)
        #expect(verified(self.check(one, Issuer.rule { $0.audiences = ["bank", "shop"] })) != nil)
        let refused = refusal(self.check(one, Issuer.rule { $0.audiences = ["bank"] }))
        #expect(refused == .audienceNotAllowed)
        #expect(refused?.status == 403)
        #expect(
            refusal(self.check(Issuer.token(#"{"iss":"me"}"#), Issuer.rule { $0.audiences = ["x"] }))
                == .audienceNotAllowed)
        // Any rule of the issuer may accept it.
        #expect(
            verified(self.check(one, Issuer.rule { $0.audiences = ["bank"] }, Issuer.rule { $0.audiences = ["shop"] }))
                != nil)
    }

    @Test("have a principal only with issuer and subject")
    func principal() {
        #expect(verified(self.check(Issuer.token(#"{"iss":"me","sub":"you"}"#), Issuer.rule()))?.principal == "me/you")
        #expect(verified(self.check(Issuer.token(#"{"iss":"me"}"#), Issuer.rule()))?.principal == "")
    }
}

@Suite("Tokens in requests")
struct TokenPlaceTests {
    private let token = Issuer.token(
        #"{"iss":"me","sub":"you","role":"cook","n":{"a":1},"evil":"a\r\nb: c","mail@x.y":"m"}"#)

    private func check(_ head: inout RequestHead, _ rules: TokenPolicy.Rule...) -> TokenOutcome {
        var memory = TokenMemory()
        return TokenChecker([TokenPolicy(key: NamespacedName(namespace: "shop", name: "jwt"), rules: rules)])
            .check(&head, unixSeconds: Golden.now, memory: &memory)
    }

    @Test func areFoundInHeadersParametersAndCookies() {
        let rule = Issuer.rule {
            $0.headers.append(TokenPolicy.HeaderSource(name: "x-token", prefix: ""))
            $0.cookies = ["session"]
        }
        let heads = [
            request(["authorization": "Bearer \(self.token)"]), request(["authorization": "bearer  \(self.token)"]),
            request(["x-token": self.token]), request(path: "/?a=b&access_token=\(self.token)&c"),
            request(["cookie": "a=b; session=\(self.token)"]),
            request(["cookie": "a=b", "cookie": "session=\"\(self.token)\""]),
        ]
        for var head in heads { #expect(verified(self.check(&head, rule))?.principal == "me/you") }
        for var head in [request(), request(["authorization": "Basic dXNlcg=="]), request(["cookie": "sessions=x"])] {
            if case .none = self.check(&head, rule) { continue }
            Issue.record("a request without token passes")
        }
    }

    @Test func areRemovedUnlessTheyAreToBeForwarded() {
        let rule = Issuer.rule { $0.cookies = ["t"] }
        var head = request(
            ["authorization": "Bearer \(self.token)", "cookie": "a=b; t=\(self.token); c=d", "x": "y"],
            path: "/p?access_token=\(self.token)&b=c")
        #expect(verified(self.check(&head, rule)) != nil)
        #expect(head.fields == ["x": "y", "cookie": "a=b; c=d"])
        #expect(head.path == "/p?b=c")
        var alone = request(path: "/p?b=c&access_token=\(self.token)")
        _ = self.check(&alone, rule)
        #expect(alone.path == "/p?b=c")
        var only = request(path: "/p?access_token=\(self.token)")
        _ = self.check(&only, rule)
        #expect(only.path == "/p")
        var kept = request(["authorization": "Bearer \(self.token)"])
        _ = self.check(&kept, Issuer.rule { $0.forwardsToken = true })
        #expect(kept.fields.count == 1)
    }

    @Test func fillFieldsThatNobodyElseMayFill() {
        let rule = Issuer.rule {
            $0.payloadHeader = "X-Payload"
            $0.claimHeaders = [
                ("x-role", "role"), ("x-n", "n.a"), ("x-evil", "evil"), ("x-mail", "mail@x.y"), ("x-no", "no"),
            ]
            .map { TokenPolicy.ClaimHeader(header: $0.0, claim: $0.1) }
        }
        let forged: HTTP2HeaderList = ["x-role": "boss", "x-payload": "p", "x-evil": "e", "x-no": "yes", "x": "y"]
        var without = request(forged)
        _ = self.check(&without, rule)
        #expect(without.fields == ["x": "y"])
        var fields = forged
        fields.append("authorization", "Bearer \(self.token)")
        var with = request(fields)
        _ = self.check(&with, rule)
        let payload = String(self.token.split(separator: ".")[1])
        #expect(with.fields.value(named: "x-payload") == payload)
        #expect(with.fields.value(named: "x-role") == "cook")
        #expect(with.fields.value(named: "x-n") == "1")
        #expect(with.fields.value(named: "x-mail") == "m")
        #expect(with.fields.value(named: "x-evil") == nil)
        #expect(with.fields.value(named: "x-no") == nil)
    }

    @Test("must all be good, and the first rule's says who asks")
    func several() {
        let other = Issuer.rule {
            $0.issuer = "them"
            $0.headers = [TokenPolicy.HeaderSource(name: "x-id", prefix: "")]
        }
        let theirs = Issuer.token(#"{"iss":"them","sub":"robot"}"#)
        var both = request(["x-id": theirs, "authorization": "Bearer \(self.token)"])
        #expect(verified(self.check(&both, Issuer.rule(), other))?.principal == "me/you")
        var bad = request(["x-id": theirs + "x", "authorization": "Bearer \(self.token)"])
        #expect(refusal(self.check(&bad, Issuer.rule(), other)) != nil)
        // A good token at a place that its rule does not name.
        var misplaced = request(["authorization": "Bearer \(theirs)"])
        #expect(refusal(self.check(&misplaced, Issuer.rule(), other)) == .issuerNotConfigured)
        var many = HTTP2HeaderList()
        for _ in 0...TokenChecker.tokensMax { many.append("authorization", "Bearer \(self.token)") }
        var crowd = request(many)
        #expect(refusal(self.check(&crowd, Issuer.rule())) == .malformed)
    }

    @Test("are remembered, and still expire")
    func memory() {
        let token = Issuer.token(#"{"iss":"me","exp":1800000100}"#)
        let checker = checker(Issuer.rule())
        var memory = TokenMemory()
        func check(_ now: Int64) -> TokenOutcome {
            var head = request(["authorization": "Bearer \(token)"])
            return checker.check(&head, unixSeconds: now, memory: &memory)
        }
        #expect(verified(check(Golden.now)) != nil)
        #expect(memory.count == 1)
        #expect(verified(check(Golden.now)) != nil)
        #expect(memory.count == 1)
        #expect(refusal(check(Golden.now + 160)) == .expired)
        // Equal to Swift, but not the same octets: U+212A is no K.
        if token.contains("K") {
            var alike = request(["authorization": "Bearer \(token.replacing("K", with: "\u{212A}"))"])
            #expect(refusal(checker.check(&alike, unixSeconds: Golden.now, memory: &memory)) == .malformed)
        }
        // Another checker, with other keys, knows nothing of it.
        let stranger = MeshTokensTests.checker(Issuer.rule { $0.keys = Golden.keys })
        var head = request(["authorization": "Bearer \(token)"])
        #expect(refusal(stranger.check(&head, unixSeconds: Golden.now, memory: &memory)) == .noKey)
        for index in 0..<TokenMemory.tokensMax + 10 {
            var other = request(["authorization": "Bearer \(Issuer.token(#"{"iss":"me","sub":"\#(index)"}"#))"])
            _ = checker.check(&other, unixSeconds: Golden.now, memory: &memory)
        }
        #expect(memory.count == TokenMemory.tokensMax)
    }

    @Test func challengeNamesTheResource() {
        let head = request(path: "/a?b")
        #expect(TokenRefusal.expired.challenge(head) == #"Bearer realm="http://web.shop/a", error="invalid_token""#)
    }
}
