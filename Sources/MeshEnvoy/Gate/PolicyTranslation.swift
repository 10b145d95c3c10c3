internal import MeshModel
internal import MeshProto
internal import MeshRoutes

/// Compiled policies as Envoy's RBAC: a rule is a policy there, whose permissions say what is asked for and whose
/// principals say who asks. Both must match, any of each.
struct PolicyTranslation {
    /// Where a client's identity is found.
    let proof: PeerProof

    func rules(_ policies: [CompiledPolicy], _ action: EnvoyRBAC.Action) -> EnvoyRBAC {
        var rules = EnvoyRBAC()
        rules.action = action
        for policy in policies {
            for (index, rule) in policy.rules {
                let match = PolicyMatch(policy: policy.key, rule: index, action: policy.action)
                // Attached twice, a policy has its name twice; none may push the other out.
                var name = match.description
                while let there = rules.policies[name], there != self.policy(rule) { name += "'" }
                rules.policies[name] = self.policy(rule)
            }
        }
        return rules
    }

    private func policy(_ rule: CompiledRule) -> EnvoyRBACPolicy {
        let conditions = rule.when.map(self.test)
        let who = conditions.compactMap { if case .who(let principal) = $0 { principal } else { nil } }
        let what = conditions.compactMap { if case .what(let permission) = $0 { permission } else { nil } }
        var policy = EnvoyRBACPolicy()
        // An alternative of `from` asks only who, one of `to` only what.
        policy.principals = (rule.from.isEmpty ? [[]] : rule.from).map { tests in
            .all(tests.compactMap { if case .who(let principal) = self.test($0) { principal } else { nil } } + who)
        }
        policy.permissions = (rule.to.isEmpty ? [[]] : rule.to).map { tests in
            .all(tests.compactMap { if case .what(let permission) = self.test($0) { permission } else { nil } } + what)
        }
        return policy
    }

    private enum Test {
        case who(EnvoyPrincipal)
        case what(EnvoyPermission)
    }

    /// Any of the wanted values and none of the unwanted. Where a request leaves open what a value is, DENY takes any
    /// reading of the wanted and ALLOW any reading of the unwanted.
    private func test(_ test: AttributeTest) -> Test {
        if test.attribute.isOfWhom {
            var all: [EnvoyPrincipal] = []
            if !test.wanted.isEmpty {
                all.append(.any(of: test.wanted.map { self.who(test.attribute, $0, isLoose: test.isDenying) }))
            }
            if !test.unwanted.isEmpty {
                all.append(
                    .not(.any(of: test.unwanted.map { self.who(test.attribute, $0, isLoose: !test.isDenying) })))
            }
            return .who(.all(all))
        }
        var all: [EnvoyPermission] = []
        if !test.wanted.isEmpty {
            all.append(.any(of: test.wanted.map { Self.what(test.attribute, $0, isLoose: test.isDenying) }))
        }
        if !test.unwanted.isEmpty {
            all.append(.not(.any(of: test.unwanted.map { Self.what(test.attribute, $0, isLoose: !test.isDenying) })))
        }
        return .what(.all(all))
    }

    // MARK: Who asks

    private func who(_ attribute: GateAttribute, _ value: ValueTest, isLoose: Bool) -> EnvoyPrincipal {
        switch (attribute, value) {
        case (.principal, .text(let text)): self.proof.peer(Self.principal(text))
        case (.namespace, .text(let text)): self.proof.peer(.regex("spiffe://[^/]+/ns/\(text.segment)/sa/.+"))
        case (.trustDomain, .text(let text)): self.proof.peer(.regex("spiffe://\(text.segment)/.+"))
        case (.serviceAccount, .serviceAccount(let account)):
            self.proof.peer(
                .regex(
                    "spiffe://[^/]+/ns/\(RegexText.literal(account.namespace))/sa/\(RegexText.literal(account.serviceAccount))"
                ))
        case (.sourceIP, .block(let block)): .with { $0.sourceIp = EnvoyCidrRange(block) }
        case (.remoteIP, .block(let block)): .with { $0.remoteIp = EnvoyCidrRange(block) }
        case (.header(let name), .text(let text)): .with { $0.header = .header(name, text, isLoose: isLoose) }
        case (.requestPrincipal, .text(let text)): ClaimTranslation.requestPrincipal(text)
        case (.audiences, .text(let text)): ClaimTranslation.claim(["aud"], text)
        case (.presenter, .text(let text)): ClaimTranslation.claim(["azp"], text)
        case (.claim(let path), .text(let text)): ClaimTranslation.claim(path, text)
        // The compiler lets no other pair through; one that it did would match nobody.
        default: .nobody
        }
    }

    private static func principal(_ text: TextPattern) -> EnvoyStringMatcher {
        switch text.shape {
        case .exact: .exact("spiffe://" + text.string)
        case .prefix: .prefix("spiffe://" + text.string)
        case .suffix: .suffix(text.string)
        case .presence: .prefix("spiffe://")
        }
    }

