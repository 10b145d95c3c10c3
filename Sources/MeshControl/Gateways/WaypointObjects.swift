package import KubeAPI

/// The objects of one waypoint: a pure function of its Gateway, the mesh's settings and overlays.
package struct WaypointObjects {
    /// Annotation `gateway.istio.io/controller-version`: a Gateway stamped with a greater one belongs to a newer control
    /// plane.
    package static let controllerVersion = 5
    static let hbonePort: Int64 = 15008
    static let metricsPort: Int64 = 15020
    static let readinessPort: Int64 = 15021
    /// Long enough for requests under way to end and for clients to follow GOAWAY; an overlay may say more.
    static let gracePeriodSeconds: Int64 = 30
    /// By which the objects are found again.
    static let ownLabels: Set<String> = [Names.gatewayName, Names.gatewayClassName, Names.managed]
    private static let droppedAnnotations: Set<String> = [
        Names.nameOverride, Names.serviceAccount, Names.controllerVersion,
    ]

    private let gateway: GatewayView
    private let settings: MeshSettings
    private let network: String
    private let engine: WaypointEngine
    /// Of the Deployment, the Service and the rest.
    package let name: String
    private let account: String
    private let labels: [String: String]
    private let annotations: [String: String]

    package init(
        _ gateway: GatewayView, _ settings: MeshSettings, network: String, engine: WaypointEngine = .martlet
    ) {
        self.gateway = gateway
        self.settings = settings
        self.network = network
        self.engine = engine
        self.name = Self.name(gateway)
        self.account = gateway.serviceAccount ?? self.name
        let infrastructure = gateway.infrastructure
        // Labels of the standard's own group say which Gateway this is: ours to set.
        var labels = (infrastructure.labels ?? gateway.labels).filter {
            !$0.key.hasPrefix("gateway.networking.k8s.io/")
        }
        if labels[Names.network] == nil, !network.isEmpty { labels[Names.network] = network }
        labels[Names.gatewayName] = gateway.name
        labels[Names.gatewayClassName] = gateway.className
        labels[Names.managed] = GatewayKind.managedLabel
        self.labels = labels
        self.annotations = (infrastructure.annotations ?? gateway.annotations).filter {
            !$0.key.hasPrefix("gateway.networking.k8s.io/") && !Self.droppedAnnotations.contains($0.key)
        }
    }

    /// What the objects of a Gateway are called.
    static func name(_ gateway: GatewayView) -> String { gateway.annotations[Names.nameOverride] ?? gateway.name }

    /// - Parameter overlays: the class's before the Gateway's.
    package func all(_ overlays: [GatewayOverlay]) throws(InvalidParameters) -> [KubeObject] {
        var objects: [KubeObject] = []
        for child in GatewayChild.allCases {
            if child == .serviceAccount, self.gateway.serviceAccount != nil { continue }
            if child.isOptional, overlays.allSatisfy({ $0.patches[child] == nil }) { continue }
            var object = self.object(child).json
            for overlay in overlays { object = try overlay.apply(to: object, as: child) }
            if child == .deployment { Self.tellGracePeriod(&object) }
            objects.append(KubeObject(object))
        }
        return objects
    }

    private func object(_ child: GatewayChild) -> KubeObject {
        var annotations = self.annotations
        let body: [String: JSONValue]
        switch child {
        case .serviceAccount: body = [:]
        case .service:
            // A waypoint nearby does as well as one far away.
            if annotations[Names.trafficDistribution] == nil { annotations[Names.trafficDistribution] = "PreferClose" }
            body = ["spec": self.service]
        case .deployment: body = ["spec": self.deployment]
        case .horizontalPodAutoscaler:
            body = [
                "spec": [
                    "scaleTargetRef": [
                        "apiVersion": .string(ResourceType.deployments.apiVersion), "kind": "Deployment",
                        "name": .string(self.name),
                    ],
                    "maxReplicas": 1,
                ]
            ]
        case .podDisruptionBudget: body = ["spec": ["selector": ["matchLabels": JSONValue(self.selector)]]]
        }
        var object = KubeObject(
            child.type, namespace: self.gateway.namespace,
            name: child == .serviceAccount ? self.account : self.name, labels: self.labels, annotations: annotations,
            body)
        object.json.set(
            ["metadata", "ownerReferences"],
            to: [
                [
                    "apiVersion": .string(ResourceType.gateways.apiVersion), "kind": "Gateway",
                    "name": .string(self.gateway.name), "uid": .string(self.gateway.uid),
                ]
            ])
        return object
    }

    private var selector: [String: String] { [Names.gatewayName: self.gateway.name] }

    private var service: JSONValue {
        var ports: [JSONValue] = [
            ["name": "status-port", "port": .int(Self.readinessPort), "protocol": "TCP", "appProtocol": "tcp"]
        ]
        let listener = self.gateway.listeners.first { ListenerReport.isTunnel($0) }
        // A listener's name may be longer and have dots; a port's is one DNS label.
        let name = listener?.name ?? ""
        ports.append([
            "name": .string(Self.isLabel(name) && name != "status-port" ? name : "hbone"),
            "port": .int(Self.hbonePort), "protocol": "TCP", "appProtocol": "hbone",
        ])
        var spec: JSONValue = [
            "type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "selector": JSONValue(self.selector),
            "ports": .array(ports),
        ]
        if let wanted = self.gateway.specAddresses.first { spec["clusterIP"] = .string(wanted.value) }
        return spec
    }

    private static func isLabel(_ text: String) -> Bool {
        (1...63).contains(text.utf8.count) && text.utf8.first != UInt8(ascii: "-")
            && text.utf8.last != UInt8(ascii: "-")
            && text.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == UInt8(ascii: "-") }
    }

    private var deployment: JSONValue {
        var labels = self.labels.merging([
            "sidecar.istio.io/inject": "false",
            // Captured, it would be sent through itself.
            "istio.io/dataplane-mode": "none",
        ]) { $1 }
        labels["service.istio.io/canonical-name"] = labels["service.istio.io/canonical-name"] ?? self.name
        labels["service.istio.io/canonical-revision"] = labels["service.istio.io/canonical-revision"] ?? "latest"
        let annotations = self.annotations.merging([
            Names.revision: self.settings.revision, "prometheus.io/scrape": "true",
            "prometheus.io/port": "\(Self.metricsPort)", "prometheus.io/path": "/stats/prometheus",
        ]) { $1 }
        let pod = WaypointPod(
            account: self.account, network: self.network, workload: self.name, settings: self.settings,
            image: self.gateway.annotations[Names.proxyImage], engine: self.engine)
        return [
            "selector": ["matchLabels": JSONValue(self.selector)],
            // A new pod serves before an old one goes: what stands behind a waypoint has no other way in.
            "strategy": ["type": "RollingUpdate", "rollingUpdate": ["maxSurge": 1, "maxUnavailable": 0]],
            "template": [
                "metadata": ["labels": JSONValue(labels), "annotations": JSONValue(annotations)], "spec": pod.spec,
            ],
        ]
    }

    /// The process has to know how long it may drain, also when an overlay changes it.
    private static func tellGracePeriod(_ deployment: inout JSONValue) {
        let path = ["spec", "template", "spec"]
        guard let seconds = deployment.at(path)?["terminationGracePeriodSeconds"]?.int,
            var containers = deployment.at(path + ["containers"])?.array
        else { return }
        for index in containers.indices where containers[index]["name"]?.string == WaypointPod.containerName {
            var list = containers[index]["env"]?.array ?? []
            for place in list.indices where list[place]["name"]?.string == WaypointPod.gracePeriodVariable {
                list[place] = ["name": .string(WaypointPod.gracePeriodVariable), "value": .string("\(seconds)")]
            }
            containers[index]["env"] = .array(list)
        }
        deployment.set(path + ["containers"], to: .array(containers))
    }
}
