internal import KubeAPI

/// Strategic merge patches: like merge patches, but lists with a merge key are merged element by element, and
/// directives (`$patch`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`, `$retainKeys`) say what plain values
/// cannot.
enum StrategicMergePatch {
    static func apply(_ patch: JSONValue, to target: JSONValue, kind: ResourceKind) throws(StatusError) -> JSONValue {
        guard case .object = patch else {
            throw .badRequest("error decoding patch: a strategic merge patch is an object")
        }
        return try self.map(patch, target, FieldShape(kind))
    }

    private static let order = "$setElementOrder/"
    private static let deletion = "$deleteFromPrimitiveList/"

    private static func map(
        _ patch: JSONValue, _ target: JSONValue, _ shape: FieldShape
    ) throws(StatusError) -> JSONValue {
        let changes = patch.object ?? [:]
        switch changes["$patch"]?.string {
        case "delete": return [:]
        case "replace": return self.plain(.object(changes.filter { $0.key != "$patch" }))
        case nil, "merge": break
        case let other?: throw .badRequest("unknown patch type: \(other)")
        }
        var result = target.object ?? [:]
        for (key, value) in changes where key.hasPrefix(self.deletion) {
            let field = String(key.dropFirst(self.deletion.count))
            let removed = value.array ?? []
            if let old = result[field]?.array { result[field] = .array(old.filter { !removed.contains($0) }) }
        }
        for (key, value) in changes where !key.hasPrefix("$") {
            switch value {
            case .null: result[key] = nil
            case .object:
                let merged = try self.map(value, result[key] ?? .null, shape.member(key))
                let isDeleted = value["$patch"]?.string == "delete"
                result[key] = isDeleted ? nil : merged
            case .array(let elements):
                let order = changes[self.order + key]?.array
                result[key] = .array(
                    try self.list(elements, result[key]?.array ?? [], shape.member(key), order: order))
            default: result[key] = value
            }
        }
        // An order without a list of changes still reorders.
        for (key, value) in changes where key.hasPrefix(self.order) {
            let field = String(key.dropFirst(self.order.count))
            guard changes[field] == nil, let old = result[field]?.array else { continue }
            result[field] = .array(
                self.ordered(old, value.array ?? [], key: shape.member(field).strategicKey ?? "", isNew: { _ in false })
            )
        }
        if let retained = changes["$retainKeys"]?.array?.compactMap(\.string) {
            result = result.filter { retained.contains($0.key) }
        }
        return .object(result)
    }

    private static func list(
        _ patch: [JSONValue], _ target: [JSONValue], _ shape: FieldShape, order: [JSONValue]?
    ) throws(StatusError) -> [JSONValue] {
        if patch.contains(where: { $0["$patch"]?.string == "replace" }) {
            return patch.filter { $0["$patch"]?.string != "replace" }.map(self.plain)
        }
        guard let key = shape.strategicKey else { return patch.map(self.plain) }
        if key.isEmpty {
            var union = target
            for element in patch where !union.contains(element) { union.append(element) }
            return order.map { self.ordered(union, $0, key: "", isNew: { _ in false }) } ?? union
        }
        var result = target
        for change in patch {
            guard let id = change[key] else {
                throw .badRequest("map: \(change) does not contain declared merge key: \(key)")
            }
            if change["$patch"]?.string == "delete" {
                result.removeAll { $0[key] == id }
            } else if let at = result.firstIndex(where: { $0[key] == id }) {
                result[at] = try self.map(change, result[at], shape.element)
            } else {
                result.append(try self.map(change, .null, shape.element))
            }
        }
        guard let order else { return result }
        let known = target.map { $0[key] }
        return self.ordered(result, order, key: key, isNew: { !known.contains($0[key]) })
    }

    /// Elements in the order of `order`; those not listed stay behind the neighbour they followed before.
    private static func ordered(
        _ elements: [JSONValue], _ order: [JSONValue], key: String, isNew: (JSONValue) -> Bool
    ) -> [JSONValue] {
        func id(_ element: JSONValue) -> JSONValue { key.isEmpty ? element : element[key] ?? .null }
        let wanted = order.map(id)
        var result: [JSONValue] = wanted.compactMap { name in elements.first { id($0) == name } }
        for (index, element) in elements.enumerated() where !wanted.contains(id(element)) {
            let before = elements[..<index].last { other in result.contains { id($0) == id(other) } }
            let at = before.flatMap { other in result.firstIndex { id($0) == id(other) } }.map { $0 + 1 }
            result.insert(element, at: at ?? (isNew(element) ? result.count : 0))
        }
        return result
    }

    /// A value taken over as it is: without directives and without nulls.
    private static func plain(_ value: JSONValue) -> JSONValue {
        switch value {
        case .object(let members):
            .object(members.filter { !$0.key.hasPrefix("$") && $0.value != .null }.mapValues(self.plain))
        case .array(let elements): .array(elements.filter { $0["$patch"] == nil }.map(self.plain))
        default: value
        }
    }
}
