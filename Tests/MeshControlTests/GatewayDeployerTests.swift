import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import MeshCLI
import MeshControl
import Testing

/// The whole control plane over an API server with the kinds that the installer installs: admission, defaults, validation
/// and server-side apply are real; nobody runs pods.
@Suite("Waypoints over an API server", .serialized, .timeLimit(.minutes(5)))
struct GatewayDeployerTests {
    static func cluster() async throws -> LabClusterClient {
        let directory = NSTemporaryDirectory() + "gateways-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let server = try APIServer(
            configuration: APIServerConfiguration(
                endpoints: [.init(host: "127.0.0.1", port: 6443)], pkiDirectory: directory))
        try await server.bootstrap()
        let client = server.client(named: "kubectl")
        for object in try Components.render(InstallValues()).flatMap(\.objects)
        where object.kind == "CustomResourceDefinition" {
            try await client.create(.customResourceDefinitions, object)
        }
        for name in ["istio-system", "ns1"] {
            try await client.create(.namespaces, KubeObject(.namespaces, name: name))
        }
        return client
    }

    static func running(
        _ cluster: LabClusterClient, _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        try await ControlServerTests.running(
            cluster,
            changing: {
                $0.settings.waypoints.image = "hub/martlet:1"
                $0.deploysWaypoints = true
            }, { _ in try await body() })
    }

    static let waypoint = KubeObject(
        .gateways, namespace: "ns1", name: "w",
        [
            "spec": [
                "gatewayClassName": "istio-waypoint",
                "listeners": [["name": "mesh", "port": 15008, "protocol": "HBONE"]],
            ]
        ])

    static func find(_ cluster: LabClusterClient, _ type: ResourceType, _ name: String = "w") async throws
        -> KubeObject?
    {
        try await cluster.find(type, namespace: "ns1", name: name)
    }
    static func gateway(_ cluster: LabClusterClient) async throws -> KubeObject {
        try await cluster.get(.gateways, namespace: "ns1", name: "w")
    }
    static func change(
        _ cluster: LabClusterClient, _ type: ResourceType, _ patch: JSONValue, name: String = "w"
    ) async throws {
        _ = try await cluster.patch(type, namespace: "ns1", name: name, subresource: nil, .merge(patch))
    }

    @Test("classes are made where they are missing, say what they support, and come back")
    func classes() async throws {
        let cluster = try await Self.cluster()
        try await cluster.create(
            .gatewayClasses,
            KubeObject(.gatewayClasses, name: "istio-remote", ["spec": ["controllerName": "example.com/other"]]))
        try await Self.running(cluster) {
            try await eventually("accepted") {
                try await cluster.find(.gatewayClasses, name: "istio-waypoint")?.condition("Accepted") == "True"
            }
            let made = try await cluster.get(.gatewayClasses, namespace: nil, name: "istio-waypoint")
            #expect(made.status["supportedFeatures"]?.array?.contains(["name": "Mesh"]) == true)
            let other = try await cluster.get(.gatewayClasses, namespace: nil, name: "istio-remote")
            #expect(other.spec["controllerName"] == "example.com/other", "what is there stays")
            #expect(other.condition("Accepted") == nil, "and is somebody else's")
            #expect(try await cluster.find(.gatewayClasses, name: "istio") == nil)
            try await cluster.delete(.gatewayClasses, name: "istio-waypoint")
            try await eventually("made again") {
                try await cluster.find(.gatewayClasses, name: "istio-waypoint") != nil
            }
        }
    }

    @Test("83, 89: a Gateway becomes objects, gets an address, and is programmed when a pod is ready")
    func programmed() async throws {
        let cluster = try await Self.cluster()
        try await cluster.create(.gateways, Self.waypoint)
        #expect(try await Self.gateway(cluster).condition("Accepted") == "Unknown", "as the definition says")
        try await Self.running(cluster) {
            try await eventually("deployed") { try await Self.find(cluster, .deployments) != nil }
            #expect(try await Self.find(cluster, .serviceAccounts) != nil)
            try await eventually("an address") {
                try await Self.gateway(cluster).status["addresses"]?.array?.count == 2
            }
            let service = try #require(try await Self.find(cluster, .services))
            var gateway = try await Self.gateway(cluster)
            #expect(gateway.status["addresses"]?[0]?["value"] == service.spec["clusterIP"])
            #expect(gateway.status["addresses"]?[1]?["value"] == "w.ns1.svc.cluster.local")
            #expect(gateway.condition("Accepted") == "True" && gateway.condition("Programmed") == "False")
            #expect(gateway.annotations["gateway.istio.io/controller-version"] == "5")
            #expect(service.ownerReferences.first?["uid"]?.string == gateway.uid)

            try await cluster.create(.endpointSlices, GatewayStatusTests.slice("w", ready: [true]))
            try await eventually("programmed") { try await Self.gateway(cluster).condition("Programmed") == "True" }
            gateway = try await Self.gateway(cluster)
            let listener = gateway.status["listeners"]?[0]
            #expect(listener?["attachedRoutes"] == 0 && listener?["supportedKinds"] == [])
            #expect(listener?["conditions"]?.array?.count == 4)
            let programmed = gateway.status["conditions"]?.array?.first { $0["type"] == "Programmed" }
            #expect(programmed?["observedGeneration"]?.int == gateway.generation)
        }
    }

    @Test("objects that somebody changes or removes are as they were again")
    func repaired() async throws {
        let cluster = try await Self.cluster()
        try await cluster.create(.gateways, Self.waypoint)
        try await Self.running(cluster) {
            try await eventually("deployed") { try await Self.find(cluster, .deployments) != nil }
            try await Self.change(cluster, .services, ["spec": ["selector": ["app": "mine"]]])
            try await eventually("selects its pods again") {
                try await Self.find(cluster, .services)?.spec["selector"]?["gateway.networking.k8s.io/gateway-name"]
                    == "w"
            }
            let before = try #require(try await Self.find(cluster, .deployments)).uid
            try await cluster.delete(.deployments, namespace: "ns1", name: "w")
            try await eventually("made again") {
                let now = try await Self.find(cluster, .deployments)
                return now != nil && now?.uid != before
            }
        }
    }

    @Test("what others say about an object stays: replicas by hand, labels of tools")
    func shared() async throws {
        let cluster = try await Self.cluster()
        try await cluster.create(.gateways, Self.waypoint)
        try await Self.running(cluster) {
            try await eventually("deployed") { try await Self.find(cluster, .deployments) != nil }
            try await Self.change(
                cluster, .deployments, ["spec": ["replicas": 3], "metadata": ["labels": ["tool": "x"]]])
            try await Self.change(cluster, .gateways, ["metadata": ["labels": ["team": "a"]]])
            try await eventually("the new label is on it") {
                try await Self.find(cluster, .deployments)?.labels["team"] == "a"
            }
            let deployment = try #require(try await Self.find(cluster, .deployments))
            #expect(deployment.spec["replicas"] == 3 && deployment.labels["tool"] == "x")
            try await Self.change(cluster, .gateways, ["metadata": ["labels": ["team": .null]]])
            try await eventually("and off it again") {
                try await Self.find(cluster, .deployments)?.labels["team"] == nil
            }
        }
    }

    @Test("88: an object of that name without our label is somebody's own, and never touched")
    func foreign() async throws {
        let cluster = try await Self.cluster()
        let own = KubeObject(
            .services, namespace: "ns1", name: "w",
            ["spec": ["selector": ["app": "mine"], "ports": [["port": 80, "protocol": "TCP"]]]])
        let before = try await cluster.create(.services, own)
        try await cluster.create(.gateways, Self.waypoint)
        try await Self.running(cluster) {
            try await eventually("the others are made") { try await Self.find(cluster, .deployments) != nil }
            try await eventually("its address is the Gateway's") {
                try await Self.gateway(cluster).status["addresses"]?[0]?["value"] == before.spec["clusterIP"]
            }
            #expect(try await Self.find(cluster, .services)?.resourceVersion == before.resourceVersion)
        }
    }

    @Test("90: an autoscaler comes with its overlay and goes with it")
    func overlays() async throws {
        let cluster = try await Self.cluster()
        try await cluster.create(
            .configMaps,
            KubeObject(
                .configMaps, namespace: "ns1", name: "options",
                [
                    "data": [
                        "horizontalPodAutoscaler": "spec: {minReplicas: 2, maxReplicas: 4}",
                        "podDisruptionBudget": "spec: {minAvailable: 1}",
                    ]
                ]))
        try await cluster.create(.gateways, Self.waypoint)
        try await Self.running(cluster) {
            try await eventually("deployed") { try await Self.find(cluster, .deployments) != nil }
            #expect(try await Self.find(cluster, .horizontalPodAutoscalers) == nil)
            try await Self.change(
                cluster, .gateways,
                [
                    "spec": [
                        "infrastructure": ["parametersRef": ["group": "", "kind": "ConfigMap", "name": "options"]]
                    ]
                ])
            try await eventually("made") {
                let scaler = try await Self.find(cluster, .horizontalPodAutoscalers)
                return try await Self.find(cluster, .podDisruptionBudgets) != nil && scaler?.spec["maxReplicas"] == 4
            }
            try await cluster.delete(.configMaps, namespace: "ns1", name: "options")
            try await eventually("said") { try await Self.gateway(cluster).condition("Accepted") == "False" }
            #expect(try await Self.find(cluster, .horizontalPodAutoscalers) != nil, "an error removes nothing")
            try await Self.change(cluster, .gateways, ["spec": ["infrastructure": .null]])
            try await eventually("gone") {
                let scaler = try await Self.find(cluster, .horizontalPodAutoscalers)
                return try await Self.find(cluster, .podDisruptionBudgets) == nil && scaler == nil
            }
            #expect(try await Self.find(cluster, .deployments) != nil)
        }
    }

    @Test("what the API server refuses is in the Gateway's status, and the other objects are made")
    func refused() async throws {
        let cluster = try await Self.cluster()
        try await cluster.create(
            .configMaps,
            KubeObject(
                .configMaps, namespace: "ns1", name: "options",
                ["data": ["service": "spec: {ports: [{port: 15008, name: mesh, targetPort: 700000}]}"]]))
        var gateway = Self.waypoint
        GatewayPlanTests.refer()(&gateway.json)
        try await cluster.create(.gateways, gateway)
        try await Self.running(cluster) {
            try await eventually("said") {
                let conditions = try await Self.gateway(cluster).status["conditions"]?.array ?? []
                return conditions.contains {
                    $0["type"] == "Programmed" && $0["message"]?.string?.contains("was refused") == true
                }
            }
            #expect(try await Self.find(cluster, .deployments) != nil)
        }
    }
}
