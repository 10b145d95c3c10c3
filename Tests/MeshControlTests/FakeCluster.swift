import KubeAPI
import KubeClient
import Synchronization

/// A cluster in memory: objects, revisions, watches, and tokens that it vouches for. Only what the control plane uses.
final class FakeCluster: KubeCluster {
    private struct State {
        var revision = 0
        var objects: [ResourceType: [String: KubeObject]] = [:]
        var watchers:
            [Int: (type: ResourceType, namespace: String?, AsyncThrowingStream<WatchEvent, any Error>.Continuation)] =
                [:]
        var nextWatcher = 0
        /// token → the `user` of a TokenReview
        var tokens: [String: JSONValue] = [:]
        var reviews = 0
    }
    private let state = Mutex(State())

    func vouch(for token: String, namespace: String, account: String, pod: String, uid: String) {
        self.state.withLock {
            $0.tokens[token] = [
                "username": .string("system:serviceaccount:\(namespace):\(account)"),
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": [
                    "authentication.kubernetes.io/pod-name": [.string(pod)],
                    "authentication.kubernetes.io/pod-uid": [.string(uid)],
                ],
            ]
        }
    }
    var reviews: Int { self.state.withLock { $0.reviews } }

    private static func key(_ namespace: String?, _ name: String) -> String { "\(namespace ?? "")/\(name)" }

    func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject {
        guard let object = self.state.withLock({ $0.objects[type]?[Self.key(namespace, name)] }) else {
            throw StatusError(code: 404, reason: "NotFound", message: "\(type) \"\(name)\" not found")
        }
        return object
    }

    func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList {
        self.state.withLock { state in
            let items = (state.objects[type] ?? [:]).values
                .filter { namespace == nil || $0.namespace == namespace }
                .filter { Self.matches(options, $0) }
            return KubeList(items: Array(items), resourceVersion: String(state.revision))
        }
    }

    private static func matches(_ options: ListOptions, _ object: KubeObject) -> Bool {
        guard let selector = options.fieldSelector else { return true }
        return selector == "metadata.name=\(object.name)"
    }

    func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error> {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: WatchEvent.self)
        let isStale = self.state.withLock { state -> Bool in
            // History is not kept: whoever missed something lists again.
            if String(state.revision) != resourceVersion { return true }
            state.nextWatcher += 1
            let id = state.nextWatcher
            state.watchers[id] = (type, namespace, continuation)
            continuation.onTermination = { _ in self.state.withLock { $0.watchers[id] = nil } }
            return false
        }
        if isStale { throw StatusError(code: 410, reason: "Expired", message: "too old") }
        return stream
    }

    @discardableResult
    func store(_ type: ResourceType, _ object: KubeObject) -> KubeObject {
        self.state.withLock { Self.store(&$0, type, object) }
    }

    private static func store(_ state: inout State, _ type: ResourceType, _ object: KubeObject) -> KubeObject {
        state.revision += 1
        var object = object
        object.json.set(["metadata", "resourceVersion"], to: .string(String(state.revision)))
        let key = Self.key(type.isNamespaced ? object.namespace : nil, object.name)
        let existed = state.objects[type]?[key] != nil
        state.objects[type, default: [:]][key] = object
        for watcher in state.watchers.values
        where watcher.type == type && (watcher.namespace == nil || watcher.namespace == object.namespace) {
            watcher.2.yield(existed ? .modified(object) : .added(object))
        }
        return object
    }

    func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        let object = KubeObject(body)
        if type == .tokenReviews { return self.review(object) }
        return try self.state.withLock { state in
            if state.objects[type]?[Self.key(namespace, object.name)] != nil {
                throw StatusError(code: 409, reason: "AlreadyExists", message: "exists")
            }
            return Self.store(&state, type, object)
        }
    }

    private func review(_ object: KubeObject) -> KubeObject {
        self.state.withLock { state in
            state.reviews += 1
            var answer = object
            if let user = state.tokens[object.spec["token"]?.string ?? ""] {
                answer.json["status"] = [
                    "authenticated": true, "user": user, "audiences": object.spec["audiences"] ?? [],
                ]
            } else {
                answer.json["status"] = ["authenticated": false, "error": "unknown token"]
            }
            return answer
        }
    }

    func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        try self.state.withLock { state in
            guard let old = state.objects[type]?[Self.key(namespace, name)] else {
                throw StatusError(code: 404, reason: "NotFound", message: "not found")
            }
            let new = KubeObject(body)
            if !new.resourceVersion.isEmpty, new.resourceVersion != old.resourceVersion {
                throw StatusError(code: 409, reason: "Conflict", message: "changed meanwhile")
            }
            return Self.store(&state, type, new)
        }
    }

    func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject {
        if case .json(.array(let operations)) = patch, subresource == "status" {
            return try self.patchStatus(type, namespace, name, operations)
        }
        guard case .apply(let body, _, _) = patch, subresource == "status" else {
            throw StatusError(code: 415, reason: "UnsupportedMediaType", message: "only apply of a status")
        }
        return try self.state.withLock { state in
            guard var object = state.objects[type]?[Self.key(namespace, name)] else {
                throw StatusError(code: 404, reason: "NotFound", message: "not found")
            }
            for (field, value) in body["status"]?.object ?? [:] { object.json.set(["status", field], to: value) }
            return Self.store(&state, type, object)
        }
    }

    /// `test` and `add` of object members, below metadata and status.
    private func patchStatus(
        _ type: ResourceType, _ namespace: String?, _ name: String, _ operations: [JSONValue]
    ) throws -> KubeObject {
        try self.state.withLock { state in
            guard var object = state.objects[type]?[Self.key(namespace, name)] else {
                throw StatusError(code: 404, reason: "NotFound", message: "not found")
            }
            for operation in operations {
                let path = (operation["path"]?.string ?? "").split(separator: "/").map(String.init)
                switch operation["op"]?.string {
                case "test":
                    guard object.json.at(path) == operation["value"] else {
                        throw StatusError(code: 422, reason: "Invalid", message: "test failed")
                    }
                case "add": object.json.set(path, to: operation["value"])
                default: throw StatusError(code: 422, reason: "Invalid", message: "unknown operation")
                }
            }
            return Self.store(&state, type, object)
        }
    }

    func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject {
        try self.state.withLock { state in
            guard let object = state.objects[type]?.removeValue(forKey: Self.key(namespace, name)) else {
                throw StatusError(code: 404, reason: "NotFound", message: "not found")
            }
            state.revision += 1
            for watcher in state.watchers.values where watcher.type == type { watcher.2.yield(.deleted(object)) }
            return object
        }
    }
}
