package import KubeAPI
package import KubeClient
package import Logging
import Synchronization

/// Writes our conditions into objects' statuses: what the mesh will really do with them. Knows the wanted conditions
/// and the stored ones, and writes only when they differ. Writing happens in ``run()``, which only the leader runs.
package final class StatusWriter: Sendable {
    /// A kind of object with conditions of ours.
    package enum Kind: String, CaseIterable, Sendable {
        case services, serviceEntries, workloadEntries, authorizationPolicies, peerAuthentications
        case requestAuthentications, rateLimits, destinationRules

        var type: ResourceType {
            switch self {
            case .services: .services
            case .serviceEntries: .serviceEntries
            case .workloadEntries: .workloadEntries
            case .authorizationPolicies: .authorizationPolicies
            case .peerAuthentications: .peerAuthentications
            case .requestAuthentications: .requestAuthentications
            case .rateLimits: .rateLimits
            case .destinationRules: .destinationRules
            }
        }
        /// Every condition that we may have written there; what is not wanted any more is taken away again.
        var conditionTypes: Set<String> {
            switch self {
            case .services, .workloadEntries: ["istio.io/WaypointBound"]
            case .serviceEntries:
                [
                    "istio.io/WaypointBound", "istio.io/WaypointMissing", "istio.io/VisibilityApplied",
                    "HostsAccepted",
                ]
            case .authorizationPolicies: ["ZtunnelAccepted", "WaypointAccepted"]
            case .peerAuthentications: ["ZtunnelAccepted"]
            case .requestAuthentications, .rateLimits, .destinationRules: ["WaypointAccepted"]
            }
        }
        /// Of server-side apply: a manager owns the conditions it wrote, and only those.
        var fieldManager: String {
            switch self {
            case .services, .serviceEntries: "istio-ambient-service"
            case .workloadEntries: "istio-ambient-workloadentry"
            case .authorizationPolicies, .peerAuthentications: "istio-ambient-ztunnel-policy"
            case .requestAuthentications, .rateLimits, .destinationRules: "istio-ambient-waypoint-policy"
            }
        }
    }

    private struct Target: Hashable, Sendable {
        var kind: Kind
        var key: String
    }
    private static let attemptsMax = 5

    private struct State {
        var wanted: [Target: ObjectStatus] = [:]
        /// Our conditions as the cluster has them; objects without any are not listed.
        var stored: [Target: [JSONValue]] = [:]
        /// Objects to look at again; at most one entry each.
        var dirty: Set<Target> = []
        var isReady = false
        var wake: AsyncStream<Void>.Continuation?

        mutating func mark(_ target: Target) {
            self.dirty.insert(target)
            self.wake?.yield()
        }

        mutating func observed(_ kind: Kind, _ key: String, _ object: KubeObject?) {
            let target = Target(kind: kind, key: key)
            let ours = (object?.status["conditions"]?.array ?? []).filter { condition in
                condition["type"]?.string.map(kind.conditionTypes.contains) ?? false
            }
            self.stored[target] = ours.isEmpty ? nil : ours
            if object == nil { self.wanted[target] = nil }
            if self.stored[target] != nil || self.wanted[target] != nil { self.mark(target) }
        }
    }

    private let cluster: any KubeCluster
    private let logger: Logger
    /// Behind a lock and not an actor's: what is told in an order has to arrive in that order.
    private let state = Mutex(State())

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    /// What is wanted has been told for every object. Before, a condition that nobody wants is only not wanted *yet*.
    package func becomeReady() {
        self.state.withLock { state in
            state.isReady = true
            state.wake?.yield()
        }
    }

    /// What the object in the cluster says now; nil when it is gone.
    package func observed(_ kind: Kind, _ key: String, _ object: KubeObject?) {
        self.state.withLock { $0.observed(kind, key, object) }
    }

    /// Everything that exists of a kind: what was known of others is forgotten.
    package func observed(_ kind: Kind, all objects: [KubeObject]) {
        let present = Set(objects.map(\.key))
        self.state.withLock { state in
            for target in Set(state.stored.keys).union(state.wanted.keys)
            where target.kind == kind && !present.contains(target.key) {
                state.stored[target] = nil
                state.wanted[target] = nil
            }
            for object in objects { state.observed(kind, object.key, object) }
        }
    }

    package func want(_ kind: Kind, _ key: String, _ status: ObjectStatus?) {
        let target = Target(kind: kind, key: key)
        self.state.withLock { state in
            state.wanted[target] = status
            state.mark(target)
        }
    }

    package func run() async {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.state.withLock { state in
            state.wake = wake
            // A new leader looks at everything once.
            state.dirty.formUnion(state.wanted.keys)
            state.dirty.formUnion(state.stored.keys)
        }
        defer { self.state.withLock { $0.wake = nil } }
        wake.yield()
        for await _ in signals {
            while !Task.isCancelled, let target = self.next() { await self.write(target) }
        }
    }

    private func next() -> Target? { self.state.withLock { $0.isReady ? $0.dirty.popFirst() : nil } }

    private func write(_ target: Target) async {
        for attempt in 1...Self.attemptsMax {
            let (stored, wanted) = self.state.withLock { ($0.stored[target] ?? [], $0.wanted[target]) }
            let conditions = wanted?.json(over: stored) ?? []
            if Self.areSame(stored, conditions) { return }
            let parts = target.key.split(separator: "/", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { return }
            let type = target.kind.type
            let patch: JSONValue = [
                "apiVersion": .string(type.apiVersion), "kind": .string(type.kind),
                "metadata": ["namespace": .string(parts[0]), "name": .string(parts[1])],
                "status": ["conditions": .array(conditions)],
            ]
            do {
                _ = try await self.cluster.patch(
                    type, namespace: parts[0], name: parts[1], subresource: "status",
                    .apply(patch, fieldManager: target.kind.fieldManager, force: true))
                self.state.withLock { state in
                    // What the watch brought meanwhile is newer.
                    guard state.stored[target] ?? [] == stored else { return }
                    state.stored[target] = conditions.isEmpty ? nil : conditions
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

    /// Times do not count.
    private static func areSame(_ one: [JSONValue], _ other: [JSONValue]) -> Bool {
        func comparable(_ conditions: [JSONValue]) -> Set<JSONValue> {
            Set(
                conditions.map { condition in
                    var condition = condition
                    condition["lastTransitionTime"] = nil
                    // The API may give a 64-bit number back as text.
                    if let text = condition["observedGeneration"]?.string, let number = Int64(text) {
                        condition["observedGeneration"] = .int(number)
                    }
                    return condition
                })
        }
        return comparable(one) == comparable(other)
    }
}
