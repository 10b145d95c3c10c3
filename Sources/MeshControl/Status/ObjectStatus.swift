import Foundation
import KubeAPI

/// One condition that we write into an object's status.
package struct StatusCondition: Hashable, Sendable {
    package var type: String
    package var isTrue: Bool
    package var reason: String
    package var message: String

    package init(_ type: String, _ isTrue: Bool, reason: String, message: String) {
        self.type = type
        self.isTrue = isTrue
        self.reason = reason
        self.message = message
    }
}

/// All that we have to say about an object, and about which generation of it.
package struct ObjectStatus: Hashable, Sendable {
    /// 0 for kinds without generations (Service): then none is written.
    package var generation: Int64
    package var conditions: [StatusCondition]

    package init?(generation: Int64, _ conditions: [StatusCondition?]) {
        let said = conditions.compactMap { $0 }
        if said.isEmpty { return nil }
        self.generation = generation
        self.conditions = said
    }

    /// As the API wants them; `lastTransitionTime` is now, except where the status word is as it was before.
    func json(over stored: [JSONValue]) -> [JSONValue] {
        self.conditions.map { condition in
            let before = stored.first { $0["type"]?.string == condition.type }
            let word = condition.isTrue ? "True" : "False"
            let isSame = before?["status"]?.string == word
            var json: JSONValue = [
                "type": .string(condition.type), "status": .string(word), "reason": .string(condition.reason),
                "message": .string(condition.message),
                "lastTransitionTime": (isSame ? before?["lastTransitionTime"] : nil)
                    ?? .string(Date().formatted(.iso8601)),
            ]
            if self.generation > 0 { json["observedGeneration"] = .int(self.generation) }
            return json
        }
    }
}
