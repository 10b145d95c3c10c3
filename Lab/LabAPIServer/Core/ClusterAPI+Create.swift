internal import Foundation
package import KubeAPI

extension ClusterAPI {
    /// Retries when a generated name is taken; beyond that the answer is AlreadyExists.
    private static let nameAttemptsMax = 8

    /// POST to a collection.
    package func create(
        _ kind: ResourceKind, namespace: String?, _ body: JSONValue, _ options: WriteOptions = WriteOptions()
    ) async throws -> WriteOutcome {
        guard kind.has("create") else { throw StatusError.methodNotAllowed }
        var object = try self.admitBody(body, kind, namespace: namespace, name: nil)
        if object.at("metadata", "resourceVersion")?.string ?? "" != "" {
            throw StatusError.badRequest("resourceVersion should not be set on objects to be created")
        }
        let base = object.at("metadata", "generateName")?.string ?? ""
        let isGenerated = object.at("metadata", "name")?.string ?? "" == "" && !base.isEmpty
        if options.fieldManager.utf8.count > 128 {
            throw StatusError.invalidOptions("CreateOptions", [.tooLong("fieldManager", bytesMax: 128)])
        }
        object = object.withoutNulls
        for attempt in 1...Self.nameAttemptsMax {
            if isGenerated { object.set(["metadata", "name"], to: .string(MetadataRules.generatedName(base))) }
            do {
                return try await self.createNamed(object, kind, options, managed: nil, isNameGenerated: isGenerated)
            } catch let error as StatusError
                where error.isAlreadyExists && isGenerated && attempt < Self.nameAttemptsMax
            {
                continue
            }
        }
        throw StatusError.internalError("no name was found")
    }

    /// Checks that a body is an object of this kind for this URL, and fills in what the URL says.
    func admitBody(
        _ body: JSONValue, _ kind: ResourceKind, namespace: String?, name: String?, as kindName: String? = nil
    ) throws(StatusError) -> JSONValue {
        var object = body
        let wanted = kindName ?? kind.type.kind
        guard case .object = object else {
            throw .badRequest(
                "\(wanted) in version \"\(kind.type.version)\" cannot be handled as a \(wanted): the body is no object")
        }
        if let given = object["kind"]?.string, !given.isEmpty, given != wanted {
            throw .badRequest(
                "\(given) in version \"\(object["apiVersion"]?.string ?? "")\" cannot be handled as a \(wanted): no kind \"\(given)\" is registered for this path"
            )
        }
        if kindName == nil {
            if let given = object["apiVersion"]?.string, !given.isEmpty, given != kind.type.apiVersion {
                throw .badRequest(
                    "the API version in the data (\(given)) does not match the expected API version (\(kind.type.apiVersion))"
                )
            }
            object["kind"] = .string(kind.type.kind)
            object["apiVersion"] = .string(kind.type.apiVersion)
        }
        guard case .object = object["metadata"] ?? [:] else {
            throw .badRequest(
                "\(wanted) in version \"\(kind.type.version)\" cannot be handled as a \(wanted): metadata is no object")
        }
        if kind.type.isNamespaced {
            let given = object.at("metadata", "namespace")?.string ?? ""
            let fromURL = namespace ?? ""
            if !given.isEmpty, given != fromURL {
                throw .badRequest(
                    "the namespace of the provided object does not match the namespace sent on the request")
            }
            object.set(["metadata", "namespace"], to: .string(fromURL))
        } else {
            object.set(["metadata", "namespace"], to: nil)
        }
        if let name {
            let given = object.at("metadata", "name")?.string ?? ""
            if !given.isEmpty, given != name {
                throw .badRequest("the name of the object (\(given)) does not match the name on the URL (\(name))")
            }
            object.set(["metadata", "name"], to: .string(name))
        }
        return object
    }

