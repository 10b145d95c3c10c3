import KubeAPI
import KubeClient
import MeshInjection
import Testing

/// Settings as the installer writes them.
func settings(_ config: String = "policy: enabled\n", _ values: String = "") throws -> InjectionSettings {
    try InjectionSettings(
        data: [
            "config": config,
            "values": values.isEmpty
                ? #"{"global":{"proxy":{"image":"img/proxy:1","resources":{"requests":{"cpu":"100m","memory":"128Mi"}}}}}"#
                : values,
        ])
}

func injector(
    config: String = "policy: enabled\n", values: String = "", mesh change: (inout InjectionMesh) -> Void = { _ in }
) throws -> SidecarInjector {
    var mesh = InjectionMesh()
    change(&mesh)
    return SidecarInjector(try settings(config, values), mesh)
}

/// The article's pod, as a ReplicaSet makes it.
func sleepPod(
    annotations: [String: String] = [:], labels: [String: String] = [:], _ change: (inout JSONValue) -> Void = { _ in }
) -> JSONValue {
    var pod: JSONValue = [
        "apiVersion": "v1", "kind": "Pod",
        "metadata": [
            "generateName": "sleep-6885445f75-",
            "labels": JSONValue(["app": "sleep", "pod-template-hash": "6885445f75"].merging(labels) { $1 }),
            "ownerReferences": [
                ["apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "sleep-6885445f75", "controller": true]
            ],
        ],
        "spec": [
            "containers": [["name": "sleep", "image": "curlimages/curl", "command": ["/bin/sleep", "3650d"]]],
            "volumes": [["name": "secret-volume", "secret": ["secretName": "sleep-secret", "optional": true]]],
        ],
    ]
    if !annotations.isEmpty { pod.set(["metadata", "annotations"], to: JSONValue(annotations)) }
    change(&pod)
    return pod
}

extension JSONValue {
    func names(_ list: String) -> [String] { (self.at("spec", list)?.array ?? []).compactMap { $0["name"]?.string } }
    func container(_ name: String) -> JSONValue? {
        ["containers", "initContainers"].flatMap { self.at("spec", $0)?.array ?? [] }.first {
            $0["name"]?.string == name
        }
    }
    func environment(_ name: String) -> JSONValue? { self["env"]?.array?.first { $0["name"]?.string == name } }
}

@Suite("Who gets a sidecar")
struct DecisionTests {
    private func decides(
        _ pod: JSONValue, namespace: String = "foo", config: String = "policy: enabled\n"
    ) throws -> InjectionDecision {
        InjectionDecision(pod: KubeObject(pod), namespace: namespace, try settings(config))
    }

    @Test("a pod that says nothing follows the policy")
    func policy() throws {
        #expect(try self.decides(sleepPod()).injects)
        #expect(!(try self.decides(sleepPod(), config: "policy: disabled\n").injects))
    }

    @Test("the label beats the annotation, the annotation beats the selectors, and those beat the policy")
    func precedence() throws {
        let name = "sidecar.istio.io/inject"
        #expect(!(try self.decides(sleepPod(annotations: [name: "true"], labels: [name: "false"])).injects))
        #expect(try self.decides(sleepPod(annotations: [name: "false"], labels: [name: "true"])).injects)
        let never = "policy: enabled\nneverInjectSelector: [{matchLabels: {app: sleep}}]\n"
        #expect(!(try self.decides(sleepPod(), config: never).injects))
        #expect(try self.decides(sleepPod(annotations: [name: "yes"]), config: never).injects)
        let always = "policy: disabled\nalwaysInjectSelector: [{matchExpressions: [{key: app, operator: Exists}]}]\n"
        #expect(try self.decides(sleepPod(), config: always).injects)
        #expect(!(try self.decides(sleepPod(annotations: [name: "what"]), config: always).injects))
    }

    @Test("never: pods of the node's network, of system namespaces, and with a sidecar")
    func never() throws {
        let wants = ["sidecar.istio.io/inject": "true"]
        #expect(!(try self.decides(sleepPod(labels: wants) { $0.set(["spec", "hostNetwork"], to: true) }).injects))
        #expect(!(try self.decides(sleepPod(labels: wants), namespace: "kube-system").injects))
        let injected = try injector().inject(sleepPod(labels: wants), namespace: "foo")
        #expect(!(try self.decides(injected).injects))
    }
}

@Suite("A sidecar in a pod")
struct SidecarTests {
    @Test("comes with the step that sets the rules, its volumes, labels and annotations")
    func shape() throws {
        let pod = try injector().inject(sleepPod(), namespace: "foo")
        #expect(pod.names("containers") == ["sleep", "istio-proxy"] && pod.names("initContainers") == ["istio-init"])
        #expect(
            pod.names("volumes") == [
                "secret-volume", "istio-envoy", "istio-data", "istio-podinfo", "istio-token", "istiod-ca-cert",
            ])
        let object = KubeObject(pod)
        #expect(object.labels["security.istio.io/tlsMode"] == "istio")
        #expect(object.labels["service.istio.io/canonical-name"] == "sleep")
        #expect(object.labels["service.istio.io/canonical-revision"] == "latest")
        #expect(object.labels["networking.istio.io/tunnel"] == nil)
        #expect(object.annotations["kubectl.kubernetes.io/default-container"] == "sleep")
        #expect(object.annotations["istio.io/rev"] == "default")
        let status = try JSONValue(parsing: try #require(object.annotations["sidecar.istio.io/status"]))
        #expect(status["containers"] == ["istio-proxy"] && status["initContainers"] == ["istio-init"])
        #expect(status["volumes"]?.array?.count == 5 && status["revision"] == "default")
    }

    @Test("runs the agent as 1337, with what it has to know of its pod")
    func proxy() throws {
        let pod = try injector { $0.network = "net-1" }.inject(sleepPod(), namespace: "foo")
        let proxy = try #require(pod.container("istio-proxy"))
        #expect(proxy["image"] == "img/proxy:1" && proxy["command"] == ["martlet"])
        #expect(
            proxy["args"] == [
                "proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning",
                "--proxyComponentLogLevel=misc:error", "--log_output_level=default:info",
            ])
        #expect(proxy.at("securityContext", "runAsUser") == 1337 && proxy.at("securityContext", "runAsGroup") == 1337)
        #expect(proxy.at("readinessProbe", "httpGet") == ["path": "/healthz/ready", "port": 15021])
        #expect(proxy.at("startupProbe", "periodSeconds") == 1)
        func value(_ name: String) -> JSONValue? { proxy.environment(name)?["value"] }
        #expect(value("CA_ADDR") == "istiod.istio-system.svc:15012" && value("XDS_ADDRESS") == value("CA_ADDR"))
        #expect(value("ISTIO_META_WORKLOAD_NAME") == "sleep" && value("ISTIO_META_NETWORK") == "net-1")
        #expect(value("ISTIO_META_OWNER") == "kubernetes://apis/apps/v1/namespaces/foo/deployments/sleep")
        #expect(value("ISTIO_META_APP_CONTAINERS") == "sleep")
        let address = proxy.environment("INSTANCE_IP")?.at("valueFrom", "fieldRef", "fieldPath")
        #expect(address == "status.podIP")
        #expect(proxy.environment("ISTIO_KUBE_APP_PROBERS") == nil)
    }

    @Test("has its traffic captured as its annotations say, in the words of the rules' step")
    func rules() throws {
        func arguments(_ annotations: [String: String]) throws -> [JSONValue] {
            let pod = try injector().inject(sleepPod(annotations: annotations), namespace: "foo")
            return pod.container("istio-init")?["args"]?.array ?? []
        }
        let plain: [JSONValue] = [
            "istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b",
            "*",
            "-d", "15090,15021,15020",
        ]
        #expect(try arguments([:]) == plain)
        let traffic = "traffic.sidecar.istio.io"
        let own = try arguments([
            "\(traffic)/excludeInboundPorts": "81, 82", "\(traffic)/includeOutboundIPRanges": "10.0.0.0/8",
            "\(traffic)/excludeOutboundPorts": "3306", "istio.io/reroute-virtual-interfaces": "vnet0",
        ])
        #expect(own.contains("15090,15021,81,82,15020") && own.contains("10.0.0.0/8"))
        #expect(own.suffix(4) == ["-o", "3306", "-k", "vnet0"])
        let none = try injector().inject(
            sleepPod(annotations: ["sidecar.istio.io/interceptionMode": "NONE"]), namespace: "foo")
        #expect(none.container("istio-init") == nil)
        #expect(throws: InjectionError.self) {
            try injector().inject(
                sleepPod(annotations: ["sidecar.istio.io/interceptionMode": "TPROXY"]), namespace: "foo")
        }
    }

    @Test("is an init container that stays where nodes can run one, or where the pod wants it")
    func native() throws {
        let pod = try injector { $0.runsNativeSidecars = true }.inject(
            sleepPod { $0.set(["spec", "initContainers"], to: [["name": "mine", "image": "i"]]) }, namespace: "foo")
        #expect(pod.names("initContainers") == ["istio-init", "istio-proxy", "mine"])
        #expect(pod.names("containers") == ["sleep"] && pod.container("istio-proxy")?["restartPolicy"] == "Always")
        let annotation = "sidecar.istio.io/nativeSidecar"
        let off = try injector { $0.runsNativeSidecars = true }.inject(
            sleepPod(annotations: [annotation: "false"]), namespace: "foo")
        #expect(off.names("containers") == ["sleep", "istio-proxy"])
        let on = try injector().inject(sleepPod(annotations: [annotation: "true"]), namespace: "foo")
        #expect(on.names("initContainers") == ["istio-init", "istio-proxy"])
        // Without them the rules come last: what runs before has nobody to talk to.
        let old = try injector().inject(
            sleepPod { $0.set(["spec", "initContainers"], to: [["name": "mine", "image": "i"]]) }, namespace: "foo")
        #expect(old.names("initContainers") == ["mine", "istio-init"])
    }

    @Test("holds the app back when the mesh or the pod wants it")
    func hold() throws {
        let annotation = ["proxy.istio.io/config": "holdApplicationUntilProxyStarts: true\nconcurrency: 4\n"]
        let pod = try injector().inject(sleepPod(annotations: annotation), namespace: "foo")
        #expect(pod.names("containers") == ["istio-proxy", "sleep"])
        let proxy = try #require(pod.container("istio-proxy"))
        #expect(proxy.at("lifecycle", "postStart", "exec", "command") == ["martlet", "wait"])
        #expect(proxy["args"]?.array?.suffix(2) == ["--concurrency", "4"])
        let mesh = try injector {
            $0.meshConfig = ["defaultConfig": ["holdApplicationUntilProxyStarts": true, "proxyMetadata": ["A": "1"]]]
        }
        let held = try mesh.inject(sleepPod(), namespace: "foo")
        #expect(held.names("containers") == ["istio-proxy", "sleep"])
        #expect(held.container("istio-proxy")?.environment("A")?["value"] == "1")
        let own = try mesh.inject(
            sleepPod(annotations: ["proxy.istio.io/config": "holdApplicationUntilProxyStarts: false"]), namespace: "foo"
        )
        #expect(own.names("containers") == ["sleep", "istio-proxy"])
        #expect(own.container("istio-proxy")?.environment("A")?["value"] == "1", "the mesh's other settings were lost")
    }

    @Test(
        "hands the proxy's metadata on to the step that sets the rules too, so that both capture names or neither does")
    func names() throws {
        let mesh = try injector {
            $0.meshConfig = ["defaultConfig": ["proxyMetadata": ["ISTIO_META_DNS_CAPTURE": "true"]]]
        }
        let own = "proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"false\"}"
        for (annotations, value) in [([:], "true"), (["proxy.istio.io/config": own], "false")] {
            let pod = try mesh.inject(sleepPod(annotations: annotations), namespace: "foo")
            for name in ["istio-init", "istio-proxy"] {
                #expect(pod.container(name)?.environment("ISTIO_META_DNS_CAPTURE")?["value"]?.string == value)
            }
        }
        let plain = try injector().inject(sleepPod(), namespace: "foo")
        #expect(plain.container("istio-init")?["env"] == nil)
    }

    @Test("answers the app's probes, with ports as numbers")
    func probes() throws {
        func pod(_ annotations: [String: String] = [:]) -> JSONValue {
            sleepPod(annotations: annotations) { pod in
                pod.set(
                    ["spec", "containers"],
                    to: [
                        [
                            "name": "web", "image": "i", "ports": [["name": "http", "containerPort": 8080]],
                            "readinessProbe": [
                                "httpGet": ["path": "/ok", "port": "http"], "timeoutSeconds": 7, "periodSeconds": 3,
                            ],
                            "livenessProbe": ["tcpSocket": ["port": 9000]],
                            "startupProbe": ["exec": ["command": ["true"]]],
                        ],
                        ["name": "rpc", "image": "i", "livenessProbe": ["grpc": ["port": 7000, "service": "s"]]],
                    ])
            }
        }
        let injected = try injector().inject(pod(), namespace: "foo")
        let web = try #require(injected.container("web"))
        #expect(web.at("readinessProbe", "httpGet") == ["path": "/app-health/web/readyz", "port": 15020])
        #expect(web.at("readinessProbe", "periodSeconds") == 3)
        #expect(web["livenessProbe"] == ["httpGet": ["path": "/app-health/web/livez", "port": 15020]])
        #expect(web["startupProbe"] == ["exec": ["command": ["true"]]])
        let text = injected.container("istio-proxy")?.environment("ISTIO_KUBE_APP_PROBERS")?["value"]?.string ?? ""
        #expect(
            try JSONValue(parsing: text) == [
                "/app-health/web/readyz": ["httpGet": ["path": "/ok", "port": 8080], "timeoutSeconds": 7],
                "/app-health/web/livez": ["tcpSocket": ["port": 9000], "timeoutSeconds": 1],
                "/app-health/rpc/livez": ["grpc": ["port": 7000, "service": "s"], "timeoutSeconds": 1],
            ])
        let off = try injector().inject(pod(["sidecar.istio.io/rewriteAppHTTPProbers": "false"]), namespace: "foo")
        #expect(off.container("web")?.at("readinessProbe", "httpGet", "path") == "/ok")
    }

    @Test("takes over what Prometheus asks of the app")
    func prometheus() throws {
        let own = ["prometheus.io/scrape": "true", "prometheus.io/port": "9090"]
        let pod = try injector().inject(sleepPod(annotations: own), namespace: "foo")
        #expect(KubeObject(pod).annotations["prometheus.io/port"] == "15020")
        let told = pod.container("istio-proxy")?.environment("ISTIO_PROMETHEUS_ANNOTATIONS")?["value"]?.string ?? ""
        #expect(try JSONValue(parsing: told) == ["scrape": "true", "port": "9090"])
        let refuses = try injector().inject(
            sleepPod(annotations: own.merging(["prometheus.istio.io/merge-metrics": "false"]) { $1 }), namespace: "foo")
        #expect(KubeObject(refuses).annotations["prometheus.io/port"] == "9090")
    }

    @Test("follows the annotations for its image, resources, probes and volumes")
    func annotations() throws {
        let pod = try injector().inject(
            sleepPod(annotations: [
                "sidecar.istio.io/proxyImage": "my/proxy:2", "sidecar.istio.io/proxyCPU": "200m",
                "sidecar.istio.io/proxyMemoryLimit": "1Gi", "sidecar.istio.io/logLevel": "debug",
                "status.sidecar.istio.io/port": "0", "sidecar.istio.io/userVolume": #"{"v":{"emptyDir":{}}}"#,
                "sidecar.istio.io/userVolumeMount": #"[{"name":"v","mountPath":"/v"}]"#,
            ]), namespace: "foo")
        let proxy = try #require(pod.container("istio-proxy"))
        #expect(proxy["image"] == "my/proxy:2" && pod.container("istio-init")?["image"] == "my/proxy:2")
        #expect(proxy["resources"] == ["requests": ["cpu": "200m"], "limits": ["memory": "1Gi"]])
        #expect(proxy["args"]?.array?.contains("--proxyLogLevel=debug") == true)
        #expect(proxy["readinessProbe"] == nil && proxy["startupProbe"] == nil)
        #expect(
            pod.names("volumes").contains("v")
                && proxy["volumeMounts"]?.array?.last == ["name": "v", "mountPath": "/v"])
    }

    @Test("keeps what the author wrote about its container")
    func override() throws {
        let pod = try injector().inject(
            sleepPod { pod in
                pod.set(
                    ["spec", "containers"],
                    to: [
                        [
                            "name": "istio-proxy", "image": "auto", "env": [["name": "MINE", "value": "1"]],
                            "resources": ["limits": ["cpu": "3"]],
                        ],
                        ["name": "sleep", "image": "i"],
                    ])
            }, namespace: "foo")
        #expect(pod.names("containers") == ["sleep", "istio-proxy"])
        let proxy = try #require(pod.container("istio-proxy"))
        #expect(proxy["image"] == "img/proxy:1" && proxy.environment("MINE")?["value"] == "1")
        #expect(proxy.at("resources", "limits", "cpu") == "3" && proxy.environment("CA_ADDR") != nil)
        #expect(KubeObject(pod).annotations["kubectl.kubernetes.io/default-container"] == "sleep")
    }

    @Test("can be followed by templates of one's own, and refuses what is none")
    func templates() throws {
        let config = """
            policy: enabled
            templates:
              debug: |
                metadata: {annotations: {team: blue}}
                spec:
                  containers:
                  - {name: istio-proxy, env: [{name: EXTRA, value: "1"}]}
                  - {name: shell, image: busybox}
            """
        let named = ["inject.istio.io/templates": "sidecar,debug"]
        let pod = try injector(config: config).inject(sleepPod(annotations: named), namespace: "foo")
        #expect(pod.names("containers") == ["sleep", "istio-proxy", "shell"])
        #expect(pod.container("istio-proxy")?.environment("EXTRA") != nil)
        #expect(KubeObject(pod).annotations["team"] == "blue")
        let unknown = #expect(throws: InjectionError.self) {
            try injector().inject(sleepPod(annotations: ["inject.istio.io/templates": "gateway"]), namespace: "foo")
        }
        #expect(unknown?.description.contains("\"gateway\" is no template; known: sidecar") == true)
        #expect(throws: InjectionError.self) { try settings("templates: {a: 'x: {{ .Values }}'}\n") }
        #expect(throws: InjectionError.self) { try settings("templates: {sidecar: 'spec: {}'}\n") }
    }

    @Test(
        "is refused for annotations that cannot be followed",
        arguments: [
            ["proxy.istio.io/config": "a: [b"], ["sidecar.istio.io/proxyCPU": "lots"],
            ["sidecar.istio.io/nativeSidecar": "maybe"], ["sidecar.istio.io/userVolume": "no json"],
            ["status.sidecar.istio.io/port": "-1"],
        ])
    func refusals(_ annotations: [String: String]) throws {
        let error = #expect(throws: InjectionError.self) {
            try injector().inject(sleepPod(annotations: annotations), namespace: "foo")
        }
        #expect(error?.description.contains(annotations.keys.first!) == true, "\(error?.description ?? "")")
    }

    @Test("needs an image")
    func noImage() throws {
        #expect(throws: InjectionError.self) { try injector(values: "{}").inject(sleepPod(), namespace: "foo") }
    }
}

