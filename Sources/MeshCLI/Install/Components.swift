package import KubeAPI
import KubeClient
import MeshInjection

/// One part of the mesh as the installer sees it: a name for people, and the objects that make it.
package struct Component: Sendable {
    /// The value of the label `operator.istio.io/component`.
    package let id: String
    /// As printed.
    package let name: String
    /// Components that must be ready first.
    package let after: [String]
    package let objects: [KubeObject]
}

/// Turns values into objects: a pure function, so that `manifest generate` is byte for byte the same every time.
package enum Components {
    package static let componentLabel = "operator.istio.io/component"

    package static func render(_ values: InstallValues) throws -> [Component] {
        [
            Component(
                id: "Base", name: "Istio core", after: [],
                objects: try objects("Base", .crds, values) + objects("Base", .gatewayAPI, values)
                    + objects("Base", .gatewayRoutes, values)),
            Component(
                id: "Pilot", name: "Istiod", after: ["Base"],
                objects: try objects("Pilot", .istiod, values) + objects("Pilot", .injector, values)),
            Component(id: "Cni", name: "CNI", after: ["Base"], objects: try objects("Cni", .cni, values)),
            Component(
                id: "Ztunnel", name: "Ztunnel", after: ["Cni", "Pilot"],
                objects: try objects("Ztunnel", .ztunnel, values)),
        ]
    }

    private enum Manifest {
        case crds, gatewayAPI, gatewayRoutes, istiod, injector, cni, ztunnel

        var text: String {
            let bytes: [UInt8] =
                switch self {
                case .crds: PackageResources.crds_yaml
                case .gatewayAPI: PackageResources.gateway_api_yaml
                case .gatewayRoutes: PackageResources.gateway_routes_yaml
                case .istiod: PackageResources.istiod_yaml
                case .injector: PackageResources.injector_yaml
                case .cni: PackageResources.cni_yaml
                case .ztunnel: PackageResources.ztunnel_yaml
                }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    private static func objects(_ id: String, _ manifest: Manifest, _ values: InstallValues) throws -> [KubeObject] {
        let text = Self.fill(
            manifest.text,
            [
                "namespace": values.namespace, "image": values.image, "pullPolicy": values.pullPolicy,
                "clusterID": values.clusterID, "network": values.network, "cniConfDir": values.confDir,
                "cniBinDir": values.binDir, "cniNetnsDir": values.netnsDir, "capturesDNS": "\(values.capturesDNS)",
            ])
        return try JSONValue.documents(yaml: text).map { document in
            var object = document
            Self.specialise(&object, values)
            var labels = object.at("metadata", "labels") ?? [:]
            labels["operator.istio.io/managed"] = "Reconcile"
            labels["operator.istio.io/version"] = .string(MartletVersion.current)
            labels[Self.componentLabel] = .string(id)
            labels["install.operator.istio.io/owning-resource"] = "martlet"
            labels["install.operator.istio.io/owning-resource-namespace"] = .string(values.namespace)
            labels["istio.io/rev"] = "default"
            object.set(["metadata", "labels"], to: labels)
            return KubeObject(object)
        }
    }

    /// Replaces `${name}`; a name without a value stays, and the YAML parser or the server will say so.
    private static func fill(_ text: String, _ values: [String: String]) -> String {
        var result = ""
        var rest = text[...]
        while let dollar = rest.firstIndex(of: "$") {
            result += rest[..<dollar]
            rest = rest[dollar...]
            guard rest.hasPrefix("${"), let end = rest.firstIndex(of: "}"),
                let value = values[String(rest.dropFirst(2)[..<end])]
            else {
                result += "$"
                rest = rest.dropFirst()
                continue
            }
            result += value
            rest = rest[rest.index(after: end)...]
        }
        return result + rest
    }

    /// Values that are more than a word in a template.
    private static func specialise(_ object: inout JSONValue, _ values: InstallValues) {
        let kind = object["kind"]?.string
        let name = object.at("metadata", "name")?.string
        switch (kind, name) {
        case ("ConfigMap", "istio"):
            var mesh = "rootNamespace: \(values.namespace)\ntrustDomain: \(values.trustDomain)\n"
            if !values.trustDomainAliases.isEmpty {
                mesh += "trustDomainAliases: [\(values.trustDomainAliases.joined(separator: ", "))]\n"
            }
            // Sidecars take tunnels, so that clients in the ambient mesh reach them, and with their identity.
            mesh += "defaultConfig:\n  proxyMetadata:\n    ISTIO_META_ENABLE_HBONE: \"true\"\n"
            object.set(["data", "mesh"], to: .string(mesh))
        case ("ConfigMap", "istio-sidecar-injector"):
            object.set(["data", "values"], to: .string(Self.injection(values).description))
        case ("MutatingWebhookConfiguration", "istio-sidecar-injector"):
            if values.injectsByDefault { Self.addDefaultInjection(&object, values) }
        case ("Deployment", "istiod"):
            Self.addEnvironment(&object, Self.waypoints(values).merging(values.environment["pilot"] ?? [:]) { $1 })
        case ("DaemonSet", "istio-cni-node"):
            object.set(
                ["spec", "template", "spec", "terminationGracePeriodSeconds"], to: .int(values.cniGracePeriodSeconds))
            var environment = values.environment["cni"] ?? [:]
            environment["TERMINATION_GRACE_PERIOD_SECONDS"] = String(values.cniGracePeriodSeconds)
            Self.addEnvironment(&object, environment)
        case ("DaemonSet", "ztunnel"):
            object.set(
                ["spec", "template", "spec", "terminationGracePeriodSeconds"], to: .int(values.gracePeriodSeconds))
            var environment = values.environment["ztunnel"] ?? [:]
            environment["TERMINATION_GRACE_PERIOD_SECONDS"] = String(values.gracePeriodSeconds)
            environment["RUST_LOG"] = values.proxyLogLevel
            if values.logsAsJSON { environment["LOG_FORMAT"] = "json" }
            // Nobody tells a node proxy what MeshConfig says.
            if !values.trustDomainAliases.isEmpty {
                environment["TRUST_DOMAIN_ALIASES"] =
                    environment["TRUST_DOMAIN_ALIASES"] ?? values.trustDomainAliases.joined(separator: ",")
            }
            if values.looksAtRevocations {
                environment["CRL_PATH"] = environment["CRL_PATH"] ?? "\(Self.revocationFolder)/ca-crl.pem"
                Self.mountRevocations(&object)
            }
            Self.addEnvironment(&object, environment)
        default: break
        }
    }

    /// What a sidecar looks like, under the names of Istio's values.
    private static func injection(_ values: InstallValues) -> JSONValue {
        [
            "global": [
                "imagePullPolicy": .string(values.pullPolicy), "network": .string(values.network),
                "multiCluster": ["clusterName": .string(values.clusterID)],
                "proxy": [
                    "image": .string(values.envoyImage), "logLevel": "warning", "componentLogLevel": "misc:error",
                    "clusterDomain": "cluster.local",
                    "resources": .object(values.sidecarResources.mapValues { JSONValue($0) }),
                ],
            ],
            "sidecarInjectorWebhook": ["rewriteAppHTTPProbe": .bool(values.rewritesProbes)],
        ]
    }

    /// Every namespace that does not say otherwise, except those of the system and ours.
    private static func addDefaultInjection(_ object: inout JSONValue, _ values: InstallValues) {
        guard var webhooks = object["webhooks"]?.array, var entry = webhooks.first else { return }
        func absent(_ name: String) -> JSONValue { ["key": .string(name), "operator": "DoesNotExist"] }
        let system = InjectionDecision.systemNamespaces.sorted() + [values.namespace]
        entry["name"] = "auto.sidecar-injector.istio.io"
        entry["namespaceSelector"] = [
            "matchExpressions": [
                absent("istio-injection"), absent("istio.io/rev"),
                ["key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": JSONValue(system)],
            ]
        ]
        entry["objectSelector"] = ["matchExpressions": [absent("sidecar.istio.io/inject"), absent("istio.io/rev")]]
        webhooks.append(entry)
        object["webhooks"] = .array(webhooks)
    }

    /// What the control plane has to know to deploy proxies: it cannot see which image it came from.
    private static func waypoints(_ values: InstallValues) -> [String: String] {
        var environment = [
            "WAYPOINT_IMAGE": values.image, "WAYPOINT_ENVOY_IMAGE": values.envoyImage,
            "WAYPOINT_IMAGE_PULL_POLICY": values.pullPolicy,
            "WAYPOINT_LOG_LEVEL": values.waypointLogLevel,
        ]
        if values.logsAsJSON { environment["WAYPOINT_LOG_AS_JSON"] = "true" }
        if values.waypointResources != InstallValues().waypointResources {
            let resources = values.waypointResources.mapValues { JSONValue($0) }
            environment["WAYPOINT_RESOURCES"] = JSONValue.object(resources).description
        }
        return environment
    }

    /// Not inside another volume: those are mounted read-only, and nothing can be mounted in them.
    private static let revocationFolder = "/var/run/secrets/istio-ca-crl"

    /// Optional: the control plane publishes it only with a plugged-in CA that has a list, which may come later.
    private static func mountRevocations(_ object: inout JSONValue) {
        let pod = ["spec", "template", "spec"]
        guard var containers = object.at(pod + ["containers"])?.array, !containers.isEmpty else { return }
        containers[0]["volumeMounts"] = .array(
            (containers[0]["volumeMounts"]?.array ?? [])
                + [["name": "istio-ca-crl", "mountPath": .string(Self.revocationFolder), "readOnly": true]])
        object.set(pod + ["containers"], to: .array(containers))
        object.set(
            pod + ["volumes"],
            to: .array(
                (object.at(pod + ["volumes"])?.array ?? [])
                    + [["name": "istio-ca-crl", "configMap": ["name": "istio-ca-crl", "optional": true]]]))
    }

    private static func addEnvironment(_ object: inout JSONValue, _ extra: [String: String]) {
        let path = ["spec", "template", "spec", "containers"]
        guard var containers = object.at(path)?.array, !containers.isEmpty else { return }
        var list = containers[0]["env"]?.array ?? []
        list.removeAll { entry in entry["name"]?.string.map { extra[$0] != nil } ?? false }
        list += extra.sorted { $0.key < $1.key }.map { ["name": .string($0.key), "value": .string($0.value)] }
        containers[0]["env"] = .array(list)
        object.set(path, to: .array(containers))
    }

    /// Whether a definition that a cluster has is somebody else's: the Gateway API comes from many hands, and its own
    /// project marks what it installs. Theirs is neither overwritten nor removed.
    package static func isForeign(_ live: KubeObject) -> Bool {
        guard live.spec["group"]?.string == "gateway.networking.k8s.io" else { return false }
        return live.labels[Self.componentLabel] == nil
            || live.annotations["gateway.networking.k8s.io/bundle-version"] != nil
    }

    /// Where an object of a manifest lives in the API.
    package static func type(of object: KubeObject) -> ResourceType? {
        let known: [ResourceType] = [
            .customResourceDefinitions, .serviceAccounts, .clusterRoles, .clusterRoleBindings, .roles, .roleBindings,
            .configMaps, .services, .deployments, .daemonSets, .namespaces, .mutatingWebhookConfigurations,
            .validatingWebhookConfigurations,
        ]
        return known.first { $0.kind == object.kind && $0.apiVersion == object.apiVersion }
    }
}
