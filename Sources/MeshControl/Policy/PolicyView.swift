package import KubeAPI

/// What the mesh reads of an AuthorizationPolicy.
package struct PolicyView: Hashable, Sendable {
    package var namespace, name: String
    package var generation: Int64
    /// Nil when the policy is for everything in its namespace (or, in the root namespace, in the mesh). An empty
    /// selector selects everything too.
    package var selector: [String: String]?
    package struct Target: Hashable, Sendable {
        package var group, kind, name, namespace: String
        /// `Kind.group:namespace/name`, as Istio's messages write it.
        func text(_ ownNamespace: String) -> String {
            "\(self.kind).\(self.group.isEmpty ? "core" : self.group):\(ownNamespace)/\(self.name)"
        }

        /// `targetRefs` and `targetRef` of a policy's spec.
        static func all(_ spec: JSONValue) -> [Target] {
            let references =
                (spec["targetRefs"]?.array ?? [])
                + (spec["targetRef"].flatMap { $0.object == nil ? nil : [$0] } ?? [])
            return references.map { reference in
                func text(_ name: String) -> String { reference[name]?.string ?? "" }
                let group = text("group")
                return Target(
                    group: group == "core" ? "" : group, kind: text("kind"), name: text("name"),
                    namespace: text("namespace"))
            }
        }
    }
    /// What it is attached to, when that is no set of pods. Such a policy is for waypoints and gateways only.
    package var targets: [Target]
    package var hasTargets: Bool { !self.targets.isEmpty }
    package var action: String
    /// Nil when there is no list; then the policy never matches, as with an empty one.
    package var rules: [JSONValue]
    package var isDryRun: Bool
    /// The annotation's text when it is no boolean; the policy is then enforced.
    package var unreadableDryRun: String?

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.generation = object.generation
        let labels = object.spec.at("selector", "matchLabels")?.stringMap ?? [:]
        self.selector = labels.isEmpty ? nil : labels
        self.targets = Target.all(object.spec)
        self.action = object.spec["action"]?.string ?? "ALLOW"
        self.rules = object.spec["rules"]?.array ?? []
        let dryRun = object.annotations["istio.io/dry-run"]
        self.isDryRun = dryRun.flatMap(Names.boolean) ?? false
        self.unreadableDryRun = dryRun.flatMap { Names.boolean($0) == nil ? $0 : nil }
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
    package var generation: Int64
    package var createdAt: String
    package var selector: [String: String]?
    package var mode: Mode
    package var portModes: [UInt16: Mode]
    /// Modes and ports that we do not know, as written.
    package var unreadable: [String] = []

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.generation = object.generation
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        let labels = object.spec.at("selector", "matchLabels")?.stringMap ?? [:]
        self.selector = labels.isEmpty ? nil : labels
        self.mode = .unset
        self.portModes = [:]
        self.mode = self.read(object.spec["mtls"])
        for (port, value) in (object.spec["portLevelMtls"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            if let number = UInt16(port), number > 0 {
                self.portModes[number] = self.read(value)
            } else {
                self.unreadable.append("port \(port)")
            }
        }
    }

    /// A mode newer than us asks for more than we know: the strictest of ours.
    private mutating func read(_ value: JSONValue?) -> Mode {
        guard let text = value?["mode"]?.string else { return .unset }
        if let mode = Mode(rawValue: text) { return mode }
        self.unreadable.append("mode \(text)")
        return .strict
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
