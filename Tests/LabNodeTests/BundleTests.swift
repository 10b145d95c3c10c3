import KubeAPI
import LabNode
import Testing

@Suite("A container's bundle")
struct BundleTests {
    func pod(_ spec: JSONValue) -> KubeObject {
        KubeObject([
            "apiVersion": "v1", "kind": "Pod",
            "metadata": ["name": "web-1", "namespace": "shop", "uid": "11111111-2222-3333-4444-555555555555"],
            "spec": spec,
        ])
    }

    func configuration(
        _ container: JSONValue, pod spec: JSONValue = [:], image: HostImage = HostImage(command: ["sh"]),
        mounts: [ContainerBundle.Mount] = []
    ) throws -> JSONValue {
        try ContainerBundle(
            pod: self.pod(spec), container: ContainerSpec(json: container, role: .main), image: image,
            hostname: "web-1", environment: ["NAME": "value", "PATH": "/bin"], volumeMounts: mounts,
            fileMounts: [.init(source: "/pods/hosts", target: "/etc/hosts")], root: "/scratch/1/rootfs",
            networkNamespace: "/run/netns/cni-1", cgroup: "/lab/kubepods/pod1/1"
        ).configuration()
    }

    @Test("command replaces the image's entry point and its arguments, args only the latter")
    func commandLine() throws {
        let image = HostImage(entrypoint: ["curl"], command: ["--help"])
        func line(_ container: JSONValue) throws -> [String] {
            try self.configuration(container, image: image).at("process", "args")?.array?.compactMap(\.string) ?? []
        }
        #expect(try line([:]) == ["curl", "--help"])
        #expect(try line(["args": ["-v"]]) == ["curl", "-v"])
        #expect(try line(["command": ["/bin/sleep", "3650d"]]) == ["/bin/sleep", "3650d"])
        #expect(
            try line(["command": ["echo"], "args": ["$(NAME)", "$$(NAME)", "$(OTHER)"]])
                == ["echo", "value", "$(NAME)", "$(OTHER)"])
    }

    @Test("an image without a command and a container without one are refused")
    func nothingToRun() {
        #expect(throws: ContainerBundle.Refused.self) { try self.configuration([:], image: HostImage()) }
    }

    @Test("capabilities start from docker's set; drop ALL and add keeps only what is added")
    func capabilities() throws {
        func set(_ security: JSONValue) throws -> [String] {
            try self.configuration(["securityContext": security])
                .at("process", "capabilities", "bounding")?.array?.compactMap(\.string) ?? []
        }
        #expect(try set([:]).count == 14)
        #expect(try set(["capabilities": ["drop": ["ALL"], "add": ["NET_ADMIN"]]]) == ["CAP_NET_ADMIN"])
        #expect(try set(["capabilities": ["drop": ["CHOWN"]]]).contains("CAP_CHOWN") == false)
        #expect(try set(["privileged": true]).contains("CAP_SYS_ADMIN"))
    }

    @Test("a machine that lacks a capability is not asked for it")
    func bounding() throws {
        let set = try #require(ContainerBundle.boundingSet(ofStatus: "Name:\tx\nCapBnd:\t000001fffeffffff\n"))
        #expect(set.count == 40)
        #expect(!set.contains("CAP_SYS_RESOURCE") && set.contains("CAP_SYS_ADMIN"))
    }

    @Test("runAsUser of the container wins over the pod's; runAsNonRoot refuses root")
    func users() throws {
        let json = try self.configuration(
            ["securityContext": ["runAsUser": 1337]],
            pod: ["securityContext": ["runAsUser": 5, "runAsGroup": 7, "fsGroup": 9]])
        #expect(json.at("process", "user") == ["uid": 1337, "gid": 7, "additionalGids": [9]])
        #expect(throws: ContainerBundle.Refused.self) {
            try self.configuration(["securityContext": ["runAsNonRoot": true]])
        }
    }

    @Test("mount propagation reaches the bind and the root file system")
    func propagation() throws {
        let json = try self.configuration(
            [:],
            mounts: [
                .init(source: "/var/run/netns", target: "/host/var/run/netns", propagation: "HostToContainer"),
                .init(source: "/volumes/a", target: "/data", isReadOnly: true),
            ])
        let mounts = json["mounts"]?.array ?? []
        let netns = mounts.first { $0["destination"]?.string == "/host/var/run/netns" }
        #expect(netns?["options"] == ["rbind", "rslave", "rw"])
        #expect(mounts.first { $0["destination"]?.string == "/data" }?["options"] == ["rbind", "rprivate", "ro"])
        #expect(json.at("linux", "rootfsPropagation") == "rslave")
        // Deeper targets come later, so that none hides another.
        let targets = mounts.compactMap { $0["destination"]?.string }
        #expect(targets.firstIndex(of: "/data")! < targets.firstIndex(of: "/host/var/run/netns")!)
    }

    @Test("a host-pid pod has no pid namespace; every pod names its network namespace and cgroup")
    func namespaces() throws {
        let json = try self.configuration([:], pod: ["hostPID": true])
        let types = json.at("linux", "namespaces")?.array?.compactMap { $0["type"]?.string } ?? []
        #expect(Set(types) == ["mount", "ipc", "uts", "network"])
        #expect(json.at("linux", "cgroupsPath") == "/lab/kubepods/pod1/1")
    }

    @Test("privileged containers see /proc and /sys unmasked")
    func privileged() throws {
        let json = try self.configuration(["securityContext": ["privileged": true]])
        #expect(json.at("linux", "maskedPaths") == nil)
        #expect(json.at("linux", "resources", "devices") == [["allow": true, "access": "rwm"]])
    }
}

