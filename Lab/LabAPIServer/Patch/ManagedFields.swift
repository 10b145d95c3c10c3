internal import KubeAPI

/// Who owns which fields of an object: `metadata.managedFields`.
struct ManagedFields {
    struct Manager: Hashable {
        var name: String
        var operation: String
        var apiVersion: String
        var subresource: String

        var isApply: Bool { self.operation == "Apply" }
    }
    struct Entry {
        var manager: Manager
        var time: String
        var set: FieldSet
    }

    var entries: [Entry]

    init(_ json: JSONValue?) {
        self.entries = (json?.array ?? []).compactMap { entry in
            guard let name = entry["manager"]?.string ?? entry["operation"].map({ _ in "unknown" }) else { return nil }
            return Entry(
                manager: Manager(
                    name: name, operation: entry["operation"]?.string ?? "Update",
                    apiVersion: entry["apiVersion"]?.string ?? "", subresource: entry["subresource"]?.string ?? ""),
                time: entry["time"]?.string ?? "", set: FieldSet(fieldsV1: entry["fieldsV1"] ?? [:]))
        }
    }

    var json: JSONValue? {
        let kept = self.entries.filter { !$0.set.isEmpty }
        if kept.isEmpty { return nil }
        return .array(
            kept.sorted { left, right in
                if left.manager.isApply != right.manager.isApply { return left.manager.isApply }
                return (left.time, left.manager.name) < (right.time, right.manager.name)
            }.map { entry in
                var json: JSONValue = [
                    "manager": .string(entry.manager.name), "operation": .string(entry.manager.operation),
                    "apiVersion": .string(entry.manager.apiVersion), "time": .string(entry.time),
                    "fieldsType": "FieldsV1", "fieldsV1": entry.set.fieldsV1,
                ]
                if !entry.manager.subresource.isEmpty { json["subresource"] = .string(entry.manager.subresource) }
                return json
            })
    }

    /// What ownership is tracked for: everything except what the server itself sets.
    static func tracked(_ object: JSONValue) -> JSONValue {
        guard case .object(var members) = object else { return object }
        members["apiVersion"] = nil
        members["kind"] = nil
        if case .object(var metadata)? = members["metadata"] {
            for name in [
                "name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion", "selfLink",
                "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
            ] {
                metadata[name] = nil
            }
            members["metadata"] = metadata.isEmpty ? JSONValue?.none : .object(metadata)
        }
        return .object(members)
    }

    /// A write that is no apply: what it added or changed now belongs to its manager alone.
    mutating func recordUpdate(
        from old: JSONValue?, to new: JSONValue, _ kind: ResourceKind, _ manager: Manager, time: String
    ) {
        let (changed, removed) = FieldSet.changes(
            from: old.map(Self.tracked) ?? [:], to: Self.tracked(new), FieldShape(kind))
        if changed.isEmpty, removed.isEmpty { return }
        for index in self.entries.indices {
            self.entries[index].set = self.entries[index].set.subtracting(removed)
            if self.entries[index].manager != manager {
                self.entries[index].set = self.entries[index].set.subtracting(changed)
            }
        }
        if !changed.isEmpty {
            if let at = self.entries.firstIndex(where: { $0.manager == manager }) {
                self.entries[at].set = self.entries[at].set.union(changed)
                self.entries[at].time = time
            } else {
                self.entries.append(Entry(manager: manager, time: time, set: changed))
            }
        }
        self.entries.removeAll { $0.set.isEmpty }
    }
}
