package import KubeAPI

/// What the mesh reads of a Gateway: whether it is a waypoint or another network's entrance, and where it is.
package struct GatewayView: Hashable, Sendable {
    package struct Listener: Hashable, Sendable {
        package var port: Int64
        package var protocolName: String
        /// `allowedRoutes.namespaces.from`: `Same` when left out.
        package var from: String
        /// `allowedRoutes.namespaces.selector`, as written.
        package var selector: JSONValue?
    }
    package struct Address: Hashable, Sendable {
        package var isHostname: Bool
        package var value: String
    }

    package var namespace, name: String
    package var labels: [String: String]
    package var className: String
    package var inboundBinding: String?
    /// Annotation `gateway.istio.io/service-account`: who answers at a remote gateway.
    package var serviceAccount: String?
    package var listeners: [Listener]
    package var statusAddresses: [Address]
    package var specAddresses: [Address]

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.labels = object.labels
        self.className = object.spec["gatewayClassName"]?.string ?? ""
        self.inboundBinding = object.annotations[Names.inboundBinding]
        self.serviceAccount = object.annotations["gateway.istio.io/service-account"]
        self.listeners = (object.spec["listeners"]?.array ?? []).map { listener in
            let namespaces = listener.at("allowedRoutes", "namespaces")
            return Listener(
                port: listener["port"]?.int ?? 0, protocolName: listener["protocol"]?.string ?? "",
                from: namespaces?["from"]?.string ?? "Same", selector: namespaces?["selector"])
        }
        self.statusAddresses = Self.addresses(object.status)
        self.specAddresses = Self.addresses(object.spec)
    }

    private static func addresses(_ json: JSONValue) -> [Address] {
        (json["addresses"]?.array ?? []).compactMap { entry in
            guard let value = entry["value"]?.string, !value.isEmpty else { return nil }
            return Address(isHostname: entry["type"]?.string == "Hostname", value: value)
        }
    }

    package var key: String { "\(self.namespace)/\(self.name)" }
}

/// What the mesh reads of a GatewayClass: what its Gateways are unless they say otherwise.
package struct GatewayClassView: Hashable, Sendable {
    package static let waypointController = "istio.io/mesh-controller"
    package static let remoteController = "istio.io/unmanaged-gateway"

    package var name: String
    package var controllerName: String
    package var waypointFor: String?
    package var inboundBinding: String?

    package init(_ object: KubeObject) {
        self.name = object.name
        self.controllerName = object.spec["controllerName"]?.string ?? ""
        self.waypointFor = object.labels[Names.waypointFor]
        self.inboundBinding = object.annotations[Names.inboundBinding]
    }
}
