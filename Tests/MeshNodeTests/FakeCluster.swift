import KubeAPI
import KubeClient
import Synchronization

/// An API server in memory: as much of one as the agent asks for.
final class FakeCluster: KubeCluster {
    private struct Watcher {
        let type: ResourceType
        let options: ListOptions
        let events: AsyncThrowingStream<WatchEvent, any Error>.Continuation
    }
    private struct Key: Hashable {
        let type: ResourceType
        let namespace, name: String
    }
    private struct State {
        var objects: [Key: KubeObject] = [:]
        var watchers: [Int: Watcher] = [:]
        var version = 1
        var number = 0
    }
    private let state = Mutex(State())
    /// Nobody answers a `get`.
    let isAway = Mutex(false)

    private static func key(_ type: ResourceType, _ namespace: String?, _ name: String) -> Key {
        Key(type: type, namespace: namespace ?? "", name: name)
    }

    private static func matches(_ object: KubeObject, _ options: ListOptions) -> Bool {
        if let field = options.fieldSelector, field.hasPrefix("spec.nodeName="),
            object.spec["nodeName"]?.string != String(field.dropFirst("spec.nodeName=".count))
        {
            return false
        }
        guard let label = options.labelSelector else { return true }
        return (try? LabelSelector(query: label).matches(object.labels)) ?? false
    }

    /// Makes or replaces an object; nil deletes it.
    func put(_ type: ResourceType, _ namespace: String?, _ name: String, _ object: KubeObject?) {
        self.state.withLock { state in
            state.version += 1
            let key = Self.key(type, namespace, name)
            let old = state.objects[key]
            var new = object
            new?.json.set(["metadata", "resourceVersion"], to: .string("\(state.version)"))
            state.objects[key] = new
            for watcher in state.watchers.values where watcher.type == type {
                if let new, Self.matches(new, watcher.options) {
                    watcher.events.yield(old == nil ? .added(new) : .modified(new))
                } else if let old, Self.matches(old, watcher.options) {
                    watcher.events.yield(.deleted(old))
                }
            }
        }
    }

    func object(_ type: ResourceType, _ namespace: String?, _ name: String) -> KubeObject? {
        self.state.withLock { $0.objects[Self.key(type, namespace, name)] }
    }

    /// Changes one member of an object.
    func set(_ type: ResourceType, _ namespace: String?, _ name: String, _ path: [String], to value: JSONValue?) {
        guard var object = self.object(type, namespace, name) else { return }
        object.json.set(path, to: value)
        self.put(type, namespace, name, object)
    }

    private static let notFound = StatusError(code: 404, reason: "NotFound", message: "not found")

    func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject {
        if self.isAway.withLock({ $0 }) { throw KubeConnectionError("away") }
        guard let object = self.object(type, namespace, name) else { throw Self.notFound }
        return object
    }

    func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList {
        self.state.withLock { state in
            let items = state.objects.filter { $0.key.type == type }.values
            return KubeList(
                items: items.filter { Self.matches($0, options) }, resourceVersion: "\(state.version)")
        }
    }

    func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error> {
        let (stream, events) = AsyncThrowingStream.makeStream(of: WatchEvent.self)
        let number = self.state.withLock { state in
            state.number += 1
            state.watchers[state.number] = Watcher(type: type, options: options, events: events)
            // What happened between the list and now: told once more, which a reader must bear.
            if "\(state.version)" != resourceVersion {
                for (key, object) in state.objects
                where key.type == type && Self.matches(object, options) {
                    events.yield(.modified(object))
                }
            }
            return state.number
        }
        events.onTermination = { _ in self.state.withLock { $0.watchers[number] = nil } }
        return stream
    }

    func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject {
        guard case .merge(let change) = patch, var object = self.object(type, namespace, name) else {
            throw Self.notFound
        }
        object.json = Self.merge(object.json, change)
        self.put(type, namespace, name, object)
        return object
    }

    private static func merge(_ target: JSONValue, _ patch: JSONValue) -> JSONValue {
        guard let members = patch.object else { return patch }
        var result = target.object == nil ? [:] : target
        for (key, value) in members {
            result[key] = value.isNull ? nil : Self.merge(result[key] ?? .null, value)
        }
        return result
    }

    func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject { throw Self.notFound }
    func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject { throw Self.notFound }
    func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject { throw Self.notFound }
}
