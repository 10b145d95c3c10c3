import KubeAPI
import KubeClient
import LabAPIServer
import Testing

@Suite("Objects")
struct ObjectTests {
    @Test("get their metadata from the server")
    func created() async throws {
        let cluster = try await makeCluster()
        let made = try await cluster.create(.configMaps, configMap("a"))
        #expect(!made.uid.isEmpty && !made.resourceVersion.isEmpty)
        #expect(made.metadata["creationTimestamp"]?.string?.hasSuffix("Z") == true)
        let error = try await refusal { try await cluster.create(.configMaps, configMap("a")) }
        #expect(error.isAlreadyExists && error.message == "configmaps \"a\" already exists")
    }

    @Test("need an existing namespace and a valid name")
    func refused() async throws {
        let cluster = try await makeCluster()
        var stray = configMap("a")
        stray.json.set(["metadata", "namespace"], to: "nowhere")
        let missing = try await refusal { try await cluster.create(.configMaps, stray) }
        #expect(missing.code == 404 && missing.message == "namespaces \"nowhere\" not found")
        let invalid = try await refusal { try await cluster.create(.configMaps, configMap("A_b")) }
        #expect(invalid.code == 422 && invalid.details["kind"] == "ConfigMap")
    }

    @Test("with a stale version are refused, without one replace what is there")
    func conflict() async throws {
        let cluster = try await makeCluster()
        let first = try await cluster.create(.configMaps, configMap("a"))
        var next = first
        next.json.set(["data", "a"], to: "2")
        try await cluster.replace(.configMaps, next)
        let error = try await refusal { try await cluster.replace(.configMaps, next) }
        #expect(error.isConflict)
        try await cluster.replace(.configMaps, configMap("a", ["z": "1"]))
        #expect(try await cluster.get(.configMaps, namespace: "default", name: "a").json["data"] == ["z": "1"])
    }

    @Test("keep their version when a write changes nothing")
    func noOp() async throws {
        let cluster = try await makeCluster()
        let first = try await cluster.create(.configMaps, configMap("a"))
        let again = try await cluster.patch(
            .configMaps, namespace: "default", name: "a", subresource: nil, .merge(["data": ["a": "1"]]))
        #expect(again == first)
    }

    @Test("of generated names get distinct ones")
    func generated() async throws {
        let cluster = try await makeCluster()
        var names: Set<String> = []
        for _ in 0..<50 {
            var object = configMap("")
            object.json.set(["metadata", "name"], to: nil)
            object.json.set(["metadata", "generateName"], to: "x-")
            names.insert(try await cluster.create(.configMaps, object).name)
        }
        #expect(names.count == 50 && names.allSatisfy { $0.hasPrefix("x-") && $0.count == 7 })
    }

    @Test("count changes of the desired state in generation, not of status")
    func generation() async throws {
        let cluster = try await makeCluster()
        let made = try await cluster.create(.deployments, deployment("d"))
        #expect(made.generation == 1 && made.spec["replicas"] == 1)
        #expect(made.spec.at("strategy", "rollingUpdate", "maxSurge") == "25%")
        let status = try await cluster.patch(
            .deployments, namespace: "default", name: "d", subresource: "status",
            .merge(["status": ["readyReplicas": 1], "spec": ["replicas": 9]]))
        #expect(status.generation == 1 && status.spec["replicas"] == 1 && status.status["readyReplicas"] == 1)
        let scaled = try await cluster.patch(
            .deployments, namespace: "default", name: "d", subresource: "scale", .merge(["spec": ["replicas": 3]]))
        #expect(scaled.kind == "Scale" && scaled.status["selector"] == "app=d")
        #expect(try await cluster.get(.deployments, namespace: "default", name: "d").generation == 2)
    }

    @Test("have immutable fields")
    func immutable() async throws {
        let cluster = try await makeCluster()
        try await cluster.create(.deployments, deployment("d"))
        let error = try await refusal {
            _ = try await cluster.patch(
                .deployments, namespace: "default", name: "d", subresource: nil,
                .json([["op": "replace", "path": "/spec/selector/matchLabels/app", "value": "other"]]))
        }
        #expect(error.code == 422 && error.message.contains("field is immutable"))
    }

