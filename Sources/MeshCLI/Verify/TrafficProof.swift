import KubeAPI
import KubeClient

/// Proves with throw-away pods that every node's traffic goes through tunnels: one server per node, one client per
/// node that calls the next node's server, and then the line about it in the access log of the server's node proxy,
/// with the client's proven identity.
struct TrafficProof: Sendable {
    let cluster: KubeClient
    let image: String
    let pullPolicy: String
    let systemNamespace: String
    let limit: Duration

    static let port = 8080
    private static let redirection = "ambient.istio.io/redirection"

    func run() async throws {
        let namespace = "martlet-verify-\(UInt32.random(in: 0..<0x1000_0000) | 0x1000_0000)"
        try await self.cluster.create(
            .namespaces,
            KubeObject(.namespaces, name: namespace, labels: ["istio.io/dataplane-mode": "ambient"]))
        do {
            try await self.prove(in: namespace)
        } catch {
            _ = try? await self.cluster.delete(.namespaces, name: namespace)
            throw error
        }
        try await self.cluster.delete(.namespaces, name: namespace)
    }

    private func prove(in namespace: String) async throws {
        let nodes = try await self.cluster.list(.nodes).items
            .filter { $0.condition("Ready") == "True" && $0.spec["unschedulable"]?.bool != true }
            .map(\.name).sorted()
        guard !nodes.isEmpty else { throw CommandError("no node is Ready and schedulable") }
        try await self.poll("the default service account of \(namespace)") {
            try await self.cluster.find(.serviceAccounts, namespace: namespace, name: "default") == nil
                ? "it does not exist" : nil
        }
        for (index, node) in nodes.enumerated() {
            try await self.cluster.create(
                .pods, self.pod("server-\(index)", namespace, node, ["verify-server", "\(Self.port)"]))
        }
        var addresses: [String] = []
        for index in nodes.indices {
            let server = try await self.awaitEnrolled("server-\(index)", namespace)
            addresses.append(server.status["podIP"]?.string ?? "")
        }
        for (index, node) in nodes.enumerated() {
            let target = "\(addresses[(index + 1) % nodes.count]):\(Self.port)"
            try await self.cluster.create(
                .pods, self.pod("client-\(index)", namespace, node, ["verify-client", target]))
        }
        for index in nodes.indices { try await self.awaitSuccess("client-\(index)", namespace) }
        for index in nodes.indices {
            let server = (index + 1) % nodes.count
            let line = try await self.evidence(
                client: "client-\(index)", server: "server-\(server)", node: nodes[server], namespace)
            print("✔ \(nodes[index]) -> \(nodes[server]): tunnelled, \(line)")
        }
    }

    private func pod(_ name: String, _ namespace: String, _ node: String, _ arguments: [String]) -> KubeObject {
        KubeObject(
            .pods, namespace: namespace, name: name,
            [
                "spec": [
                    "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                    "nodeSelector": ["kubernetes.io/hostname": .string(node)],
                    "tolerations": [["operator": "Exists"]],
                    "automountServiceAccountToken": false,
                    "containers": [
                        [
                            "name": "verify", "image": .string(self.image),
                            "imagePullPolicy": .string(self.pullPolicy),
                            "command": JSONValue(["martlet", "internal"] + arguments),
                        ]
                    ],
                ]
            ])
    }

    private func awaitEnrolled(_ name: String, _ namespace: String) async throws -> KubeObject {
        var pod = KubeObject([:])
        try await self.poll("pod \(name) to run inside the mesh") {
            pod = try await self.cluster.get(.pods, namespace: namespace, name: name)
            if let trouble = Readiness.trouble(of: pod) { return trouble }
            return pod.annotations[Self.redirection] == "enabled" ? nil : "it is not captured"
        }
        return pod
    }

    private func awaitSuccess(_ name: String, _ namespace: String) async throws {
        try await self.poll("pod \(name) to reach its server") {
            let pod = try await self.cluster.get(.pods, namespace: namespace, name: name)
            switch pod.status["phase"]?.string {
            case "Succeeded": return nil
            case "Failed":
                let log = try await self.log(namespace, name)
                throw CommandError("\(name) on \(pod.spec["nodeName"]?.string ?? "?") failed: \(log)")
            default: return Readiness.trouble(of: pod) ?? "it is running"
            }
        }
    }

    /// The server's side of the connection as its node proxy logged it.
    private func evidence(
        client: String, server: String, node: String, _ namespace: String
    ) async throws -> String {
        let proxies = try await self.cluster.list(
            .pods, namespace: self.systemNamespace,
            ListOptions(labelSelector: "app=ztunnel", fieldSelector: "spec.nodeName=\(node)")
        ).items.filter { $0.condition("Ready") == "True" }
        guard let proxy = proxies.first else { throw CommandError("no node proxy is ready on \(node)") }
        let wanted = [
            "src.workload=\"\(client)\"", "src.namespace=\"\(namespace)\"", "/ns/\(namespace)/sa/default\"",
            "dst.workload=\"\(server)\"", "direction=\"inbound\"",
        ]
        var identity = ""
        try await self.poll("the access log of \(proxy.name) to show \(client) -> \(server)") {
            let lines = try await self.log(self.systemNamespace, proxy.name).split(separator: "\n")
            guard let line = lines.last(where: { line in wanted.allSatisfy { line.contains($0) } }) else {
                return "no such line"
            }
            identity = line.split(separator: " ").first { $0.hasPrefix("src.identity=") }.map(String.init) ?? ""
            return nil
        }
        return identity
    }

    private func log(_ namespace: String, _ pod: String) async throws -> String {
        let bytes = try await self.cluster.request(
            "GET", ResourceType.pods.path(namespace: namespace, name: pod, subresource: "log"),
            query: [("tailLines", "500")], accept: "*/*")
        return String(decoding: bytes, as: UTF8.self)
    }

    private func poll(_ what: String, _ remaining: () async throws -> String?) async throws {
        let started = ContinuousClock.now
        while let text = try await remaining() {
            guard ContinuousClock.now - started < self.limit else {
                throw CommandError("waited \(self.limit.brief) for \(what): \(text)")
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
