import Foundation
import KubeAPI
import MeshIdentity
import MeshTestSupport
import Testing

@Suite(
    "Envoy as a sidecar", .serialized, .timeLimit(.minutes(5)),
    .enabled(if: Envoy.path != nil, "SKIPPED: NO ENVOY. Run scripts/prepare.sh, or set ENVOY_BIN to an Envoy program."),
    .enabled(if: PodNetwork.isPossible, "SKIPPED: needs root, iproute2, iptables, curl, python3 and util-linux."))
struct SidecarTests {
    private static func pod(
        _ name: String, _ number: Int, namespace: String = "shop", labels: [String: String] = [:],
        annotations: [String: String] = [:]
    ) -> KubeObject {
        var pod = KubeObject(
            .pods, namespace: namespace, name: name, labels: labels.merging(["app": name]) { $1 },
            annotations: annotations,
            [
                "spec": ["serviceAccountName": .string(name), "nodeName": "n", "containers": [["name": "c"]]],
                "status": [
                    "phase": "Running", "podIP": .string(PodNetwork.address(number)),
                    "conditions": [["type": "Ready", "status": "True"]],
                ],
            ])
        pod.json.set(["metadata", "uid"], to: .string(name))
        return pod
    }

    private static func service(
        _ name: String, _ address: String, target: Int64 = 8080, app: String? = nil, labels: [String: String] = [:]
    ) -> KubeObject {
        KubeObject(
            .services, namespace: "shop", name: name, labels: labels,
            [
                "spec": [
                    "clusterIP": .string(address), "selector": ["app": .string(app ?? name)],
                    "ports": [
                        ["name": "http", "port": 80, "targetPort": .int(target)],
                        ["name": "any", "port": 90, "targetPort": .int(target + 1)],
                    ],
                ]
            ])
    }

    private static let tunnelPort: UInt16 = 7000

    private static func peer(_ file: String) -> [String] {
        [
            Envoy.path ?? "", "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error",
        ]
    }

    private static let sidecar = ["security.istio.io/tlsMode": "istio"]

