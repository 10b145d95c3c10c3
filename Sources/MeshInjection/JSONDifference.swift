package import KubeAPI

/// The operations of RFC 6902 that make one JSON tree of another.
package enum JSONDifference {
    /// Lists are replaced as a whole: what else happened to them in between would otherwise shift.
    package static func patch(from old: JSONValue, to new: JSONValue) -> JSONValue {
        var operations: [JSONValue] = []
        self.compare(old, new, "", &operations)
        return .array(operations)
    }

    private static func compare(
        _ old: JSONValue, _ new: JSONValue, _ path: String, _ operations: inout [JSONValue]
    ) {
        if old == new { return }
        guard case .object(let before) = old, case .object(let after) = new else {
            operations.append(["op": "replace", "path": .string(path), "value": new])
            return
        }
        for name in Set(before.keys).union(after.keys).sorted() {
            let place = "\(path)/\(self.escaped(name))"
            switch (before[name], after[name]) {
            case (let old?, let new?): self.compare(old, new, place, &operations)
            case (_?, nil): operations.append(["op": "remove", "path": .string(place)])
            case (nil, let new?): operations.append(["op": "add", "path": .string(place), "value": new])
            case (nil, nil): break
            }
        }
    }

    private static func escaped(_ name: String) -> String {
        name.replacing("~", with: "~0").replacing("/", with: "~1")
    }
}
