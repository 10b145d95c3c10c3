package import KubeAPI

/// What the mesh reads of a Gateway: whether it is a waypoint or another network's entrance, where it is, and what its
/// proxies shall be like.
package struct GatewayView: Hashable, Sendable {
    package struct Listener: Hashable, Sendable {
        package var name: String
        package var port: Int64
        package var protocolName: String
        package var hostname: String?
        /// `allowedRoutes.namespaces.from`: `Same` when left out.
        package var from: String
        /// `allowedRoutes.namespaces.selector`, as written.
        package var selector: JSONValue?
        /// `allowedRoutes.kinds`: the kinds' names.
        package var kinds: [String]
    }
    package struct Address: Hashable, Sendable {
        /// `IPAddress` when left out.
        package var type: String
        package var value: String
        package var isHostname: Bool { self.type == "Hostname" }
    }
    /// `spec.infrastructure`: what the objects made for the Gateway shall be like.
    package struct Infrastructure: Hashable, Sendable {
        /// Nil: the Gateway's own labels are copied.
        package var labels: [String: String]?
        /// Nil: the Gateway's own annotations are copied.
        package var annotations: [String: String]?
        package var parameters: Parameters?
    }
    package struct Parameters: Hashable, Sendable {
        package var group, kind, name: String
    }

    package var namespace, name, uid: String
    package var generation: Int64
    package var labels: [String: String]
    /// Without what `kubectl apply` notes for itself.
    package var annotations: [String: String]
    package var className: String
    package var listeners: [Listener]
    package var statusAddresses: [Address]
    /// Those with a value: one without only asks for an address of that type.
    package var specAddresses: [Address]
    package var infrastructure = Infrastructure()
    package var isBeingDeleted: Bool

    package var inboundBinding: String? { self.annotations[Names.inboundBinding] }
    /// Who answers at a remote gateway; whom a waypoint's pods run as.
    package var serviceAccount: String? { self.annotations[Names.serviceAccount] }

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.uid = object.uid
        self.generation = object.generation
        self.labels = object.labels
        self.annotations = object.annotations
        self.annotations["kubectl.kubernetes.io/last-applied-configuration"] = nil
        self.className = object.spec["gatewayClassName"]?.string ?? ""
        self.listeners = (object.spec["listeners"]?.array ?? []).map { listener in
            let namespaces = listener.at("allowedRoutes", "namespaces")
            return Listener(
                name: listener["name"]?.string ?? "", port: listener["port"]?.int ?? 0,
                protocolName: listener["protocol"]?.string ?? "", hostname: listener["hostname"]?.string,
                from: namespaces?["from"]?.string ?? "Same", selector: namespaces?["selector"],
                kinds: (listener.at("allowedRoutes", "kinds")?.array ?? []).map { $0["kind"]?.string ?? "" })
        }
        self.statusAddresses = Self.addresses(object.status)
        self.specAddresses = Self.addresses(object.spec)
        self.isBeingDeleted = object.isBeingDeleted
        if let json = object.spec["infrastructure"] {
            self.infrastructure.labels = json["labels"].map(\.stringMap)
            self.infrastructure.annotations = json["annotations"].map(\.stringMap)
            self.infrastructure.parameters = json["parametersRef"].map {
                Parameters(
                    group: $0["group"]?.string ?? "", kind: $0["kind"]?.string ?? "", name: $0["name"]?.string ?? "")
            }
        }
    }

    private static func addresses(_ json: JSONValue) -> [Address] {
        (json["addresses"]?.array ?? []).compactMap { entry in
            guard let value = entry["value"]?.string, !value.isEmpty else { return nil }
            return Address(type: entry["type"]?.string ?? "IPAddress", value: value)
        }
    }

    package var key: String { "\(self.namespace)/\(self.name)" }
}

/// What the mesh reads of a GatewayClass: who is responsible for its Gateways, and what they are unless they say
/// otherwise.
package struct GatewayClassView: Hashable, Sendable {
    package static let waypointController = "istio.io/mesh-controller"
    /// Waypoints whose proxy is Envoy.
    package static let envoyController = "martlet.dev/envoy-waypoint"
    package static let remoteController = "istio.io/unmanaged-gateway"

    package var name: String
    package var generation: Int64
    package var controllerName: String
    package var waypointFor: String?
    package var inboundBinding: String?

    package init(_ object: KubeObject) {
        self.name = object.name
        self.generation = object.generation
        self.controllerName = object.spec["controllerName"]?.string ?? ""
        self.waypointFor = object.labels[Names.waypointFor]
        self.inboundBinding = object.annotations[Names.inboundBinding]
    }
}
