import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("What is deployed for a waypoint")
struct GatewayPlanTests {
    static let key = "ns1/w"

    /// A Gateway as it is applied: nothing of us on it.
    static func gateway(
        labels: [String: String] = [:], annotations: [String: String] = [:], className: String = "istio-waypoint",
        port: Int64 = 15008, protocolName: String = "HBONE", change: (inout JSONValue) -> Void = { _ in }
    ) -> KubeObject {
        Make.gateway(
            "w", labels: labels, annotations: annotations, className: className, port: port,
            protocolName: protocolName, addresses: nil
        ) {
            $0.set(["metadata", "uid"], to: "uid-w")
            $0.set(["metadata", "generation"], to: 4)
            change(&$0)
        }
    }
    static func overlay(
        _ name: String, namespace: String = "ns1", _ data: [String: String], defaultsFor: String? = nil
    ) -> KubeObject {
        KubeObject(
            .configMaps, namespace: namespace, name: name,
            labels: defaultsFor.map { ["gateway.istio.io/defaults-for-class": $0] } ?? [:], ["data": JSONValue(data)])
    }
    static func refer(_ kind: String = "ConfigMap", _ name: String = "options") -> (inout JSONValue) -> Void {
        {
            $0.set(
                ["spec", "infrastructure", "parametersRef"],
                to: ["group": "", "kind": .string(kind), "name": .string(name)])
        }
    }

    static func objects(_ mesh: Mesh) -> [KubeObject] { mesh.index.gatewayPlans[Self.key]?.children ?? [] }
    static func object(_ mesh: Mesh, _ kind: String) -> KubeObject? { Self.objects(mesh).first { $0.kind == kind } }
    static func container(_ mesh: Mesh) -> JSONValue {
        Self.object(mesh, "Deployment")?.spec.at("template", "spec", "containers")?[0] ?? .null
    }
    static func variable(_ mesh: Mesh, _ name: String) -> JSONValue? {
        Self.container(mesh)["env"]?.array?.first { $0["name"]?.string == name }
    }

