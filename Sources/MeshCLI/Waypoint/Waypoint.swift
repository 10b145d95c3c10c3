package import KubeAPI
package import KubeClient

/// The Gateway that asks for a waypoint.
package struct Waypoint: Hashable, Sendable {
    package static let className = "istio-waypoint"
    /// The classes that the control plane makes: our own proxy, and Envoy.
    package static let classNames = [Self.className, "martlet-envoy-waypoint"]
    package static let useLabel = "istio.io/use-waypoint"
    package static let useNamespaceLabel = "istio.io/use-waypoint-namespace"
    package static let forLabel = "istio.io/waypoint-for"
    package static let revisionLabel = "istio.io/rev"
    /// What services and workloads write to have no waypoint, so no waypoint can be called so.
    package static let reservedName = "none"
    package static let trafficTypes = ["service", "workload", "all", "none"]

    package let name: String
    /// Nil: none is written into the object.
    package let namespace: String?
    package let trafficType: String?
    package let revision: String?
    package let gatewayClass: String

    /// - Parameter name: empty means `waypoint`.
    /// - Throws: ``CommandError`` for a reserved name, and for a traffic type or a class that does not exist.
    package init(
        name: String, namespace: String?, trafficType: String? = nil, revision: String? = nil,
        gatewayClass: String = Self.className
    ) throws {
        guard Self.classNames.contains(gatewayClass) else {
            throw CommandError(
                "--class: \"\(gatewayClass)\" is no class of waypoints; it is one of "
                    + Self.classNames.joined(separator: ", "))
        }
        guard name != Self.reservedName else {
            throw CommandError(
                "a waypoint cannot be named \"none\": that value of the label \(Self.useLabel) means to use no waypoint"
            )
        }
        if let trafficType, !Self.trafficTypes.contains(trafficType) {
            throw CommandError(
                "--for: \"\(trafficType)\" is no traffic type; it is one of \(Self.trafficTypes.joined(separator: ", "))"
            )
        }
        self.name = name.isEmpty ? "waypoint" : name
        self.namespace = namespace
        self.trafficType = trafficType
        self.revision = revision
        self.gatewayClass = gatewayClass
    }

    package var object: KubeObject {
        var labels: [String: String] = [:]
        if let trafficType { labels[Self.forLabel] = trafficType }
        if let revision { labels[Self.revisionLabel] = revision }
        return KubeObject(
            .gateways, namespace: self.namespace, name: self.name, labels: labels,
            [
                "spec": [
                    "gatewayClassName": .string(self.gatewayClass),
                    "listeners": [["name": "mesh", "port": 15008, "protocol": "HBONE"]],
                ]
            ])
    }

    /// Those of a namespace, or with nil of all, by namespace and name.
    package static func list(_ cluster: any KubeCluster, namespace: String?) async throws -> [KubeObject] {
        let all: KubeList
        do {
            all = try await cluster.list(.gateways, namespace: namespace)
        } catch let error as StatusError where error.isNotFound {
            throw CommandError(Self.noGatewayAPI)
        }
        return all.items.filter(Self.isWaypoint).sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
    }

    package static func isWaypoint(_ gateway: KubeObject) -> Bool {
        gateway.spec["gatewayClassName"]?.string.map(Self.classNames.contains) ?? false
    }

    static let noGatewayAPI =
        "the cluster has no Gateway API (the CRD gateways.gateway.networking.k8s.io); martlet install brings it, or apply "
        + "the project's standard-install.yaml"
}

/// A condition of a Gateway, as far as it is about the object's present generation.
package struct GatewayCondition: Hashable, Sendable {
    package let type, status, reason, message: String
    /// The controller has seen the last change of the object.
    package let isCurrent: Bool

    /// `Programmed`, or with none the last one; without any what that means.
    package init(of gateway: KubeObject) {
        let conditions = gateway.status["conditions"]?.array ?? []
        guard let found = conditions.first(where: { $0["type"]?.string == "Programmed" }) ?? conditions.last else {
            (self.type, self.status, self.reason) = ("Programmed", "Unknown", "Pending")
            self.message = "no control plane has looked at it yet"
            self.isCurrent = false
            return
        }
        self.type = found["type"]?.string ?? ""
        self.status = found["status"]?.string ?? ""
        self.reason = found["reason"]?.string ?? ""
        self.message = found["message"]?.string ?? ""
        self.isCurrent = found["observedGeneration"]?.int.map { $0 >= gateway.generation } ?? true
    }

    package var isProgrammed: Bool { self.type == "Programmed" && self.status == "True" && self.isCurrent }

    /// Why it is not programmed.
    package var trouble: String {
        if !self.isCurrent, self.reason != "Pending" {
            return "the control plane has not looked at its last change yet"
        }
        let reason = self.reason.isEmpty ? "" : " (\(self.reason))"
        return "\(self.type) is \(self.status)\(reason)\(self.message.isEmpty ? "" : ": \(self.message)")"
    }
}
