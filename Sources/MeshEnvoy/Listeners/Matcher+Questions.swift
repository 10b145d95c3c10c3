internal import MeshProto
internal import MeshRoutes

// How a connection finds its filter chain.

extension EnvoyExtension {
    fileprivate static func input(_ name: String) -> EnvoyExtension {
        EnvoyExtension(name, .standard("envoy.extensions.matching.common_inputs.network.v3.\(name)"))
    }
}

extension EnvoyMatcher.OnMatch {
    static func chain(_ name: String) -> Self { .with { $0.action = EnvoyExtension(name, .text(name)) } }

    /// By what the first bytes are.
    /// - Parameter other: nil: closed.
    static func protocols(_ names: [String], _ match: Self, else other: Self?) -> Self {
        .with {
            $0.matcher = .with { matcher in
                matcher.matcherTree.input = .input("ApplicationProtocolInput")
                for name in names { matcher.matcherTree.exactMatchMap.map[name] = match }
                if let other { matcher.onNoMatch = other }
            }
        }
    }

    /// - Parameter other: nil: closed.
    static func ports(_ ports: [UInt16: Self], else other: Self? = nil) -> Self {
        .with {
            $0.matcher = .with { matcher in
                matcher.matcherTree.input = .input("DestinationPortInput")
                for (port, match) in ports { matcher.matcherTree.exactMatchMap.map[String(port)] = match }
                if let other { matcher.onNoMatch = other }
            }
        }
    }

    /// Clients of these identities; others are closed. At least one.
    static func clients(_ identities: [EnvoyStringMatcher], _ match: Self) -> Self {
        let input = EnvoyFilterStateInput.with { $0.key = EnvoyNames.principal }
        return .with {
            $0.matcher.matcherList.matchers = identities.map { identity in
                .with {
                    $0.predicate = .text(EnvoyExtension("FilterStateInput", input.packed), EnvoyTextMatcher(identity))
                    $0.onMatch = match
                }
            }
        }
    }
}

extension EnvoyMatcher {
    /// By where the tunnel leads; what leads nowhere has no chain, and ends.
    static func addresses(_ ranges: [([EnvoyCidrRange], OnMatch)]) -> EnvoyMatcher {
        let matcher = EnvoyIPMatcher.with { ips in
            ips.rangeMatchers = ranges.map { range in
                .with {
                    $0.ranges = range.0
                    $0.onMatch = range.1
                }
            }
        }
        return .with {
            $0.matcherTree.input = .input("DestinationIPInput")
            $0.matcherTree.customMatch = EnvoyExtension("ip", matcher.packed)
        }
    }
}

extension EnvoyMatcher.List.Entry {
    /// - Parameter serverName: nil: whatever is spoken; empty: any name.
    static func route(
        _ route: StreamRoute, serverName: String?, to target: EnvoyMatcher.OnMatch
    ) -> EnvoyMatcher.List.Entry {
        var questions: [EnvoyMatcher.Predicate] = []
        if let serverName {
            let text: EnvoyTextMatcher =
                serverName.isEmpty
                ? .regex(".+")
                : serverName.hasPrefix("*.")
                    ? .regex(".+\(RegexText.literal(serverName.dropFirst()))") : .with { $0.exact = serverName }
            questions.append(.text(.input("ServerNameInput"), text))
        }
        if let namespace = route.clientNamespace {
            let input = EnvoyFilterStateInput.with { $0.key = EnvoyNames.principal }
            questions.append(
                .text(
                    EnvoyExtension("FilterStateInput", input.packed),
                    .regex("spiffe://[^/]+/ns/\(RegexText.literal(namespace))/sa/.+")))
        }
        return .with {
            $0.predicate = questions.count == 1 ? questions[0] : .with { $0.andMatcher.predicate = questions }
            $0.onMatch = target
        }
    }
}

extension EnvoyMatcher.Predicate {
    fileprivate static func text(_ input: EnvoyExtension, _ text: EnvoyTextMatcher) -> Self {
        .with {
            $0.singlePredicate.input = input
            $0.singlePredicate.valueMatch = text
        }
    }
}

extension EnvoyTextMatcher {
    /// Of a text or a pattern.
    fileprivate init(_ matcher: EnvoyStringMatcher) {
        self = matcher.exact.isEmpty ? .regex(matcher.safeRegex.regex) : .with { $0.exact = matcher.exact }
    }

    fileprivate static func regex(_ pattern: String) -> Self {
        .with {
            $0.safeRegex.googleRe2 = .init()
            $0.safeRegex.regex = pattern
        }
    }
}
