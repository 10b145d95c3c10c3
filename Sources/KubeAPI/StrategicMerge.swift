/// Kubernetes' strategic merge patch for the objects of a waypoint: objects merge member by member, `null` removes, and
/// lists whose elements have names merge by name; all other lists are replaced.
///
/// Of the directives `$patch` is understood (`delete`, `replace`, `merge`); any other is refused, because a patch that is
/// only partly applied is worse than none.
package enum StrategicMerge {
    package struct Unreadable: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// The member that names the elements of a list (`patchMergeKey` of the Kubernetes types); nil: the list is one value.
    private static func mergeKey(of path: [String]) -> String? {
        switch path.last {
        case "containers", "initContainers", "ephemeralContainers", "env", "volumes", "imagePullSecrets", "secrets",
            "schedulingGates", "resourceClaims":
            "name"
        case "volumeMounts": "mountPath"
        case "volumeDevices": "devicePath"
        case "hostAliases": "ip"
        case "topologySpreadConstraints": "topologyKey"
        case "ports": path.contains { $0.hasSuffix("ontainers") } ? "containerPort" : "port"
        default: nil
        }
    }

    package static func merge(_ patch: JSONValue, onto value: JSONValue) throws(Unreadable) -> JSONValue {
        try Self.merge(patch, onto: value, [])
    }

    private static func merge(
        _ patch: JSONValue, onto value: JSONValue?, _ path: [String]
    ) throws(Unreadable) -> JSONValue {
        switch patch {
        case .object(var members):
            var result = value?.object ?? [:]
            switch members.removeValue(forKey: "$patch")?.string {
            case nil, "merge": break
            case "replace": result = [:]
            case "delete": return .object([:])
            case let other?: throw Self.unreadable(path, "unknown directive $patch: \(other)")
            }
            for (name, member) in members {
                if name.hasPrefix("$") { throw Self.unreadable(path, "the directive \(name) is not supported") }
                if member == .null {
                    result[name] = nil
                } else {
                    result[name] = try Self.merge(member, onto: result[name], path + [name])
                }
            }
            return .object(result)
        case .array(let elements):
            guard let key = Self.mergeKey(of: path) else { return patch }
            return .array(try Self.merge(elements, onto: value?.array ?? [], by: key, path))
        default: return patch
        }
    }

    private static func merge(
        _ elements: [JSONValue], onto list: [JSONValue], by key: String, _ path: [String]
    ) throws(Unreadable) -> [JSONValue] {
        // An element that holds nothing but the directive speaks for the whole list.
        let isReplacement = elements.contains { $0.object?.count == 1 && $0["$patch"]?.string == "replace" }
        var result = isReplacement ? [] : list
        for element in elements {
            guard element.object != nil else { throw Self.unreadable(path, "an element is no object") }
            let directive = element["$patch"]?.string
            if directive == "replace", element.object?.count == 1 { continue }
            guard let name = element[key] else { throw Self.unreadable(path, "an element has no \(key)") }
            let place = result.firstIndex { $0[key] == name }
            if directive == "delete" {
                if let place { result.remove(at: place) }
            } else {
                let merged = try Self.merge(element, onto: place.map { result[$0] }, path)
                if let place { result[place] = merged } else { result.append(merged) }
            }
        }
        return result
    }

    private static func unreadable(_ path: [String], _ what: String) -> Unreadable {
        Unreadable(description: path.isEmpty ? what : "\(path.joined(separator: ".")): \(what)")
    }
}
