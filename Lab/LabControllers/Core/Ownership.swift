package import KubeAPI

extension KubeObject {
    /// The reference that makes `self` the controller of another object.
    package var controllerReferenceToSelf: JSONValue {
        [
            "apiVersion": .string(self.apiVersion), "kind": .string(self.kind), "name": .string(self.name),
            "uid": .string(self.uid), "controller": true, "blockOwnerDeletion": true,
        ]
    }

    package func isControlled(by owner: KubeObject) -> Bool {
        self.controllerReference?["uid"]?.string == owner.uid
    }

    package mutating func set(_ path: String..., to value: JSONValue?) { self.json.set(path, to: value) }

    package var createdAt: KubeTime {
        KubeTime(self.metadata["creationTimestamp"]?.string) ?? KubeTime(secondsSince1970: 0)
    }
}

/// Sorts what a controller owns from what it has to take or let go.
package struct Claim: Sendable {
    /// Owned and matching.
    package var owned: [KubeObject] = []
    /// Adoptions and releases.
    package var writes: [Write] = []

    /// - Parameter candidates: objects that `owner` controls or nobody controls, of the owner's namespace.
    package init(_ type: ResourceType, of owner: KubeObject, selector: LabelSelector, candidates: [KubeObject]) {
        for object in candidates {
            let matches = selector.matches(object.labels)
            if object.isControlled(by: owner) {
                if matches || object.isBeingDeleted {
                    self.owned.append(object)
                } else {
                    var released = object
                    released.set(
                        "metadata", "ownerReferences",
                        to: .array(object.ownerReferences.filter { $0["uid"]?.string != owner.uid }))
                    self.writes.append(.replace(type, released))
                }
            } else if object.controllerReference == nil, matches, !object.isBeingDeleted, !owner.isBeingDeleted {
                var adopted = object
                adopted.set(
                    "metadata", "ownerReferences",
                    to: .array(object.ownerReferences + [owner.controllerReferenceToSelf]))
                self.writes.append(.replace(type, adopted))
            }
        }
    }

    /// The selector of a workload's `spec.selector`; one that nobody can read selects nothing.
    package static func selector(_ owner: KubeObject) -> LabelSelector {
        let nothing = LabelSelector(requirements: [.init(key: "", op: .exists)])
        guard let json = owner.spec["selector"], json.object?.isEmpty == false else { return nothing }
        return (try? LabelSelector(json)) ?? nothing
    }
}
