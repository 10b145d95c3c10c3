package import KubeAPI

/// What the mesh reads of a Service.
package struct ServiceView: Hashable, Sendable {
    package enum Target: Hashable, Sendable {
        case number(UInt16)
        /// Resolved against each pod's container ports.
        case name(String)
    }
    package struct Port: Hashable, Sendable {
        package var name: String
        package var number: UInt16
        package var target: Target
        package var transport: String
        package var appProtocol: String?
    }

    package var namespace, name: String
    package var labels: [String: String]
    package var type: String
    package var clusterIPs: [String]
    package var ports: [Port]
    package var selector: [String: String]
    package var ipFamilies: [String]
    package var publishesNotReady: Bool
    package var internalTrafficPolicy: String
    package var trafficDistribution: String
    /// Annotation `networking.istio.io/traffic-distribution`.
    package var distributionAnnotation: String?
    package var canaryWeight: String?

    package init(_ object: KubeObject) {
        let spec = object.spec
        self.namespace = object.namespace
        self.name = object.name
        self.labels = object.labels
        self.type = spec["type"]?.string ?? "ClusterIP"
        self.clusterIPs = (spec["clusterIPs"]?.array ?? []).compactMap(\.string)
        if self.clusterIPs.isEmpty, let single = spec["clusterIP"]?.string { self.clusterIPs = [single] }
        self.selector = spec["selector"]?.stringMap ?? [:]
        self.ipFamilies = (spec["ipFamilies"]?.array ?? []).compactMap(\.string)
        self.publishesNotReady = spec["publishNotReadyAddresses"]?.bool ?? false
        self.internalTrafficPolicy = spec["internalTrafficPolicy"]?.string ?? ""
        self.trafficDistribution = spec["trafficDistribution"]?.string ?? ""
        self.distributionAnnotation = object.annotations[Names.trafficDistribution]
        self.canaryWeight = object.annotations[Names.canaryWeight]
        self.ports = (spec["ports"]?.array ?? []).compactMap { port in
            guard let number = port["port"]?.int.flatMap({ UInt16(exactly: $0) }) else { return nil }
            let target: Target
            if let name = port["targetPort"]?.string {
                target = UInt16(name).map(Target.number) ?? .name(name)
            } else {
                let wanted = port["targetPort"]?.int.flatMap { UInt16(exactly: $0) } ?? 0
                target = .number(wanted == 0 ? number : wanted)
            }
            return Port(
                name: port["name"]?.string ?? "", number: number, target: target,
                transport: port["protocol"]?.string ?? "TCP", appProtocol: port["appProtocol"]?.string)
        }
    }

    package var key: String { "\(self.namespace)/\(self.name)" }
    package var isHeadless: Bool { self.clusterIPs.contains("None") }
    /// An ExternalName is an alias in DNS: nothing to route to.
    package var isRoutable: Bool { self.type != "ExternalName" }
    /// The Service in front of a waypoint or an east-west gateway never stands behind one.
    var isOfGateway: Bool {
        ["istio.io-mesh-controller", "istio.io-eastwest-controller"].contains(self.labels[Names.managed])
    }

    func selects(_ labels: [String: String]) -> Bool {
        !self.selector.isEmpty && self.selector.allSatisfy { labels[$0.key] == $0.value }
    }
}

/// What the mesh reads of an EndpointSlice.
package struct SliceView: Hashable, Sendable {
    package struct Endpoint: Hashable, Sendable {
        package var addresses: [String]
        package var isReady: Bool
        package var targetKind: String?
        package var targetNamespace, targetName, targetUID: String
    }
    package struct Port: Hashable, Sendable {
        package var name: String
        package var number: UInt16
    }
    package var namespace, name: String
    package var serviceName: String
    package var addressType: String
    package var endpoints: [Endpoint]
    package var ports: [Port]

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.serviceName = object.labels["kubernetes.io/service-name"] ?? ""
        self.addressType = object.json["addressType"]?.string ?? ""
        self.endpoints = (object.json["endpoints"]?.array ?? []).map { endpoint in
            let target = endpoint["targetRef"]
            return Endpoint(
                addresses: (endpoint["addresses"]?.array ?? []).compactMap(\.string),
                isReady: endpoint.at("conditions", "ready")?.bool ?? true,
                targetKind: target?["kind"]?.string,
                targetNamespace: target?["namespace"]?.string ?? object.namespace,
                targetName: target?["name"]?.string ?? "", targetUID: target?["uid"]?.string ?? "")
        }
        self.ports = (object.json["ports"]?.array ?? []).compactMap { port in
            guard (port["protocol"]?.string ?? "TCP") == "TCP",
                let number = port["port"]?.int.flatMap({ UInt16(exactly: $0) })
            else { return nil }
            return Port(name: port["name"]?.string ?? "", number: number)
        }
    }

    package var key: String { "\(self.namespace)/\(self.name)" }
    var isUsable: Bool { !self.serviceName.isEmpty && self.addressType != "FQDN" }

    func names(_ pod: PodView) -> Bool {
        self.endpoints.contains {
            $0.targetKind == "Pod" && $0.targetName == pod.name && $0.targetNamespace == pod.namespace
                && $0.targetUID == pod.uid
        }
    }
}