    @Test("of kind Secret turn stringData into data, also in patches")
    func secrets() async throws {
        let cluster = try await makeCluster()
        try await cluster.create(
            .secrets, KubeObject(.secrets, namespace: "default", name: "s", ["stringData": ["a": "b"]]))
        let patched = try await cluster.patch(
            .secrets, namespace: "default", name: "s", subresource: nil, .strategic(["stringData": ["x": "y"]]))
        #expect(patched.json["data"] == ["a": "Yg==", "x": "eQ=="])
        #expect(patched.json["stringData"] == nil && patched.json["type"] == "Opaque")
    }

    @Test("take 256 KiB of annotations and not a byte more: kubectl keeps there what it applied")
    func annotations() async throws {
        let cluster = try await makeCluster()
        func annotated(_ bytes: Int) -> KubeObject {
            var object = configMap("a")
            object.json.set(["metadata", "annotations"], to: ["k": .string(String(repeating: "x", count: bytes - 1))])
            return object
        }
        let error = try await refusal { try await cluster.create(.configMaps, annotated(262_145)) }
        #expect(error.code == 422)
        #expect(error.message.contains("metadata.annotations: Too long: may not be more than 262144 bytes"))
        #expect(try await cluster.create(.configMaps, annotated(262_144)).annotations.count == 1)
    }

    @Test("are listed by labels and fields")
    func selectors() async throws {
        let cluster = try await makeCluster()
        for (name, tier) in [("a", "x"), ("b", "y")] {
            try await cluster.create(
                .configMaps, KubeObject(.configMaps, namespace: "default", name: name, labels: ["tier": tier]))
        }
        let byLabel = try await cluster.list(.configMaps, namespace: nil, ListOptions(labelSelector: "tier in (y),!no"))
        #expect(byLabel.items.map(\.name) == ["b"])
        let byField = try await cluster.list(
            .configMaps, namespace: "default", ListOptions(fieldSelector: "metadata.name=a"))
        #expect(byField.items.map(\.name) == ["a"])
        let error = try await refusal {
            _ = try await cluster.list(.pods, namespace: nil, ListOptions(fieldSelector: "spec.foo=1"))
        }
        #expect(error.message == "field label not supported: spec.foo")
    }
}

@Suite("Services")
struct ServiceTests {
    private func service(_ name: String, _ spec: JSONValue) -> KubeObject {
        var spec = spec
        if spec["ports"] == nil { spec["ports"] = [["port": 80]] }
        return KubeObject(.services, namespace: "default", name: name, ["spec": spec])
    }

    @Test("get an address of the range, keep it, and give it back")
    func addresses() async throws {
        let cluster = try await makeCluster()
        let made = try await cluster.create(.services, self.service("a", [:]))
        let address = try #require(made.spec["clusterIP"]?.string)
        #expect(address.hasPrefix("10.43.") && made.spec["clusterIPs"] == [.string(address)])
        #expect(made.spec["ports"]?[0]?["targetPort"] == 80)
        let kept = try await cluster.replace(.services, self.service("a", ["selector": ["x": "y"]]))
        #expect(kept.spec["clusterIP"]?.string == address)
        let taken = try await refusal {
            try await cluster.create(.services, self.service("b", ["clusterIP": .string(address)]))
        }
        #expect(taken.message.contains("provided IP is already allocated"))
        try await cluster.delete(.services, namespace: "default", name: "a")
        try await cluster.create(.services, self.service("b", ["clusterIP": .string(address)]))
    }

    @Test("of type NodePort get ports and may be headless or external otherwise")
    func ports() async throws {
        let cluster = try await makeCluster()
        let node = try await cluster.create(.services, self.service("n", ["type": "NodePort"]))
        let port = try #require(node.spec["ports"]?[0]?["nodePort"]?.int)
        #expect((30_000...32_767).contains(port))
        let taken = try await refusal {
            try await cluster.create(
                .services, self.service("m", ["type": "NodePort", "ports": [["port": 1, "nodePort": .int(port)]]]))
        }
        #expect(taken.message.contains("provided port is already allocated"))
        let headless = try await cluster.create(.services, self.service("h", ["clusterIP": "None"]))
        #expect(headless.spec["clusterIP"] == "None")
        let kubernetes = try await cluster.get(.services, namespace: "default", name: "kubernetes")
        #expect(kubernetes.spec["clusterIP"] == "10.43.0.1")
    }
}

@Suite("Pods")
struct PodTests {
    private func pod(_ name: String, _ spec: JSONValue = [:]) -> KubeObject {
        var spec = spec
        spec["containers"] = [["name": "c", "image": "busybox"]]
        return KubeObject(.pods, namespace: "default", name: name, ["spec": spec])
    }