@Suite("The environment of a container")
struct EnvironmentTests {
    let pod = KubeObject([
        "kind": "Pod", "metadata": ["name": "web", "namespace": "shop", "labels": ["app": "web"]],
        "spec": ["serviceAccountName": "robot"],
    ])

    func variables(_ container: JSONValue, services: [KubeObject] = []) throws -> [String: String] {
        let configMap = KubeObject(["kind": "ConfigMap", "metadata": ["name": "settings"], "data": ["A": "1"]])
        let secret = KubeObject(["kind": "Secret", "metadata": ["name": "keys"], "data": ["B": "Mg=="]])
        return try ContainerEnvironment(
            objects: ["ConfigMap/settings": configMap, "Secret/keys": secret],
            downward: DownwardAPI(
                pod: self.pod, podIPs: ["10.42.0.7"], nodeName: "n1", nodeIP: "172.30.0.2", nodeCPUs: 2,
                nodeMemoryBytes: 1 << 30),
            services: services, image: HostImage(environment: ["A": "image"])
        ).variables(ContainerSpec(json: container, role: .main))
    }

    @Test("later sources win and values refer to earlier ones")
    func order() throws {
        let result = try self.variables([
            "envFrom": [["configMapRef": ["name": "settings"]], ["prefix": "S_", "secretRef": ["name": "keys"]]],
            "env": [
                ["name": "IP", "valueFrom": ["fieldRef": ["fieldPath": "status.podIP"]]],
                ["name": "URL", "value": "http://$(IP):$(S_B)"],
                ["name": "APP", "valueFrom": ["fieldRef": ["fieldPath": "metadata.labels['app']"]]],
                [
                    "name": "CPU",
                    "valueFrom": ["resourceFieldRef": ["resource": "limits.cpu", "divisor": "1m"]],
                ],
                ["name": "NONE", "valueFrom": ["secretKeyRef": ["name": "gone", "key": "x", "optional": true]]],
            ],
        ])
        #expect(result["A"] == "1")
        #expect(result["URL"] == "http://10.42.0.7:2")
        #expect(result["APP"] == "web")
        #expect(result["CPU"] == "2000")
        #expect(result["NONE"] == nil)
    }

    @Test("a missing object is named")
    func missing() {
        #expect(throws: ContainerEnvironment.Unresolved(description: "secret \"gone\" not found")) {
            try self.variables(["envFrom": [["secretRef": ["name": "gone"]]]])
        }
    }

    @Test("services of the namespace and the API server become variables")
    func services() throws {
        func service(_ namespace: String, _ name: String, _ address: String) -> KubeObject {
            KubeObject(
                .services, namespace: namespace, name: name,
                ["spec": ["clusterIP": .string(address), "ports": [["name": "http", "port": 8000]]]])
        }
        let result = try self.variables(
            [:],
            services: [
                service("default", "kubernetes", "10.43.0.1"), service("shop", "my-web", "10.43.0.9"),
                service("other", "hidden", "10.43.0.8"),
            ])
        #expect(result["KUBERNETES_SERVICE_HOST"] == "10.43.0.1")
        #expect(result["MY_WEB_SERVICE_PORT_HTTP"] == "8000")
        #expect(result["MY_WEB_PORT_8000_TCP"] == "tcp://10.43.0.9:8000")
        #expect(result["HIDDEN_SERVICE_HOST"] == nil)
    }
}

@Suite("Image names")
struct ImageTests {
    @Test(
        "are completed as docker does it",
        arguments: [
            ("busybox", "docker.io/library/busybox:latest"), ("curlimages/curl", "docker.io/curlimages/curl:latest"),
            ("docker.io/kennethreitz/httpbin", "docker.io/kennethreitz/httpbin:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"), ("gcr.io/x@sha256:ab", "gcr.io/x@sha256:ab"),
        ])
    func names(short: String, full: String) {
        #expect(ImageReference(short).description == full)
    }

    @Test("of any tag find the entry without one; an unknown one says how to add it")
    func lookup() throws {
        var catalogue = ImageCatalogue()
        catalogue.add("acme/api", HostImage(command: ["a"]))
        catalogue.add("acme/api:v2", HostImage(command: ["b"]))
        catalogue.add("quay.io/tools/*", HostImage(command: ["c"]))
        #expect(try catalogue.image(named: "docker.io/acme/api:v1").command == ["a"])
        #expect(try catalogue.image(named: "acme/api:v2@sha256:00").command == ["b"])
        #expect(try catalogue.image(named: "quay.io/tools/x:1").command == ["c"])
        let error = #expect(throws: UnknownImage.self) { try catalogue.image(named: "nope:1") }
        #expect(error?.description.contains("martlet lab image import") == true)
        #expect(error?.description.contains("docker.io/library/nope") == true)
    }
}
