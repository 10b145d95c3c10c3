import Foundation
import KubeAPI
import KubeClient
import Logging
import MeshChannel
import MeshControl
import MeshXDS

/// Kubernetes objects, through the product's control plane, for the waypoint `foo/waypoint`: a file with all of them at
/// the start, then one changed or new object on each line. Everything is as in a cluster, except that nobody has to watch
/// an API server and that no status is written.
final class ObjectFeed: Feed {
    let xds: XDSServer
    let caller = AuthenticatedCaller(
        namespace: "foo", serviceAccount: "waypoint", pod: .init(name: "waypoint", uid: "1"))
    private let plane: ControlPlane

    /// - Parameter path: of a file with a JSON array of objects.
    init(objects path: String, logger: Logger) async throws {
        let accounts = WaypointRegistry()
        let rule = XDSAdmissionRule(nodeProxies: [], waypoints: { accounts.gateways(of: $0) })
        self.xds = XDSServer(
            authenticator: Everybody(caller: self.caller),
            admission: { caller, node, metadata in
                do throws(XDSAdmissionRule.Refusal) {
                    return try rule.check(caller, metadata, isOpening: node.isEmpty)
                } catch {
                    return .refused(error.description)
                }
            }, logger: logger)
        let (settings, cluster) = (MeshSettings(), NoCluster())
        self.plane = ControlPlane(
            settings, settings: SettingsHolder(settings), server: self.xds, pods: PodRegistry(),
            statuses: StatusWriter(cluster, logger: logger), addresses: AddressAllocator(cluster, logger: logger),
            placed: PlacedStatusWriter(cluster, logger: logger), waypoints: accounts,
            gateways: GatewayWriters(cluster, logger: logger), logger: logger)

        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        guard let all = try JSONValue(parsing: Array(bytes)).array else {
            throw FeedOptions.UsageError("\(path): wanted a JSON array of objects")
        }
        let objects = try Dictionary(grouping: all.map(KubeObject.init)) { try Self.kind($0) }
        for kind in ControlPlane.Kind.allCases {
            await self.plane.receive(kind, .snapshot(objects[kind] ?? []))
        }
    }

    func apply(line: String) async throws -> String? {
        let object = KubeObject(try JSONValue(parsing: line))
        await self.plane.receive(try Self.kind(object), .updated(object))
        return nil
    }

    private static func kind(_ object: KubeObject) throws(FeedOptions.UsageError) -> ControlPlane.Kind {
        switch object.kind {
        case "Namespace": .namespaces
        case "Pod": .pods
        case "Service": .services
        case "Gateway": .gateways
        case "GatewayClass": .gatewayClasses
        case "HTTPRoute": .httpRoutes
        case "GRPCRoute": .grpcRoutes
        case "TCPRoute": .tcpRoutes
        case "TLSRoute": .tlsRoutes
        case "AuthorizationPolicy": .authorizationPolicies
        case "DestinationRule": .destinationRules
        case "Telemetry": .telemetries
        default: throw FeedOptions.UsageError("objects of kind \"\(object.kind)\" cannot be fed")
        }
    }
}

/// Where the control plane would write statuses and deployments; its writers are not run.
private struct NoCluster: KubeCluster {
    private static let failure = KubeConnectionError("there is no cluster behind a feed")

    func get(_ type: ResourceType, namespace: String?, name: String) async throws -> KubeObject { throw Self.failure }
    func list(_ type: ResourceType, namespace: String?, _ options: ListOptions) async throws -> KubeList {
        throw Self.failure
    }
    func watch(
        _ type: ResourceType, namespace: String?, from resourceVersion: String, _ options: ListOptions
    ) async throws -> AsyncThrowingStream<WatchEvent, any Error> { throw Self.failure }
    func create(
        _ type: ResourceType, namespace: String?, name: String?, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject { throw Self.failure }
    func replace(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ body: JSONValue
    ) async throws -> KubeObject { throw Self.failure }
    func patch(
        _ type: ResourceType, namespace: String?, name: String, subresource: String?, _ patch: KubePatch
    ) async throws -> KubeObject { throw Self.failure }
    func delete(
        _ type: ResourceType, namespace: String?, name: String, _ options: DeleteOptions
    ) async throws -> KubeObject { throw Self.failure }
}
