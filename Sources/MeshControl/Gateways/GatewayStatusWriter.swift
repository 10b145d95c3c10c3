import KubeAPI
package import KubeClient
package import Logging
import Synchronization

/// Writes the statuses of Gateways and their classes. Knows what they shall say and what they say, and writes only when
/// that differs; writing happens in ``run()``, which only the leader runs.
package final class GatewayStatusWriter: Sendable {
    package enum Kind: Hashable, Sendable, CaseIterable {
        case gateway, gatewayClass

        var type: ResourceType { self == .gateway ? .gateways : .gatewayClasses }
    }
    private struct Target: Hashable, Sendable {
        var kind: Kind
        /// `<namespace>/<name>`, or a class's name.
        var key: String
    }

    /// Of server-side apply.
    static let fieldManager = GatewayClassView.waypointController
    private static let attemptsMax = 5

    private struct State {
        var wanted: [Target: GatewayReport] = [:]
        var stored: [Target: JSONValue] = [:]
        /// At most one entry for each object.
        var dirty: Set<Target> = []
        var wake: AsyncStream<Void>.Continuation?

        mutating func mark(_ target: Target) {
            self.dirty.insert(target)
            self.wake?.yield()
        }
    }

    private let cluster: any KubeCluster
    private let logger: Logger
    private let state = Mutex(State())

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    package func observed(_ kind: Kind, _ event: InformerEvent) {
        self.state.withLock { state in
            switch event {
            case .snapshot(let all):
                let present = Set(all.map(\.key))
                for target in state.stored.keys where target.kind == kind && !present.contains(target.key) {
                    state.stored[target] = nil
                }
                for object in all {
                    let target = Target(kind: kind, key: object.key)
                    state.stored[target] = object.status
                    state.mark(target)
                }
            case .updated(let object):
                let target = Target(kind: kind, key: object.key)
                state.stored[target] = object.status
                state.mark(target)
            case .deleted(let object): state.stored[Target(kind: kind, key: object.key)] = nil
            }
        }
    }

    /// Nil: the object's status is none of our business any more, and stays.
    package func want(_ kind: Kind, _ key: String, _ report: GatewayReport?) {
        let target = Target(kind: kind, key: key)
        self.state.withLock { state in
            state.wanted[target] = report
            state.mark(target)
        }
    }

    package func run() async {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.state.withLock { state in
            state.wake = wake
            state.dirty.formUnion(state.wanted.keys)
        }
        defer { self.state.withLock { $0.wake = nil } }
        wake.yield()
        for await _ in signals {
            while !Task.isCancelled, let target = self.state.withLock({ $0.dirty.popFirst() }) {
                await self.write(target)
            }
        }
    }

    private func write(_ target: Target) async {
        for attempt in 1...Self.attemptsMax {
            let (stored, wanted) = self.state.withLock { ($0.stored[target], $0.wanted[target]) }
            guard let stored, let wanted else { return }
            let status = wanted.json(over: stored)
            if Self.says(stored, status) { return }
            let type = target.kind.type
            let parts = target.key.split(separator: "/", maxSplits: 1).map(String.init)
            let namespace = type.isNamespaced ? parts[0] : nil
            guard let name = parts.last, type.isNamespaced == (parts.count == 2) else { return }
            var metadata: JSONValue = ["name": .string(name)]
            if let namespace { metadata["namespace"] = .string(namespace) }
            do {
                let answer = try await self.cluster.patch(
                    type, namespace: namespace, name: name, subresource: "status",
                    .apply(
                        [
                            "apiVersion": .string(type.apiVersion), "kind": .string(type.kind), "metadata": metadata,
                            "status": status,
                        ], fieldManager: Self.fieldManager, force: true))
                self.state.withLock { state in
                    // What the watch brought meanwhile is newer.
                    if state.stored[target] == stored { state.stored[target] = answer.status }
                }
                return
            } catch let error as StatusError where error.isNotFound {
                return
            } catch {
                if attempt == Self.attemptsMax || Task.isCancelled {
                    self.logger.warning(
                        "cannot write the status",
                        metadata: ["object": "\(type) \(target.key)", "why": "\(error)"])
                    return
                }
                try? await Task.sleep(for: .milliseconds(200 * attempt))
            }
        }
    }

    /// Whether a stored status says all of what is wanted: other controllers' conditions do not count, and times neither.
    private static func says(_ stored: JSONValue, _ wanted: JSONValue) -> Bool {
        func comparable(_ conditions: JSONValue?, _ types: Set<String>) -> Set<JSONValue> {
            Set(
                (conditions?.array ?? []).compactMap { condition in
                    guard let type = condition["type"]?.string, types.contains(type) else { return nil }
                    var condition = condition
                    condition["lastTransitionTime"] = nil
                    return condition
                })
        }
        func agrees(_ one: JSONValue?, _ other: JSONValue?) -> Bool {
            let types = Set((other?.array ?? []).compactMap { $0["type"]?.string })
            return comparable(one, types) == comparable(other, types)
        }
        guard agrees(stored["conditions"], wanted["conditions"]) else { return false }
        for list in ["addresses", "supportedFeatures"] where wanted[list] != nil {
            guard (stored[list]?.array ?? []) == wanted[list]?.array else { return false }
        }
        guard let listeners = wanted["listeners"]?.array else { return true }
        let before = stored["listeners"]?.array ?? []
        guard before.count == listeners.count else { return false }
        return listeners.allSatisfy { listener in
            guard let old = before.first(where: { $0["name"] == listener["name"] }) else { return false }
            return agrees(old["conditions"], listener["conditions"]) && old["attachedRoutes"] == 0
        }
    }
}
