import Foundation
import KubeAPI
import KubeClient
import LabNode
import Logging
import Testing

/// A kubelet with real namespaces, CNI plugins and containers, and an API in memory.
private final class TestNode: Sendable {
    let cluster = FakeCluster()
    let configuration: NodeConfiguration
    let commands: CommandRunner
    let root: String
    private let life: Task<Void, any Error>

    /// Runs `body` with a node, which is gone afterwards.
    static func with(_ body: (TestNode) async throws -> Void) async throws {
        // Short: it holds a unix socket.
        let root = "/tmp/mlt-\(UInt32.random(in: 0...UInt32.max))"
        let processes = ProcessTable(reapsOrphans: false)
        let host = CommandRunner(processes: processes, networkNamespace: nil)
        let outcome: Result<Void, any Error>
        do {
            let namespace = try await self.makeNetwork(root, host)
            let node = TestNode(root, CommandRunner(processes: processes, networkNamespace: namespace))
            do { outcome = .success(try await body(node)) } catch { outcome = .failure(error) }
            node.life.cancel()
            _ = try? await node.life.value
            close(namespace)
            await NodeRemains(node.configuration).remove()
        } catch {
            outcome = .failure(error)
        }
        for path in ["scratch", "node-netns"] { _ = try? await host.run(["umount", "--lazy", "\(root)/\(path)"]) }
        try? FileManager.default.removeItem(atPath: root)
        try outcome.get()
    }

    /// - Returns: the descriptor of the node's network namespace.
    private static func makeNetwork(_ root: String, _ host: CommandRunner) async throws -> Int32 {
        try FileManager.default.createDirectory(atPath: "\(root)/scratch", withIntermediateDirectories: true)
        _ = FileManager.default.createFile(atPath: "\(root)/node-netns", contents: nil)
        try await host.check(["mount", "-t", "tmpfs", "tmpfs", "\(root)/scratch"])
        try await host.check(["unshare", "--net=\(root)/node-netns", "ip", "link", "set", "lo", "up"])
        let namespace = open("\(root)/node-netns", O_RDONLY | O_CLOEXEC)
        let inside = CommandRunner(processes: host.processes, networkNamespace: namespace)
        do {
            // A cable with both ends here, because a kernel may come without dummy links.
            for command in [
                "link add eth0 type veth peer name wire", "link set wire up", "address add 172.30.0.2/16 dev eth0",
                "link set eth0 up", "route add default via 172.30.0.1",
            ] {
                try await inside.check(["ip"] + command.split(separator: " ").map(String.init))
            }
        } catch {
            close(namespace)
            throw error
        }
        return namespace
    }

    private init(_ root: String, _ commands: CommandRunner) {
        self.root = root
        self.commands = commands
        var configuration = NodeConfiguration(
            clusterName: "test-\(getpid())", nodeName: "node-1", nodeIndex: 1, kubeconfig: "", bridge: "",
            nodeIP: "172.30.0.2", prefixLength: 16, gateway: "172.30.0.1", podCIDR: "10.42.1.0/24",
            stateDirectory: root, runDirectory: root)
        configuration.labels = ["zone": "a"]
        self.configuration = configuration
        let kubelet = Kubelet(
            configuration, paths: .below(root, cniPlugins: "/usr/lib/cni"), cluster: self.cluster,
            commands: commands, catalogue: ImageCatalogue.builtIn(installation: "/usr/bin"),
            logger: Logger(label: "test"))
        self.life = Task { try await kubelet.run() }
    }

    func curl(_ arguments: String...) async throws -> CommandRunner.Result {
        try await self.commands.run(["curl", "--silent", "--max-time", "10"] + arguments)
    }

    /// exec through the kubelet's socket with a WebSocket client of its own; answers channel by channel.
    func exec(_ command: [String], container: String, input: String = "", query: String = "") async throws -> JSONValue
    {
        let text = command.map { "command=" + ($0.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "") }
            .joined(separator: "&")
        let result = try await self.commands.check([
            "python3", "-c", Self.client, self.configuration.kubeletSocket,
            "/exec/default/\(container)?\(text)&stdout=true&stderr=true\(query)", input,
        ])
        return try JSONValue(parsing: result.output)
    }