    @Test("83: ServiceAccount, Service and Deployment are named like the Gateway, owned by it, and say whose they are")
    func objects() {
        let mesh = Mesh()
        mesh.set(Self.gateway())
        #expect(Self.objects(mesh).map(\.kind) == ["ServiceAccount", "Service", "Deployment"])
        for object in Self.objects(mesh) {
            #expect(object.key == Self.key)
            #expect(
                object.ownerReferences == [
                    [
                        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "w", "uid": "uid-w",
                    ]
                ])
            #expect(
                object.labels == [
                    "gateway.networking.k8s.io/gateway-name": "w",
                    "gateway.networking.k8s.io/gateway-class-name": "istio-waypoint",
                    "gateway.istio.io/managed": "istio.io-mesh-controller",
                    "topology.istio.io/network": "testnetwork",
                ])
        }
        mesh.remove(Self.gateway())
        #expect(Self.objects(mesh).isEmpty)
    }

    @Test("83: the Service leads to the tunnel port, the one nearby first")
    func service() throws {
        let mesh = Mesh()
        mesh.set(Self.gateway())
        let service = try #require(Self.object(mesh, "Service"))
        #expect(service.spec["type"] == "ClusterIP" && service.spec["ipFamilyPolicy"] == "PreferDualStack")
        #expect(service.spec["selector"] == ["gateway.networking.k8s.io/gateway-name": "w"])
        #expect(
            service.spec["ports"] == [
                ["name": "status-port", "port": 15021, "protocol": "TCP", "appProtocol": "tcp"],
                ["name": "mesh", "port": 15008, "protocol": "TCP", "appProtocol": "hbone"],
            ])
        #expect(service.annotations["networking.istio.io/traffic-distribution"] == "PreferClose")
        #expect(service.spec["clusterIP"] == nil)
        // A listener's name may be what a port's cannot.
        mesh.set(
            Self.gateway {
                $0.set(
                    ["spec", "listeners"],
                    to: [
                        ["name": "a.b", "port": 15008, "protocol": "HBONE"]
                    ])
            })
        #expect(Self.object(mesh, "Service")?.spec["ports"]?[1]?["name"] == "hbone")
        mesh.set(Self.gateway { $0.set(["spec", "addresses"], to: [["type": "IPAddress", "value": "10.0.0.9"]]) })
        #expect(Self.object(mesh, "Service")?.spec["clusterIP"] == "10.0.0.9")
    }

    @Test("83: the pod runs our program, restricted, without being captured, and is asked early whether it serves")
    func pod() throws {
        let mesh = Mesh()
        mesh.set(Self.gateway())
        let deployment = try #require(Self.object(mesh, "Deployment"))
        #expect(deployment.spec["replicas"] == nil, "an autoscaler's to say")
        #expect(
            deployment.spec.at("selector", "matchLabels") == ["gateway.networking.k8s.io/gateway-name": "w"])
        #expect(deployment.spec.at("strategy", "rollingUpdate", "maxUnavailable") == 0)
        let template = try #require(deployment.spec["template"])
        let labels = template.at("metadata", "labels")?.stringMap ?? [:]
        for (name, value) in [
            "istio.io/dataplane-mode": "none", "sidecar.istio.io/inject": "false",
            "service.istio.io/canonical-name": "w", "service.istio.io/canonical-revision": "latest",
            "gateway.networking.k8s.io/gateway-name": "w", "gateway.istio.io/managed": "istio.io-mesh-controller",
        ] { #expect(labels[name] == value, "\(name)") }
        #expect(template.at("metadata", "annotations", "prometheus.io/port") == "15020")
        #expect(template.at("metadata", "annotations", "istio.io/rev") == "default")
        #expect(template.at("spec", "serviceAccountName") == "w")
        let container = Self.container(mesh)
        #expect(container["name"] == "istio-proxy" && container["image"] == "hub/martlet:1")
        #expect(container["command"] == ["martlet"] && container["args"] == ["waypoint"])
        #expect(container["ports"]?.array?.compactMap { $0["containerPort"]?.int } == [15008, 15020, 15021])
        #expect(container.at("startupProbe", "periodSeconds") == 1)
        #expect(container.at("startupProbe", "httpGet") == ["path": "/healthz/ready", "port": 15021])
        #expect(container.at("readinessProbe", "httpGet") == ["path": "/healthz/ready", "port": 15021])
        #expect(container.at("securityContext", "runAsUser") == 1337)
        #expect(container.at("securityContext", "readOnlyRootFilesystem") == true)
        #expect(container.at("securityContext", "capabilities") == ["drop": ["ALL"]])
        #expect(container.at("resources", "requests") == ["cpu": "100m", "memory": "128Mi"])
        #expect(Self.variable(mesh, "XDS_ADDRESS")?["value"] == "istiod.istio-system.svc:15012")
        #expect(Self.variable(mesh, "CLUSTER_DOMAIN")?["value"] == "company.com")
        #expect(Self.variable(mesh, "NETWORK")?["value"] == "testnetwork")
        #expect(
            Self.variable(mesh, "GATEWAY_NAME")?.at("valueFrom", "fieldRef", "fieldPath")
                == "metadata.labels['gateway.networking.k8s.io/gateway-name']")
        let token = template.at("spec", "volumes")?.array?.first { $0["name"] == "istio-token" }
        #expect(token?.at("projected", "sources")?[0]?.at("serviceAccountToken", "audience") == "istio-ca")
    }

    @Test("what the installer decided is in the pods")
    func installation() throws {
        let mesh = Mesh()
        let installation = try WaypointInstallation(environment: [
            "WAYPOINT_IMAGE": "other/martlet:2", "WAYPOINT_LOG_LEVEL": "debug", "WAYPOINT_LOG_AS_JSON": "true",
            "WAYPOINT_RESOURCES": #"{"limits":{"cpu":"2"}}"#, "WAYPOINT_ENV_RUST_LOG": "trace",
        ])
        mesh.configure { $0.waypoints = installation }
        mesh.set(Self.gateway())
        #expect(Self.container(mesh)["image"] == "other/martlet:2")
        #expect(Self.container(mesh)["resources"] == ["limits": ["cpu": "2"]])
        #expect(Self.variable(mesh, "LOG_FORMAT")?["value"] == "json")
        #expect(Self.variable(mesh, "RUST_LOG")?["value"] == "trace", "said for these proxies alone")
        mesh.set(Self.gateway(annotations: ["sidecar.istio.io/proxyImage": "own:3"]))
        #expect(Self.container(mesh)["image"] == "own:3")
        #expect(throws: WaypointInstallation.Invalid.self) {
            try WaypointInstallation(environment: ["WAYPOINT_RESOURCES": "much"])
        }
    }

    @Test("without an image nothing is deployed, and the status says what to set")
    func noImage() {
        let mesh = Mesh()
        mesh.configure { $0.waypoints.image = "" }
        mesh.set(Self.gateway())
        #expect(Self.objects(mesh).isEmpty)
        let accepted = mesh.index.gatewayReports[Self.key]?.condition("Accepted")
        #expect(accepted?.isTrue == false && accepted?.message.contains("WAYPOINT_IMAGE") == true)
    }

    @Test("87: names and the account can be said otherwise; an account of one's own is not made")
    func names() {
        let mesh = Mesh()
        mesh.set(
            Self.gateway(annotations: [
                "gateway.istio.io/name-override": "other", "gateway.istio.io/service-account": "own", "team": "a",
            ]))
        #expect(Self.objects(mesh).map(\.kind) == ["Service", "Deployment"])
        #expect(Self.objects(mesh).map(\.name) == ["other", "other"])
        #expect(Self.object(mesh, "Deployment")?.spec.at("template", "spec", "serviceAccountName") == "own")
        // The selector is the Gateway's, whatever the objects are called.
        #expect(Self.object(mesh, "Service")?.spec["selector"] == ["gateway.networking.k8s.io/gateway-name": "w"])
        #expect(
            Self.object(mesh, "Service")?.annotations == [
                "team": "a", "networking.istio.io/traffic-distribution": "PreferClose",
            ])
    }

    @Test("labels and annotations of the infrastructure replace those of the Gateway, and never say who owns an object")
    func infrastructure() {
        let mesh = Mesh()
        mesh.set(Self.gateway(labels: ["own": "1", "istio.io/dataplane-mode": "ambient"], annotations: ["note": "1"]))
        #expect(Self.object(mesh, "Service")?.labels["own"] == "1")
        #expect(
            Self.object(mesh, "Deployment")?.spec.at("template", "metadata", "labels", "istio.io/dataplane-mode")
                == "none")
        mesh.set(
            Self.gateway(labels: ["own": "1"], annotations: ["note": "1"]) {
                $0.set(
                    ["spec", "infrastructure"],
                    to: [
                        "labels": [
                            "team": "a", "gateway.istio.io/managed": "me",
                            "gateway.networking.k8s.io/gateway-name": "x",
                        ],
                        "annotations": ["gateway.networking.k8s.io/x": "1", "cost": "2"],
                    ])
            })
        let labels = Self.object(mesh, "Service")?.labels
        #expect(labels?["own"] == nil && labels?["team"] == "a")
        #expect(labels?["gateway.istio.io/managed"] == "istio.io-mesh-controller")
        #expect(labels?["gateway.networking.k8s.io/gateway-name"] == "w")
        #expect(
            Self.object(mesh, "ServiceAccount")?.annotations == ["cost": "2"], "and nothing of the Gateway's own")
    }

    @Test("86: a host name, or several addresses, mean somebody else's Service")
    func unmanaged() {
        let mesh = Mesh()
        let host: JSONValue = ["type": "Hostname", "value": "own.ns1.svc.company.com"]
        let number: JSONValue = ["value": "10.0.0.9"]
        for (addresses, isManaged) in [([host], false), ([number], true), ([number, number], false)] {
            mesh.set(Self.gateway { $0.set(["spec", "addresses"], to: .array(addresses)) })
            #expect(Self.objects(mesh).isEmpty != isManaged)
        }
    }

    @Test(
        "84: what is no waypoint's listener is not deployed",
        arguments: [(15009, "HBONE"), (15008, "HTTP"), (15008, "hbone")] as [(Int64, String)])
    func listeners(port: Int64, protocolName: String) {
        let mesh = Mesh()
        mesh.set(Self.gateway(port: port, protocolName: protocolName))
        #expect(Self.objects(mesh).isEmpty)
    }

    @Test("89: a newer controller's Gateway is left to it; our own is stamped once")
    func version() {
        let mesh = Mesh()
        mesh.set(Self.gateway())
        #expect(mesh.index.gatewayPlans[Self.key]?.stampsVersion == true)
        mesh.set(Self.gateway(annotations: ["gateway.istio.io/controller-version": "5"]))
        #expect(mesh.index.gatewayPlans[Self.key]?.stampsVersion == false)
        #expect(Self.object(mesh, "Service")?.annotations["gateway.istio.io/controller-version"] == nil)
        mesh.set(Self.gateway(annotations: ["gateway.istio.io/controller-version": "6"]))
        #expect(mesh.index.gatewayPlans[Self.key] == nil)
    }

    @Test("another revision's Gateway is not ours, by its own label or its namespace's")
    func revision() {
        let mesh = Mesh()
        mesh.set(Self.gateway(labels: ["istio.io/rev": "canary"]))
        #expect(Self.objects(mesh).isEmpty && mesh.index.gatewayReports[Self.key] == nil)
        mesh.set(Self.gateway(), KubeObject(.namespaces, name: "ns1", labels: ["istio.io/rev": "canary"]))
        #expect(Self.objects(mesh).isEmpty)
        mesh.set(Self.gateway(labels: ["istio.io/rev": "default"]))
        #expect(!Self.objects(mesh).isEmpty)
    }

    @Test("classes decide by their controller: one's own count, the edge's do not, whatever they are called")
    func classes() {
        let mesh = Mesh()
        func gatewayClass(_ name: String, _ controller: String) -> KubeObject {
            KubeObject(.gatewayClasses, name: name, ["spec": ["controllerName": .string(controller)]])
        }
        for className in ["istio", "istio-east-west", "other"] {
            mesh.set(Self.gateway(className: className))
            #expect(Self.objects(mesh).isEmpty && mesh.index.gatewayReports[Self.key] == nil)
        }
        mesh.set(gatewayClass("other", "istio.io/mesh-controller"))
        #expect(!Self.objects(mesh).isEmpty)
        mesh.set(gatewayClass("istio-waypoint", "example.com/controller"), Self.gateway())
        #expect(Self.objects(mesh).isEmpty)
    }

    @Test("90: an overlay patches objects by name, and makes those that nobody has without one")
    func overlays() throws {
        let mesh = Mesh()
        mesh.set(
            Self.gateway(change: Self.refer()),
            Self.overlay(
                "options",
                [
                    "deployment": """
                    spec:
                      template:
                        spec:
                          terminationGracePeriodSeconds: 600
                          containers:
                          - name: istio-proxy
                            env:
                            - {name: EXTRA, value: "1"}
                            readinessProbe: null
                          - {name: helper, image: busybox}
                    """,
                    "horizontalPodAutoscaler": "spec: {minReplicas: 2, maxReplicas: 5}",
                    "podDisruptionBudget": "spec: {minAvailable: 1}",
                ]))
        #expect(
            Self.objects(mesh).map(\.kind) == [
                "ServiceAccount", "Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget",
            ])
        let containers = try #require(Self.object(mesh, "Deployment")?.spec.at("template", "spec", "containers")?.array)
        #expect(containers.map { $0["name"]?.string } == ["istio-proxy", "helper"])
        #expect(containers[0]["image"] == "hub/martlet:1" && containers[0]["readinessProbe"] == nil)
        #expect(Self.variable(mesh, "EXTRA")?["value"] == "1" && Self.variable(mesh, "GATEWAY_NAME") != nil)
        #expect(Self.variable(mesh, "TERMINATION_GRACE_PERIOD_SECONDS")?["value"] == "600")
        let scaler = try #require(Self.object(mesh, "HorizontalPodAutoscaler"))
        #expect(scaler.spec.at("scaleTargetRef", "name") == "w" && scaler.spec["maxReplicas"] == 5)
        #expect(
            Self.object(mesh, "PodDisruptionBudget")?.spec.at("selector", "matchLabels")
                == ["gateway.networking.k8s.io/gateway-name": "w"])
    }

    @Test("90: the class's defaults lie below the Gateway's own, and only those beside the control plane count")
    func defaults() {
        let mesh = Mesh()
        func replicas(_ count: Int, _ name: String, namespace: String = "istio-system") -> KubeObject {
            var map = Self.overlay(
                name, namespace: namespace, ["deployment": "spec: {replicas: \(count), paused: true}"],
                defaultsFor: "istio-waypoint")
            map.json.set(["metadata", "creationTimestamp"], to: .string("2026-01-0\(count)T00:00:00Z"))
            return map
        }
        mesh.set(Self.gateway(), replicas(3, "young"), replicas(2, "old"), replicas(1, "x", namespace: "ns1"))
        #expect(Self.object(mesh, "Deployment")?.spec["replicas"] == 2)
        mesh.set(
            Self.gateway(change: Self.refer()), Self.overlay("options", ["deployment": "spec: {replicas: 7}"]))
        #expect(Self.object(mesh, "Deployment")?.spec["replicas"] == 7)
        #expect(Self.object(mesh, "Deployment")?.spec["paused"] == true)
    }

    @Test(
        "90: an overlay that cannot be used is said in the status, not only in a log, and nothing is deployed by halves",
        arguments: [
            (["deployment": "metadata: {name: other}"], "metadata.name"),
            (["service": "metadata: {namespace: other}"], "metadata.namespace"),
            (["service": "metadata: {ownerReferences: []}"], "metadata.ownerReferences"),
            (["service": "metadata: {labels: {gateway.istio.io/managed: x}}"], "gateway.istio.io/managed"),
            (["deployment": "kind: Pod"], "kind"), (["deployments": "{}"], "deployments"),
            (["deployment": "- a"], "mapping"), (["deployment": "a: [b"], "YAML"),
            (["deployment": "spec: {template: {spec: {containers: [{image: x}]}}}"], "no name"),
            (["deployment": "spec: {$retainKeys: [x]}"], "$retainKeys"),
        ])
    func invalid(data: [String: String], words: String) {
        let mesh = Mesh()
        mesh.set(Self.gateway(change: Self.refer()), Self.overlay("options", data))
        #expect(Self.objects(mesh).isEmpty)
        let accepted = mesh.index.gatewayReports[Self.key]?.condition("Accepted")
        #expect(accepted?.isTrue == false && accepted?.reason == "InvalidParameters")
        #expect(accepted?.message.contains(words) == true && accepted?.message.contains("ns1/options") == true)
    }

    @Test("parameters that are no ConfigMap, or one that is not there, are refused; once it is there all is well")
    func parameters() {
        let mesh = Mesh()
        func accepted() -> StatusCondition? { mesh.index.gatewayReports[Self.key]?.condition("Accepted") }
        mesh.set(Self.gateway(change: Self.refer("Secret")))
        #expect(accepted()?.reason == "InvalidParameters")
        mesh.set(Self.gateway(change: Self.refer()))
        #expect(accepted()?.reason == "InvalidParameters" && accepted()?.message.contains("not exist") == true)
        mesh.set(Self.overlay("options", [:]))
        #expect(accepted()?.reason == "Accepted" && !Self.objects(mesh).isEmpty)
    }
}