    /// Creates an object whose name is known. `managed` is set by server-side apply; webhooks that may change the
    /// object do not see a name that was generated.
    func createNamed(
        _ body: JSONValue, _ kind: ResourceKind, _ options: WriteOptions, managed: ManagedFields?,
        isNameGenerated: Bool = false
    ) async throws -> WriteOutcome {
        var outcome = WriteOutcome(object: body, isCreated: true)
        outcome.warnings += kind.custom?.deprecationWarning.map { [$0] } ?? []
        var object = body
        let name = object.at("metadata", "name")?.string ?? ""
        let now = Timestamp.now
        for field in [
            "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "generation",
            "resourceVersion",
        ] {
            object.set(["metadata", field], to: nil)
        }
        object.set(["metadata", "uid"], to: .string(UUID().uuidString.lowercased()))
        object.set(["metadata", "creationTimestamp"], to: .string(now))
        if kind.hasGeneration { object.set(["metadata", "generation"], to: 1) }
        if kind.hasStatus { object["status"] = nil }

        if kind.type.isNamespaced { try self.admitNamespace(object, kind) }
        object = try self.settle(object, kind, old: nil, options, &outcome.warnings)
        try self.admitCreation(&object, kind, &outcome.warnings)
        let key = ObjectKey(namespace: object.at("metadata", "namespace")?.string ?? "", name: name)
        var attributes = AdmissionAttributes(operation: .create, kind: kind, key: key, options: options)
        try await self.mutateNew(&object, attributes, isNameGenerated: isNameGenerated, &outcome.warnings)
        let errors = self.problems(object, kind)
        if !errors.isEmpty { throw StatusError.invalid(kind, name, errors) }
        if Self.isDefinition(kind) {
            let rivals = self.store.snapshot(kind.storage).objects.map(\.object)
            DefinitionRules.setStatus(&object, rivals: rivals, now: now)
            object.set(["metadata", "finalizers"], to: nil)
        }
        attributes.object = object
        try await self.approve(attributes, &outcome.warnings)
        let reservation = try self.allocator.admit(&object, old: nil, kind: kind)

        object = Conversion.toStorage(object, kind)
        var fields = managed ?? ManagedFields(nil)
        if managed == nil {
            let manager = ManagedFields.Manager(
                name: options.fieldManager, operation: "Update", apiVersion: kind.type.apiVersion, subresource: "")
            fields.recordUpdate(from: nil, to: object, kind, manager, time: now)
        }
        object.set(["metadata", "managedFields"], to: fields.json)
        if options.isDryRun {
            self.allocator.release(reservation)
            if self.store.get(kind.storage, key) != nil { throw StatusError.alreadyExists(kind, name) }
            outcome.object = Conversion.fromStorage(object, kind)
            return outcome
        }
        do {
            let stored = try await self.commit(kind, key, expecting: .absent, object)
            outcome.object = Conversion.fromStorage(stored.json, kind)
            return outcome
        } catch is ObjectStore.WriteConflict {
            self.allocator.release(reservation)
            throw StatusError.alreadyExists(kind, name)
        }
    }

    /// Shows a new object to the mutating webhooks as the client sent it, without what the server adds by itself.
    private func mutateNew(
        _ object: inout JSONValue, _ attributes: AdmissionAttributes, isNameGenerated: Bool, _ warnings: inout [String]
    ) async throws {
        let kind = attributes.kind
        var shown = object
        let own =
            ["uid", "creationTimestamp", "generation"].map { ["metadata", $0] }
            + (isNameGenerated ? [["metadata", "name"]] : []) + (kind.hasStatus ? [["status"]] : [])
        for path in own { shown.set(path, to: nil) }
        var attributes = attributes
        if isNameGenerated { attributes.key = ObjectKey(namespace: attributes.key.namespace, name: "") }
        attributes.object = shown
        guard var changed = try await self.mutated(attributes, &warnings) else { return }
        for path in own { changed.set(path, to: object.at(path)) }
        object = try self.resettled(changed, kind, old: nil, attributes.options)
        try self.readmit(&object, kind)
    }

    /// Pruning and defaulting again, of what webhooks made of an object. Unknown fields are dropped without a word:
    /// the client did not send them.
    func resettled(
        _ object: JSONValue, _ kind: ResourceKind, old: JSONValue?, _ options: WriteOptions
    ) throws(StatusError) -> JSONValue {
        var quiet = options
        quiet.fieldValidation = .ignore
        var unused: [String] = []
        return try self.settle(object.withoutNulls, kind, old: old, quiet, &unused)
    }

    /// Pruning, defaulting and kind-specific rewriting, before admission and validation.
    func settle(
        _ object: JSONValue, _ kind: ResourceKind, old: JSONValue?, _ options: WriteOptions, _ warnings: inout [String]
    ) throws(StatusError) -> JSONValue {
        var object = object
        if let custom = kind.custom {
            var dropped: [String] = []
            object = custom.schema.pruned(object, dropped: &dropped)
            try self.report(unknown: dropped, kind, options, &warnings)
            object = custom.schema.defaulted(object)
        } else {
            let unknown = ProtobufSchema.unknownFields(in: object, kind: kind)
            try self.report(unknown: unknown, kind, options, &warnings)
            if kind.storage == "secrets" { SecretRules.foldStringData(&object) }
            KindDefaults.apply(&object, kind)
        }
        MetadataRules.tidy(&object)
        return object
    }

    private func report(
        unknown: [String], _ kind: ResourceKind, _ options: WriteOptions, _ warnings: inout [String]
    ) throws(StatusError) {
        if unknown.isEmpty { return }
        let texts = unknown.sorted().map { "unknown field \"\($0)\"" }
        switch options.fieldValidation {
        case .ignore: break
        case .warn: warnings += texts
        case .strict:
            let name = kind.type.kind
            throw .badRequest(
                "\(name) in version \"\(kind.type.version)\" cannot be handled as a \(name): strict decoding error: "
                    + texts.joined(separator: ", "))
        }
    }

    func problems(_ object: JSONValue, _ kind: ResourceKind) -> [FieldError] {
        var errors = MetadataRules.validate(object, kind)
        if let custom = kind.custom {
            custom.schema.validate(object, into: &errors)
        } else {
            errors += KindValidation.validate(object, kind)
        }
        return errors
    }
}

enum SecretRules {
    /// `stringData` is write-only convenience: it becomes base64 in `data`.
    static func foldStringData(_ secret: inout JSONValue) {
        for (key, value) in secret["stringData"]?.object ?? [:] {
            guard let text = value.string else { continue }
            secret.set(["data", key], to: .string(Data(text.utf8).base64EncodedString()))
        }
        secret["stringData"] = nil
    }
}
