internal import KubeAPI
internal import NIOHTTP1

/// Requests about resources: verbs, options and the form of the answer.
struct ResourceHandler: Sendable {
    let server: RequestHandler
    let request: APIRequest
    let target: Route.Target
    let caller: Caller

    private var api: ClusterAPI { self.server.api }
    private var kind: ResourceKind { self.target.kind }
    private var query: APIRequest.Query { self.request.query }

    func respond() async throws -> APIResponse {
        let verb = try self.verb
        try self.authorize(verb)
        let isCollection = self.target.name == nil
        switch self.target.subresource {
        case "log", "exec", "attach", "portforward":
            return try await KubeletProxy(api: self.api, nodes: self.server.kubelets).respond(self.request, self.target)
        case nil:
            guard self.kind.has(verb) else { throw StatusError.methodNotAllowed }
        case let name?:
            guard self.kind.subresource(name)?.verbs.contains(verb) == true else { throw StatusError.methodNotAllowed }
        }
        switch verb {
        case "get": return try self.get()
        case "list": return try self.list()
        case "watch": return try self.watch()
        case "create": return try await self.create()
        case "update": return try await self.replace()
        case "patch": return try await self.patch()
        case "delete": return try await self.delete()
        case "deletecollection" where isCollection: return try await self.deleteCollection()
        default: throw StatusError.methodNotAllowed
        }
    }

    private var verb: String {
        get throws(StatusError) {
            let isCollection = self.target.name == nil
            switch self.request.method {
            case .GET, .HEAD:
                // Over a WebSocket these are GETs; what they do is create.
                if ["exec", "attach", "portforward"].contains(self.target.subresource ?? "") { return "create" }
                if self.query.flag("watch"), self.target.subresource == nil { return "watch" }
                return isCollection ? "list" : "get"
            case .POST: return "create"
            case .PUT where !isCollection: return "update"
            case .PATCH where !isCollection: return "patch"
            case .DELETE: return isCollection ? "deletecollection" : "delete"
            default: throw .methodNotAllowed
            }
        }
    }

    private func authorize(_ verb: String) throws(StatusError) {
        var access = AccessRequest(verb: verb)
        access.group = self.kind.group
        access.resource = self.kind.type.plural
        access.subresource = self.target.subresource ?? ""
        access.namespace = self.kind.type.isNamespaced ? self.target.namespace ?? "" : ""
        access.name = self.target.name ?? ""
        if access.name.isEmpty, let text = self.query["fieldSelector"] {
            // A list or watch of one name is judged as if it named the object, so that resourceNames can allow it.
            access.name = try FieldSelector(text, self.kind).name ?? ""
        }
        if self.api.authorizer.allows(access, for: self.caller) { return }
        // Older roles grant streaming with get.
        if verb == "create", self.request.method == .GET {
            access.verb = "get"
            if self.api.authorizer.allows(access, for: self.caller) { return }
            access.verb = "create"
        }
        throw .forbidden(self.kind, access.name, access.refusal(of: self.caller))
    }

    // MARK: Reading

    private func get() throws -> APIResponse {
        if self.target.subresource == "scale" {
            return APIResponse(json: try self.api.scaleView(self.kind, self.target.key))
        }
        let stored = try self.api.stored(self.kind, self.target.key)
        let form = try Representation.chosen(accept: self.request.header("accept"), allowsTransforms: true)
        var response: APIResponse
        if form == .json, self.kind.type.apiVersion == self.kind.storageVersion {
            response = APIResponse(status: 200, contentType: "application/json", stored.encoded)
        } else {
            response = try self.render(Conversion.fromStorage(stored.json, self.kind), form)
        }
        response.add(warnings: self.deprecation)
        return response
    }

    private var deprecation: [String] { self.kind.custom?.deprecationWarning.map { [$0] } ?? [] }

    private func selection() throws(StatusError) -> ClusterAPI.Selection {
        var fields = self.query["fieldSelector"] ?? ""
        if let name = self.target.name { fields += (fields.isEmpty ? "" : ",") + "metadata.name=\(name)" }
        return try ClusterAPI.Selection(
            namespace: self.target.namespace, labelSelector: self.query["labelSelector"], fieldSelector: fields,
            self.kind)
    }

