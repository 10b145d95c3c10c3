internal import KubeAPI

/// Server-side apply: merges what a manager wants into what is there, and refuses to take fields that others own.
enum ServerSideApply {
    struct Outcome {
        var object: JSONValue
        var managedFields: ManagedFields
    }

    /// - Parameters:
    ///   - applied: The partial object of the request.
    ///   - live: What is stored, or nil when this creates.
    ///   - time: Goes into the manager's entry when its set or the object changed.
    /// - Throws: 409 with one cause per field that another manager owns with another value, unless `force`.
    static func apply(
        _ applied: JSONValue, to live: JSONValue?, kind: ResourceKind, manager: ManagedFields.Manager, force: Bool,
        time: String
    ) throws(StatusError) -> Outcome {
        let shape = FieldShape(kind)
        var wanted = ManagedFields.tracked(applied)
        if kind.hasStatus, manager.subresource != "status" { wanted["status"] = nil }
        let set = wanted.object?.isEmpty == false ? FieldSet(of: wanted, shape) : FieldSet()
        var fields = ManagedFields(live?.at("metadata", "managedFields"))
        let before = live ?? [:]

        // Fields whose value would change and that somebody else owns.
        let differing = self.differences(set, wanted, ManagedFields.tracked(before), shape)
        let rivals = fields.entries.filter { $0.manager != manager }
        let conflicts = rivals.map { ($0, $0.set.intersection(differing)) }.filter { !$0.1.isEmpty }
        if !conflicts.isEmpty {
            guard force else { throw self.conflict(conflicts) }
            for (entry, taken) in conflicts {
                guard let at = fields.entries.firstIndex(where: { $0.manager == entry.manager }) else { continue }
                fields.entries[at].set = fields.entries[at].set.subtracting(taken)
            }
        }

        // Fields this manager gave up and nobody else wants.
        let mine = fields.entries.first { $0.manager == manager }
        var abandoned = (mine?.set ?? FieldSet()).subtracting(set)
        for entry in fields.entries where entry.manager != manager { abandoned = abandoned.subtracting(entry.set) }

        var object = self.remove(abandoned, from: before, shape)
        object = self.merge(wanted, into: object, shape)
        object["apiVersion"] = applied["apiVersion"] ?? before["apiVersion"]
        object["kind"] = applied["kind"] ?? before["kind"]

        fields.entries.removeAll { $0.manager == manager || $0.set.isEmpty }
        if !set.isEmpty {
            let isSame = mine?.set == set && object == before
            fields.entries.append(.init(manager: manager, time: isSame ? mine?.time ?? time : time, set: set))
        }
        return Outcome(object: object, managedFields: fields)
    }

    /// The members of `set` whose value in `wanted` is not the live one.
    private static func differences(
        _ set: FieldSet, _ wanted: JSONValue, _ live: JSONValue, _ shape: FieldShape
    ) -> FieldSet {
        FieldSet.changes(from: live, to: self.merge(wanted, into: live, shape), shape).changed.intersection(set)
    }

    private static func conflict(_ conflicts: [(ManagedFields.Entry, FieldSet)]) -> StatusError {
        var causes: [JSONValue] = []
        var groups: [(who: String, paths: [String])] = []
        for (entry, set) in conflicts {
            var who = "conflict with \"\(entry.manager.name)\""
            if !entry.manager.subresource.isEmpty { who += " with subresource \"\(entry.manager.subresource)\"" }
            if !entry.manager.isApply { who += " using \(entry.manager.apiVersion) at \(entry.time)" }
            groups.append((who, set.paths))
            for path in set.paths {
                causes.append([
                    "reason": "FieldManagerConflict", "message": .string(who), "field": .string(path),
                ])
            }
        }
        let message: String
        if causes.count == 1 {
            message = "Apply failed with 1 conflict: \(groups[0].who): \(groups[0].paths[0])"
        } else {
            let lines = groups.map { group in
                group.who.replacing("conflict with", with: "conflicts with", maxReplacements: 1) + ":\n"
                    + group.paths.map { "- \($0)" }.joined(separator: "\n")
            }
            message = "Apply failed with \(causes.count) conflicts: " + lines.joined(separator: "\n")
        }
        return StatusError(code: 409, reason: "Conflict", message: message, details: ["causes": .array(causes)])
    }

    static func merge(_ applied: JSONValue, into live: JSONValue, _ shape: FieldShape) -> JSONValue {
        switch (applied, live) {
        case (.object(let wanted), .object(let present)) where !shape.isAtomicMap:
            var result = present
            for (name, value) in wanted {
                if value == .null {
                    result[name] = nil
                } else {
                    result[name] = result[name].map { self.merge(value, into: $0, shape.member(name)) } ?? value
                }
            }
            return .object(result)
        case (.array(let wanted), .array(let present)):
            switch shape.list {
            case .atomic: return applied
            case .set:
                var result = present
                for element in wanted where !result.contains(element) { result.append(element) }
                return .array(result)
            case .map:
                // The applied order leads; elements of others follow in their own order.
                var rest = present
                var result: [JSONValue] = []
                for element in wanted {
                    let key = FieldSet.keys(of: element, shape)
                    if let at = rest.firstIndex(where: { FieldSet.keys(of: $0, shape) == key }) {
                        result.append(self.merge(element, into: rest.remove(at: at), shape.element))
                    } else {
                        result.append(element)
                    }
                }
                return .array(result + rest)
            }
        default: return applied
        }
    }

    /// Takes the set's places out of a value.
    static func remove(_ set: FieldSet, from value: JSONValue, _ shape: FieldShape) -> JSONValue {
        if set.children.isEmpty { return value }
        switch value {
        case .object(var members) where !shape.isAtomicMap:
            for (step, child) in set.children {
                guard case .field(let name) = step, let member = members[name] else { continue }
                let isWhole = child.isMember && child.children.isEmpty
                if isWhole {
                    members[name] = nil
                } else {
                    let rest = self.remove(child, from: member, shape.member(name))
                    let isDrained = rest.object?.isEmpty == true || rest.array?.isEmpty == true
                    members[name] = isDrained ? JSONValue?.none : rest
                }
            }
            return .object(members)
        case .array(let elements):
            return .array(
                elements.compactMap { element -> JSONValue? in
                    if set.children[.value(element)] != nil { return nil }
                    guard let child = set.children[.key(FieldSet.keys(of: element, shape))] else { return element }
                    return child.isMember ? JSONValue?.none : self.remove(child, from: element, shape.element)
                })
        default: return value
        }
    }
}
