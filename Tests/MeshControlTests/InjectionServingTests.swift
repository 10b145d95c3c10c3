import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import MeshCLI
import MeshControl
import Testing

/// The control plane's webhooks, asked by an API server over TLS, with what the installer installs.
@Suite("Webhooks of the control plane", .serialized, .timeLimit(.minutes(5)))
struct InjectionServingTests {
    /// A control plane whose Service leads to it, and the objects of its webhooks.
    private static func running(
        _ body: @escaping @Sendable (LabClusterClient) async throws -> Void
    ) async throws {
        let cluster = try await GatewayDeployerTests.cluster()
        try await ControlServerTests.running(cluster) { ports in
            try await Self.publish(cluster, port: ports.webhooks)
            for object in try Components.render(InstallValues()).flatMap(\.objects) {
                switch object.kind {
                case "MutatingWebhookConfiguration": try await cluster.create(.mutatingWebhookConfigurations, object)
                case "ValidatingWebhookConfiguration":
                    try await cluster.create(.validatingWebhookConfigurations, object)
                case "ConfigMap" where object.name == "istio-sidecar-injector":
                    try await cluster.create(.configMaps, object)
                default: break
                }
            }
            try await eventually("root certificates in all webhooks") { try await Self.hasRoots(cluster) }
            try await body(cluster)
        }
    }

    private static func publish(_ cluster: LabClusterClient, port: Int) async throws {
        try await cluster.create(
            .services,
            KubeObject(
                .services, namespace: "istio-system", name: "istiod",
                ["spec": ["ports": [["name": "https-webhook", "port": 443, "targetPort": 15017]]]]))
        try await cluster.create(
            .endpointSlices,
            KubeObject(
                .endpointSlices, namespace: "istio-system", name: "istiod-1",
                labels: ["kubernetes.io/service-name": "istiod"],
                [
                    "addressType": "IPv4", "ports": [["name": "https-webhook", "port": .int(Int64(port))]],
                    "endpoints": [["addresses": ["127.0.0.1"], "conditions": ["ready": true]]],
                ]))
        for (name, labels) in [("foo", ["istio-injection": "enabled"]), ("plain", [:])] {
            try await cluster.create(.namespaces, KubeObject(.namespaces, name: name, labels: labels))
            try await cluster.create(.serviceAccounts, KubeObject(.serviceAccounts, namespace: name, name: "default"))
        }
    }

    private static func hasRoots(_ cluster: LabClusterClient) async throws -> Bool {
        for type: ResourceType in [.mutatingWebhookConfigurations, .validatingWebhookConfigurations] {
            for configuration in try await cluster.list(type).items {
                let bundles = (configuration.json["webhooks"]?.array ?? []).map {
                    $0.at("clientConfig", "caBundle")?.string ?? ""
                }
                if bundles.isEmpty || bundles.contains("") { return false }
            }
        }
        return true
    }

    private static func pod(
        _ name: String, in namespace: String, labels: [String: String] = [:], annotations: [String: String] = [:]
    ) -> KubeObject {
        KubeObject(
            .pods, namespace: namespace, name: name, labels: labels, annotations: annotations,
            ["spec": ["containers": [["name": "app", "image": "i:1"]]]])
    }

    private static func containers(_ pod: KubeObject) -> [String] {
        (pod.spec["containers"]?.array ?? []).compactMap { $0["name"]?.string }
    }

    private static func refusal(_ body: () async throws -> Void) async -> StatusError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? StatusError
        }
    }

    @Test("pods get sidecars where labels say so, with the token that the cluster gives every container")
    func injection() async throws {
        try await Self.running { cluster in
            // The control plane reads its ConfigMap when it changes.
            try await eventually("injection is configured") {
                let error = await Self.refusal { try await cluster.create(.pods, Self.pod("first", in: "foo")) }
                return error?.code != 500
            }
            let made = try await cluster.get(.pods, namespace: "foo", name: "first")
            #expect(Self.containers(made) == ["app", "istio-proxy"])
            let proxy = made.spec["containers"]?.array?.last
            #expect(proxy?["image"] == .string(InstallValues().envoyImage))
            let mounts = (proxy?["volumeMounts"]?.array ?? []).compactMap { $0["mountPath"]?.string }
            #expect(mounts.contains("/var/run/secrets/kubernetes.io/serviceaccount"))
            #expect(made.annotations["sidecar.istio.io/status"] != nil)

            let name = "sidecar.istio.io/inject"
            let out = try await cluster.create(.pods, Self.pod("out", in: "foo", labels: [name: "false"]))
            #expect(Self.containers(out) == ["app"])
            #expect(Self.containers(try await cluster.create(.pods, Self.pod("a", in: "plain"))) == ["app"])
            let asks = try await cluster.create(.pods, Self.pod("b", in: "plain", labels: [name: "true"]))
            #expect(Self.containers(asks) == ["app", "istio-proxy"])

            let wrong = await Self.refusal {
                try await cluster.create(
                    .pods, Self.pod("c", in: "foo", annotations: ["sidecar.istio.io/interceptionMode": "TPROXY"]))
            }
            #expect(wrong?.code == 422 && wrong?.message.contains("TPROXY") == true, "\(wrong?.message ?? "")")
        }
    }

    @Test("objects that nothing could follow are refused with the place of the fault")
    func validation() async throws {
        try await Self.running { cluster in
            func policy(_ name: String, _ spec: JSONValue) -> KubeObject {
                KubeObject(.authorizationPolicies, namespace: "ns1", name: name, ["spec": spec])
            }
            let rule: JSONValue = ["to": [["operation": ["ports": ["80"]]]]]
            try await cluster.create(.authorizationPolicies, policy("good", ["action": "DENY", "rules": [rule]]))
            let bad = await Self.refusal {
                try await cluster.create(.authorizationPolicies, policy("bad", ["action": "DENY"]))
            }
            #expect(bad?.message.contains("admission webhook \"validation.istio.io\" denied the request") == true)
            #expect(bad?.message.contains("spec.rules: DENY without rules") == true, "\(bad?.message ?? "")")
        }
    }

    @Test("a configuration that is applied anew gets its root certificates again")
    func repair() async throws {
        try await Self.running { cluster in
            _ = try await cluster.patch(
                .mutatingWebhookConfigurations, namespace: nil, name: "istio-sidecar-injector", subresource: nil,
                .json([["op": "remove", "path": "/webhooks/1/clientConfig/caBundle"]]))
            try await eventually("root certificates again") { try await Self.hasRoots(cluster) }
        }
    }
}
