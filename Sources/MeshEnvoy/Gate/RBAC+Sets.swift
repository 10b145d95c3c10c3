internal import MeshProto

// "All of", "any of" and "not", for both sides of a policy.

extension EnvoyPrincipal {
    static var nobody: EnvoyPrincipal { .not(.with { $0.any = true }) }

    static func not(_ principal: EnvoyPrincipal) -> EnvoyPrincipal { .with { $0.notID = principal } }

    static func all(_ principals: [EnvoyPrincipal]) -> EnvoyPrincipal {
        switch principals.count {
        case 0: .with { $0.any = true }
        case 1: principals[0]
        default: .with { $0.andIds.ids = principals }
        }
    }

    static func any(of principals: [EnvoyPrincipal]) -> EnvoyPrincipal {
        principals.count == 1 ? principals[0] : .with { $0.orIds.ids = principals }
    }
}

/// Where a client's identity stands once it was proven.
enum PeerProof {
    /// The tunnel's end noted it for the inside.
    case tunnel
    /// The connection itself is mutual TLS. One without TLS has no identity.
    case certificate

    func peer(_ text: EnvoyStringMatcher) -> EnvoyPrincipal {
        switch self {
        case .tunnel:
            .with { principal in
                principal.filterState = .with {
                    $0.key = EnvoyNames.principal
                    $0.stringMatch = text
                }
            }
        case .certificate: .with { $0.authenticated.principalName = text }
        }
    }
}

extension EnvoyPermission {
    static var nothing: EnvoyPermission { .not(.with { $0.any = true }) }

    static func not(_ permission: EnvoyPermission) -> EnvoyPermission { .with { $0.notRule = permission } }

    static func all(_ permissions: [EnvoyPermission]) -> EnvoyPermission {
        switch permissions.count {
        case 0: .with { $0.any = true }
        case 1: permissions[0]
        default: .with { $0.andRules.rules = permissions }
        }
    }

    static func any(of permissions: [EnvoyPermission]) -> EnvoyPermission {
        permissions.count == 1 ? permissions[0] : .with { $0.orRules.rules = permissions }
    }
}
