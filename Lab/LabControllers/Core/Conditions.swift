package import KubeAPI

/// A list of status conditions as workloads have them.
package struct Conditions: Hashable, Sendable {
    package private(set) var list: [JSONValue]

    package init(_ json: JSONValue?) { self.list = json?.array ?? [] }

    package subscript(type: String) -> JSONValue? { self.list.first { $0["type"]?.string == type } }

    package func reason(_ type: String) -> String? { self[type]?["reason"]?.string }

    /// Sets a condition. `lastTransitionTime` moves only with the status, `lastUpdateTime` (of Deployments) also with
    /// the reason and whenever `isFresh` says that something happened.
    package mutating func set(
        _ type: String, _ status: Bool, reason: String, message: String, now: KubeTime, hasUpdateTime: Bool = false,
        isFresh: Bool = false
    ) {
        let text = status ? "True" : "False"
        let old = self[type]
        let isSameStatus = old?["status"]?.string == text
        var condition: JSONValue = [
            "type": .string(type), "status": .string(text), "reason": .string(reason), "message": .string(message),
            "lastTransitionTime": isSameStatus ? old?["lastTransitionTime"] ?? .string(now.text) : .string(now.text),
        ]
        if hasUpdateTime {
            let isSame =
                isSameStatus && old?["reason"]?.string == reason && old?["message"]?.string == message && !isFresh
            condition["lastUpdateTime"] = isSame ? old?["lastUpdateTime"] ?? .string(now.text) : .string(now.text)
        }
        if let index = self.list.firstIndex(where: { $0["type"]?.string == type }) {
            self.list[index] = condition
        } else {
            self.list.append(condition)
        }
    }

    package mutating func remove(_ type: String) { self.list.removeAll { $0["type"]?.string == type } }

    /// Nil when there are none, as status objects want it.
    package var json: JSONValue? { self.list.isEmpty ? nil : .array(self.list) }
}
