/// A Kubernetes object: a JSON tree with names for what every object has. Everything else is read from `json`.
public struct KubeObject: Hashable, Sendable {
    public var json: JSONValue

    public init(_ json: JSONValue) { self.json = json }

    /// A new object with the type's `apiVersion` and `kind`; members of `body` besides (`spec`, `data` ...).
    public init(
        _ type: ResourceType, namespace: String? = nil, name: String, labels: [String: String] = [:],
        annotations: [String: String] = [:], _ body: [String: JSONValue] = [:]
    ) {
        var metadata: [String: JSONValue] = ["name": .string(name)]
        if let namespace { metadata["namespace"] = .string(namespace) }
        if !labels.isEmpty { metadata["labels"] = JSONValue(labels) }
        if !annotations.isEmpty { metadata["annotations"] = JSONValue(annotations) }
        self.json = .object(
            body.merging(
                [
                    "apiVersion": .string(type.apiVersion), "kind": .string(type.kind),
                    "metadata": .object(metadata),
                ], uniquingKeysWith: { $1 }))
    }

    public var apiVersion: String { self.json["apiVersion"]?.string ?? "" }
    public var kind: String { self.json["kind"]?.string ?? "" }
    public var metadata: JSONValue { self.json["metadata"] ?? [:] }
    public var spec: JSONValue { self.json["spec"] ?? [:] }
    public var status: JSONValue { self.json["status"] ?? [:] }

    public var name: String { self.metadata["name"]?.string ?? "" }
    /// Empty for a cluster-scoped object.
    public var namespace: String { self.metadata["namespace"]?.string ?? "" }
    public var uid: String { self.metadata["uid"]?.string ?? "" }
    public var resourceVersion: String { self.metadata["resourceVersion"]?.string ?? "" }
    public var generation: Int64 { self.metadata["generation"]?.int ?? 0 }
    public var labels: [String: String] { self.metadata["labels"]?.stringMap ?? [:] }
    public var annotations: [String: String] { self.metadata["annotations"]?.stringMap ?? [:] }
    public var finalizers: [String] { self.metadata["finalizers"]?.array?.compactMap(\.string) ?? [] }
    public var isBeingDeleted: Bool { self.metadata["deletionTimestamp"]?.string != nil }
    public var ownerReferences: [JSONValue] { self.metadata["ownerReferences"]?.array ?? [] }
    public var controllerReference: JSONValue? { self.ownerReferences.first { $0["controller"]?.bool == true } }

    /// `namespace/name`, or the bare name of a cluster-scoped object.
    public var key: String { self.namespace.isEmpty ? self.name : "\(self.namespace)/\(self.name)" }

    /// The `status` member of the condition named `type`: `True`, `False`, `Unknown`, or nil when it is missing.
    public func condition(_ type: String) -> String? {
        self.status["conditions"]?.array?.first { $0["type"]?.string == type }?["status"]?.string
    }
}