@Suite("What an injection changes")
struct DifferenceTests {
    @Test("is told as operations that touch nothing else")
    func patch() {
        let old: JSONValue = ["a": 1, "b": ["c/d": "x", "gone": 1], "list": [1]]
        let new: JSONValue = ["a": 1, "b": ["c/d": "y", "e~f": 2], "list": [1, 2]]
        #expect(
            JSONDifference.patch(from: old, to: new) == [
                ["op": "replace", "path": "/b/c~1d", "value": "y"], ["op": "add", "path": "/b/e~0f", "value": 2],
                ["op": "remove", "path": "/b/gone"], ["op": "replace", "path": "/list", "value": [1, 2]],
            ])
        #expect(JSONDifference.patch(from: new, to: new) == [])
    }
}

@Suite("Sidecars in files")
struct FileInjectorTests {
    @Test("are put into whatever makes pods, and into nothing else")
    func kinds() throws {
        let files = FileInjector(try injector())
        var notes: [String] = []
        func document(_ kind: String, _ path: [String]) throws -> JSONValue {
            var document: JSONValue = [
                "apiVersion": "apps/v1", "kind": .string(kind), "metadata": ["name": "web", "namespace": "foo"],
            ]
            document.set(path + ["spec", "containers"], to: [["name": "web", "image": "i"]])
            return try files.inject(document, notes: &notes).at(path) ?? .null
        }
        for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"] {
            let pod = try document(kind, ["spec", "template"])
            #expect(pod.names("containers") == ["web", "istio-proxy"], "\(kind)")
            let owner = pod.container("istio-proxy")?.environment("ISTIO_META_OWNER")?["value"]?.string
            #expect(owner == "kubernetes://apis/apps/v1/namespaces/foo/\(kind.lowercased())s/web")
        }
        #expect(try document("CronJob", ["spec", "jobTemplate", "spec", "template"]).names("containers").count == 2)
        let service: JSONValue = ["apiVersion": "v1", "kind": "Service", "metadata": ["name": "web"]]
        let list: JSONValue = ["apiVersion": "v1", "kind": "List", "items": [service, sleepPod()]]
        let injected = try files.inject(list, notes: &notes)
        #expect(injected["items"]?[0] == service && injected["items"]?[1]?.names("containers").count == 2)
        #expect(notes.isEmpty)
    }

    @Test("are left out, with the reason, where the template says so")
    func optOut() throws {
        let pod = sleepPod(labels: ["sidecar.istio.io/inject": "false"])
        var notes: [String] = []
        #expect(try FileInjector(try injector()).inject(pod, notes: &notes) == pod)
        #expect(notes.first?.contains("label sidecar.istio.io/inject=false") == true)
    }
}

