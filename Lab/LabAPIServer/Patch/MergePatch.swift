internal import KubeAPI

/// RFC 7386: objects are merged, null deletes a member, everything else replaces.
enum MergePatch {
    static func apply(_ patch: JSONValue, to target: JSONValue) -> JSONValue {
        guard case .object(let members) = patch else { return patch }
        var result = target.object ?? [:]
        for (key, value) in members {
            if value == .null {
                result[key] = nil
            } else {
                result[key] = Self.apply(value, to: result[key] ?? .null)
            }
        }
        return .object(result)
    }
}

extension JSONValue {
    /// The same tree without members that are null: in a create body null means absent.
    var withoutNulls: JSONValue {
        switch self {
        case .object(let members):
            .object(members.filter { $0.value != .null }.mapValues(\.withoutNulls))
        case .array(let elements): .array(elements.map(\.withoutNulls))
        default: self
        }
    }
}
