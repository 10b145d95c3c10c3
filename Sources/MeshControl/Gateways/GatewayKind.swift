package import KubeAPI

/// What runs in the pods of a waypoint.
package enum WaypointEngine: Hashable, Sendable { case martlet, envoy }

/// What the Gateways of a class are to this control plane: decided by the class's controller name, so that classes of
/// one's own work like the built-in ones.
///
/// Controllers of ingress and east-west gateways (`istio.io/gateway-controller`, `istio.io/eastwest-controller`) are not
/// ours: we make no class for them and leave their Gateways to whoever does.
package enum GatewayKind: Hashable, Sendable {
    /// Gets proxies, a Service and an address from us.
    case waypoint(WaypointEngine)
    /// Only says where another network's gateway is.
    case remote

    package init?(_ gateway: GatewayView, class gatewayClass: GatewayClassView?) {
        // A built-in class that has just been deleted is made again in a moment.
        let controller =
            gatewayClass?.controllerName ?? Self.builtin.first { $0.name == gateway.className }?.controllerName
        self.init(controller: controller ?? "")
    }

    /// What its pods run; nil: it has none of ours.
    package var engine: WaypointEngine? { if case .waypoint(let engine) = self { engine } else { nil } }

    init?(controller: String) {
        switch controller {
        case GatewayClassView.waypointController: self = .waypoint(.martlet)
        case GatewayClassView.envoyController: self = .waypoint(.envoy)
        case GatewayClassView.remoteController: self = .remote
        default: return nil
        }
    }

    var controllerName: String {
        switch self {
        case .waypoint(.martlet): GatewayClassView.waypointController
        case .waypoint(.envoy): GatewayClassView.envoyController
        case .remote: GatewayClassView.remoteController
        }
    }

    /// The value of the label ``Names/managed``.
    static let managedLabel = "istio.io-mesh-controller"

    package struct BuiltinClass: Hashable, Sendable {
        package let name, controllerName, description: String

        package var object: KubeObject {
            KubeObject(
                .gatewayClasses, name: self.name,
                ["spec": ["controllerName": .string(self.controllerName), "description": .string(self.description)]])
        }
    }

    /// Made when they are missing, and never changed: what stands there is somebody's choice.
    package static let builtin = [
        BuiltinClass(
            name: "istio-waypoint", controllerName: GatewayClassView.waypointController,
            description: "Layer-7 proxies for services and workloads of the mesh"),
        BuiltinClass(
            name: "martlet-envoy-waypoint", controllerName: GatewayClassView.envoyController,
            description: "Envoy as the layer-7 proxy for services of the mesh"),
        BuiltinClass(
            name: "istio-remote", controllerName: GatewayClassView.remoteController,
            description: "Where the gateway of another network is"),
    ]

    /// What conformance tests may ask of us (`supportedFeatures` of the class), sorted: the mesh profiles of the Gateway
    /// API 1.6 and every extended mesh feature. Nothing for gateways at the edge.
    static let features = [
        "GRPCRoute", "HTTPRoute", "Mesh", "MeshClusterIPMatching", "MeshConsumerRoute",
        "MeshHTTPRouteBackendRequestHeaderModification", "MeshHTTPRouteNamedRouteRule",
        "MeshHTTPRouteQueryParamMatching", "MeshHTTPRouteRedirectPath", "MeshHTTPRouteRedirectPort",
        "MeshHTTPRouteRewritePath", "MeshHTTPRouteSchemeRedirect", "ReferenceGrant",
    ]
}
