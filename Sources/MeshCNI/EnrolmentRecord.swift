public import KubeAPI

/// What the agent leaves on the node for the time when it is down: the namespaces in which no pod is captured.
///
/// A namespace that is not named is one in which a pod may have to be captured, or one that the agent never saw; there
/// the plugin refuses. What this can miss is written in `docs/decisions/0002-cni-plugin-decides-locally.md`.
public struct EnrolmentRecord: Hashable, Sendable {
    public var freeNamespaces: Set<String>

    public init(freeNamespaces: Set<String>) { self.freeNamespaces = freeNamespaces }

    static let version: Int64 = 1

    /// - Throws: for a record of another version too: it is not guessed at.
    public init(_ json: JSONValue) throws(CNIFailure) {
        guard json["version"]?.int == Self.version, let names = json["freeNamespaces"]?.array else {
            throw .badConfiguration("the agent's record is not of version \(Self.version)")
        }
        self.freeNamespaces = Set(names.compactMap(\.string))
    }

    public var json: JSONValue {
        ["version": .int(Self.version), "freeNamespaces": JSONValue(self.freeNamespaces.sorted())]
    }
}
