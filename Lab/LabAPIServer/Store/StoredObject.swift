public import KubeAPI
internal import Synchronization

/// Where an object lives inside its storage: the namespace is empty for cluster-scoped kinds.
public struct ObjectKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let namespace, name: String

    public init(namespace: String = "", name: String) {
        self.namespace = namespace
        self.name = name
    }

    /// List order: by namespace, then by name.
    public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
        left.namespace == right.namespace ? left.name < right.name : left.namespace < right.namespace
    }

    public var description: String { self.namespace.isEmpty ? self.name : "\(self.namespace)/\(self.name)" }
}

/// One revision of one object. Immutable, so lists and watchers share it without copying.
public final class StoredObject: Sendable {
    public let key: ObjectKey
    /// The store's revision that made this state; equal to `metadata.resourceVersion`.
    public let revision: UInt64
    public let json: JSONValue
    public let uid: String
    public let labels: [String: String]
    /// The encoded bytes, made once for all lists and watchers that want them.
    private let cache = Mutex<[UInt8]?>(nil)

    init(key: ObjectKey, revision: UInt64, json: JSONValue) {
        self.key = key
        self.revision = revision
        var json = json
        json.set(["metadata", "resourceVersion"], to: .string(String(revision)))
        self.json = json
        self.uid = json.at("metadata", "uid")?.string ?? ""
        self.labels = json.at("metadata", "labels")?.stringMap ?? [:]
    }

    public var object: KubeObject { KubeObject(self.json) }

    public var encoded: [UInt8] {
        self.cache.withLock { cached in
            if let cached { return cached }
            let bytes = self.json.encoded
            cached = bytes
            return bytes
        }
    }
}
