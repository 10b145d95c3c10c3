package import KubeAPI
import KubeClient

/// A ConfigMap as Gateways may refer to it: patches for the objects that are made for them, one under each key.
package struct OverlayView: Hashable, Sendable {
    package var namespace, name: String
    /// Label `gateway.istio.io/defaults-for-class`: patches for all Gateways of that class, below their own.
    package var defaultsFor: String?
    /// RFC 3339; the oldest of several defaults counts.
    package var createdAt: String
    /// The keys of all data.
    package var keys: [String]
    /// YAML, by the keys of ``GatewayChild``. Other data is none of our business and not kept.
    package var patches: [GatewayChild: String]

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.defaultsFor = object.labels[Names.defaultsForClass]
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        let data = object.json["data"]?.stringMap ?? [:]
        self.keys = (Array(data.keys) + (object.json["binaryData"]?.object ?? [:]).keys).sorted()
        self.patches = [:]
        for child in GatewayChild.allCases { self.patches[child] = data[child.rawValue] }
    }

    package var key: String { "\(self.namespace)/\(self.name)" }
}

/// An object that is made for a Gateway, by its key in overlays; in the order in which they are made.
package enum GatewayChild: String, CaseIterable, Hashable, Sendable {
    case serviceAccount, service, deployment, horizontalPodAutoscaler, podDisruptionBudget

    package var type: ResourceType {
        switch self {
        case .serviceAccount: .serviceAccounts
        case .service: .services
        case .deployment: .deployments
        case .horizontalPodAutoscaler: .horizontalPodAutoscalers
        case .podDisruptionBudget: .podDisruptionBudgets
        }
    }

    /// Made only when an overlay has something to say about it.
    var isOptional: Bool { self == .horizontalPodAutoscaler || self == .podDisruptionBudget }
}

/// Why the objects of a Gateway cannot be made as its parameters want them.
package struct InvalidParameters: Error, Hashable, CustomStringConvertible {
    package let description: String
}

/// A parsed overlay. What it may not change: which object it is, and whose.
package struct GatewayOverlay: Hashable, Sendable {
    let source: String
    let patches: [GatewayChild: JSONValue]

    /// - Throws: for a key that names no object, and for text that is no YAML mapping.
    package init(_ view: OverlayView) throws(InvalidParameters) {
        self.source = "ConfigMap \(view.key)"
        let known = GatewayChild.allCases.map(\.rawValue)
        if let unknown = view.keys.first(where: { !known.contains($0) }) {
            throw InvalidParameters(
                description: "\(self.source): \"\(unknown)\" names none of the objects that are made; keys are "
                    + known.joined(separator: ", "))
        }
        var patches: [GatewayChild: JSONValue] = [:]
        for (child, text) in view.patches {
            let patch: JSONValue
            do {
                patch = try JSONValue(yaml: text)
            } catch {
                throw InvalidParameters(description: "\(self.source): \(child.rawValue) is no YAML: \(error)")
            }
            guard patch.object != nil || patch.isNull else {
                throw InvalidParameters(description: "\(self.source): \(child.rawValue) is no YAML mapping")
            }
            patches[child] = patch.isNull ? [:] : patch
        }
        self.patches = patches
    }

    /// What makes an object this one and ours.
    private static let identity = [
        "name", "namespace", "generateName", "uid", "ownerReferences", "finalizers", "resourceVersion", "managedFields",
        "selfLink", "creationTimestamp", "deletionTimestamp", "generation",
    ]

    func apply(to object: JSONValue, as child: GatewayChild) throws(InvalidParameters) -> JSONValue {
        guard let patch = self.patches[child] else { return object }
        let patched: JSONValue
        do {
            patched = try StrategicMerge.merge(patch, onto: object)
        } catch {
            throw InvalidParameters(description: "\(self.source): \(child.rawValue): \(error)")
        }
        func refuse(_ field: String) -> InvalidParameters {
            InvalidParameters(description: "\(self.source): \(child.rawValue): \(field) cannot be changed")
        }
        for field in ["apiVersion", "kind"] where patched[field] != object[field] { throw refuse(field) }
        for field in Self.identity where patched.at("metadata", field) != object.at("metadata", field) {
            throw refuse("metadata.\(field)")
        }
        // Without its labels the object would not be found again, and never be changed or removed by us.
        for (name, value) in object.at("metadata", "labels")?.stringMap ?? [:]
        where WaypointObjects.ownLabels.contains(name)
            && patched.at("metadata", "labels", name)?.string != value
        {
            throw refuse("the label \(name)")
        }
        return patched
    }
}
