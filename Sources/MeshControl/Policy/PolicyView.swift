package import KubeAPI

/// What the mesh reads of an AuthorizationPolicy.
package struct PolicyView: Hashable, Sendable {
    package var namespace, name: String
    package var generation: Int64
    /// Nil when the policy is for everything in its namespace (or, in the root namespace, in the mesh). An empty
    /// selector selects everything too.
    package var selector: [String: String]?
    package var hasTargets: Bool
    package var action: String
    /// Nil when there is no list; then the policy never matches, as with an empty one.
    package var rules: [JSONValue]
    package var isDryRun: Bool

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.generation = object.generation
        let labels = object.spec.at("selector", "matchLabels")?.stringMap ?? [:]
        self.selector = labels.isEmpty ? nil : labels
        self.hasTargets =
            object.spec["targetRef"]?.object != nil || object.spec["targetRefs"]?.array?.isEmpty == false
        self.action = object.spec["action"]?.string ?? "ALLOW"
        self.rules = object.spec["rules"]?.array ?? []
        // Go's boolean words: what is none of them counts as false.
        self.isDryRun = ["1", "t", "T", "true", "TRUE", "True"].contains(
            object.annotations["istio.io/dry-run"] ?? "")
    }

    package var key: String { "\(self.namespace)/\(self.name)" }

    func selects(_ labels: [String: String]) -> Bool {
        self.selector.map { $0.allSatisfy { labels[$0.key] == $0.value } } ?? false
    }
}

/// What the mesh reads of a PeerAuthentication.
package struct PeerAuthenticationView: Hashable, Sendable {
    package enum Mode: String, Hashable, Sendable {
        case unset = "UNSET", disable = "DISABLE", permissive = "PERMISSIVE", strict = "STRICT"
    }
    package var namespace, name: String
    package var createdAt: String
    package var selector: [String: String]?
    package var mode: Mode
    package var portModes: [UInt16: Mode]

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        let labels = object.spec.at("selector", "matchLabels")?.stringMap ?? [:]
        self.selector = labels.isEmpty ? nil : labels
        self.mode = Self.mode(object.spec["mtls"])
        self.portModes = [:]
        for (port, value) in object.spec["portLevelMtls"]?.object ?? [:] {
            if let number = UInt16(port) { self.portModes[number] = Self.mode(value) }
        }
    }

    /// A mode newer than us asks for more than we know: the strictest of ours.
    private static func mode(_ value: JSONValue?) -> Mode {
        guard let text = value?["mode"]?.string else { return .unset }
        return Mode(rawValue: text) ?? .strict
    }

    package var key: String { "\(self.namespace)/\(self.name)" }

    func selects(_ labels: [String: String]) -> Bool {
        self.selector.map { $0.allSatisfy { labels[$0.key] == $0.value } } ?? false
    }

    /// Oldest first; the name decides between equals.
    static func isOlder(_ a: Self, _ b: Self) -> Bool {
        (a.createdAt, a.namespace, a.name) < (b.createdAt, b.namespace, b.name)
    }
}