    @Test("get defaults, their account's token and tolerations")
    func defaults() async throws {
        let cluster = try await makeCluster()
        let made = try await cluster.create(.pods, self.pod("p"))
        #expect(made.spec["restartPolicy"] == "Always" && made.spec["serviceAccountName"] == "default")
        #expect(made.spec["containers"]?[0]?["imagePullPolicy"] == "Always")
        #expect(made.status == ["phase": "Pending", "qosClass": "BestEffort"])
        let volume = try #require(made.spec["volumes"]?[0])
        #expect(volume["name"]?.string?.hasPrefix("kube-api-access-") == true)
        #expect(made.spec["containers"]?[0]?["volumeMounts"]?[0]?["name"] == volume["name"])
        #expect(made.spec["tolerations"]?.array?.count == 2)
    }

    @Test("need their service account")
    func account() async throws {
        let cluster = try await makeCluster()
        let error = try await refusal { try await cluster.create(.pods, self.pod("p", ["serviceAccountName": "x"])) }
        #expect(error.code == 403)
        #expect(error.message.contains("error looking up service account default/x: serviceaccount \"x\" not found"))
    }

    @Test("on a node end gracefully: the last DELETE with grace 0 removes them")
    func graceful() async throws {
        let cluster = try await makeCluster()
        try await cluster.create(.pods, self.pod("p"))
        _ = try await cluster.create(
            .pods, namespace: "default", name: "p", subresource: "binding", ["target": ["kind": "Node", "name": "n"]])
        let bound = try await cluster.get(.pods, namespace: "default", name: "p")
        #expect(bound.spec["nodeName"] == "n" && bound.condition("PodScheduled") == "True")
        let ending = try await cluster.delete(.pods, namespace: "default", name: "p")
        #expect(ending.isBeingDeleted && ending.metadata["deletionGracePeriodSeconds"] == 30)
        let status = try await cluster.delete(
            .pods, namespace: "default", name: "p", DeleteOptions(gracePeriodSeconds: 0, uid: bound.uid))
        #expect(status.kind == "Status")
        #expect(try await cluster.find(.pods, namespace: "default", name: "p") == nil)
    }

    @Test("keep their spec")
    func immutable() async throws {
        let cluster = try await makeCluster()
        try await cluster.create(.pods, self.pod("p"))
        let error = try await refusal {
            _ = try await cluster.patch(
                .pods, namespace: "default", name: "p", subresource: nil, .merge(["spec": ["restartPolicy": "Never"]]))
        }
        #expect(error.message.contains("spec: Forbidden: pod updates may not change fields other than"))
    }
}

@Suite("Deletion")
struct DeletionTests {
    @Test("waits for finalizers; the update that drops the last one completes it")
    func finalizers() async throws {
        let cluster = try await makeCluster()
        var object = configMap("a")
        object.json.set(["metadata", "finalizers"], to: ["lab.test/hold"])
        try await cluster.create(.configMaps, object)
        #expect(try await cluster.delete(.configMaps, namespace: "default", name: "a").isBeingDeleted)
        _ = try await cluster.patch(
            .configMaps, namespace: "default", name: "a", subresource: nil,
            .json([["op": "remove", "path": "/metadata/finalizers"]]))
        #expect(try await cluster.find(.configMaps, namespace: "default", name: "a") == nil)
    }

    @Test("of a namespace waits for its finalizer, and nothing new is made in it")
    func namespaces() async throws {
        let cluster = try await makeCluster()
        let made = try await cluster.create(.namespaces, KubeObject(.namespaces, name: "foo"))
        #expect(made.labels["kubernetes.io/metadata.name"] == "foo" && made.status["phase"] == "Active")
        let ending = try await cluster.delete(.namespaces, name: "foo")
        #expect(ending.status["phase"] == "Terminating")
        var object = configMap("a")
        object.json.set(["metadata", "namespace"], to: "foo")
        let error = try await refusal { try await cluster.create(.configMaps, object) }
        #expect(error.code == 403 && error.message.contains("because it is being terminated"))
        var finalized = ending
        finalized.json.set(["spec", "finalizers"], to: [])
        try await cluster.replace(.namespaces, finalized, subresource: "finalize")
        #expect(try await cluster.find(.namespaces, name: "foo") == nil)
        let kept = try await refusal { try await cluster.delete(.namespaces, name: "kube-system") }
        #expect(kept.message.contains("this namespace may not be deleted"))
    }
}
