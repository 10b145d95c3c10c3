internal import KubeAPI

/// Who makes a request.
package struct Caller: Hashable, Sendable {
    package var name: String
    package var uid = ""
    package var groups: [String]
    /// Facts about the credential, e.g. `authentication.kubernetes.io/pod-name`.
    package var extra: [String: [String]] = [:]

    package init(name: String, uid: String = "", groups: [String], extra: [String: [String]] = [:]) {
        self.name = name
        self.uid = uid
        self.groups = groups
        self.extra = extra
    }

    static let mastersGroup = "system:masters"
    static let authenticatedGroup = "system:authenticated"

    /// The cluster's administrator; also the identity of in-process callers.
    package static let admin = Caller(name: "system:admin", groups: [mastersGroup, authenticatedGroup])
    static let anonymous = Caller(name: "system:anonymous", groups: ["system:unauthenticated"])

    var isMaster: Bool { self.groups.contains(Self.mastersGroup) }
    var isAnonymous: Bool { self.name == Self.anonymous.name }

    /// `userInfo` of reviews.
    var json: JSONValue {
        var json: JSONValue = ["username": .string(self.name), "groups": JSONValue(self.groups)]
        if !self.uid.isEmpty { json["uid"] = .string(self.uid) }
        if !self.extra.isEmpty { json["extra"] = .object(self.extra.mapValues { JSONValue($0) }) }
        return json
    }
}
