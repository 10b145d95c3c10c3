internal import Foundation
internal import KubeAPI

extension ClusterAPI {
    private static var now: Int64 { Int64(Date().timeIntervalSince1970) }

    /// POST `serviceaccounts/NAME/token`.
    func issueToken(_ kind: ResourceKind, _ key: ObjectKey, _ request: JSONValue) throws -> JSONValue {
        let account = try self.stored(kind, key)
        let spec = request["spec"] ?? [:]
        var audiences = spec["audiences"]?.array?.compactMap(\.string) ?? []
        if audiences.isEmpty { audiences = [TokenAuthority.issuer] }
        let seconds = spec["expirationSeconds"]?.int ?? TokenAuthority.defaultSeconds
        if seconds < TokenAuthority.secondsMin {
            throw StatusError.invalid(
                kind: "TokenRequest", group: "authentication.k8s.io", key.name,
                [.invalid("spec.expirationSeconds", .int(seconds), "may not specify a duration less than 10 minutes")])
        }
        let now = Self.now
        var claims = TokenAuthority.Claims(
            audiences: audiences, namespace: key.namespace, account: key.name, accountUID: account.uid,
            expires: now + seconds, id: UUID().uuidString.lowercased())
        if let bound = spec["boundObjectRef"], bound != .null { try self.bind(&claims, to: bound, key) }
        let token = try self.tokens.sign(claims, now: now)
        return [
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "metadata": [
                "name": .string(key.name), "namespace": .string(key.namespace),
                "creationTimestamp": .string(Timestamp.text(secondsSince1970: now)),
            ],
            "spec": [
                "audiences": JSONValue(audiences), "expirationSeconds": .int(seconds),
                "boundObjectRef": spec["boundObjectRef"] ?? .null,
            ],
            "status": [
                "token": .string(token),
                "expirationTimestamp": .string(Timestamp.text(secondsSince1970: claims.expires)),
            ],
        ]
    }

    private func bind(_ claims: inout TokenAuthority.Claims, to bound: JSONValue, _ key: ObjectKey) throws {
        let name = bound["name"]?.string ?? ""
        let type: ResourceType
        switch bound["kind"]?.string {
        case "Pod": type = .pods
        case "Secret": type = .secrets
        case "Node": type = .nodes
        case let other:
            throw StatusError.badRequest(
                "cannot bind token for serviceaccount \"\(key.name)\" to object of kind \(other ?? "")")
        }
        let kind = try self.kind(type)
        let object = try self.stored(kind, ObjectKey(namespace: type.isNamespaced ? key.namespace : "", name: name))
        if let uid = bound["uid"]?.string, !uid.isEmpty, uid != object.uid {
            throw StatusError.conflict(
                kind, name,
                "the UID in the bound object reference (\(uid)) does not match the UID in record (\(object.uid))")
        }
        switch type {
        case .pods:
            if object.json.at("spec", "serviceAccountName")?.string != key.name {
                throw StatusError.badRequest("cannot bind token to pod \"\(name)\": it runs as another service account")
            }
            claims.pod = (name, object.uid)
            if let node = object.json.at("spec", "nodeName")?.string,
                let stored = self.store.get("nodes", ObjectKey(name: node))
            {
                claims.node = (node, stored.uid)
            }
        case .nodes: claims.node = (name, object.uid)
        default: claims.secret = (name, object.uid)
        }
    }

    /// The caller a service account token proves, with the audiences of the token.
    ///
    /// The account must exist with the same uid, and so must the pod or secret the token is bound to.
    func authenticate(token: String) -> (caller: Caller, audiences: [String])? {
        guard let claims = self.tokens.verify(token, now: Self.now) else { return nil }
        func exists(_ storage: String, _ reference: (name: String, uid: String)?, namespaced: Bool = true) -> Bool {
            guard let reference else { return true }
            let key = ObjectKey(namespace: namespaced ? claims.namespace : "", name: reference.name)
            return self.store.get(storage, key)?.uid == reference.uid
        }
        guard exists("serviceaccounts", (claims.account, claims.accountUID)), exists("pods", claims.pod),
            exists("secrets", claims.secret)
        else { return nil }
        let prefix = "authentication.kubernetes.io/"
        var extra = [prefix + "credential-id": ["JTI=\(claims.id)"]]
        if let pod = claims.pod {
            extra[prefix + "pod-name"] = [pod.name]
            extra[prefix + "pod-uid"] = [pod.uid]
        }
        if let node = claims.node {
            extra[prefix + "node-name"] = [node.name]
            extra[prefix + "node-uid"] = [node.uid]
        }
        let caller = Caller(
            name: "system:serviceaccount:\(claims.namespace):\(claims.account)", uid: claims.accountUID,
            groups: [
                "system:serviceaccounts", "system:serviceaccounts:\(claims.namespace)", Caller.authenticatedGroup,
            ], extra: extra)
        return (caller, claims.audiences)
    }
}
