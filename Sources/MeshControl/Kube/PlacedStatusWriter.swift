import Foundation
package import KubeAPI
package import KubeClient
package import Logging
import Synchronization

/// Writes our entries into statuses that are lists with an entry for each place and controller: `status.parents` of
/// routes, `status.ancestors` of policies. Such a list is one value to the API, so others' entries are read, kept and
/// written back, and a change in between makes us read again. See ``StatusLedger``.
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
    /// At a time: a start with thousands of routes is not to take minutes, nor to crowd the API server.
    private static let writersMax = 8

    private let cluster: any KubeCluster
    private let ledger: StatusLedger<Kind, PlacedStatus, [JSONValue]>
    /// Of the kind's group: the version in which we see it.
    private let versions = Mutex<[Kind: String]>([:])

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.ledger = StatusLedger(isReady: false, writersMax: Self.writersMax, logger: logger) { object, kind in
            let ours = Self.entries(object, kind).filter(Self.isOurs)
            return ours.isEmpty ? nil : ours
        }
    }

    /// As ``StatusWriter/becomeReady()``.
    package func becomeReady() { self.ledger.becomeReady() }

    /// - Parameter owns: whether an object is of our revision; others are not ours to write.
    package func observed(_ kind: Kind, _ event: InformerEvent, owns: (KubeObject) -> Bool) {
        let one: KubeObject? =
            switch event {
            case .snapshot(let all): all.first
            case .updated(let object), .deleted(let object): object
            }
        if let version = one?.apiVersion.split(separator: "/").last {
            self.versions.withLock { $0[kind] = String(version) }
        }
        self.ledger.observed(kind, event, owns: owns)
    }

    package func want(_ kind: Kind, _ key: String, _ status: PlacedStatus?) { self.ledger.want(kind, key, status) }

    package func run() async {
        await self.ledger.run { target, stored, wanted in
            let (kind, parts) = (target.kind, target.parts)
            if Self.areSame(stored ?? [], Self.json(wanted, kind, over: stored ?? [])) { return nil }
            let type = self.versions.withLock { $0[kind] }.map { kind.type.inVersion($0) } ?? kind.type
            var object = try await self.cluster.get(type, namespace: parts.namespace, name: parts.name)
            let present = Self.entries(object, kind)
            let ours = Self.json(wanted, kind, over: present.filter(Self.isOurs))
            object.json.set(["status", kind.list], to: .array(present.filter { !Self.isOurs($0) } + ours))
            _ = try await self.cluster.replace(type, object, subresource: "status")
            return .some(ours.isEmpty ? nil : ours)
        }
    }

    private static func entries(_ object: KubeObject, _ kind: Kind) -> [JSONValue] {
        object.status[kind.list]?.array ?? []
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
