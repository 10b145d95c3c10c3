public import KubeAPI
public import KubeClient

/// The cluster without a network in between: calls go straight into the API server's logic, through admission,
/// defaulting and validation, with the administrator's rights.
public struct LabClusterClient: KubeCluster {
    let api: ClusterAPI
    let options: ClusterAPI.WriteOptions

    init(api: ClusterAPI, fieldManager: String) {
        self.api = api
        var options = ClusterAPI.WriteOptions()
        options.fieldManager = fieldManager
        self.options = options
    }

    /// The same cluster under another name in `managedFields`.
    public func named(_ fieldManager: String) -> LabClusterClient {
        LabClusterClient(api: self.api, fieldManager: fieldManager)
    }

    /// Drops a namespace that a cluster-scoped type has no use for.
    private func key(_ type: ResourceType, _ namespace: String?, _ name: String) -> ObjectKey {
        ObjectKey(namespace: type.isNamespaced ? namespace ?? "" : "", name: name)
    }

    public func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject {
        KubeObject(try self.api.get(try self.api.kind(type), self.key(type, namespace, name)))
    }

    public func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList {
        let kind = try self.api.kind(type)
        let selection = try self.selection(kind, namespace, options)
        let (objects, revision) = self.api.list(kind, selection)
        return KubeList(
            items: objects.map { KubeObject(Conversion.fromStorage($0.json, kind)) }, resourceVersion: String(revision))
    }

    private func selection(
        _ kind: ResourceKind, _ namespace: String?, _ options: ListOptions
    ) throws(StatusError) -> ClusterAPI.Selection {
        try ClusterAPI.Selection(
            namespace: namespace, labelSelector: options.labelSelector, fieldSelector: options.fieldSelector, kind)
    }

    public func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error> {
        let kind = try self.api.kind(type)
        var start = WatchSession.Start()
        start.from = resourceVersion == "0" ? nil : UInt64(resourceVersion)
        start.wantsBookmarks = true
        let session = try WatchSession(self.api.store, kind, try self.selection(kind, namespace, options), start)
        let reader = Reader(session.items)
        return AsyncThrowingStream { () -> WatchEvent? in
            switch await reader.next() {
            case .added(let object): .added(KubeObject(Conversion.fromStorage(object.json, kind)))
            case .modified(let object): .modified(KubeObject(Conversion.fromStorage(object.json, kind)))
            case .deleted(let object): .deleted(KubeObject(Conversion.fromStorage(object.json, kind)))
            case .bookmark(let revision, _): .bookmark(resourceVersion: String(revision))
            case nil: nil
            }
        }
    }

    /// Carries an iterator into the unfolding closure, which asks for one element at a time.
    private actor Reader {
        private let items: AsyncStream<WatchSession.Item>
        init(_ items: AsyncStream<WatchSession.Item>) { self.items = items }
        func next() async -> WatchSession.Item? {
            var iterator = self.items.makeAsyncIterator()
            return await iterator.next(isolation: self)
        }
    }

    public func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        let kind = try self.api.kind(type)
        if let subresource {
            let answer = try await self.api.createSubresource(
                kind, self.key(type, namespace, name ?? ""), subresource, body, self.options)
            return KubeObject(answer.object)
        }
        if let answer = try self.api.review(kind, namespace: namespace, body, .admin) { return KubeObject(answer) }
        return KubeObject(
            try await self.api.create(kind, namespace: type.isNamespaced ? namespace : nil, body, self.options).object)
    }

    public func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        let kind = try self.api.kind(type)
        return KubeObject(
            try await self.api.replace(
                kind, self.key(type, namespace, name), subresource: subresource, body, self.options
            ).object)
    }

    public func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject {
        let kind = try self.api.kind(type)
        var options = self.options
        let body: KubePatchBody
        switch patch {
        case .merge(let json): body = .merge(json)
        case .strategic(let json): body = .strategic(json)
        case .json(let json): body = .json(json)
        case .apply(let json, let fieldManager, let force):
            options.fieldManager = fieldManager
            body = .apply(json, force: force)
        }
        return KubeObject(
            try await self.api.patch(kind, self.key(type, namespace, name), subresource: subresource, body, options)
                .object)
    }

    @discardableResult
    public func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject {
        var deletion = ClusterAPI.Deletion()
        deletion.gracePeriodSeconds = options.gracePeriodSeconds
        deletion.propagationPolicy = options.propagation?.rawValue
        deletion.uid = options.uid
        return KubeObject(
            try await self.api.delete(try self.api.kind(type), self.key(type, namespace, name), deletion).answer)
    }
}
