package import KubeAPI

/// The history of a DaemonSet's or StatefulSet's pod template, kept in ControllerRevisions.
package struct ControllerRevisions {
    package static let hashLabel = "controller-revision-hash"

    /// Hash of the current template: the value of ``hashLabel`` on its pods.
    package let currentHash: String
    /// Name of the current revision.
    package var currentName: String { "\(self.owner.name)-\(self.currentHash)" }
    package private(set) var writes: [Write] = []
    private let owner: KubeObject

    /// - Parameters:
    ///   - revisions: those the owner controls.
    ///   - hashesInUse: hashes of pods that exist; their revisions are kept.
    package init(_ owner: KubeObject, revisions: [KubeObject], hashesInUse: Set<String>) {
        self.owner = owner
        let data = Self.data(owner)
        let newest = revisions.map { $0.json["revision"]?.int ?? 0 }.max() ?? 0
        if let known = revisions.first(where: { $0.json["data"] == data && !$0.isBeingDeleted }) {
            self.currentHash = known.labels[Self.hashLabel] ?? PodTemplate.hash(data)
            if let revision = known.json["revision"]?.int, revision < newest {
                var changed = known
                changed.json["revision"] = .int(newest + 1)
                self.writes.append(.replace(.controllerRevisions, changed))
            }
        } else {
            var collision: Int64 = 0
            var hash = PodTemplate.hash(data)
            while revisions.contains(where: { $0.labels[Self.hashLabel] == hash }) {
                collision += 1
                hash = PodTemplate.hash(data, collision: collision)
            }
            self.currentHash = hash
            var labels = owner.spec.at("selector", "matchLabels")?.stringMap ?? [:]
            labels.merge(owner.spec.at("template", "metadata", "labels")?.stringMap ?? [:]) { $1 }
            labels[Self.hashLabel] = hash
            let annotations = owner.annotations.filter {
                $0.key != "kubectl.kubernetes.io/last-applied-configuration"
            }
            var revision = KubeObject(
                .controllerRevisions, namespace: owner.namespace, name: "\(owner.name)-\(hash)", labels: labels,
                annotations: annotations, ["data": data, "revision": .int(newest + 1)])
            revision.set("metadata", "ownerReferences", to: [owner.controllerReferenceToSelf])
            self.writes.append(.create(.controllerRevisions, revision))
        }
        let current = self.currentHash
        let unused = revisions.filter {
            let hash = $0.labels[Self.hashLabel] ?? ""
            return hash != current && !hashesInUse.contains(hash) && !$0.isBeingDeleted
        }.sorted { ($0.json["revision"]?.int ?? 0) < ($1.json["revision"]?.int ?? 0) }
        let limit = Int(clamping: owner.spec["revisionHistoryLimit"]?.int ?? 10)
        for revision in unused.prefix(max(0, unused.count - limit)) {
            self.writes.append(.delete(.controllerRevisions, revision, .background))
        }
    }

    /// A strategic merge patch that brings this template back: what `kubectl rollout undo` sends.
    private static func data(_ owner: KubeObject) -> JSONValue {
        var template = owner.spec["template"] ?? [:]
        template["$patch"] = "replace"
        return ["spec": ["template": template]]
    }
}
