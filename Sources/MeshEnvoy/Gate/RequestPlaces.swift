internal import MeshProto
internal import SwiftProtobuf

/// What judges requests to a sidecar's application: filters in the listener that are always the same, and beside it what they
/// ask.
///
///     listener:            tokens ─▶ audit ─▶ dry runs ─▶ deny ─▶ allow ─▶ application
///     resource of its own: tokens
///     routes:                        audit,   dry runs,   deny,   allow
///
/// Envoy looks at both when a request begins, so that a change is in force for the next one, on connections that are open as
/// on new ones. A filter that changed in the listener would be asked on new connections only, after one more request on each
/// older one. Policies come all in one resource: no request is judged by a part of a change.
///
/// Closed without it: a listener is not used before its tokens and its routes are there, and where a route says nothing,
/// nobody passes.
enum RequestPlaces {
    static func name(_ stage: PolicyStage) -> String { "\(EnvoyNames.httpRBAC).\(stage.rawValue)" }

    /// The same for every pod.
    static var filters: [EnvoyHTTPFilter] {
        [EnvoyHTTPFilter(discovered: EnvoyNames.tokens, EnvoyJWTAuthentication.self)]
            + PolicyStage.allCases.map { stage in
                var empty = (stage == .allow ? PolicyFilter.nobody : PolicyFilter()).http
                empty.shadowRulesStatPrefix = stage.notePrefix ?? ""
                return EnvoyHTTPFilter(Self.name(stage), empty)
            }
    }
}

extension GateTranslation {
    var tokensResource: EnvoyResource {
        EnvoyResource(EnvoyNames.tokens, EnvoyExtension(EnvoyNames.tokens, self.tokens.packed))
    }

    /// What the places ask, for a route. Where there is no policy, everybody passes.
    ///
    /// - Parameter isMutual: nobody passes without mutual TLS, also on a connection from before it was asked for.
    func ofRoute(isMutual: Bool) -> [String: Google_Protobuf_Any] {
        var filters = Dictionary(uniqueKeysWithValues: self.policies.map { ($0.stage, $0.filter) })
        if isMutual {
            var rules = filters[.deny]?.rules ?? .with { $0.action = .deny }
            rules.policies["no mutual TLS"] = .with {
                $0.permissions = [.all([])]
                $0.principals = [.not(.with { $0.authenticated = .init() })]
            }
            filters[.deny] = PolicyFilter(rules: rules)
        }
        var all = [RequestPlaces.name(.allow): EnvoyHTTPRBACPerRoute().packed]
        for (stage, filter) in filters {
            all[RequestPlaces.name(stage)] = EnvoyHTTPRBACPerRoute.with { $0.rbac = filter.http }.packed
        }
        return all
    }
}
