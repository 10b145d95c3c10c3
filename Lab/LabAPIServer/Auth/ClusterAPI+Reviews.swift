internal import KubeAPI

extension ClusterAPI {
    package var authorizer: Authorizer { Authorizer(store: self.store) }

    /// POSTs that store nothing and are answered with a filled-in status. Nil for every other kind.
    func review(_ kind: ResourceKind, namespace: String?, _ body: JSONValue, _ caller: Caller) throws -> JSONValue? {
        guard ["authentication.k8s.io", "authorization.k8s.io"].contains(kind.group) else { return nil }
        var answer = try self.admitBody(body, kind, namespace: namespace, name: nil).withoutNulls
        if answer.at("metadata", "name") == nil, answer.at("metadata")?.object?.isEmpty ?? true {
            answer["metadata"] = [:]
        }
        let spec = answer["spec"] ?? [:]
        switch kind.type.plural {
        case "selfsubjectreviews": answer["status"] = ["userInfo": caller.json]
        case "selfsubjectaccessreviews": answer["status"] = try self.verdict(spec, caller)
        case "subjectaccessreviews", "localsubjectaccessreviews":
            let subject = Caller(
                name: spec["user"]?.string ?? "", uid: spec["uid"]?.string ?? "",
                groups: (spec["groups"] ?? spec["group"])?.array?.compactMap(\.string) ?? [])
            answer["status"] = try self.verdict(spec, subject)
        case "selfsubjectrulesreviews":
            let rules = self.authorizer.rules(for: caller, in: spec["namespace"]?.string ?? "")
            let everything: [JSONValue] =
                caller.isMaster
                ? [
                    ["verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]],
                    ["verbs": ["*"], "nonResourceURLs": ["*"]],
                ] : []
            let all = everything + rules
            answer["status"] = [
                "resourceRules": .array(all.filter { $0["nonResourceURLs"] == nil }),
                "nonResourceRules": .array(all.filter { $0["nonResourceURLs"] != nil }), "incomplete": false,
            ]
        case "tokenreviews": answer["status"] = self.tokenStatus(spec)
        default: return nil
        }
        return answer
    }

    private func verdict(_ spec: JSONValue, _ caller: Caller) throws -> JSONValue {
        var request: AccessRequest
        if let attributes = spec["resourceAttributes"] {
            request = AccessRequest(verb: attributes["verb"]?.string ?? "")
            request.group = attributes["group"]?.string ?? ""
            request.resource = attributes["resource"]?.string ?? ""
            request.subresource = attributes["subresource"]?.string ?? ""
            request.namespace = attributes["namespace"]?.string ?? ""
            request.name = attributes["name"]?.string ?? ""
        } else if let attributes = spec["nonResourceAttributes"] {
            request = AccessRequest(verb: attributes["verb"]?.string ?? "")
            request.path = attributes["path"]?.string ?? ""
        } else {
            throw StatusError.badRequest("exactly one of nonResourceAttributes or resourceAttributes must be specified")
        }
        return ["allowed": .bool(self.authorizer.allows(request, for: caller))]
    }

    private func tokenStatus(_ spec: JSONValue) -> JSONValue {
        let wanted = spec["audiences"]?.array?.compactMap(\.string) ?? []
        let asked = wanted.isEmpty ? [TokenAuthority.issuer] : wanted
        guard let (caller, audiences) = self.authenticate(token: spec["token"]?.string ?? "") else {
            return ["authenticated": false, "error": "invalid bearer token", "user": [:]]
        }
        let common = asked.filter(audiences.contains)
        if common.isEmpty {
            return [
                "authenticated": false, "user": [:],
                "error": .string(
                    "token audiences \(JSONValue(audiences)) is invalid for the target audiences \(JSONValue(asked))"),
            ]
        }
        return ["authenticated": true, "user": caller.json, "audiences": JSONValue(common)]
    }
}
