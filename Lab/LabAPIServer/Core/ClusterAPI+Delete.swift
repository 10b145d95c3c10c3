internal import Foundation
package import KubeAPI

extension ClusterAPI {
    /// What a DELETE asked for.
    package struct Deletion: Sendable {
        package var gracePeriodSeconds: Int64?
        /// `Background`, `Foreground` or `Orphan`.
        package var propagationPolicy: String?
        package var uid: String?
        package var resourceVersion: String?
        package var isDryRun = false
        package var caller: Caller = .admin
        package init() {}
    }

    package struct DeletionOutcome: Sendable {
        /// The object while it is still there, else the Status of a success.
        package var answer: JSONValue
        /// The last state of the object, as list answers of collection deletes want it.
        package var object: JSONValue
        package var isGone: Bool
        package var warnings: [String] = []
    }

    static let protectedNamespaces: Set<String> = ["default", "kube-system", "kube-public"]

    package func delete(
        _ kind: ResourceKind, _ key: ObjectKey, _ deletion: Deletion = Deletion()
    ) async throws -> DeletionOutcome {
        if kind.storage == "namespaces", Self.protectedNamespaces.contains(key.name) {
            throw StatusError.forbidden(kind, key.name, "this namespace may not be deleted")
        }
        while true {
            let current = try self.stored(kind, key)
            try self.check(deletion, current, kind, key)
            let warnings = try await self.reviewDeletion(deletion, current, kind, key)
            do {
                var outcome = try await self.attempt(deletion, current, kind, key)
                outcome.warnings = warnings
                return outcome
            } catch is ObjectStore.WriteConflict {
                continue
            }
        }
    }

    /// Webhooks may refuse a deletion.
    private func reviewDeletion(
        _ deletion: Deletion, _ current: StoredObject, _ kind: ResourceKind, _ key: ObjectKey
    ) async throws -> [String] {
        var options = WriteOptions()
        options.caller = deletion.caller
        options.isDryRun = deletion.isDryRun
        var old = Conversion.fromStorage(current.json, kind)
        old.set(["metadata", "managedFields"], to: nil)
        let attributes = AdmissionAttributes(operation: .delete, kind: kind, key: key, old: old, options: options)
        var warnings: [String] = []
        _ = try await self.mutated(attributes, &warnings)
        try await self.approve(attributes, &warnings)
        return warnings
    }

    private func check(
        _ deletion: Deletion, _ current: StoredObject, _ kind: ResourceKind, _ key: ObjectKey
    ) throws(StatusError) {
        if let uid = deletion.uid, uid != current.uid {
            throw .conflict(
                kind, key.name,
                "the UID in the precondition (\(uid)) does not match the UID in record (\(current.uid)). The object might have been deleted and then recreated"
            )
        }
        if let version = deletion.resourceVersion, version != String(current.revision) {
            throw .conflict(
                kind, key.name,
                "the ResourceVersion in the precondition (\(version)) does not match the ResourceVersion in record (\(current.revision)). The object might have been modified"
            )
        }
    }

