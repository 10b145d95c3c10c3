internal import KubeAPI

/// The sidecar itself: the proxy's container, the step that sets the pod's packet rules, and their volumes, under Istio's
/// names.
struct SidecarTemplate {
    static let proxy = "istio-proxy"
    static let rules = "istio-init"
    static let user: Int64 = 1337
    static let healthPort: Int64 = 15021
    static let prometheusPort: Int64 = 15090

    let pod: KubeObject
    let owner: PodOwner
    let namespace: String
    let options: ProxyOptions
    let mesh: InjectionMesh
    /// Of the probes that the agent answers for the app, as JSON; nil: none were rewritten.
    let probes: String?

    private var settings: InjectionSettings { self.options.settings }
    private var controlPlane: String { "istiod.\(self.mesh.controlPlaneNamespace).svc:15012" }

    func image() throws(InjectionError) -> String {
        let image = self.options.text("sidecar.istio.io/proxyImage", "global.proxy.image")
        guard let image, !image.isEmpty else {
            throw InjectionError(
                "no image for the sidecar: set global.proxy.image in the values of ConfigMap "
                    + "\(InjectionSettings.configMapName), or the pod's annotation sidecar.istio.io/proxyImage")
        }
        return image
    }

    // MARK: The proxy

    func container(isNative: Bool) throws(InjectionError) -> JSONValue {
        var container: JSONValue = [
            "name": .string(Self.proxy), "image": .string(try self.image()), "command": ["martlet"],
            "args": try self.arguments(),
            "ports": [
                ["name": "http-envoy-prom", "containerPort": .int(Self.prometheusPort), "protocol": "TCP"]
            ],
            "env": .array(try self.environment()),
            "resources": try self.options.resources(),
            "securityContext": [
                "runAsUser": .int(Self.user), "runAsGroup": .int(Self.user), "runAsNonRoot": true, "privileged": false,
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": ["drop": ["ALL"]],
            ],
            "volumeMounts": .array(try self.mounts()),
        ]
        if let policy = self.settings.text("global.imagePullPolicy") { container["imagePullPolicy"] = .string(policy) }
        try self.addProbes(&container)
        if isNative { container["restartPolicy"] = "Always" }
        // Nothing else of the pod starts before its answer; a native sidecar's startup probe does the same.
        if self.options.holdsApplication, !isNative {
            container["lifecycle"] = ["postStart": ["exec": ["command": ["martlet", "wait"]]]]
        }
        return container
    }

    private func arguments() throws(InjectionError) -> JSONValue {
        let level = self.options.text("sidecar.istio.io/logLevel", "global.proxy.logLevel") ?? "warning"
        let components =
            self.options.text("sidecar.istio.io/componentLogLevel", "global.proxy.componentLogLevel") ?? "misc:error"
        let agent = self.options.text("sidecar.istio.io/agentLogLevel", "global.logging.level") ?? "default:info"
        var arguments = [
            "proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.\(self.mesh.domainSuffix)",
            "--proxyLogLevel=\(level)", "--proxyComponentLogLevel=\(components)", "--log_output_level=\(agent)",
        ]
        if let count = self.options.concurrency { arguments += ["--concurrency", "\(count)"] }
        return JSONValue(arguments)
    }

    private func addProbes(_ container: inout JSONValue) throws(InjectionError) {
        let port = try self.options.number("status.sidecar.istio.io/port", "", fallback: Self.healthPort)
        // 0: the author wants none.
        if port == 0 { return }
        let check: JSONValue = ["path": "/healthz/ready", "port": .int(port)]
        let annotation = "readiness.status.sidecar.istio.io"
        let delay = try self.options.number(
            "\(annotation)/initialDelaySeconds", "global.proxy.readinessInitialDelaySeconds", fallback: 0)
        let period = try self.options.number(
            "\(annotation)/periodSeconds", "global.proxy.readinessPeriodSeconds", fallback: 15)
        let failures = try self.options.number(
            "\(annotation)/failureThreshold", "global.proxy.readinessFailureThreshold", fallback: 4)
        container["readinessProbe"] = [
            "httpGet": check, "initialDelaySeconds": .int(delay), "periodSeconds": .int(max(period, 1)),
            "timeoutSeconds": 3, "failureThreshold": .int(max(failures, 1)),
        ]
        if self.settings.flag("global.proxy.startupProbe.enabled") ?? true {
            let threshold = self.settings.value("global.proxy.startupProbe.failureThreshold")?.int ?? 600
            container["startupProbe"] = [
                "httpGet": check, "initialDelaySeconds": 0, "periodSeconds": 1, "timeoutSeconds": 3,
                "failureThreshold": .int(threshold),
            ]
        }
    }