@Suite("The webhooks' selectors")
struct InjectorWebhookTests {
    private let configuration = KubeObject([
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": [
            "name": "istio-sidecar-injector", "labels": ["app": "sidecar-injector", "istio.io/rev": "default"],
        ],
        "webhooks": [
            [
                "name": "namespace.sidecar-injector.istio.io",
                "namespaceSelector": [
                    "matchExpressions": [["key": "istio-injection", "operator": "In", "values": ["enabled"]]]
                ],
                "objectSelector": [
                    "matchExpressions": [["key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]]]
                ],
            ]
        ],
    ])

    @Test("say which label stands against injection")
    func obstacles() throws {
        let webhook = try #require(InjectorWebhook.entries(of: self.configuration).first)
        #expect(webhook.obstacle(namespaceLabels: ["istio-injection": "enabled"], podLabels: [:]) == nil)
        #expect(
            webhook.obstacle(namespaceLabels: [:], podLabels: [:])
                == "the namespace has no label istio-injection, wanted istio-injection=enabled")
        #expect(
            webhook.obstacle(
                namespaceLabels: ["istio-injection": "enabled"], podLabels: ["sidecar.istio.io/inject": "false"])
                == "the pod has sidecar.istio.io/inject=false, wanted sidecar.istio.io/inject notin (false)")
    }
}

@Suite("Native sidecars")
struct NativeSidecarTests {
    @Test(
        "need Kubernetes 1.33 on a node",
        arguments: [("v1.33.0", true), ("v1.32.9+k3s1", false), ("v1.37.1", true), ("v2.0.0", true), ("", false)])
    func versions(_ version: String, _ isEnough: Bool) {
        let node = KubeObject(.nodes, name: "n", ["status": ["nodeInfo": ["kubeletVersion": .string(version)]]])
        #expect(NativeSidecars.run(on: node) == isEnough)
    }
}
