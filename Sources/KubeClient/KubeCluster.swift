public import KubeAPI

/// Kubernetes as everything in this project sees it: the same calls whether they go over HTTPS to an API server
/// (``KubeClient``) or straight into the lab's store. Failures are ``StatusError`` when the server answered, and
/// ``KubeConnectionError`` when it could not be asked.
public protocol KubeCluster: Sendable {
    func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject
    func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList
    /// Streams events until the server ends the watch (a clean end is normal: start again from the last resource
    /// version) or the task is cancelled. An expired version throws ``StatusError`` 410.
    func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error>
    /// `subresource`: `token`, `eviction`, `binding` ...
    func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject
    func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject
    func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject
    /// Answers the object when it is still there (finalizers, grace), else the Status.
    @discardableResult
    func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject
}

extension KubeCluster {
    public func list(_ type: ResourceType, namespace: String? = nil) async throws -> KubeList {
        try await self.list(type, namespace: namespace, ListOptions())
    }
    @discardableResult
    public func create(_ type: ResourceType, _ object: KubeObject) async throws -> KubeObject {
        try await self.create(
            type, namespace: type.isNamespaced ? object.namespace : nil, name: nil, subresource: nil, object.json)
    }
    @discardableResult
    public func replace(_ type: ResourceType, _ object: KubeObject, subresource: String? = nil) async throws
        -> KubeObject
    {
        try await self.replace(
            type, namespace: type.isNamespaced ? object.namespace : nil, name: object.name,
            subresource: subresource, object.json)
    }
    @discardableResult
    public func delete(_ type: ResourceType, namespace: String? = nil, name: String) async throws -> KubeObject {
        try await self.delete(type, namespace: namespace, name: name, DeleteOptions())
    }
    /// Nil when there is no such object.
    public func find(_ type: ResourceType, namespace: String? = nil, name: String) async throws -> KubeObject? {
        do {
            return try await self.get(type, namespace: namespace, name: name)
        } catch let error as StatusError where error.isNotFound {
            return nil
        }
    }
}

public struct ListOptions: Hashable, Sendable {
    public var labelSelector: String?
    public var fieldSelector: String?

    public init(labelSelector: String? = nil, fieldSelector: String? = nil) {
        self.labelSelector = labelSelector
        self.fieldSelector = fieldSelector
    }
}

public struct KubeList: Sendable {
    public var items: [KubeObject]
    public var resourceVersion: String

    public init(items: [KubeObject], resourceVersion: String) {
        self.items = items
        self.resourceVersion = resourceVersion
    }
}

public enum WatchEvent: Hashable, Sendable {
    case added(KubeObject)
    case modified(KubeObject)
    /// The last state, with the resource version of the deletion.
    case deleted(KubeObject)
    /// Everything up to this resource version has been seen.
    case bookmark(resourceVersion: String)
}

public enum KubePatch: Hashable, Sendable {
    /// RFC 7386: null deletes a member.
    case merge(JSONValue)
    case strategic(JSONValue)
    /// RFC 6902: an array of operations.
    case json(JSONValue)
    /// Server-side apply: creates or updates, and owns the fields it names.
    case apply(JSONValue, fieldManager: String, force: Bool)
}

public struct DeleteOptions: Hashable, Sendable {
    public enum Propagation: String, Sendable {
        case background = "Background", foreground = "Foreground", orphan = "Orphan"
    }
    public var gracePeriodSeconds: Int64?
    public var propagation: Propagation?
    /// Refuse with a conflict when the object has another uid.
    public var uid: String?

    public init(gracePeriodSeconds: Int64? = nil, propagation: Propagation? = nil, uid: String? = nil) {
        self.gracePeriodSeconds = gracePeriodSeconds
        self.propagation = propagation
        self.uid = uid
    }
}

/// The server could not be asked, or broke off.
public struct KubeConnectionError: Error, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}
