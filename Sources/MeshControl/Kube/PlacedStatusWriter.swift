import Foundation
package import KubeAPI
package import KubeClient
package import Logging
import Synchronization

/// Writes our entries into statuses that are lists with an entry for each place and controller: `status.parents` of
/// routes, `status.ancestors` of policies. Such a list is one value to the API, so others' entries are read, kept and
/// written back, and a change in between makes us read again.
package final class PlacedStatusWriter: Sendable {
    package enum Kind: String, CaseIterable, Sendable {
        case grpcRoutes, httpRoutes, tlsRoutes, tcpRoutes, backendTrafficPolicies

        init(_ route: RouteKind) {
            switch route {
            case .grpc: self = .grpcRoutes
            case .http: self = .httpRoutes
            case .tls: self = .tlsRoutes
            case .tcp: self = .tcpRoutes
            }
        }

        var type: ResourceType {
            switch self {
            case .grpcRoutes: .grpcRoutes
            case .httpRoutes: .httpRoutes
            case .tlsRoutes: .tlsRoutes
            case .tcpRoutes: .tcpRoutes
            case .backendTrafficPolicies: .backendTrafficPolicies
            }
        }
        var list: String { self == .backendTrafficPolicies ? "ancestors" : "parents" }
        var reference: String { self == .backendTrafficPolicies ? "ancestorRef" : "parentRef" }
    }

    /// As Istio calls itself, whose place we take.
    package static let controllerName = "istio.io/gateway-controller"
    private static let attemptsMax = 5
    /// At a time: a start with thousands of routes is not to take minutes, nor to crowd the API server.
    private static let writersMax = 8

    private struct Target: Hashable, Sendable {
        var kind: Kind
        var key: String
    }

    private struct State {
        var wanted: [Target: PlacedStatus] = [:]
        /// Our entries as the cluster has them; objects without any are not listed.
        var stored: [Target: [JSONValue]] = [:]
        /// Of the kind's group: the version in which we see it.
        var versions: [Kind: String] = [:]
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
            if let version = object?.apiVersion.split(separator: "/").last { self.versions[kind] = String(version) }
            let ours = PlacedStatusWriter.entries(object, kind).filter(PlacedStatusWriter.isOurs)
            self.stored[target] = ours.isEmpty ? nil : ours
            if object == nil { self.wanted[target] = nil }
            if self.stored[target] != nil || self.wanted[target] != nil { self.mark(target) }
        }
    }

    private let cluster: any KubeCluster
    private let logger: Logger
    private let state = Mutex(State())

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    /// As ``StatusWriter/becomeReady()``.
    package func becomeReady() {
        self.state.withLock { state in
            state.isReady = true
            state.wake?.yield()
        }
    }

    /// - Parameter owns: whether an object is of our revision; others are not ours to write.
    package func observed(_ kind: Kind, _ event: InformerEvent, owns: (KubeObject) -> Bool) {
        self.state.withLock { state in
            switch event {
            case .snapshot(let all):
                let ours = all.filter(owns)
                let present = Set(ours.map(\.key))
                for target in Set(state.stored.keys).union(state.wanted.keys)
                where target.kind == kind && !present.contains(target.key) {
                    state.stored[target] = nil
                    state.wanted[target] = nil
                }
                for object in ours { state.observed(kind, object.key, object) }
            case .updated(let object): state.observed(kind, object.key, owns(object) ? object : nil)
            case .deleted(let object): state.observed(kind, object.key, nil)
            }
        }
    }

    package func want(_ kind: Kind, _ key: String, _ status: PlacedStatus?) {
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
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<Self.writersMax {
                    group.addTask {
                        while !Task.isCancelled, let target = self.next() { await self.write(target) }
                    }
                }
            }
        }
    }

    private func next() -> Target? { self.state.withLock { $0.isReady ? $0.dirty.popFirst() : nil } }

    private func write(_ target: Target) async {
        let parts = target.key.split(separator: "/", maxSplits: 1).map(String.init)
        guard parts.count == 2 else { return }
        for attempt in 1...Self.attemptsMax {
            let (stored, wanted, version) = self.state.withLock { state in
                (state.stored[target] ?? [], state.wanted[target], state.versions[target.kind])
            }
            if Self.areSame(stored, Self.json(wanted, target.kind, over: stored)) { return }
            let type = version.map { target.kind.type.inVersion($0) } ?? target.kind.type
            do {
                var object = try await self.cluster.get(type, namespace: parts[0], name: parts[1])
                let present = Self.entries(object, target.kind)
                let ours = Self.json(wanted, target.kind, over: present.filter(Self.isOurs))
                let others = present.filter { !Self.isOurs($0) }
                object.json.set(["status", target.kind.list], to: .array(others + ours))
                _ = try await self.cluster.replace(type, object, subresource: "status")
                self.state.withLock { state in
                    // What the watch brought meanwhile is newer.
                    guard state.stored[target] ?? [] == stored else { return }
                    state.stored[target] = ours.isEmpty ? nil : ours
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
                try? await Task.sleep(for: .milliseconds(100 * attempt))
            }
        }
    }

    private static func entries(_ object: KubeObject?, _ kind: Kind) -> [JSONValue] {
        object?.status[kind.list]?.array ?? []
    }

    private static func isOurs(_ entry: JSONValue) -> Bool { entry["controllerName"]?.string == Self.controllerName }

    private static func json(_ status: PlacedStatus?, _ kind: Kind, over stored: [JSONValue]) -> [JSONValue] {
        (status?.places ?? []).map { place in
            let before = stored.first { $0[kind.reference] == place.reference }?["conditions"]?.array ?? []
            let conditions = ObjectStatus(generation: status?.generation ?? 0, place.conditions.map { $0 })
            return [
                kind.reference: place.reference, "controllerName": .string(Self.controllerName),
                "conditions": .array(conditions?.json(over: before) ?? []),
            ]
        }
    }

    /// Times do not count.
    private static func areSame(_ one: [JSONValue], _ other: [JSONValue]) -> Bool {
        func comparable(_ entries: [JSONValue]) -> [JSONValue] {
            entries.map { entry in
                var entry = entry
                entry["conditions"] = .array(
                    (entry["conditions"]?.array ?? []).map { condition in
                        var condition = condition
                        condition["lastTransitionTime"] = nil
                        return condition
                    })
                return entry
            }
        }
        return comparable(one) == comparable(other)
    }
}