    @Test("reaches plain pods, other sidecars, pods of node proxies and waypoints; lets in whom policies let in")
    func pairs() async throws {
        let network = try PodNetwork(["client", "server", "plain", "ambient", "waypoint"])
        defer { network.remove() }
        let ca = try TestCA()
        let plane = try await SidecarControlPlane()
        try self.describe(plane)
        var programs: [ChildProgram] = []
        defer { for program in programs { program.stop() } }
        for pod in ["server", "plain", "ambient"] {
            for port in [8080, 8081] { programs.append(try network.startApplication(pod, port: port)) }
        }
        try network.addAddress("10.96.0.4", to: "waypoint")
        for port in [80, 90] { programs.append(try network.startApplication("waypoint", port: port)) }
        var folders: [PeerFolder] = []
        for pod in ["ambient", "waypoint"] {
            let folder = try PeerFolder(
                ca.issue(WorkloadIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: pod)))
            try folder.write("envoy.yaml", Envoy.serverConfiguration(host: "0.0.0.0", port: 15008))
            programs.append(
                try ChildProgram(network.inside(pod, Self.peer("envoy.yaml")), in: folder.url.path))
            folders.append(folder)
        }
        // A client in the mesh with tunnels, as a node proxy would be: to the sidecar itself.
        let folder = try PeerFolder(
            ca.issue(WorkloadIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "plain")))
        try folder.write(
            "envoy.yaml",
            Envoy.clientConfiguration(
                port: Self.tunnelPort, authority: "\(PodNetwork.address(2)):8080", host: PodNetwork.address(2),
                peer: 15008))
        programs.append(
            try ChildProgram(network.inside("plain", Self.peer("envoy.yaml")), in: folder.url.path))
        folders.append(folder)
        programs.append(try network.startGreeter("server", port: 9000))
        for pod in ["client", "server"] { try network.redirect(pod) }
        let client = try await NamespaceSidecar(
            "client", namespace: "foo", account: "client", address: PodNetwork.address(1), in: network, plane, ca)
        let server = try await NamespaceSidecar(
            "server", namespace: "shop", account: "server", address: PodNetwork.address(2), in: network, plane, ca)
        let outcome = await Task { try await Self.check(network, plane) }.result
        await client.stop()
        await server.stop()
        await plane.stop()
        _ = folders
        try outcome.get()
    }

    private static func greeter(_ name: String, _ address: String) -> KubeObject {
        KubeObject(
            .services, namespace: "shop", name: name,
            [
                "spec": [
                    "clusterIP": .string(address), "selector": ["app": "server"],
                    "ports": [["name": "tcp", "port": 9000, "targetPort": 9000]],
                ]
            ])
    }

    private func describe(_ plane: SidecarControlPlane) throws {
        var gateway = KubeObject(
            .gateways, namespace: "shop", name: "waypoint",
            [
                "spec": [
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [["name": "mesh", "port": 15008, "protocol": "HBONE"]],
                ]
            ])
        gateway.json.set(
            ["status", "addresses"], to: [["type": "Hostname", "value": "waypoint.shop.svc.cluster.local"]])
        plane.set(
            KubeObject(.namespaces, name: "shop"), KubeObject(.namespaces, name: "foo"), gateway,
            Self.pod("client", 1, namespace: "foo", labels: Self.sidecar),
            Self.pod("server", 2, labels: Self.sidecar.merging(["networking.istio.io/tunnel": "http"]) { $1 }),
            Self.greeter("greeter", "None"), Self.greeter("greeter-vip", "10.96.0.6"),
            Self.pod("plain", 3),
            Self.pod("ambient", 4, annotations: ["ambient.istio.io/redirection": "enabled"]),
            Self.pod("waypoint", 5, labels: ["gateway.networking.k8s.io/gateway-name": "waypoint"]),
            Self.service("server", "10.96.0.1"), Self.service("plain", "10.96.0.2"),
            Self.service("ambient", "10.96.0.3"),
            Self.service("bound", "10.96.0.4", app: "plain", labels: ["istio.io/use-waypoint": "waypoint"]),
            Self.service("waypoint", "10.96.0.5"))
    }

    private static func check(_ network: PodNetwork, _ plane: SidecarControlPlane) async throws {
        func get(_ url: String, _ host: String, from pod: String = "client") async throws -> PodNetwork.Answer {
            try await network.get(pod, url, headers: ["host: \(host)"])
        }
        func settled(_ question: () async throws -> Bool) async throws {
            while try await !question() { try await Task.sleep(for: .milliseconds(20)) }
        }
        // Everything has to start first, which the test's time limit ends.
        for name in ["server", "plain", "ambient", "bound"] {
            let address = ["server": 1, "plain": 2, "ambient": 3, "bound": 4][name] ?? 0
            try await settled {
                let named = try await get("http://10.96.0.\(address)/", "\(name).shop").status
                let any = try await get("http://10.96.0.\(address):90/", "whatever").status
                return named == 200 && any == 200
            }
        }
        let plain = try await get("http://10.96.0.2/a?b", "plain.shop")
        #expect(try await get("http://10.96.0.2/", "plain.shop:80").name == "plain")
        #expect(plain.name == "plain" && plain.value("path") == "/a?b")
        #expect(plain.value("x-envoy-attempt-count") == "1")
        #expect(plain.value("x-envoy-peer-metadata-id") == "sidecar~10.77.0.1~client.foo~foo.svc.cluster.local")
        #expect(plain.value("x-envoy-peer-metadata")?.hasPrefix("C") ?? false)
        #expect(plain.value("client") == "10.77.0.1")

        let secured = try await get("http://10.96.0.1/", "server.shop.svc.cluster.local")
        #expect(secured.name == "server")
        #expect(
            secured.value("x-forwarded-client-cert")?.contains("URI=spiffe://cluster.local/ns/foo/sa/client") ?? false)
        #expect(secured.value("x-envoy-peer-metadata-id") == nil, "that is between sidecars")
        let undeclared = try await get("http://10.96.0.1:90/", "x")
        #expect(undeclared.name == "server")
        #expect(
            undeclared.value("x-forwarded-client-cert")?.contains("sa/client") ?? false,
            "what nobody declared is looked at on both sides")

        #expect(try await get("http://10.96.0.3/", "ambient.shop").name == "ambient")
        #expect(try await get("http://10.96.0.3:90/", "x").name == "ambient")
        #expect(try await get("http://10.96.0.4/", "bound.shop").name == "waypoint", "not the pod behind the service")
        #expect(try await get("http://10.96.0.4:90/", "x").name == "waypoint")
        #expect(try await get("http://\(PodNetwork.address(3)):8080/", "unknown.example").name == "plain")
        // The host decides where requests go, as everywhere between sidecars.
        #expect(try await get("http://10.96.0.2/", "bound.shop").name == "waypoint")

        // Without a sidecar in front: PERMISSIVE lets plaintext in, STRICT does not.
        #expect(try await network.hear("plain", PodNetwork.address(2), 9000) == "hello")
        let direct = "http://\(PodNetwork.address(2)):8080/"
        #expect(try await network.get("plain", direct).status == 200)
        plane.set(
            KubeObject(
                .peerAuthentications, namespace: "shop", name: "strict", ["spec": ["mtls": ["mode": "STRICT"]]]))
        try await settled { try await network.get("plain", direct).status == 0 }
        #expect(try await get("http://10.96.0.1/", "server.shop").status == 200)
        #expect(try await network.hear("client", "10.96.0.6", 9000) == "hello", "a server that speaks first")
        #expect(try await network.hear("client", PodNetwork.address(2), 9000) == "hello", "a pod by its own address")
        #expect(try await network.hear("plain", PodNetwork.address(2), 9000) != "hello")
        #expect(
            try await network.get("plain", "http://127.0.0.1:\(Self.tunnelPort)/").name == "server",
            "in a tunnel, whose end is the sidecar")

        plane.set(
            KubeObject(
                .authorizationPolicies, namespace: "shop", name: "nobody",
                [
                    "spec": [
                        "selector": ["matchLabels": ["app": "server"]], "action": "DENY",
                        "rules": [
                            [
                                "from": [["source": ["principals": ["cluster.local/ns/foo/sa/client"]]]],
                                "to": [["operation": ["paths": ["/secret"]]]],
                            ]
                        ],
                    ]
                ]))
        try await settled { try await get("http://10.96.0.1/secret", "server.shop").status == 403 }
        #expect(try await get("http://10.96.0.1/open", "server.shop").status == 200)

        func allow(_ account: String?) {
            let from = account.map { account -> JSONValue in
                ["from": [["source": ["principals": [.string("cluster.local/ns/\(account)")]]]]]
            }
            plane.set(
                KubeObject(
                    .authorizationPolicies, namespace: "shop", name: "nobody",
                    ["spec": ["selector": ["matchLabels": ["app": "server"]], "rules": [from ?? [:]]]]))
        }
        let tunnel = "http://127.0.0.1:\(Self.tunnelPort)/"
        allow("foo/sa/client")
        try await settled { try await network.get("plain", tunnel).status == 403 }
        try await settled { try await get("http://10.96.0.1/secret", "server.shop").status == 200 }
        #expect(try await network.hear("client", "10.96.0.6", 9000) == "hello")
        allow("shop/sa/plain")
        try await settled { try await get("http://10.96.0.1/", "server.shop").status == 403 }
        try await settled { try await network.get("plain", tunnel).status == 200 }
        #expect(try await network.hear("client", "10.96.0.6", 9000) != "hello", "also of a server that speaks first")

        plane.set(
            KubeObject(
                .peerAuthentications, namespace: "shop", name: "strict", ["spec": ["mtls": ["mode": "PERMISSIVE"]]]))
        try await settled { try await network.get("plain", direct).status == 403 }
        let keepers = [
            (
                "plain", 7101,
                try network.startKeeper("plain", port: 7101, target: (PodNetwork.address(2), 8080), host: "x")
            ),
            (
                "plain", 7102,
                try network.startKeeper("plain", port: 7102, target: ("127.0.0.1", Int(Self.tunnelPort)), host: "x")
            ),
            (
                "client", 7103,
                try network.startKeeper("client", port: 7103, target: ("10.96.0.1", 80), host: "server.shop")
            ),
        ]
        defer { for keeper in keepers { keeper.2.stop() } }
        for account in [nil, "foo/sa/nobody", nil] {
            allow(account)
            for (pod, port, _) in keepers {
                try await settled {
                    let status = try await network.get(pod, "http://127.0.0.1:\(port)/").status
                    try #require(status != 599, "a changed policy ended a connection at \(port)")
                    return status == (account == nil ? 200 : 403)
                }
            }
        }

        #expect(plane.xds.clients.count == 2)
        for client in plane.xds.clients {
            for type in client.types { #expect(type.refusals == 0, "\(type.type): \(type.lastRefusal)") }
        }
    }
}
