internal import KubeAPI
internal import Logging
internal import NIOHTTP1

/// From a request to its answer: authentication, authorization, routing, decoding, and the form of the answer.
struct RequestHandler: Sendable {
    let api: ClusterAPI
    let authenticator: Authenticator
    let kubelets: any NodeConnector
    /// `host:port` for clients that ask where the API is.
    let address: String

    func respond(_ request: APIRequest) async -> APIResponse {
        do {
            var caller = try self.authenticator.authenticate(
                authorization: request.header("authorization"), certificate: request.certificate)
            guard let route = Route(request.segments, self.api.registry.view) else {
                try self.authorizePath(request, caller)
                throw StatusError.noSuchPath
            }
            caller = try self.impersonated(request, caller)
            if case .resource(let target) = route {
                return try await ResourceHandler(server: self, request: request, target: target, caller: caller)
                    .respond()
            }
            try self.authorizePath(request, caller)
            guard request.method == .GET || request.method == .HEAD else { throw StatusError.methodNotAllowed }
            return try self.document(route, request)
        } catch is Authenticator.Failure {
            return APIResponse(StatusError.unauthorized)
        } catch let error as StatusError {
            return APIResponse(error)
        } catch {
            self.api.log.error("a request failed", metadata: ["uri": "\(request.uri)", "error": "\(error)"])
            return APIResponse(StatusError.internalError("\(error)"))
        }
    }

    private func authorizePath(_ request: APIRequest, _ caller: Caller) throws(StatusError) {
        var access = AccessRequest(verb: request.method.rawValue.lowercased())
        access.path = request.path
        if self.api.authorizer.allows(access, for: caller) { return }
        throw StatusError(
            code: 403, reason: "Forbidden", message: "forbidden: \(access.refusal(of: caller))", details: [:])
    }

    /// `kubectl --as`: whoever may impersonate acts as somebody else.
    private func impersonated(_ request: APIRequest, _ caller: Caller) throws(StatusError) -> Caller {
        guard let name = request.header("impersonate-user") else { return caller }
        func require(_ resource: String, _ name: String) throws(StatusError) {
            var access = AccessRequest(verb: "impersonate")
            access.resource = resource
            access.name = name
            guard self.api.authorizer.allows(access, for: caller) else {
                throw StatusError(
                    code: 403, reason: "Forbidden",
                    message: "\(resource) \"\(name)\" is forbidden: \(access.refusal(of: caller))", details: [:])
            }
        }
        try require("users", name)
        var groups = request.headers["impersonate-group"]
        for group in groups { try require("groups", group) }
        let parts = name.split(separator: ":")
        if name.hasPrefix("system:serviceaccount:"), parts.count == 4, groups.isEmpty {
            groups = ["system:serviceaccounts", "system:serviceaccounts:\(parts[2])"]
        }
        if name != Caller.anonymous.name, !groups.contains(Caller.authenticatedGroup) {
            groups.append(Caller.authenticatedGroup)
        }
        return Caller(name: name, groups: groups)
    }

    private func document(_ route: Route, _ request: APIRequest) throws(StatusError) -> APIResponse {
        let view = self.api.registry.view
        let discovery = Discovery(view: view)
        let isAggregated = Discovery.wantsAggregated(request.header("accept"))
        func json(_ document: JSONValue?) throws(StatusError) -> APIResponse {
            guard let document else { throw .noSuchPath }
            return APIResponse(json: document)
        }
        switch route {
        case .health:
            let name = request.segments[0]
            return APIResponse(
                text: request.query["verbose"] == nil ? "ok" : "[+]ping ok\n[+]store ok\n\(name) check passed\n")
        case .version: return APIResponse(json: ServerVersion.json)
        case .coreVersions, .groups:
            var isCore = false
            if case .coreVersions = route { isCore = true }
            if isAggregated {
                return APIResponse(
                    status: 200, contentType: Discovery.aggregatedType, discovery.aggregated(core: isCore).encoded)
            }
            return APIResponse(
                json: isCore ? Discovery.versions(serverAddress: self.address) : discovery.groupList)
        case .group(let name): return try json(discovery.group(name))
        case .resources(let group, let version): return try json(discovery.resources(group: group, version: version))
        case .openAPIv2:
            let accept = request.header("accept") ?? "*/*"
            if accept.contains("application/json"), !accept.contains("protobuf") {
                return APIResponse(
                    json: [
                        "swagger": "2.0",
                        "info": ["title": "Kubernetes", "version": .string(ServerVersion.gitVersion)],
                        "paths": [:], "definitions": [:],
                    ])
            }
            return OpenAPI.emptyV2
        case .openAPIv3Index: return APIResponse(json: OpenAPI.index(self.api.registry.openAPI))
        case .openAPIv3(let path):
            guard let document = self.api.registry.openAPI[path] else { throw .noSuchPath }
            return APIResponse(status: 200, contentType: "application/json", document.bytes)
        case .issuer:
            return APIResponse(
                json: [
                    "issuer": .string(TokenAuthority.issuer),
                    "jwks_uri": .string("https://\(self.address)/openid/v1/jwks"),
                    "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                ])
        case .keySet: return APIResponse(json: self.api.tokens.keySet)
        case .resource: throw .noSuchPath
        }
    }
}

/// The Kubernetes version whose API this server speaks.
package enum ServerVersion {
    package static let gitVersion = "v1.37.1+martlet"
    static let json: JSONValue = [
        "major": "1", "minor": "37", "gitVersion": .string(gitVersion), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-11-01T00:00:00Z", "goVersion": "none", "compiler": "swift", "platform": "linux/amd64",
    ]
}
