/// Several sets as one configuration: what many Envoys have in common first, then what fewer have. Where several have a
/// resource of the same name, the last one's counts.
package struct EnvoyResourceLayers: Sendable {
    private let sets: [EnvoyResourceSet]

    package init(_ sets: [EnvoyResourceSet]) { self.sets = sets }

    /// One number that grows with every change, for people.
    var revision: UInt64 { self.sets.reduce(0) { $0 &+ $1.revision } }
    var revisions: [UInt64] { self.sets.map(\.revision) }

    func resource(_ type: String, _ name: String) -> EncodedResource? {
        for set in self.sets.reversed() { if let found = set.resource(type, name) { return found } }
        return nil
    }

    func names(_ type: String) -> Set<String> { self.sets.reduce(into: []) { $0.formUnion($1.names(type)) } }

    /// What changed since each set was at these revisions; nil: nobody remembers.
    func changed(since revisions: [UInt64]) -> Set<EnvoyResourceSet.Name>? {
        guard revisions.count == self.sets.count else { return nil }
        var found: Set<EnvoyResourceSet.Name> = []
        for (set, revision) in zip(self.sets, revisions) {
            // One that went back began anew.
            guard set.revision >= revision, let changed = set.changed(since: revision) else { return nil }
            found.formUnion(changed)
        }
        return found
    }
}

/// Under which keys the parts of a sidecar's configuration stand at the server. Gateways, whose Envoys have one part, stand
/// there as `<namespace>/<name>`.
package enum SidecarLayer {
    /// What all sidecars have in common.
    package static let mesh = "sidecars"

    package static func namespace(_ namespace: String) -> String { "sidecars:\(namespace)" }

    /// - Parameter pod: `<namespace>/<name>`
    package static func pod(_ pod: String) -> String { "sidecar:\(pod)" }

    /// All parts of one sidecar, the most common first.
    static func all(_ pod: String) -> [String] {
        [Self.mesh, Self.namespace(String(pod.prefix { $0 != "/" })), Self.pod(pod)]
    }

    /// Whether nothing is kept of it once it is empty: pods come and go.
    static func isOfPod(_ key: String) -> Bool { key.hasPrefix("sidecar:") }
}