    private func list() throws -> APIResponse {
        let selection = try self.selection()
        if self.query["sendInitialEvents"] != nil {
            throw StatusError.invalidOptions(
                "ListOptions", [.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")])
        }
        if let match = self.query["resourceVersionMatch"], !match.isEmpty, self.query["resourceVersion"] ?? "" == "" {
            throw StatusError.invalidOptions(
                "ListOptions",
                [
                    .forbidden(
                        "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
                ])
        }
        if let token = self.query["continue"], !token.isEmpty {
            // Lists are never cut, so no token is ours.
            throw StatusError(
                code: 410, reason: "Expired",
                message:
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter."
            )
        }
        let (objects, revision) = self.api.list(self.kind, selection)
        if let text = self.query["resourceVersion"], !text.isEmpty {
            guard let wanted = UInt64(text) else {
                throw StatusError.badRequest("invalid resource version \"\(text)\": it is a decimal number")
            }
            if wanted > revision { throw StatusError.tooLargeVersion(wanted, revision) }
            if self.query["resourceVersionMatch"] == "Exact", wanted != revision {
                throw StatusError.expired(wanted, revision)
            }
        }
        let form = try Representation.chosen(accept: self.request.header("accept"), allowsTransforms: true)
        let metadata: JSONValue = ["resourceVersion": .string(String(revision))]
        var response: APIResponse
        switch form {
        case .json:
            response = APIResponse(
                status: 200, contentType: "application/json", self.listBytes(objects, metadata))
        case .yaml:
            let list: JSONValue = [
                "kind": .string(self.kind.listKind), "apiVersion": .string(self.kind.type.apiVersion),
                "metadata": metadata,
                "items": .array(objects.map { Conversion.fromStorage($0.json, self.kind) }),
            ]
            response = APIResponse(
                status: 200, contentType: "application/yaml", Array(RequestBody.yamlText(list).utf8))
        case .table:
            let table = TableRenderer(kind: self.kind, includeObject: self.query["includeObject"])
            response = APIResponse(json: table.table(objects.map(\.json), metadata: metadata))
        case .partial:
            response = APIResponse(
                json: [
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    "items": .array(objects.map { Self.partial($0.json) }),
                ])
        }
        response.add(warnings: self.deprecation)
        return response
    }

    /// Splices the cached bytes of each object together.
    private func listBytes(_ objects: [StoredObject], _ metadata: JSONValue) -> [UInt8] {
        let isStored = self.kind.type.apiVersion == self.kind.storageVersion
        var bytes = Array(
            "{\"kind\":\"\(self.kind.listKind)\",\"apiVersion\":\"\(self.kind.type.apiVersion)\",\"metadata\":\(metadata),\"items\":["
                .utf8)
        for (index, object) in objects.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes += isStored ? object.encoded : Conversion.fromStorage(object.json, self.kind).encoded
        }
        bytes += "]}".utf8
        return bytes
    }

    static func partial(_ object: JSONValue) -> JSONValue {
        ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] ?? [:]]
    }

    private func render(_ object: JSONValue, _ form: Representation, status: Int = 200) throws(StatusError)
        -> APIResponse
    {
        switch form {
        case .json: return APIResponse(status: status, json: object)
        case .yaml:
            return APIResponse(
                status: status, contentType: "application/yaml", Array(RequestBody.yamlText(object).utf8))
        case .table where object["kind"]?.string == self.kind.type.kind:
            let table = TableRenderer(kind: self.kind, includeObject: self.query["includeObject"])
            let metadata: JSONValue = ["resourceVersion": object.at("metadata", "resourceVersion") ?? ""]
            return APIResponse(
                status: status, json: table.table([Conversion.toStorage(object, self.kind)], metadata: metadata))
        case .partial where object["kind"]?.string == self.kind.type.kind:
            return APIResponse(status: status, json: Self.partial(object))
        case .table, .partial: return APIResponse(status: status, json: object)
        }
    }

    private func watch() throws -> APIResponse {
        try WatchResponse(
            api: self.api, kind: self.kind, selection: try self.selection(), request: self.request
        ).response()
    }

    // MARK: Writing

    private func writeOptions(_ body: JSONValue? = nil) throws(StatusError) -> ClusterAPI.WriteOptions {
        var options = ClusterAPI.WriteOptions()
        options.caller = self.caller
        if let manager = self.query["fieldManager"], !manager.isEmpty {
            options.fieldManager = manager
        } else {
            let agent = self.request.header("user-agent") ?? "unknown"
            options.fieldManager = String((agent.split(separator: "/").first ?? "unknown").prefix(128))
        }
        options.isDryRun = try self.isDryRun
        if let text = self.query["fieldValidation"], !text.isEmpty {
            guard let validation = ClusterAPI.WriteOptions.FieldValidation(rawValue: text) else {
                throw .invalidOptions(
                    "\(self.request.method.rawValue.capitalized)Options",
                    [.notSupported("fieldValidation", .string(text), ["Ignore", "Strict", "Warn"])])
            }
            options.fieldValidation = validation
        } else {
            options.fieldValidation = .warn
        }
        return options
    }

    private var isDryRun: Bool {
        get throws(StatusError) {
            let values = self.query.all("dryRun").filter { !$0.isEmpty }
            if let other = values.first(where: { $0 != "All" }) {
                throw .invalidOptions("Options", [.notSupported("dryRun", .string(other), ["All"])])
            }
            return !values.isEmpty
        }
    }