    private static let client = """
        import socket, sys, json, os, base64
        path, url, text = sys.argv[1:4]
        s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(path)
        s.sendall(("GET " + url + " HTTP/1.1\\r\\nHost: node\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
            "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode() +
            "\\r\\nSec-WebSocket-Protocol: v5.channel.k8s.io\\r\\n\\r\\n").encode())
        f = s.makefile("rb"); head = f.readline().decode()
        while f.readline() not in (b"\\r\\n", b""): pass
        if " 101 " not in head: print(json.dumps({"refused": head + f.read().decode()})); sys.exit()
        def send(data): s.sendall(bytes([0x82, 0x80 | len(data)]) + bytes(4) + data)
        if "tty=true" in url: send(b"\\x04" + b'{"Width":101,"Height":33}')
        if text: send(b"\\x00" + text.encode())
        send(b"\\xff\\x00")
        out = {}
        while True:
            a, b = f.read(2); n = b & 127
            if n == 126: n = int.from_bytes(f.read(2), "big")
            data = f.read(n)
            if a & 15 == 8: break
            out[str(data[0])] = out.get(str(data[0]), "") + data[1:].decode()
        print(json.dumps(out))
        """
}

@Suite("A node", .enabled(if: getuid() == 0, "needs root"), .serialized)
struct NodeTests {
    static func pod(_ name: String, _ spec: JSONValue) -> KubeObject {
        var pod = KubeObject(.pods, namespace: "default", name: name, labels: ["app": name], ["spec": spec])
        pod.json.set(["metadata", "uid"], to: .string(UUID().uuidString.lowercased()))
        pod.json.set(["spec", "nodeName"], to: "node-1")
        return pod
    }

    @Test("runs a pod: network, probe, logs, exec, service, deletion", .timeLimit(.minutes(3)))
    func wholeLife() async throws {
        try await TestNode.with { try await self.live(on: $0) }
    }

    private func live(on node: TestNode) async throws {
        #expect(await node.cluster.until(.nodes, "", "node-1") { $0?.condition("Ready") == "True" })
        let script =
            "echo hello; echo oops >&2; cat /tokens/token > /tmp/index.html; cd /tmp; exec python3 -m http.server 80"
        let pod = Self.pod(
            "web",
            [
                "terminationGracePeriodSeconds": 0,
                "initContainers": [["name": "first", "image": "busybox", "command": ["true"]]],
                "containers": [
                    [
                        "name": "main", "image": "busybox", "command": ["sh", "-c", .string(script)],
                        "readinessProbe": ["httpGet": ["path": "/", "port": 80], "periodSeconds": 1],
                        "env": [["name": "IP", "valueFrom": ["fieldRef": ["fieldPath": "status.podIP"]]]],
                        "volumeMounts": [["name": "token", "mountPath": "/tokens"]],
                    ]
                ],
                "volumes": [
                    ["name": "token", "projected": ["sources": [["serviceAccountToken": ["path": "token"]]]]]
                ],
            ])
        try await node.cluster.create(.pods, pod)
        let isReady = await node.cluster.until(.pods, "default", "web") { $0?.condition("Ready") == "True" }
        let events = node.cluster.all(.events).map { $0.json["message"]?.string ?? "" }.joined(separator: "\n")
        try #require(isReady, "the pod is not ready:\n\(events)")
        let address = try #require(
            try await node.cluster.get(.pods, namespace: "default", name: "web").status["podIP"]?.string)
        #expect(address.hasPrefix("10.42.1."))

        #expect(try await node.curl("http://\(address)/").text == "a-token")
        let socket = node.configuration.kubeletSocket
        let log = try await node.curl(
            "--unix-socket", socket, "http://node/containerLogs/default/web/main?tailLines=100")
        #expect(log.text.contains("hello\n") && log.text.contains("oops\n"))
        #expect(try await node.curl("--unix-socket", socket, "http://node/healthz").text == "ok")

