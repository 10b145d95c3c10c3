internal import MeshProto
internal import MeshRoutes
internal import SwiftProtobuf

/// When it is known whether a stream may pass.
///
/// Envoy's filter for streams asks policies when the client has sent its first bytes. A server that speaks first would have
/// spoken by then, whoever listens. Where policies allow some identities and ask for nothing else, the connection itself can
/// be made to fail for others; anywhere else the server is not connected to before the filter was asked.
struct StreamAdmission {
    enum Verdict: Equatable {
        /// There is nothing to ask.
        case open
        /// Only these pass; none: nobody does.
        case identities([EnvoyStringMatcher])
        /// The client's first bytes decide.
        case firstBytes
    }

    private let allow: [CompiledPolicy]
    private let denies: Bool
    private let isClosed: Bool
    private let trustDomains: [String]

    init(closed: Bool) {
        (self.allow, self.denies, self.isClosed, self.trustDomains) = ([], false, closed, [])
    }

    init(allow: [CompiledPolicy], deny: [CompiledPolicy], _ trustDomains: [String]) {
        (self.allow, self.denies, self.isClosed, self.trustDomains) = (allow, !deny.isEmpty, false, trustDomains)
    }

    /// - Parameter port: that the stream is for; nil: any.
    func verdict(port: UInt16?) -> Verdict {
        if self.isClosed { return .identities([]) }
        if self.denies { return .firstBytes }
        if self.allow.isEmpty { return .open }
        var found: [EnvoyStringMatcher] = []
        for (_, rule) in self.allow.flatMap(\.rules) {
            guard let isForPort = Self.isFor(port, rule) else { return .firstBytes }
            if !isForPort { continue }
            for tests in rule.from.isEmpty ? [[]] : rule.from {
                let all = tests + rule.when
                if all.isEmpty { return .open }
                guard all.count == 1, let identities = self.identities(all[0]) else { return .firstBytes }
                found += identities.filter { !found.contains($0) }
            }
        }
        return .identities(found)
    }

    /// Nil: more is asked than the port.
    private static func isFor(_ port: UInt16?, _ rule: CompiledRule) -> Bool? {
        if rule.to.isEmpty { return true }
        var isAny = false
        for tests in rule.to {
            guard let port else { return nil }
            var isThis = true
            for test in tests {
                guard case .destinationPort = test.attribute else { return nil }
                func has(_ values: [ValueTest]) -> Bool {
                    values.contains { if case .port(port) = $0 { true } else { false } }
                }
                if !test.wanted.isEmpty, !has(test.wanted) { isThis = false }
                if has(test.unwanted) { isThis = false }
            }
            isAny = isAny || isThis
        }
        return isAny
    }

    /// Of members of the mesh; nil: more is asked than who it is.
    private func identities(_ test: AttributeTest) -> [EnvoyStringMatcher]? {
        guard test.unwanted.isEmpty, !test.wanted.isEmpty else { return nil }
        let domains = "(?:\(self.trustDomains.map { RegexText.literal($0) }.joined(separator: "|")))"
        var found: [EnvoyStringMatcher] = []
        for value in test.wanted {
            switch (test.attribute, value) {
            case (.principal, .text(let text)) where text.shape == .exact:
                if self.trustDomains.contains(where: { text.string.hasPrefix("\($0)/ns/") }) {
                    found.append(.exact("spiffe://\(text.string)"))
                }
            case (.namespace, .text(let text)) where text.shape == .exact:
                found.append(.regex("spiffe://\(domains)/ns/\(RegexText.literal(text.string))/sa/[^/]+"))
            case (.serviceAccount, .serviceAccount(let account)):
                let name = "\(RegexText.literal(account.namespace))/sa/\(RegexText.literal(account.serviceAccount))"
                found.append(.regex("spiffe://\(domains)/ns/\(name)"))
            default: return nil
            }
        }
        return found
    }
}

extension EnvoyTCPProxy {
    /// Of a client, while its server is not connected to yet.
    private static let earlyBytesMax: UInt32 = 64 << 10

    /// Does not connect to the server before the client has sent something, by when policies have been asked.
    mutating func waitForFirstBytes() {
        self.upstreamConnectMode = .onDownstreamData
        self.maxEarlyDataBytes = Google_Protobuf_UInt32Value(Self.earlyBytesMax)
    }
}