    private func attempt(
        _ deletion: Deletion, _ current: StoredObject, _ kind: ResourceKind, _ key: ObjectKey
    ) async throws -> DeletionOutcome {
        var object = current.json
        var finalizers = current.object.finalizers
        let isTerminating = current.object.isBeingDeleted
        if !isTerminating {
            for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
                finalizers.removeAll { $0 == finalizer }
                if deletion.propagationPolicy == policy { finalizers.append(finalizer) }
            }
        }
        if Self.isDefinition(kind), !isTerminating {
            if !deletion.isDryRun { await self.deleteInstances(of: current.object) }
            // Instances held by finalizers keep their definition.
            if self.instancesRemain(of: current.object) { finalizers.append(DefinitionRules.cleanupFinalizer) }
        }
        let grace = self.grace(deletion, current.object, kind)
        let isHeld = !finalizers.isEmpty || grace > 0 || (kind.storage == "namespaces" && !Self.isFinalized(object))
        if !isHeld {
            if !deletion.isDryRun {
                _ = try await self.commit(kind, key, expecting: .revision(current.revision), nil)
                self.removed(object, kind)
                await self.finishDefinition(of: kind)
            }
            return DeletionOutcome(
                answer: .success(kind, key.name, uid: current.uid), object: Conversion.fromStorage(object, kind),
                isGone: true)
        }
        let previous = object.at("metadata", "deletionGracePeriodSeconds")?.int
        if !isTerminating || (previous.map { grace < $0 } ?? false) {
            let until = Int64(Date().timeIntervalSince1970) + grace
            object.set(["metadata", "deletionTimestamp"], to: .string(Timestamp.text(secondsSince1970: until)))
            object.set(["metadata", "deletionGracePeriodSeconds"], to: .int(grace))
            object.set(["metadata", "finalizers"], to: finalizers.isEmpty ? JSONValue?.none : JSONValue(finalizers))
            if kind.hasGeneration, !isTerminating {
                object.set(["metadata", "generation"], to: .int((object.at("metadata", "generation")?.int ?? 0) + 1))
            }
            if kind.storage == "namespaces" { object.set(["status", "phase"], to: "Terminating") }
            if !deletion.isDryRun {
                object = try await self.commit(kind, key, expecting: .revision(current.revision), object).json
            }
        }
        let answer = Conversion.fromStorage(object, kind)
        return DeletionOutcome(answer: answer, object: answer, isGone: false)
    }

    /// Seconds a pod's processes get to end; 0 for every other kind, and for pods without processes.
    private func grace(_ deletion: Deletion, _ object: KubeObject, _ kind: ResourceKind) -> Int64 {
        guard kind.storage == "pods" else { return 0 }
        if object.spec["nodeName"]?.string ?? "" == "" { return 0 }
        if ["Succeeded", "Failed"].contains(object.status["phase"]?.string) { return 0 }
        let wanted = deletion.gracePeriodSeconds ?? object.spec["terminationGracePeriodSeconds"]?.int ?? 30
        if let current = object.metadata["deletionGracePeriodSeconds"]?.int, deletion.gracePeriodSeconds == nil {
            return min(current, wanted)
        }
        return max(0, wanted)
    }

    private static func isFinalized(_ namespace: JSONValue) -> Bool {
        namespace.at("spec", "finalizers")?.array?.isEmpty ?? true
    }

    /// Whether an update that leaves this state completes a deletion.
    static func isFinished(_ object: JSONValue, _ kind: ResourceKind) -> Bool {
        guard object.at("metadata", "deletionTimestamp")?.string != nil,
            object.at("metadata", "finalizers")?.array?.isEmpty ?? true
        else { return false }
        switch kind.storage {
        case "pods": return object.at("metadata", "deletionGracePeriodSeconds")?.int ?? 0 == 0
        case "namespaces": return self.isFinalized(object)
        default: return true
        }
    }

    /// Gives back what a removed object held.
    func removed(_ object: JSONValue, _ kind: ResourceKind) {
        if kind.storage == "services" { self.allocator.forget(object) }
    }

    // MARK: Definitions and their instances

    private func instanceStorage(of definition: KubeObject) -> String {
        "\(definition.spec.at("names", "plural")?.string ?? "").\(definition.spec["group"]?.string ?? "")"
    }

    private func instancesRemain(of definition: KubeObject) -> Bool {
        !self.store.snapshot(self.instanceStorage(of: definition)).objects.isEmpty
    }

    private func deleteInstances(of definition: KubeObject) async {
        let kinds = CustomKinds.kinds(of: definition)
        guard let kind = kinds.first else { return }
        for object in self.store.snapshot(kind.storage).objects {
            _ = try? await self.delete(kind, object.key)
        }
    }

    /// The last instance of a definition that is being deleted takes the definition with it.
    func finishDefinition(of kind: ResourceKind) async {
        guard let name = kind.custom?.definition,
            let definitions = self.registry.view.find(.customResourceDefinitions),
            let stored = self.store.get(definitions.storage, ObjectKey(name: name)), stored.object.isBeingDeleted,
            self.store.snapshot(kind.storage).objects.isEmpty
        else { return }
        _ = try? await self.patch(
            definitions, ObjectKey(name: name),
            .merge([
                "metadata": [
                    "finalizers": JSONValue(stored.object.finalizers.filter { $0 != DefinitionRules.cleanupFinalizer })
                ]
            ]))
    }
}
