internal import KubeAPI

/// What a URL path names.
enum Route {
    case health, version, coreVersions, groups
    case group(String)
    case resources(group: String, version: String)
    case openAPIv2, openAPIv3Index
    case openAPIv3(String)
    case issuer, keySet
    case resource(Target)

    /// A collection, an object or a subresource.
    struct Target {
        let kind: ResourceKind
        let namespace: String?
        let name: String?
        let subresource: String?

        var key: ObjectKey {
            ObjectKey(namespace: self.kind.type.isNamespaced ? self.namespace ?? "" : "", name: self.name ?? "")
        }
    }

    /// Nil for a path nothing is served at.
    init?(_ segments: [String], _ view: Registry.View) {
        switch segments.first {
        case "healthz", "livez", "readyz": self = .health
        case "version" where segments.count == 1: self = .version
        case "api":
            if segments.count == 1 {
                self = .coreVersions
            } else if segments.count == 2 {
                self = .resources(group: "", version: segments[1])
            } else {
                guard let target = Self.target("", segments[1], segments[2...], view) else { return nil }
                self = .resource(target)
            }
        case "apis":
            switch segments.count {
            case 1: self = .groups
            case 2: self = .group(segments[1])
            case 3: self = .resources(group: segments[1], version: segments[2])
            default:
                guard let target = Self.target(segments[1], segments[2], segments[3...], view) else { return nil }
                self = .resource(target)
            }
        case "openapi":
            switch segments.dropFirst().first {
            case "v2" where segments.count == 2: self = .openAPIv2
            case "v3" where segments.count == 2: self = .openAPIv3Index
            case "v3": self = .openAPIv3(segments[2...].joined(separator: "/"))
            default: return nil
            }
        case ".well-known" where segments == [".well-known", "openid-configuration"]: self = .issuer
        case "openid" where segments == ["openid", "v1", "jwks"]: self = .keySet
        default: return nil
        }
    }

    private static func target(
        _ group: String, _ version: String, _ rest: ArraySlice<String>, _ view: Registry.View
    ) -> Target? {
        let rest = Array(rest)
        func find(_ plural: String) -> ResourceKind? { view.find(group: group, version: version, plural: plural) }
        // `namespaces/x/status` is about the namespace, `namespaces/x/pods` about what is in it.
        if rest[0] == "namespaces", rest.count >= 3, !(group.isEmpty && ["status", "finalize"].contains(rest[2])) {
            guard let kind = find(rest[2]), kind.type.isNamespaced else { return nil }
            return self.target(kind, rest[1], Array(rest[3...]))
        }
        guard let kind = find(rest[0]) else { return nil }
        if kind.type.isNamespaced {
            // Without a namespace only the list over all namespaces exists.
            return rest.count == 1 ? Target(kind: kind, namespace: nil, name: nil, subresource: nil) : nil
        }
        return self.target(kind, nil, Array(rest[1...]))
    }

    private static func target(_ kind: ResourceKind, _ namespace: String?, _ rest: [String]) -> Target? {
        switch rest.count {
        case 0: return Target(kind: kind, namespace: namespace, name: nil, subresource: nil)
        case 1: return Target(kind: kind, namespace: namespace, name: rest[0], subresource: nil)
        case 2:
            guard kind.subresource(rest[1]) != nil else { return nil }
            return Target(kind: kind, namespace: namespace, name: rest[0], subresource: rest[1])
        default: return nil
        }
    }
}