    /// Istio's names, and those that our other proxies read.
    private func environment() throws(InjectionError) -> [JSONValue] {
        let address = self.settings.text("global.caAddress") ?? self.controlPlane
        let discovery = self.options.config["discoveryAddress"]?.string ?? self.controlPlane
        var values: [(String, String)] = [
            ("PILOT_CERT_PROVIDER", "istiod"), ("CA_ADDR", address), ("CA_ADDRESS", address),
            ("XDS_ADDRESS", discovery), ("CLUSTER_DOMAIN", self.mesh.domainSuffix),
            ("TRUST_DOMAIN", self.mesh.trustDomain), ("PROXY_CONFIG", self.options.config.description),
            ("ISTIO_META_POD_PORTS", self.ports), ("ISTIO_META_APP_CONTAINERS", self.apps),
            ("ISTIO_META_CLUSTER_ID", self.mesh.clusterID), ("ISTIO_META_MESH_ID", self.meshID),
            ("ISTIO_META_INTERCEPTION_MODE", try self.options.interception().rawValue),
            ("ISTIO_META_WORKLOAD_NAME", self.owner.name),
            ("ISTIO_META_OWNER", self.owner.reference(namespace: self.namespace)),
        ]
        if !self.mesh.network.isEmpty { values.append(("ISTIO_META_NETWORK", self.mesh.network)) }
        if let probes { values.append(("ISTIO_KUBE_APP_PROBERS", probes)) }
        if let scrape = PrometheusMerge(self.pod, self.options, self.mesh)?.scrapeOfApp {
            values.append(("ISTIO_PROMETHEUS_ANNOTATIONS", scrape))
        }
        let extra = self.options.metadata
        values.removeAll { extra[$0.0] != nil }
        values += extra.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        let fields = [
            ("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace"), ("INSTANCE_IP", "status.podIP"),
            ("SERVICE_ACCOUNT", "spec.serviceAccountName"), ("HOST_IP", "status.hostIP"),
            ("NODE_NAME", "spec.nodeName"), ("ISTIO_META_NODE_NAME", "spec.nodeName"),
        ].filter { extra[$0.0] == nil }
        // Before the others: arguments and values may name them.
        var variables: [JSONValue] = fields.map {
            ["name": .string($0.0), "valueFrom": ["fieldRef": ["fieldPath": .string($0.1)]]]
        }
        variables.append([
            "name": "ISTIO_CPU_LIMIT", "valueFrom": ["resourceFieldRef": ["resource": "limits.cpu", "divisor": "1"]],
        ])
        variables += values.map { ["name": .string($0.0), "value": .string($0.1)] }
        return variables
    }

    private var meshID: String {
        self.settings.text("global.meshID") ?? self.options.config["meshId"]?.string ?? self.mesh.trustDomain
    }

    /// The app's containers.
    private var apps: String {
        (self.pod.spec["containers"]?.array ?? []).compactMap { $0["name"]?.string }.filter { $0 != Self.proxy }
            .joined(separator: ",")
    }

    private var ports: String {
        let ports = (self.pod.spec["containers"]?.array ?? []).filter { $0["name"]?.string != Self.proxy }.flatMap {
            $0["ports"]?.array ?? []
        }
        return JSONValue.array(ports).description
    }

    // MARK: Volumes

    func volumes() throws(InjectionError) -> [JSONValue] {
        func field(_ path: String, _ name: String) -> JSONValue {
            ["path": .string(path), "fieldRef": ["fieldPath": .string(name)]]
        }
        let own: [JSONValue] = [
            ["name": "istio-envoy", "emptyDir": ["medium": "Memory"]],
            ["name": "istio-data", "emptyDir": [:]],
            [
                "name": "istio-podinfo",
                "downwardAPI": [
                    "items": [field("labels", "metadata.labels"), field("annotations", "metadata.annotations")]
                ],
            ],
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
        ]
        return own + (try self.userList("sidecar.istio.io/userVolume"))
    }

    private func mounts() throws(InjectionError) -> [JSONValue] {
        let own: [JSONValue] = [
            ["name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"],
            ["name": "istio-data", "mountPath": "/var/lib/istio/data"],
            ["name": "istio-envoy", "mountPath": "/etc/istio/proxy"],
            ["name": "istio-token", "mountPath": "/var/run/secrets/tokens"],
            ["name": "istio-podinfo", "mountPath": "/etc/istio/pod"],
        ]
        return own + (try self.userList("sidecar.istio.io/userVolumeMount"))
    }

