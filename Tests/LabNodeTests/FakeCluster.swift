import Foundation
import KubeAPI
import KubeClient
import Synchronization

/// The Kubernetes API in memory, as far as a kubelet uses it: objects, merge patches, watches, graceful deletion.
final class FakeCluster: KubeCluster {
    private struct Change: Sendable {
        var version: Int
        var type: ResourceType
        var event: WatchEvent
    }
    private struct State {
        var version = 1
        var objects: [ResourceType: [String: KubeObject]] = [:]
        var changes: [Change] = []
        var watchers: [Int: AsyncThrowingStream<WatchEvent, any Error>.Continuation] = [:]
        var watched: [Int: ResourceType] = [:]
        var next = 0
    }
    private let state = Mutex(State())

    static let notFound = StatusError(code: 404, reason: "NotFound", message: "not found")

    private static func key(_ namespace: String?, _ name: String) -> String { "\(namespace ?? "")/\(name)" }

    private static func publish(_ object: KubeObject?, _ event: (KubeObject) -> WatchEvent, _ type: ResourceType, _ state: inout State) {
        guard let object else { return }
        let change = Change(version: state.version, type: type, event: event(object))
        state.changes.append(change)
        for (key, watcher) in state.watchers where state.watched[key] == type { watcher.yield(change.event) }
    }

    private func store(
        _ type: ResourceType, _ namespace: String?, _ name: String,
        _ body: @Sendable (KubeObject?) throws -> KubeObject?
    ) throws -> KubeObject {
        try self.state.withLock { state in
            let key = Self.key(type.isNamespaced ? namespace : nil, name)
            let old = state.objects[type]?[key]
            var new = try body(old)
            state.version += 1
            new?.json.set(["metadata", "resourceVersion"], to: .string("\(state.version)"))
            state.objects[type, default: [:]][key] = new
            if let new {
                Self.publish(new, old == nil ? { .added($0) } : { .modified($0) }, type, &state)
            } else if var gone = old {
                gone.json.set(["metadata", "resourceVersion"], to: .string("\(state.version)"))
                Self.publish(gone, { .deleted($0) }, type, &state)
            }
            guard let answer = new ?? old else { throw Self.notFound }
            return answer
        }
    }

    func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject {
        guard let found = self.state.withLock({ $0.objects[type]?[Self.key(namespace, name)] }) else {
            throw Self.notFound
        }
        return found
    }

    func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList {
        self.state.withLock { state in
            KubeList(items: Array((state.objects[type] ?? [:]).values), resourceVersion: "\(state.version)")
        }
    }

    func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error> {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: WatchEvent.self)
        let key = self.state.withLock { state in
            for change in state.changes where change.type == type && change.version > Int(resourceVersion) ?? 0 {
                continuation.yield(change.event)
            }
            state.next += 1
            state.watchers[state.next] = continuation
            state.watched[state.next] = type
            return state.next
        }
        continuation.onTermination = { _ in self.state.withLock { $0.watchers[key] = nil } }
        return stream
    }

    func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        if subresource == "token" {
            return KubeObject(["status": ["token": "a-token", "expirationTimestamp": "2126-01-01T00:00:00Z"]])
        }
        let object = KubeObject(body)
        return try self.store(type, namespace, object.name) { _ in object }
    }

    func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject {
        try self.store(type, namespace, name) { _ in KubeObject(body) }
    }

    func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject {
        guard case .merge(let change) = patch else { throw Self.notFound }
        return try self.store(type, namespace, name) { old in
            guard var object = old else { throw Self.notFound }
            Self.merge(change, into: &object.json)
            return object
        }
    }

    private static func merge(_ patch: JSONValue, into value: inout JSONValue) {
        guard let members = patch.object else {
            value = patch
            return
        }
        if value.object == nil { value = [:] }
        for (key, member) in members {
            if member == .null {
                value[key] = nil
            } else {
                var child = value[key] ?? .null
                self.merge(member, into: &child)
                value[key] = child
            }
        }
    }

    func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject {
        let grace = options.gracePeriodSeconds
        return try self.store(type, namespace, name) { old in
            guard var object = old else { throw Self.notFound }
            if type == .pods, grace != 0 {
                object.json.set(["metadata", "deletionTimestamp"], to: "2026-11-25T00:00:00Z")
                object.json.set(["metadata", "deletionGracePeriodSeconds"], to: .int(grace ?? 30))
                return object
            }
            return nil
        }
    }

    /// Waits until an object is as wanted; nil stands for one that does not exist. False after the deadline.
    func until(
        _ type: ResourceType, _ namespace: String, _ name: String, within deadline: Duration = .seconds(60),
        _ isWanted: @escaping @Sendable (KubeObject?) -> Bool
    ) async -> Bool {
        await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                let list = try? await self.list(type, namespace: nil, ListOptions())
                if isWanted(list?.items.first { $0.namespace == namespace && $0.name == name }) { return true }
                guard let events = try? await self.watch(type, namespace: nil, from: list?.resourceVersion ?? "0", ListOptions())
                else { return false }
                do {
                    for try await event in events {
                        switch event {
                        case .added(let object), .modified(let object):
                            if object.name == name, object.namespace == namespace, isWanted(object) { return true }
                        case .deleted(let object):
                            if object.name == name, object.namespace == namespace, isWanted(nil) { return true }
                        case .bookmark: continue
                        }
                    }
                } catch { return false }
                return false
            }
            group.addTask {
                try? await Task.sleep(for: deadline)
                return false
            }
            let result = await group.next() ?? false
            group.cancelAll()
            return result
        }
    }

    func all(_ type: ResourceType) -> [KubeObject] { self.state.withLock { Array(($0.objects[type] ?? [:]).values) } }
}