        let ran = try await node.exec(
            ["sh", "-c", "cat; echo $IP; hostname; cat /proc/1/cgroup; exit 7"], container: "web/main",
            input: "typed\n",
            query: "&stdin=true")
        #expect(ran["1"]?.string?.hasPrefix("typed\n\(address)\nweb\n") == true, "\(ran)")
        #expect(ran["1"]?.string?.contains("/kubepods/pod\(pod.uid)/") == true, "\(ran)")
        #expect(ran["3"]?.string?.contains("\"message\":\"7\"") == true, "\(ran)")
        let terminal = try await node.exec(["stty", "size"], container: "web/main", query: "&stdin=true&tty=true")
        #expect(terminal["1"]?.string == "33 101\r\n", "\(terminal)")
        let missing = try await node.exec(["no-such-program"], container: "web/main")
        #expect(missing["3"]?.string?.contains("executable file not found") == true, "\(missing)")
        #expect(try await node.exec(["true"], container: "web/other")["refused"]?.string?.contains("400") == true)

        try await self.serve(node, address)

        _ = try await node.cluster.delete(
            .pods, namespace: "default", name: "web", DeleteOptions(gracePeriodSeconds: 1))
        #expect(await node.cluster.until(.pods, "default", "web") { $0 == nil })
        let left = try FileManager.default.contentsOfDirectory(atPath: "\(node.root)/netns")
        #expect(left.isEmpty)
        #expect(try await node.commands.run(["runc", "--root", "\(node.root)/runc", "list", "-q"]).text.isEmpty)
    }

    /// A cluster address reaches the endpoint, and is refused without one.
    private func serve(_ node: TestNode, _ address: String) async throws {
        let service = KubeObject(
            .services, namespace: "default", name: "web",
            ["spec": ["clusterIP": "10.43.0.9", "ports": [["port": 8000, "protocol": "TCP"]]]])
        var slice = KubeObject(
            .endpointSlices, namespace: "default", name: "web-1", labels: ["kubernetes.io/service-name": "web"],
            [
                "addressType": "IPv4", "ports": [["port": 80, "protocol": "TCP"]],
                "endpoints": [["addresses": [.string(address)]]],
            ])
        try await node.cluster.create(.services, service)
        try await node.cluster.create(.endpointSlices, slice)
        let answer = try await node.curl(
            "--retry", "20", "--retry-delay", "1", "--retry-all-errors", "http://10.43.0.9:8000/")
        #expect(answer.text == "a-token")
        slice.json["endpoints"] = []
        try await node.cluster.replace(.endpointSlices, slice)
        var refused = false
        for _ in 0..<100 where !refused {
            refused = try await node.curl("http://10.43.0.9:8000/").exit.code == 7
            if !refused { try await Task.sleep(for: .milliseconds(50)) }
        }
        #expect(refused)
    }

    @Test("says why a container cannot start, and lets pods end", .timeLimit(.minutes(3)))
    func failures() async throws {
        try await TestNode.with { try await self.fail(on: $0) }
    }

    private func fail(on node: TestNode) async throws {
        let unknown = Self.pod("unknown", ["containers": [["name": "a", "image": "example.org/none:1"]]])
        let once = Self.pod(
            "once",
            [
                "restartPolicy": "Never",
                "containers": [["name": "a", "image": "busybox", "command": ["sh", "-c", "exit 3"]]],
            ])
        try await node.cluster.create(.pods, unknown)
        try await node.cluster.create(.pods, once)
        let refused = await node.cluster.until(.pods, "default", "unknown") {
            let state = $0?.status["containerStatuses"]?[0]?.at("state", "waiting")
            return state?["reason"]?.string == "ErrImagePull"
                && state?["message"]?.string?.contains("images.json") == true
        }
        #expect(refused)
        let failed = await node.cluster.until(.pods, "default", "once") {
            $0?.status["phase"] == "Failed"
                && $0?.status["containerStatuses"]?[0]?.at("state", "terminated", "exitCode") == 3
        }
        #expect(failed)
    }
}