    /// An annotation with JSON: a list of objects with names, or an object of objects by name.
    private func userList(_ annotation: String) throws(InjectionError) -> [JSONValue] {
        guard let text = self.options.annotations[annotation], !text.isEmpty else { return [] }
        switch try? JSONValue(parsing: text) {
        case .array(let list)?: return list
        case .object(let members)?:
            return members.sorted { $0.key < $1.key }.map { name, value in
                var value = value
                value["name"] = .string(name)
                return value
            }
        default: throw InjectionError("annotation \(annotation) is no JSON list and no JSON object")
        }
    }

    // MARK: The packet rules

    /// The init step; nil: the pod's traffic is not captured.
    func rulesContainer() throws(InjectionError) -> JSONValue? {
        guard try self.options.interception() == .redirect else { return nil }
        let traffic = "traffic.sidecar.istio.io"
        func value(_ name: String, _ fallback: String) -> String {
            // Values call the ranges so since before there were ports.
            let setting = name.replacing("OutboundIPRanges", with: "IPRanges")
            return self.options.annotations["\(traffic)/\(name)"] ?? self.settings.text("global.proxy.\(setting)")
                ?? fallback
        }
        let excluded =
            ["\(Self.prometheusPort)", "\(Self.healthPort)"] + Self.words(value("excludeInboundPorts", ""))
            + ["\(self.options.statusPort)"]
        var arguments = [
            "istio-iptables", "-p", "15001", "-z", "15006", "-u", "\(Self.user)", "-m", "REDIRECT",
            "-i", value("includeOutboundIPRanges", "*"), "-x", value("excludeOutboundIPRanges", ""),
            "-b", value("includeInboundPorts", "*"), "-d", excluded.joined(separator: ","),
        ]
        for (flag, name) in [
            ("-q", "includeOutboundPorts"), ("-o", "excludeOutboundPorts"), ("-c", "excludeInterfaces"),
        ] {
            let text = value(name, "")
            if !text.isEmpty { arguments += [flag, text] }
        }
        let interfaces =
            self.options.annotations["istio.io/reroute-virtual-interfaces"]
            ?? self.options.annotations["\(traffic)/kubevirtInterfaces"] ?? ""
        if !interfaces.isEmpty { arguments += ["-k", interfaces] }
        if self.options.metadata["INVALID_DROP"] == "true" { arguments.append("--drop-invalid") }
        var container: JSONValue = [
            "name": .string(Self.rules), "image": .string(try self.image()), "command": ["martlet"],
            "args": JSONValue(arguments), "resources": try self.options.resources(),
            "securityContext": [
                "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "privileged": false,
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": false,
                "capabilities": ["add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]],
            ],
        ]
        if let policy = self.settings.text("global.imagePullPolicy") { container["imagePullPolicy"] = .string(policy) }
        // As Istio's template hands it on: the rules follow `ISTIO_META_DNS_CAPTURE` too.
        let metadata = self.options.metadata.sorted { $0.key < $1.key }
        if !metadata.isEmpty {
            container["env"] = .array(metadata.map { ["name": .string($0.key), "value": .string($0.value)] })
        }
        return container
    }

    private static func words(_ list: String) -> [String] {
        list.split(separator: ",").map { $0.filter { $0 != " " } }.filter { !$0.isEmpty }
    }
}

/// Prometheus asks the agent instead of the app; the agent asks the app and Envoy and answers for both.
struct PrometheusMerge {
    /// What the app's own annotations said, for the agent; nil: nobody scraped the app.
    let scrapeOfApp: String?
    let annotations: [String: String]

    /// - Returns: nil when the pod or the mesh does not want this.
    init?(_ pod: KubeObject, _ options: ProxyOptions, _ mesh: InjectionMesh) {
        let own = pod.annotations["prometheus.istio.io/merge-metrics"].flatMap(Words.boolean)
        let scrape = pod.annotations["prometheus.io/scrape"] ?? ""
        guard own ?? mesh.meshConfig["enablePrometheusMerge"]?.bool ?? true, scrape != "false" else { return nil }
        var json: JSONValue = ["scrape": .string(scrape)]
        for name in ["path", "port"] { json[name] = pod.annotations["prometheus.io/\(name)"].map { .string($0) } }
        self.scrapeOfApp = scrape == "true" ? json.description : nil
        self.annotations = [
            "prometheus.io/scrape": "true", "prometheus.io/port": "\(options.statusPort)",
            "prometheus.io/path": "/stats/prometheus",
        ]
    }
}