    private func written(_ outcome: ClusterAPI.WriteOutcome) throws -> APIResponse {
        let form = try Representation.chosen(accept: self.request.header("accept"), allowsTransforms: true)
        var response = try self.render(outcome.object, form, status: outcome.isCreated ? 201 : 200)
        response.add(warnings: outcome.warnings)
        return response
    }

    private func create() async throws -> APIResponse {
        let body = try RequestBody.decode(self.request, isCustom: self.kind.isCustom)
        let options = try self.writeOptions()
        if let name = self.target.name {
            guard let subresource = self.target.subresource else {
                throw StatusError.methodNotAllowed
            }
            let key = ObjectKey(namespace: self.target.key.namespace, name: name)
            return try self.written(try await self.api.createSubresource(self.kind, key, subresource, body, options))
        }
        if let answer = try self.api.review(self.kind, namespace: self.target.namespace, body, self.caller) {
            return APIResponse(status: 201, json: answer)
        }
        if self.kind.type.plural == "bindings", self.kind.group.isEmpty {
            let pods = try self.api.kind(.pods)
            let key = ObjectKey(
                namespace: self.target.namespace ?? "", name: body.at("metadata", "name")?.string ?? "")
            return try self.written(try await self.api.createSubresource(pods, key, "binding", body, options))
        }
        return try self.written(
            try await self.api.create(self.kind, namespace: self.target.namespace, body, options))
    }

    private func replace() async throws -> APIResponse {
        let body = try RequestBody.decode(self.request, isCustom: self.kind.isCustom)
        return try self.written(
            try await self.api.replace(
                self.kind, self.target.key, subresource: self.target.subresource, body, try self.writeOptions()))
    }

    private func patch() async throws -> APIResponse {
        let isForced = self.query.flag("force")
        let type = self.request.contentType ?? ""
        if type != "application/apply-patch+yaml", self.query["force"] != nil, isForced {
            throw StatusError.invalidOptions(
                "PatchOptions", [.forbidden("force", "may not be specified for non-apply patch")])
        }
        let body: KubePatchBody
        switch type {
        case "application/merge-patch+json": body = .merge(try RequestBody.json(self.request.body))
        case "application/strategic-merge-patch+json": body = .strategic(try RequestBody.json(self.request.body))
        case "application/json-patch+json": body = .json(try RequestBody.json(self.request.body))
        case "application/apply-patch+yaml":
            if self.query["fieldManager"] ?? "" == "" {
                throw StatusError.invalidOptions(
                    "PatchOptions", [.required("fieldManager", "is required for apply patch")])
            }
            body = .apply(try RequestBody.yaml(self.request.body), force: isForced)
        default:
            let strategic = self.kind.isCustom ? "" : ", application/strategic-merge-patch+json"
            throw StatusError.unsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml\(strategic)"
            )
        }
        return try self.written(
            try await self.api.patch(
                self.kind, self.target.key, subresource: self.target.subresource, body, try self.writeOptions()))
    }

    private func deletion() throws -> ClusterAPI.Deletion {
        let body = try RequestBody.decode(self.request)
        var deletion = ClusterAPI.deletion(body)
        if let grace = self.query.int("gracePeriodSeconds") { deletion.gracePeriodSeconds = grace }
        if let policy = self.query["propagationPolicy"], !policy.isEmpty { deletion.propagationPolicy = policy }
        if self.query.flag("orphanDependents") { deletion.propagationPolicy = "Orphan" }
        if try self.isDryRun { deletion.isDryRun = true }
        deletion.caller = self.caller
        if let policy = deletion.propagationPolicy, !["Background", "Foreground", "Orphan"].contains(policy) {
            throw StatusError.invalidOptions(
                "DeleteOptions",
                [.notSupported("propagationPolicy", .string(policy), ["Background", "Foreground", "Orphan"])])
        }
        return deletion
    }

    private func delete() async throws -> APIResponse {
        let deletion = try self.deletion()
        let outcome = try await self.api.delete(self.kind, self.target.key, deletion)
        let isPending = !outcome.isGone && deletion.propagationPolicy == "Foreground"
        var response = APIResponse(status: isPending ? 202 : 200, json: outcome.answer)
        response.add(warnings: outcome.warnings)
        return response
    }

    private func deleteCollection() async throws -> APIResponse {
        let deletion = try self.deletion()
        let (objects, revision) = self.api.list(self.kind, try self.selection())
        var items: [JSONValue] = []
        for object in objects {
            do {
                items.append(try await self.api.delete(self.kind, object.key, deletion).object)
            } catch let error as StatusError where error.isNotFound {
                continue
            }
        }
        return APIResponse(
            json: [
                "kind": .string(self.kind.listKind), "apiVersion": .string(self.kind.type.apiVersion),
                "metadata": ["resourceVersion": .string(String(revision))], "items": .array(items),
            ])
    }
}