@Suite("Strategic merge patches")
struct StrategicMergeTests {
    @Test("merge objects, replace plain lists, and remove by null")
    func basics() throws {
        let value: JSONValue = ["a": ["b": 1, "c": 2], "list": [1, 2], "gone": true]
        let merged = try StrategicMerge.merge(["a": ["b": 3], "list": [9], "gone": .null], onto: value)
        #expect(merged == ["a": ["b": 3, "c": 2], "list": [9]])
        #expect(try StrategicMerge.merge(["a": ["$patch": "replace", "d": 1]], onto: value)["a"] == ["d": 1])
    }

    @Test("merge lists of named things by name, and understand delete and replace")
    func lists() throws {
        let value: JSONValue = ["ports": [["port": 1, "name": "a"], ["port": 2, "name": "b"]]]
        func ports(_ patch: JSONValue) throws -> JSONValue? {
            try StrategicMerge.merge(["ports": patch], onto: value)["ports"]
        }
        #expect(
            try ports([["port": 2, "name": "x"], ["port": 3]])
                == [["port": 1, "name": "a"], ["port": 2, "name": "x"], ["port": 3]])
        #expect(try ports([["port": 1, "$patch": "delete"]]) == [["port": 2, "name": "b"]])
        #expect(try ports([["$patch": "replace"], ["port": 9]]) == [["port": 9]])
        #expect(throws: StrategicMerge.Unreadable.self) { try ports([["$patch": "merge"]]) }
        #expect(throws: StrategicMerge.Unreadable.self) { try ports(["text"]) }
        // The same word means another thing in a container.
        let container: JSONValue = ["containers": [["name": "c", "ports": [["containerPort": 80]]]]]
        #expect(
            try StrategicMerge.merge(
                ["containers": [["name": "c", "ports": [["containerPort": 80, "name": "http"]]]]], onto: container)
                == ["containers": [["name": "c", "ports": [["containerPort": 80, "name": "http"]]]]])
    }
}
