import KubeAPI

/// The pod of a waypoint: one container, which needs nothing but its certificates. It runs our own proxy, or Envoy under our
/// agent, with the arguments of Istio's templates.
struct WaypointPod {
    /// As in Istio, so that `kubectl logs -c istio-proxy` means the same.
    static let containerName = "istio-proxy"
    static let gracePeriodVariable = "TERMINATION_GRACE_PERIOD_SECONDS"

    let account, network, workload: String
    let settings: MeshSettings
    /// Annotation `sidecar.istio.io/proxyImage`; nil: the installation's.
    let image: String?
    let engine: WaypointEngine

    var spec: JSONValue {
        [
            "serviceAccountName": .string(self.account),
            "terminationGracePeriodSeconds": .int(WaypointObjects.gracePeriodSeconds),
            "containers": [self.container],
            "volumes": .array(self.volumes),
        ]
    }

    private var volumes: [JSONValue] {
        var volumes: [JSONValue] = [
            [
                "name": "istio-token",
                "projected": [
                    "sources": [
                        [
                            "serviceAccountToken": [
                                "path": "istio-token", "expirationSeconds": 43200, "audience": "istio-ca",
                            ]
                        ]
                    ]
                ],
            ],
            ["name": "istiod-ca-cert", "configMap": ["name": "istio-ca-root-cert"]],
            ["name": "tmp", "emptyDir": [:]],
        ]
        // Its bootstrap and the agent's socket; in memory, as nothing of it is to outlive the pod.
        if self.engine == .envoy { volumes.append(["name": "istio-envoy", "emptyDir": ["medium": "Memory"]]) }
        return volumes
    }

    private var mounts: [JSONValue] {
        var mounts: [JSONValue] = [
            ["name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"],
            ["name": "istio-token", "mountPath": "/var/run/secrets/tokens"],
            ["name": "tmp", "mountPath": "/tmp"],
        ]
        if self.engine == .envoy { mounts.append(["name": "istio-envoy", "mountPath": "/etc/istio/proxy"]) }
        return mounts
    }

    private var arguments: JSONValue {
        guard self.engine == .envoy else { return ["waypoint"] }
        return [
            "proxy", "waypoint", "--domain", .string("$(POD_NAMESPACE).svc.\(self.settings.domainSuffix)"),
            "--serviceCluster", .string("\(self.account).$(POD_NAMESPACE)"), "--proxyLogLevel", "warning",
        ]
    }

    private var container: JSONValue {
        let installation = self.settings.waypoints
        let readiness: JSONValue = ["path": "/healthz/ready", "port": .int(WaypointObjects.readinessPort)]
        return [
            "name": .string(Self.containerName), "image": .string(self.image ?? installation.image(of: self.engine)),
            "imagePullPolicy": .string(installation.pullPolicy), "command": ["martlet"], "args": self.arguments,
            "ports": [
                Self.port("hbone", WaypointObjects.hbonePort), Self.port("metrics", WaypointObjects.metricsPort),
                Self.port("status-port", WaypointObjects.readinessPort),
            ],
            // A waypoint is up in a fraction of a second, and asked as often as Kubernetes can.
            "startupProbe": ["httpGet": readiness, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 30],
            "readinessProbe": ["httpGet": readiness, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 4],
            "resources": installation.resources,
            "securityContext": [
                "runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": true, "privileged": false,
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": ["drop": ["ALL"]],
            ],
            "env": .array(self.environment),
            "volumeMounts": .array(self.mounts),
        ]
    }

    private static func port(_ name: String, _ number: Int64) -> JSONValue {
        ["name": .string(name), "containerPort": .int(number), "protocol": "TCP"]
    }

    /// The names are those of the node proxy; `GATEWAY_NAME` is whom it serves.
    private var environment: [JSONValue] {
        let controlPlane = "istiod.\(self.settings.controlPlaneNamespace).svc:15012"
        var values: [(String, String)] = [
            ("XDS_ADDRESS", controlPlane), ("CA_ADDRESS", controlPlane), ("NETWORK", self.network),
            ("ISTIO_META_CLUSTER_ID", self.settings.clusterID), ("CLUSTER_DOMAIN", self.settings.domainSuffix),
            ("ISTIO_META_WORKLOAD_NAME", self.workload), ("TRUST_DOMAIN", self.settings.trustDomain),
            (Self.gracePeriodVariable, "\(WaypointObjects.gracePeriodSeconds)"),
            ("RUST_LOG", self.settings.waypoints.logLevel),
        ]
        if self.settings.waypoints.logsAsJSON { values.append(("LOG_FORMAT", "json")) }
        if !self.settings.trustDomainAliases.isEmpty {
            values.append(("TRUST_DOMAIN_ALIASES", self.settings.trustDomainAliases.joined(separator: ",")))
        }
        let extra = self.settings.waypoints.environment
        values.removeAll { extra[$0.0] != nil }
        values += extra.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        let fields = [
            ("GATEWAY_NAME", "metadata.labels['\(Names.gatewayName)']"), ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"), ("NODE_NAME", "spec.nodeName"), ("INSTANCE_IP", "status.podIP"),
            ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ].filter { extra[$0.0] == nil }
        return values.map { ["name": .string($0.0), "value": .string($0.1)] }
            + fields.map { ["name": .string($0.0), "valueFrom": ["fieldRef": ["fieldPath": .string($0.1)]]] }
    }
}
