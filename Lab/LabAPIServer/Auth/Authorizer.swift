internal import KubeAPI

/// What a request wants to do, as RBAC sees it.
package struct AccessRequest: Hashable, Sendable {
    package var verb: String
    package var group = ""
    package var resource = ""
    package var subresource = ""
    package var namespace = ""
    package var name = ""
    /// Set for requests that are about no resource.
    package var path: String?

    package init(verb: String) { self.verb = verb }

    /// `pods/log`, the form of rules.
    var resourceText: String { self.subresource.isEmpty ? self.resource : "\(self.resource)/\(self.subresource)" }

    /// The end of a 403: `User "u" cannot list resource "pods" in API group "" in the namespace "foo"`.
    func refusal(of caller: Caller) -> String {
        if let path { return "User \"\(caller.name)\" cannot \(self.verb) path \"\(path)\"" }
        let place = self.namespace.isEmpty ? "at the cluster scope" : "in the namespace \"\(self.namespace)\""
        return
            "User \"\(caller.name)\" cannot \(self.verb) resource \"\(self.resourceText)\" in API group \"\(self.group)\" \(place)"
    }
}

/// Role-based access control over the stored roles and bindings.
///
/// Scans all bindings per request: a lab has about a hundred.
package struct Authorizer: Sendable {
    let store: ObjectStore

    private static let rbac = "rbac.authorization.k8s.io"
    private static let alwaysOpen: Set<String> = ["/healthz", "/livez", "/readyz", "/version"]

    package func allows(_ request: AccessRequest, for caller: Caller) -> Bool {
        if caller.isMaster { return true }
        if let path = request.path, request.verb == "get", Self.isOpen(path, caller) { return true }
        if !caller.isAnonymous, request.group == "authorization.k8s.io" || request.group == "authentication.k8s.io",
            request.resource.hasPrefix("selfsubject"), request.verb == "create"
        {
            return true
        }
        return self.rules(for: caller, in: request.namespace).contains { Self.permits($0, request) }
    }

    /// Discovery stays readable to everyone who proved who they are; health to everyone.
    private static func isOpen(_ path: String, _ caller: Caller) -> Bool {
        let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        if self.alwaysOpen.contains(trimmed) || trimmed.hasPrefix("/livez/") || trimmed.hasPrefix("/readyz/") {
            return true
        }
        if caller.isAnonymous { return false }
        return ["/api", "/apis", "/openapi", "/.well-known", "/openid"].contains {
            trimmed == $0 || trimmed.hasPrefix($0 + "/")
        }
    }

    /// All rules that hold for a caller in a namespace ("" for cluster-wide requests).
    func rules(for caller: Caller, in namespace: String) -> [JSONValue] {
        var rules: [JSONValue] = []
        for binding in self.store.snapshot("clusterrolebindings.\(Self.rbac)").objects
        where Self.concerns(binding.json, caller, bindingNamespace: "") {
            rules += self.rules(of: binding.json["roleRef"] ?? [:], namespace: "")
        }
        guard !namespace.isEmpty else { return rules }
        for binding in self.store.snapshot("rolebindings.\(Self.rbac)", namespace: namespace).objects
        where Self.concerns(binding.json, caller, bindingNamespace: namespace) {
            rules += self.rules(of: binding.json["roleRef"] ?? [:], namespace: namespace).filter {
                $0["nonResourceURLs"] == nil
            }
        }
        return rules
    }

    private func rules(of reference: JSONValue, namespace: String) -> [JSONValue] {
        let name = reference["name"]?.string ?? ""
        if reference["kind"]?.string == "Role" {
            let role = self.store.get("roles.\(Self.rbac)", ObjectKey(namespace: namespace, name: name))
            return role?.json["rules"]?.array ?? []
        }
        guard let role = self.store.get("clusterroles.\(Self.rbac)", ObjectKey(name: name)) else { return [] }
        var rules = role.json["rules"]?.array ?? []
        let selectors = (role.json.at("aggregationRule", "clusterRoleSelectors")?.array ?? [])
            .compactMap { try? LabelSelector($0) }
        if !selectors.isEmpty {
            for other in self.store.snapshot("clusterroles.\(Self.rbac)").objects
            where other.key != role.key && selectors.contains(where: { $0.matches(other.labels) }) {
                rules += other.json["rules"]?.array ?? []
            }
        }
        return rules
    }

    private static func concerns(_ binding: JSONValue, _ caller: Caller, bindingNamespace: String) -> Bool {
        (binding["subjects"]?.array ?? []).contains { subject in
            let name = subject["name"]?.string ?? ""
            switch subject["kind"]?.string {
            case "User": return name == caller.name
            case "Group": return caller.groups.contains(name)
            case "ServiceAccount":
                let own = subject["namespace"]?.string ?? ""
                let namespace = own.isEmpty ? bindingNamespace : own
                return caller.name == "system:serviceaccount:\(namespace):\(name)"
            default: return false
            }
        }
    }

    static func permits(_ rule: JSONValue, _ request: AccessRequest) -> Bool {
        func words(_ member: String) -> [String] { rule[member]?.array?.compactMap(\.string) ?? [] }
        func holds(_ member: String, _ value: String) -> Bool {
            words(member).contains { $0 == "*" || $0 == value }
        }
        guard holds("verbs", request.verb) else { return false }
        if let path = request.path {
            return words("nonResourceURLs").contains { pattern in
                pattern == "*" || pattern == path || (pattern.hasSuffix("*") && path.hasPrefix(pattern.dropLast()))
            }
        }
        guard holds("apiGroups", request.group) else { return false }
        let isResource = words("resources").contains { pattern in
            pattern == "*" || pattern == request.resourceText
                || (!request.subresource.isEmpty && pattern == "*/\(request.subresource)")
        }
        guard isResource else { return false }
        let names = words("resourceNames")
        return names.isEmpty || names.contains(request.name)
    }
}
