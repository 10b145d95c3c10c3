package import MeshModel

/// PeerAuthentication → policies that refuse plaintext, and which workloads they are for.
///
/// "Strict" becomes a DENY for peers without identity. DENY policies add up, so a port that is exempt cannot be
/// carved out of the general one: such a workload gets a policy of its own instead.
package enum PeerAuthenticationConverter {
    package static func staticStrictKey(_ settings: MeshSettings) -> NamespacedName {
        NamespacedName(namespace: settings.rootNamespace, name: "istio_converted_static_strict")
    }

    package static func convertedKey(_ view: PeerAuthenticationView) -> NamespacedName {
        NamespacedName(namespace: view.namespace, name: "converted_peer_authentication_\(view.name)")
    }

    private static var withoutIdentity: AuthorizationPolicy.Match {
        var match = AuthorizationPolicy.Match()
        match.notPrincipals = [.presence]
        return match
    }

    package static func staticStrict(_ settings: MeshSettings) -> AuthorizationPolicy {
        AuthorizationPolicy(
            key: Self.staticStrictKey(settings), scope: .workloadSelector, action: .deny,
            rules: [.init(clauses: [.init(matches: [Self.withoutIdentity])])])
    }

    /// The effective mode of a namespace: its oldest object without selector, else the mesh's.
    package static func parentIsStrict(
        namespace: [PeerAuthenticationView], root: [PeerAuthenticationView]
    ) -> Bool {
        for level in [namespace, root] {
            let oldest = level.filter { $0.selector == nil }.min(by: PeerAuthenticationView.isOlder)
            switch oldest?.mode {
            case .strict: return true
            case .permissive, .disable: return false
            case .unset, nil: continue
            }
        }
        return false
    }

    /// Nil when the general strict policy, or none, says the same.
    package static func converted(
        _ view: PeerAuthenticationView, parentIsStrict: Bool, _ settings: MeshSettings
    ) -> AuthorizationPolicy? {
        guard view.selector != nil, view.namespace != settings.rootNamespace else { return nil }
        let isStrict = Self.isStrict(view, parentIsStrict: parentIsStrict)
        let rules: [AuthorizationPolicy.Rule]
        if isStrict {
            let exempt = view.portModes.filter { $0.value == .permissive || $0.value == .disable }.keys.sorted()
            if exempt.isEmpty { return nil }
            let identity = AuthorizationPolicy.Clause(matches: [Self.withoutIdentity])
            let ports = exempt.map { port in
                var match = AuthorizationPolicy.Match()
                match.notDestinationPorts = [port]
                return AuthorizationPolicy.Clause(matches: [match])
            }
            rules = [.init(clauses: view.mode == .unset ? ports + [identity] : [identity] + ports)]
        } else {
            let strict = view.portModes.filter { $0.value == .strict }.keys.sorted()
            if strict.isEmpty { return nil }
            rules = strict.map { port in
                var match = Self.withoutIdentity
                match.destinationPorts = [port]
                return .init(clauses: [.init(matches: [match])])
            }
        }
        return AuthorizationPolicy(
            key: Self.convertedKey(view), scope: .workloadSelector, action: .deny, rules: rules)
    }

    private static func isStrict(_ view: PeerAuthenticationView, parentIsStrict: Bool) -> Bool {
        switch view.mode {
        case .strict: true
        case .permissive, .disable: false
        case .unset: parentIsStrict
        }
    }

    /// The policy keys of one workload: one or none.
    package static func keys(
        labels: [String: String], isInRoot: Bool, namespace: [PeerAuthenticationView],
        root: [PeerAuthenticationView], _ settings: MeshSettings
    ) -> [NamespacedName] {
        let parentIsStrict = Self.parentIsStrict(namespace: namespace, root: root)
        let own =
            isInRoot
            ? nil : namespace.filter { $0.selects(labels) }.min(by: PeerAuthenticationView.isOlder)
        guard let own else { return parentIsStrict ? [Self.staticStrictKey(settings)] : [] }
        if Self.converted(own, parentIsStrict: parentIsStrict, settings) != nil { return [Self.convertedKey(own)] }
        return Self.isStrict(own, parentIsStrict: parentIsStrict) ? [Self.staticStrictKey(settings)] : []
    }
}
