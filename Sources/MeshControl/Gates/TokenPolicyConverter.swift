import KubeAPI
import MeshModel
import MeshRoutes

/// Where an issuer's keys are.
package enum KeySource: Hashable, Sendable, CustomStringConvertible {
    /// A JSON Web Key Set.
    case address(String)
    /// `<issuer>/.well-known/openid-configuration` says where (OpenID Connect Discovery 1.0, section 4).
    case discovery(issuer: String)

    package var description: String {
        switch self {
        case .address(let url): url
        case .discovery(let issuer): "the configuration of \(issuer)"
        }
    }
    var key: String {
        switch self {
        case .address(let url): "jwks|\(url)"
        case .discovery(let issuer): "oidc|\(issuer)"
        }
    }
}

/// RequestAuthentications with targets.
enum TokenPolicyConverter {
    /// - Parameters:
    ///   - forSidecars: one without targets, which waypoints do not follow.
    ///   - keys: what was fetched from there.
    static func element(
        _ view: RequestAuthenticationView, _ settings: MeshSettings, forSidecars: Bool = false,
        keys: (KeySource) -> String?
    ) -> GateElement? {
        if view.targets.isEmpty != forSidecars { return nil }
        let targets = GateTarget.texts(view.targets, namespace: view.key.namespace, settings)
        var policy = TokenPolicy(key: view.key, rules: [])
        var troubles: [String] = []
        var isComplete = true
        for (number, json) in view.rules.enumerated() {
            guard let issuer = json["issuer"]?.string, !issuer.isEmpty else {
                let reason = "RequestAuthentication \(view.key): rule \(number) has no issuer"
                return GateElement(
                    content: .closed(because: reason), targets: targets,
                    caveat: .init(
                        isEnforced: false, reason: "Invalid",
                        message: "\(reason); until it is corrected, everything for its targets is refused"))
            }
            var rule = Self.rule(json, issuer)
            if let text = json["jwks"]?.string, !text.isEmpty {
                if KeySet.isReadable(text) {
                    rule.keys = text
                } else {
                    isComplete = false
                    troubles.append("Rule \(number): jwks is no JSON Web Key Set; every token of \(issuer) is refused")
                }
            } else if let source = Self.source(json, issuer) {
                rule.keys = keys(source)
                if rule.keys == nil {
                    troubles.append(
                        "Rule \(number): no keys from \(source) yet; every token of \(issuer) is refused until there are"
                    )
                }
            } else {
                isComplete = false
                troubles.append(
                    "Rule \(number): neither jwksUri nor the issuer is an http or https address to fetch keys from; "
                        + "every token of \(issuer) is refused")
            }
            policy.rules.append(rule)
        }
        let caveat =
            troubles.isEmpty
            ? nil
            : GateElement.Caveat(isEnforced: isComplete, reason: "Invalid", message: troubles.joined(separator: ". "))
        return GateElement(content: .tokens(policy), targets: targets, caveat: caveat)
    }

    /// All that has to be fetched for a policy, with the longest time that it gives for it.
    static func sources(
        _ view: RequestAuthenticationView, forSidecars: Bool = false
    ) -> [(source: KeySource, timeout: Duration)] {
        if view.targets.isEmpty != forSidecars { return [] }
        return view.rules.compactMap { json in
            guard let issuer = json["issuer"]?.string, !issuer.isEmpty,
                json["jwks"]?.string.map(\.isEmpty) ?? true, let source = Self.source(json, issuer)
            else { return nil }
            let timeout = json["timeout"]?.string.flatMap(GoDuration.parse) ?? KeySetFetcher.timeout
            return (source, min(max(timeout, .milliseconds(1)), KeySetFetcher.timeoutMax))
        }
    }

    private static func source(_ json: JSONValue, _ issuer: String) -> KeySource? {
        func isAddress(_ text: String) -> Bool { text.hasPrefix("http://") || text.hasPrefix("https://") }
        if let address = json["jwksUri"]?.string ?? json["jwks_uri"]?.string, !address.isEmpty {
            return isAddress(address) ? .address(address) : nil
        }
        return isAddress(issuer) ? .discovery(issuer: issuer) : nil
    }

    private static func rule(_ json: JSONValue, _ issuer: String) -> TokenPolicy.Rule {
        func texts(_ name: String) -> [String] { (json[name]?.array ?? []).compactMap(\.string) }
        var rule = TokenPolicy.Rule(issuer: issuer)
        rule.audiences = texts("audiences")
        let headers = (json["fromHeaders"]?.array ?? []).compactMap { header -> TokenPolicy.HeaderSource? in
            guard let name = header["name"]?.string, !name.isEmpty else { return nil }
            return .init(name: name.lowercased(), prefix: header["prefix"]?.string ?? "")
        }
        let (parameters, cookies) = (texts("fromParams"), texts("fromCookies"))
        // The usual places count only when no other is named.
        if !headers.isEmpty || !parameters.isEmpty || !cookies.isEmpty {
            rule.headers = headers
            rule.parameters = parameters
            rule.cookies = cookies
        }
        rule.forwardsToken = json["forwardOriginalToken"]?.bool ?? false
        rule.payloadHeader = json["outputPayloadToHeader"]?.string.flatMap { $0.isEmpty ? nil : $0.lowercased() }
        rule.claimHeaders = (json["outputClaimToHeaders"]?.array ?? []).compactMap { entry in
            guard let header = entry["header"]?.string, let claim = entry["claim"]?.string else { return nil }
            return .init(header: header.lowercased(), claim: claim)
        }
        rule.spaceDelimitedClaims = texts("spaceDelimitedClaims")
        return rule
    }
}

/// A JSON Web Key Set (RFC 7517), as far as the control plane looks into it.
enum KeySet {
    static func isReadable(_ text: String) -> Bool {
        guard let json = try? JSONValue(parsing: Array(text.utf8)) else { return false }
        return json["keys"]?.array != nil
    }
}

/// Durations as protobuf's JSON and Go write them: `5s`, `0.250s`, `1500ms`, `1m`.
enum GoDuration {
    static func parse(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits), number >= 0, number < 1e9 else { return nil }
        switch text.dropFirst(digits.count) {
        case "ms": return .milliseconds(number)
        case "s": return .seconds(number)
        case "m": return .seconds(number * 60)
        case "h": return .seconds(number * 3600)
        default: return nil
        }
    }
}
