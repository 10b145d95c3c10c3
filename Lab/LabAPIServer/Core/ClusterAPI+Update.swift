package import KubeAPI

extension ClusterAPI {
    /// A patch is computed anew when somebody else wrote in between; a lab never gets near this bound.
    private static let attemptsMax = 50

    /// PUT.
    package func replace(
        _ kind: ResourceKind, _ key: ObjectKey, subresource: String? = nil, _ body: JSONValue,
        _ options: WriteOptions = WriteOptions()
    ) async throws -> WriteOutcome {
        if subresource == "scale" {
            let replicas = body.at("spec", "replicas")?.int ?? 0
            let version = body.at("metadata", "resourceVersion")?.string
            return try await self.scale(kind, key, options) { _ in (replicas, version) }
        }
        let new = try self.admitBody(
            body, kind, namespace: kind.type.isNamespaced ? key.namespace : nil, name: key.name
        ).withoutNulls
        if kind.requiresVersionOnUpdate, new.at("metadata", "resourceVersion")?.string ?? "" == "" {
            throw StatusError.invalid(
                kind, key.name, [.invalid("metadata.resourceVersion", 0, "must be specified for an update")])
        }
        return try await self.update(kind, key, subresource: subresource, options) { _ in new }
    }

    /// PATCH of every type but apply.
    package func patch(
        _ kind: ResourceKind, _ key: ObjectKey, subresource: String? = nil, _ patch: KubePatchBody,
        _ options: WriteOptions = WriteOptions()
    ) async throws -> WriteOutcome {
        if case .apply(let body, let force) = patch {
            return try await self.apply(kind, key, subresource: subresource, body, force: force, options)
        }
        if case .strategic = patch, kind.isCustom, subresource != "scale" {
            throw StatusError.unsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
            )
        }
        if subresource == "scale" {
            return try await self.scale(kind, key, options) { view in
                let patched = try Self.patched(view, patch, kind)
                return (patched.at("spec", "replicas")?.int ?? 0, patched.at("metadata", "resourceVersion")?.string)
            }
        }
        return try await self.update(kind, key, subresource: subresource, options) { current in
            let patched = try Self.patched(current, patch, kind)
            return try self.admitBody(
                patched, kind, namespace: kind.type.isNamespaced ? key.namespace : nil, name: key.name)
        }
    }

    static func patched(
        _ current: JSONValue, _ patch: KubePatchBody, _ kind: ResourceKind
    ) throws(StatusError) -> JSONValue {
        switch patch {
        case .merge(let body):
            guard case .object = body else { throw .badRequest("error decoding patch: a merge patch is an object") }
            return MergePatch.apply(body, to: current)
        case .strategic(let body): return try StrategicMergePatch.apply(body, to: current, kind: kind)
        case .json(let body): return try JSONPatch(body).apply(to: current)
        case .apply: throw .badRequest("server-side apply is not possible here")
        }
    }

    /// Read, compute, check, write; again from the start when somebody else wrote first.
    ///
    /// - Parameter transform: From the current object, in the version of the request, to the wanted one.
    func update(
        _ kind: ResourceKind, _ key: ObjectKey, subresource: String?, _ options: WriteOptions,
        managed: ManagedFields? = nil, transform: (JSONValue) throws -> JSONValue
    ) async throws -> WriteOutcome {
        for _ in 0..<Self.attemptsMax {
            let current = try self.stored(kind, key)
            let wanted = try transform(Conversion.fromStorage(current.json, kind))
            do {
                return try await self.write(
                    wanted, over: current, kind, key, subresource: subresource, options, managed: managed)
            } catch is ObjectStore.WriteConflict {
                // A caller that named its version finds out on the next round, with a proper conflict.
                continue
            }
        }
        throw StatusError.conflict(kind, key.name)
    }

    func write(
        _ wanted: JSONValue, over current: StoredObject, _ kind: ResourceKind, _ key: ObjectKey, subresource: String?,
        _ options: WriteOptions, managed: ManagedFields?
    ) async throws -> WriteOutcome {
        let old = Conversion.fromStorage(current.json, kind)
        try self.checkPreconditions(wanted, current, kind, key)
        var outcome = WriteOutcome(object: old)
        outcome.warnings += kind.custom?.deprecationWarning.map { [$0] } ?? []
        var new = self.limited(wanted, from: old, kind, subresource: subresource)
        MetadataRules.keepServerOwned(&new, from: old)
        let claimed = managed?.json ?? wanted.at("metadata", "managedFields")
        new.set(["metadata", "managedFields"], to: nil)
        new.set(["metadata", "resourceVersion"], to: nil)
        new = try self.settle(new, kind, old: old, options, &outcome.warnings)
        self.carryOver(&new, from: old, kind)
        var attributes = AdmissionAttributes(
            operation: .update, kind: kind, key: key, subresource: subresource ?? "", object: new, old: old,
            options: options)
        if let changed = try await self.mutated(attributes, &outcome.warnings) {
            new = self.limited(changed, from: old, kind, subresource: subresource)
            MetadataRules.keepServerOwned(&new, from: old)
            new.set(["metadata", "managedFields"], to: nil)
            new.set(["metadata", "resourceVersion"], to: nil)
            new = try self.resettled(new, kind, old: old, options)
            self.carryOver(&new, from: old, kind)
        }
        if Self.changesDesiredState(from: old, to: new, kind), kind.hasGeneration {
            new.set(["metadata", "generation"], to: .int((old.at("metadata", "generation")?.int ?? 0) + 1))
        }
        let errors =
            UpdateRules.validate(from: subresource == "ephemeralcontainers" ? new : old, to: new, kind)
            + self.problems(new, kind)
        if !errors.isEmpty { throw StatusError.invalid(kind, key.name, errors) }
        if Self.isDefinition(kind), subresource == nil {
            let rivals = self.store.snapshot(kind.storage).objects.map(\.object)
            DefinitionRules.setStatus(&new, rivals: rivals, now: Timestamp.now)
        }
        attributes.object = new
        try await self.approve(attributes, &outcome.warnings)
        let reservation = try self.allocator.admit(&new, old: old, kind: kind)

        var stored = Conversion.toStorage(new, kind)
        var fields =
            managed
            ?? ManagedFields(
                Self.isReset(claimed) ? JSONValue?.none : claimed ?? current.json.at("metadata", "managedFields"))
        if managed == nil {
            let manager = ManagedFields.Manager(
                name: options.fieldManager, operation: "Update", apiVersion: kind.type.apiVersion,
                subresource: subresource.map { $0 == "status" ? $0 : "" } ?? "")
            fields.recordUpdate(from: current.json, to: stored, kind, manager, time: Timestamp.now)
        }
        stored.set(["metadata", "managedFields"], to: fields.json)
        stored.set(["metadata", "resourceVersion"], to: .string(String(current.revision)))
        if stored == current.json || options.isDryRun {
            self.allocator.release(reservation)
            outcome.object = Conversion.fromStorage(stored, kind)
            return outcome
        }
        do {
            let isFinished = Self.isFinished(stored, kind)
            let result = try await self.commit(
                kind, key, expecting: .revision(current.revision), isFinished ? JSONValue?.none : stored)
            if isFinished {
                self.removed(current.json, kind)
                stored.set(["metadata", "resourceVersion"], to: .string(String(result.revision)))
                outcome.object = Conversion.fromStorage(stored, kind)
                await self.finishDefinition(of: kind)
            } else {
                self.allocator.replaced(old, by: new, kind: kind)
                outcome.object = Conversion.fromStorage(result.json, kind)
            }
            return outcome
        } catch let conflict as ObjectStore.WriteConflict {
            self.allocator.release(reservation)
            throw conflict
        }
    }

    /// `[]` and `[{}]` ask for forgetting who owns what.
    private static func isReset(_ managed: JSONValue?) -> Bool { managed == .array([]) || managed == [[:]] }

    private func checkPreconditions(
        _ wanted: JSONValue, _ current: StoredObject, _ kind: ResourceKind, _ key: ObjectKey
    ) throws(StatusError) {
        let version = wanted.at("metadata", "resourceVersion")?.string ?? ""
        if !version.isEmpty, version != "0", version != String(current.revision) { throw .conflict(kind, key.name) }
        if let uid = wanted.at("metadata", "uid")?.string, !uid.isEmpty, uid != current.uid {
            throw .conflict(
                kind, key.name, "Precondition failed: UID in precondition: \(uid), UID in object meta: \(current.uid)")
        }
    }

    /// Only the part of an object that the addressed subresource may change.
    private func limited(
        _ wanted: JSONValue, from old: JSONValue, _ kind: ResourceKind, subresource: String?
    ) -> JSONValue {
        switch subresource {
        case "status":
            var new = old
            new["status"] = wanted["status"]
            // Agents that may write only the status of pods leave their marks there too.
            if kind.storage == "pods" {
                new.set(["metadata", "annotations"], to: wanted.at("metadata", "annotations"))
            }
            return new
        case "approval":
            var new = old
            new.set(["status", "conditions"], to: wanted.at("status", "conditions"))
            return new
        case "ephemeralcontainers":
            var new = old
            new.set(["spec", "ephemeralContainers"], to: wanted.at("spec", "ephemeralContainers"))
            return new
        case "finalize":
            var new = old
            new.set(["spec", "finalizers"], to: wanted.at("spec", "finalizers"))
            return new
        default:
            var new = wanted
            if kind.hasStatus { new["status"] = old["status"] }
            if kind.storage == "namespaces" {
                new.set(["spec", "finalizers"], to: old.at("spec", "finalizers"))
            }
            return new
        }
    }

    /// Values an update may leave out although they stay.
    private func carryOver(_ new: inout JSONValue, from old: JSONValue, _ kind: ResourceKind) {
        switch kind.storage {
        case "pods":
            for name in ["nodeName", "serviceAccountName", "serviceAccount", "priority", "preemptionPolicy"] {
                if new.at("spec", name) == nil { new.set(["spec", name], to: old.at("spec", name)) }
            }
        case "services":
            guard new.at("spec", "type")?.string != "ExternalName", new.at("spec", "clusterIP")?.string ?? "" == ""
            else {
                return
            }
            for name in ["clusterIP", "clusterIPs"] { new.set(["spec", name], to: old.at("spec", name)) }
        case "jobs.batch":
            if new.at("spec", "selector") == nil { new.set(["spec", "selector"], to: old.at("spec", "selector")) }
        default: break
        }
    }

    private static func changesDesiredState(from old: JSONValue, to new: JSONValue, _ kind: ResourceKind) -> Bool {
        func desired(_ object: JSONValue) -> JSONValue {
            var object = object
            object["metadata"] = nil
            if kind.hasStatus { object["status"] = nil }
            return object
        }
        return desired(old) != desired(new)
    }

    // MARK: Server-side apply

    private func apply(
        _ kind: ResourceKind, _ key: ObjectKey, subresource: String?, _ body: JSONValue, force: Bool,
        _ options: WriteOptions
    ) async throws -> WriteOutcome {
        if let managed = body.at("metadata", "managedFields"), managed.array?.isEmpty != true {
            throw StatusError.badRequest("metadata.managedFields must be nil")
        }
        guard body["apiVersion"]?.string != nil, body["kind"]?.string != nil else {
            throw StatusError.badRequest(
                "invalid object type: /, Kind=: an applied object names its apiVersion and kind")
        }
        let applied = try self.admitBody(
            body, kind, namespace: kind.type.isNamespaced ? key.namespace : nil, name: key.name
        ).withoutNulls
        var warnings: [String] = []
        var wanted = applied
        // Unknown fields are reported once, and never owned.
        wanted = try self.prunedForApply(wanted, kind, options, &warnings)
        let manager = ManagedFields.Manager(
            name: options.fieldManager, operation: "Apply", apiVersion: kind.type.apiVersion,
            subresource: subresource ?? "")
        var quiet = options
        quiet.fieldValidation = .ignore
        for _ in 0..<Self.attemptsMax {
            let current = self.store.get(kind.storage, key)
            if current == nil, subresource != nil { throw StatusError.notFound(kind, key.name) }
            let live = current.map { Conversion.fromStorage($0.json, kind) }
            let version = wanted.at("metadata", "resourceVersion")
            let result = try ServerSideApply.apply(
                wanted, to: live, kind: kind, manager: manager, force: force, time: Timestamp.now)
            var object = result.object
            if let version { object.set(["metadata", "resourceVersion"], to: version) }
            do {
                var outcome: WriteOutcome
                if let current {
                    if let uid = wanted.at("metadata", "uid") { object.set(["metadata", "uid"], to: uid) }
                    outcome = try await self.write(
                        object, over: current, kind, key, subresource: subresource, quiet, managed: result.managedFields
                    )
                } else {
                    object.set(["metadata", "name"], to: .string(key.name))
                    if kind.type.isNamespaced { object.set(["metadata", "namespace"], to: .string(key.namespace)) }
                    if wanted.at("metadata", "uid")?.string != nil {
                        throw StatusError.conflict(
                            kind, key.name,
                            "uid mismatch: the provided object specified uid, and no existing object was found")
                    }
                    outcome = try await self.createNamed(object, kind, quiet, managed: result.managedFields)
                }
                outcome.warnings += warnings
                return outcome
            } catch is ObjectStore.WriteConflict {
                continue
            } catch let error as StatusError where error.isAlreadyExists {
                continue
            }
        }
        throw StatusError.conflict(kind, key.name)
    }

    private func prunedForApply(
        _ applied: JSONValue, _ kind: ResourceKind, _ options: WriteOptions, _ warnings: inout [String]
    ) throws(StatusError) -> JSONValue {
        var applied = applied
        if kind.storage == "secrets" { SecretRules.foldStringData(&applied) }
        // `settle` reports unknown fields; only its pruning is wanted here, not its defaults.
        _ = try self.settle(applied, kind, old: nil, options, &warnings)
        if let custom = kind.custom {
            var dropped: [String] = []
            applied = custom.schema.pruned(applied, dropped: &dropped)
        }
        return applied
    }
}

/// A patch as it arrives, with its type.
package enum KubePatchBody: Sendable {
    case merge(JSONValue), strategic(JSONValue), json(JSONValue)
    case apply(JSONValue, force: Bool)
}