    // MARK: What is asked for

    private static func what(_ attribute: GateAttribute, _ value: ValueTest, isLoose: Bool) -> EnvoyPermission {
        switch (attribute, value) {
        case (.host, .text(let text)): .with { $0.header = .host(text, isLoose: isLoose) }
        case (.method, .text(let text)): .with { $0.header = .header(":method", text, isLoose: false) }
        case (.path, .text(let text)): .with { $0.urlPath.path = Self.path(text) }
        case (.path, .template(let template)): .with { $0.urlPath.path = .regex(template.regex) }
        case (.destinationIP, .block(let block)): .with { $0.destinationIp = EnvoyCidrRange(block) }
        case (.destinationPort, .port(let port)): .with { $0.destinationPort = UInt32(port) }
        case (.serverName, .text(let text)):
            .with { $0.requestedServerName = text.shape == .presence ? .regex(".+") : text.plain }
        default: .nothing
        }
    }

    private static func path(_ text: TextPattern) -> EnvoyStringMatcher {
        guard text.string.contains("%") else { return text.shape == .presence ? .regex(".+") : text.plain }
        let pattern = RegexText.path(text.string)
        return switch text.shape {
        case .exact: .regex(pattern)
        case .prefix: .regex("\(pattern).*")
        case .suffix: .regex(".*\(pattern)")
        case .presence: .regex(".+")
        }
    }
}

extension GateAttribute {
    fileprivate var isOfWhom: Bool {
        switch self {
        case .principal, .namespace, .trustDomain, .serviceAccount, .sourceIP, .remoteIP, .requestPrincipal, .audiences,
            .presenter, .header, .claim:
            true
        case .destinationIP, .destinationPort, .serverName, .host, .method, .path: false
        }
    }
}

extension TextPattern {
    var string: String { String(decoding: self.text, as: UTF8.self) }

    /// What is left open is any text.
    var plain: EnvoyStringMatcher {
        var matcher: EnvoyStringMatcher =
            switch self.shape {
            case .exact: .exact(self.string)
            case .prefix: .prefix(self.string)
            case .suffix: .suffix(self.string)
            case .presence: .regex(".+")
            }
        if self.shape != .presence { matcher.ignoreCase = self.ignoresCase }
        return matcher
    }

    /// As a pattern for one segment of an identity.
    fileprivate var segment: String {
        let text = RegexText.literal(self.string)
        return switch self.shape {
        case .exact: text
        case .prefix: "\(text)[^/]*"
        case .suffix: "[^/]*\(text)"
        case .presence: "[^/]+"
        }
    }
}

extension PathTemplate {
    fileprivate var regex: String {
        var pattern = ""
        for segment in self.segments {
            switch segment {
            case .literal(let text): pattern += "/" + RegexText.path(String(decoding: text, as: UTF8.self))
            case .one: pattern += "/[^/]+"
            }
        }
        if let rest { pattern += "/.*" + RegexText.path(String(decoding: rest, as: UTF8.self)) }
        return pattern
    }
}

extension EnvoyHeaderMatcher {
    /// Envoy joins the values of one name with commas; loosely each of them counts, too.
    fileprivate static func header(_ name: String, _ text: TextPattern, isLoose: Bool) -> EnvoyHeaderMatcher {
        if name == "host" || name == ":authority" { return .host(text, isLoose: isLoose) }
        return .with {
            $0.name = name
            let pattern = RegexText.literal(text.string)
            switch text.shape {
            case .presence: $0.presentMatch = true
            case .exact where isLoose: $0.stringMatch = .regex("(?s)(?:.*, ?)?\(pattern)(?: ?,.*)?")
            case .prefix where isLoose: $0.stringMatch = .regex("(?s)(?:.*, ?)?\(pattern).*")
            case .suffix where isLoose: $0.stringMatch = .regex("(?s).*\(pattern)(?: ?,.*)?")
            case .exact, .prefix, .suffix: $0.stringMatch = text.plain
            }
        }
    }

    /// Loosely also without its port, and without the dot at a name's end.
    fileprivate static func host(_ text: TextPattern, isLoose: Bool) -> EnvoyHeaderMatcher {
        .with {
            $0.name = ":authority"
            let pattern = RegexText.literal(text.string)
            let ending = isLoose ? "\\.?(?::[0-9]*)?" : ""
            switch text.shape {
            case .presence: $0.presentMatch = true
            case .exact: $0.stringMatch = .regex("(?i)\(pattern)\(ending)")
            case .prefix: $0.stringMatch = .regex("(?i)\(pattern).*")
            case .suffix: $0.stringMatch = .regex("(?i).*\(pattern)\(ending)")
            }
        }
    }
}
