package import KubeAPI
internal import Logging

/// The API server without its transport: every rule of reading and writing objects, over one ``ObjectStore``.
///
/// HTTP requests and the in-process client meet here, so both pass the same admission, defaulting, validation and
/// ownership tracking. Authorization comes before, in the HTTP layer; in-process callers are trusted.
package final class ClusterAPI: Sendable {
    package let store: ObjectStore
    package let registry = Registry()
    let allocator: ServiceAllocator
    let tokens: TokenAuthority
    let webhooks: WebhookClient
    let log: Logger

    /// How one write was asked for.
    package struct WriteOptions: Sendable {
        package enum FieldValidation: String, Sendable { case strict = "Strict", warn = "Warn", ignore = "Ignore" }
        package var caller: Caller = .admin
        /// Owner of the fields this write changes.
        package var fieldManager = "martlet-lab"
        /// Do everything except storing.
        package var isDryRun = false
        package var fieldValidation = FieldValidation.ignore
        package init() {}
    }

    /// The answer to a write: the object in the version of the request.
    package struct WriteOutcome: Sendable {
        package var object: JSONValue
        package var isCreated = false
        package var warnings: [String] = []
    }

    /// - Parameter serviceRange: CIDR of ClusterIPs, e.g. `10.43.0.0/16`.
    init(
        store: ObjectStore, serviceRange: String, tokens: TokenAuthority, nodes: any NodeConnector, log: Logger
    ) throws {
        self.store = store
        self.tokens = tokens
        self.webhooks = WebhookClient(nodes: nodes)
        self.log = log
        self.allocator = try ServiceAllocator(range: serviceRange)
        for service in store.snapshot("services").objects { self.allocator.adopt(service.json) }
        self.publishCustomKinds()
    }

    // MARK: Reading

    package func kind(_ type: ResourceType) throws(StatusError) -> ResourceKind {
        guard let kind = self.registry.view.find(type) else { throw .noSuchPath }
        return kind
    }

    /// The stored state of an object.
    func stored(_ kind: ResourceKind, _ key: ObjectKey) throws(StatusError) -> StoredObject {
        guard kind.type.isNamespaced == !key.namespace.isEmpty else { throw .noSuchPath }
        guard let object = self.store.get(kind.storage, key) else { throw .notFound(kind, key.name) }
        return object
    }

    package func get(_ kind: ResourceKind, _ key: ObjectKey) throws(StatusError) -> JSONValue {
        Conversion.fromStorage(try self.stored(kind, key).json, kind)
    }

    /// Which objects of a kind a list or watch is about.
    struct Selection: Sendable {
        var namespace: String?
        var labels: LabelSelector
        var fields: FieldSelector

        init(namespace: String?, labelSelector: String?, fieldSelector: String?, _ kind: ResourceKind)
            throws(StatusError)
        {
            do {
                self.labels = try LabelSelector(query: labelSelector ?? "")
            } catch {
                throw .badRequest(error.description)
            }
            self.fields = try FieldSelector(fieldSelector ?? "", kind)
            self.namespace = kind.type.isNamespaced ? namespace ?? self.fields.namespace : nil
        }

        func matches(_ object: StoredObject) -> Bool {
            self.labels.matches(object.labels) && (self.fields.isEverything || self.fields.matches(object.json))
        }
    }

    /// Matching objects in key order, and the store's revision at that moment.
    func list(_ kind: ResourceKind, _ selection: Selection) -> (objects: [StoredObject], revision: UInt64) {
        if let namespace = selection.namespace, let name = selection.fields.name {
            let revision = self.store.revision
            let found = self.store.get(kind.storage, ObjectKey(namespace: namespace, name: name))
            return (found.map { [$0] }?.filter(selection.matches) ?? [], max(revision, found?.revision ?? 0))
        }
        let (objects, revision) = self.store.snapshot(kind.storage, namespace: selection.namespace)
        return (objects.filter(selection.matches), revision)
    }

    // MARK: Custom kinds

    /// Makes discovery and serving follow the stored CustomResourceDefinitions.
    func publishCustomKinds() {
        let definitions = self.store.snapshot("customresourcedefinitions.apiextensions.k8s.io").objects
        self.registry.publish(custom: definitions.flatMap { CustomKinds.kinds(of: $0.object) })
    }

    static func isDefinition(_ kind: ResourceKind) -> Bool {
        kind.group == "apiextensions.k8s.io" && kind.type.plural == "customresourcedefinitions"
    }

    /// Stores, waits for the disk, and lets discovery follow.
    func commit(
        _ kind: ResourceKind, _ key: ObjectKey, expecting: ObjectStore.Expectation, _ json: JSONValue?
    ) async throws -> StoredObject {
        let stored = try self.store.write(kind.storage, key, expecting: expecting, json)
        if Self.isDefinition(kind) { self.publishCustomKinds() }
        try await self.store.persisted(stored.revision)
        return stored
    }
}
