internal import MeshProto
internal import MeshRoutes

/// What a verified token says, asked of the metadata in which Envoy's token filter leaves it.
enum ClaimTranslation {
    static let payload = "payload"

    static func claim(_ path: [String], _ text: TextPattern) -> EnvoyPrincipal {
        var values: [EnvoyValueMatcher] = [.with { $0.stringMatch = text.plain }]
        if text.shape == .exact {
            // Booleans and numbers are their texts.
            if let flag = Bool(text.string) { values.append(.with { $0.boolMatch = flag }) }
            if let number = Double(text.string), number.isFinite {
                values.append(.with { $0.doubleMatch.exact = number })
            }
        }
        if text.shape == .presence {
            values += [.with { $0.boolMatch = true }, .with { $0.boolMatch = false }]
        }
        let inLists = values.map { value in EnvoyValueMatcher.with { $0.listMatch.oneOf = value } }
        return Self.metadata(path, .with { $0.orMatch.valueMatchers = values + inLists })
    }

    private static func metadata(_ path: [String], _ value: EnvoyValueMatcher) -> EnvoyPrincipal {
        .with { principal in
            principal.sourcedMetadata.metadataMatcher = .with {
                $0.filter = EnvoyNames.tokens
                $0.path = ([Self.payload] + path).map { name in .with { $0.key = name } }
                $0.value = value
            }
        }
    }

    /// `<issuer>/<subject>`, both of which may have slashes in them.
    static func requestPrincipal(_ text: TextPattern) -> EnvoyPrincipal {
        func pair(_ issuer: EnvoyStringMatcher, _ subject: EnvoyStringMatcher) -> EnvoyPrincipal {
            .all([
                Self.metadata(["iss"], .with { $0.stringMatch = issuer }),
                Self.metadata(["sub"], .with { $0.stringMatch = subject }),
            ])
        }
        let any = EnvoyStringMatcher.regex("(?s).+")
        let whole = text.string
        let splits = whole.indices.filter { whole[$0] == "/" }
            .map { (whole[..<$0], whole[whole.index(after: $0)...]) }
        switch text.shape {
        case .presence: return pair(any, any)
        case .exact:
            let pairs = splits.filter { !$0.0.isEmpty && !$0.1.isEmpty }
                .map { pair(.exact(String($0.0)), .exact(String($0.1))) }
            return pairs.isEmpty ? .nobody : .any(of: pairs)
        case .prefix:
            let pairs = splits.filter { !$0.0.isEmpty }.map { issuer, subject in
                pair(.exact(String(issuer)), subject.isEmpty ? any : .prefix(String(subject)))
            }
            return .any(of: [pair(.prefix(whole), any)] + pairs)
        case .suffix:
            let pairs = splits.filter { !$0.1.isEmpty }.map { issuer, subject in
                pair(issuer.isEmpty ? any : .suffix(String(issuer)), .exact(String(subject)))
            }
            return .any(of: [pair(any, .suffix(whole))] + pairs)
        }
    }
}

extension EnvoyJWTAuthentication {
    /// A token at a place that a rule names must be good by a rule for its issuer; a request without one passes.
    init(_ policies: [TokenPolicy]) {
        self.init()
        var names: [String] = []
        for (index, rule) in policies.flatMap(\.rules).enumerated() {
            // Zeros in front, so that the order of names is that of rules.
            let digits = String(index)
            let name = "origins-" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
            self.providers[name] = EnvoyJWTProvider(rule)
            names.append(name)
        }
        let alone = names.map { name in EnvoyJWTRequirement.with { $0.providerName = name } }
        let optional = alone.map { provider in
            EnvoyJWTRequirement.with {
                $0.requiresAny.requirements = [provider, .with { $0.allowMissing = EnvoyNothing() }]
            }
        }
        self.rules = [
            .with {
                $0.match.prefix = "/"
                if optional.count == 1 {
                    $0.requires = optional[0]
                } else {
                    // With a token of one issuer, the others' are missing; with one of each, all must be good.
                    $0.requires.requiresAny.requirements =
                        [.with { $0.requiresAll.requirements = optional }] + alone
                }
            }
        ]
    }
}

extension EnvoyJWTProvider {
    /// Without keys no token can be good.
    private static let noKeys = #"{"keys":[]}"#

    fileprivate init(_ rule: TokenPolicy.Rule) {
        self.init()
        self.issuer = rule.issuer
        self.audiences = rule.audiences
        self.localJwks = .inline(rule.keys ?? Self.noKeys)
        self.forward = rule.forwardsToken
        self.fromHeaders = rule.headers.map { source in
            .with {
                $0.name = source.name
                $0.valuePrefix = source.prefix
            }
        }
        self.fromParams = rule.parameters
        self.fromCookies = rule.cookies
        self.forwardPayloadHeader = rule.payloadHeader ?? ""
        self.payloadInMetadata = ClaimTranslation.payload
        self.normalizePayloadInMetadata.spaceDelimitedClaims =
            Set(rule.spaceDelimitedClaims + ["scope", "permission"]).sorted()
        self.claimToHeaders = rule.claimHeaders.map { claim in
            .with {
                $0.headerName = claim.header
                $0.claimName = claim.claim
            }
        }
    }
}
