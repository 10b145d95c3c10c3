import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import Testing

private let binaries: [String] = {
    let environment = ProcessInfo.processInfo.environment
    let isExecutable = { FileManager.default.isExecutableFile(atPath: $0) }
    if let named = environment["MARTLET_KUBECTL"] {
        return named.split(separator: ":").map(String.init).filter(isExecutable)
    }
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    let places = (environment["PATH"] ?? "").split(separator: ":").map(String.init) + ["\(root.path)/.tools/bin"]
    return places.map { "\($0)/kubectl" }.first(where: isExecutable).map { [$0] } ?? []
}()

/// A real kubectl against a server on a loopback port: the one on the path, or the one that scripts/prepare.sh brings.
/// `MARTLET_KUBECTL` names others, colon-separated.
@Suite(
    "kubectl against the API server",
    .enabled(if: !binaries.isEmpty, "SKIPPED: NO kubectl on the path; scripts/prepare.sh brings one"),
    .serialized, .timeLimit(.minutes(5)))
struct KubectlTests {
    struct Result {
        var code: Int32
        /// Standard output and error together.
        var text: String
    }

    struct Kubectl: Sendable {
        let binary: String
        let scratch: Scratch
        let pki: ClusterPKI.Material
        let server: String
        var kubeconfig: String { self.scratch.path + "/kubeconfig" }

        func callAsFunction(_ command: String, stdin: String? = nil) async throws -> Result {
            let result = try await programs.run(
                ["/bin/bash", "-c", "exec \(self.binary) \(command) 2>&1"],
                environment: [
                    "HOME": self.scratch.path, "KUBECONFIG": self.kubeconfig, "PATH": "/usr/bin:/bin", "LANG": "C",
                ], input: Array((stdin ?? "").utf8))
            return Result(code: result.exit.code, text: result.text)
        }
    }

    /// Runs `body` beside a serving API server.
    private func serving(
        _ binary: String, _ body: @escaping @Sendable (Kubectl, LabClusterClient) async throws -> Void
    ) async throws {
        let scratch = try Scratch()
        let configuration = APIServerConfiguration(
            endpoints: [.init(host: "127.0.0.1", port: 0)], dataDirectory: scratch.path + "/data",
            pkiDirectory: scratch.path + "/pki")
        try await LabAPIServerTests.serving(configuration) { server, port in
            let address = "https://127.0.0.1:\(port)"
            let text = ClusterPKI.kubeconfig(server.pki, server: address, name: "lab")
            let kubectl = Kubectl(binary: binary, scratch: scratch, pki: server.pki, server: address)
            try text.write(toFile: kubectl.kubeconfig, atomically: true, encoding: .utf8)
            try await body(kubectl, server.client(named: "test"))
        }
    }

    private func expect(
        _ kubectl: Kubectl, _ command: String, stdin: String? = nil, _ wanted: String..., code: Int32 = 0,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let result = try await kubectl(command, stdin: stdin)
        #expect(result.code == code, "\(command): \(result.text)", sourceLocation: sourceLocation)
        for text in wanted {
            #expect(result.text.contains(text), "\(command): \(result.text)", sourceLocation: sourceLocation)
        }
    }

    private static let app = """
        apiVersion: v1
        kind: Service
        metadata: {name: sleep}
        spec:
          selector: {app: sleep}
          ports: [{name: http, port: 80, targetPort: http}]
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: sleep}
        spec:
          replicas: 1
          selector: {matchLabels: {app: sleep}}
          template:
            metadata: {labels: {app: sleep}}
            spec:
              containers:
              - name: sleep
                image: sleep:1
                ports: [{name: http, containerPort: 8080}]
        """

    @Test("namespaces, labels and version", arguments: binaries)
    func namespaces(binary: String) async throws {
        try await self.serving(binary) { kubectl, _ in
            try await self.expect(kubectl, "version", "Server Version: v1.37")
            try await self.expect(kubectl, "get --raw /readyz", "ok")
            try await self.expect(kubectl, "cluster-info", "Kubernetes control plane is running at")
            try await self.expect(
                kubectl, "get ns", "default ", "kube-node-lease", "kube-public", "kube-system", "Active")
            try await self.expect(kubectl, "create namespace foo", "namespace/foo created")
            try await self.expect(
                kubectl, "create namespace foo",
                "Error from server (AlreadyExists): namespaces \"foo\" already exists", code: 1)
            try await self.expect(kubectl, "label namespace foo istio-injection=enabled", "namespace/foo labeled")
            try await self.expect(kubectl, "label namespace foo istio-injection=enabled", "namespace/foo not labeled")
            try await self.expect(kubectl, "get ns -L istio.io/dataplane-mode", "DATAPLANE-MODE")
            try await self.expect(
                kubectl, "label ns foo istio.io/dataplane-mode=ambient --overwrite", "namespace/foo labeled")
            try await self.expect(kubectl, "get ns foo -L istio.io/dataplane-mode", "ambient")
            try await self.expect(kubectl, "label ns foo istio-injection-", "namespace/foo unlabeled")
            try await self.expect(
                kubectl, "get ns nope", "Error from server (NotFound): namespaces \"nope\" not found", code: 1)
            try await self.expect(kubectl, "get pods -n foo", "No resources found in foo namespace.")
            try await self.expect(
                kubectl, "get nosuchkind", "the server doesn't have a resource type \"nosuchkind\"", code: 1)
            try await self.expect(kubectl, "auth can-i create pods", "yes")
            try await self.expect(kubectl, "auth whoami", "system:admin", "system:masters")
            try await self.expect(
                kubectl, "auth can-i create pods --as=nobody", "no", code: 1)
        }
    }

    @Test("create, apply, diff, patch and delete", arguments: binaries)
    func objects(binary: String) async throws {
        try await self.serving(binary) { kubectl, _ in
            try await self.expect(
                kubectl, "create -f -", stdin: Self.app, "service/sleep created", "deployment.apps/sleep created")
            try await self.expect(kubectl, "get svc,deploy", "80/TCP", "10.43.", "0/1")
            try await self.expect(
                kubectl, "apply -f -", stdin: Self.app, "missing the kubectl.kubernetes.io/last-applied-configuration",
                "service/sleep configured", "deployment.apps/sleep configured")
            try await self.expect(
                kubectl, "apply -f -", stdin: Self.app, "service/sleep unchanged", "deployment.apps/sleep unchanged")
            try await self.expect(kubectl, "diff -f -", stdin: Self.app)
            try await self.expect(
                kubectl, "diff -f -", stdin: Self.app.replacing("sleep:1", with: "sleep:2"), "+      - image: sleep:2",
                code: 1)
            try await self.expect(
                kubectl, "apply --server-side -f -", stdin: Self.app, "service/sleep serverside-applied",
                "deployment.apps/sleep serverside-applied")
            let managed = try await kubectl("get deploy sleep -o yaml --show-managed-fields")
            #expect(managed.text.contains("operation: Apply") && !managed.text.contains("kubectl-client-side-apply"))
            try await self.expect(
                kubectl, "create secret generic s1 --from-literal=a=b", "secret/s1 created")
            try await self.expect(kubectl, "patch secret s1 -p '{\"stringData\":{\"x\":\"y\"}}'", "patched")
            try await self.expect(kubectl, "get secret s1 -o jsonpath='{.data.x}'", "eQ==")
            try await self.expect(
                kubectl,
                "patch deploy sleep --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":2}]'",
                "patched")
            try await self.expect(
                kubectl, "patch deploy sleep --type=merge -p '{\"metadata\":{\"annotations\":{\"k\":\"v\"}}}'",
                "patched")
            try await self.expect(
                kubectl, "patch deploy sleep --type=merge -p '{\"metadata\":{\"annotations\":{\"k\":\"v\"}}}'",
                "patched (no change)")
            try await self.expect(kubectl, "annotate deploy sleep k-", "annotated")
            try await self.expect(kubectl, "scale deploy/sleep --replicas=3", "deployment.apps/sleep scaled")
            try await self.expect(kubectl, "set image deploy/sleep sleep=other:1", "image updated")
            try await self.expect(kubectl, "describe deploy sleep", "other:1", "3 desired")
            try await self.expect(kubectl, "create configmap c --from-literal=a=1", "configmap/c created")
            try await self.expect(kubectl, "create sa robot", "serviceaccount/robot created")
            try await self.expect(
                kubectl, "create role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r created")
            try await self.expect(
                kubectl, "create rolebinding rb --role=r --serviceaccount=default:robot",
                "rolebinding.rbac.authorization.k8s.io/rb created")
            try await self.expect(
                kubectl, "auth can-i get pods --as=system:serviceaccount:default:robot", "yes")
            try await self.expect(
                kubectl, "auth can-i list pods --as=system:serviceaccount:default:robot", "no", code: 1)
            let token = try await kubectl("create token robot --duration=1h --audience=istio-ca")
            #expect(token.code == 0 && token.text.split(separator: ".").count == 3, "\(token.text)")
            try await self.expect(kubectl, "delete deploy sleep", "\"sleep\" deleted")
            try await self.expect(kubectl, "delete svc sleep --wait=true", "\"sleep\" deleted")
            let wrong = kubectl.scratch.path + "/wrong"
            try ClusterPKI.kubeconfig(kubectl.pki, server: kubectl.server, name: "lab", token: "wrong")
                .write(toFile: wrong, atomically: true, encoding: .utf8)
            try await self.expect(
                kubectl, "get ns --kubeconfig=\(wrong)", "You must be logged in to the server (Unauthorized)", code: 1)
            let node = try ClusterPKI.token(kubectl.pki, for: .node("n1"))
            try ClusterPKI.kubeconfig(kubectl.pki, server: kubectl.server, name: "lab", token: node)
                .write(toFile: wrong, atomically: true, encoding: .utf8)
            try await self.expect(kubectl, "auth whoami --kubeconfig=\(wrong)", "system:node:n1", "system:nodes")
        }
    }

    private static let crd = JSONValue.object(widgetDefinition.object ?? [:]).description
    private static func widget(_ spec: String) -> String {
        "apiVersion: lab.test/v1\nkind: Widget\nmetadata: {name: w}\nspec: \(spec)\n"
    }

    @Test("custom kinds", arguments: binaries)
    func customKinds(binary: String) async throws {
        try await self.serving(binary) { kubectl, cluster in
            try await self.expect(
                kubectl, "apply -f -", stdin: Self.widget("{size: 1}"), "no matches for kind \"Widget\"",
                "ensure CRDs are installed first", code: 1)
            try await self.expect(
                kubectl, "apply -f -", stdin: Self.crd,
                "customresourcedefinition.apiextensions.k8s.io/widgets.lab.test created")
            // Discovery was cached before the definition came; kubectl looks again by itself.
            try await self.expect(kubectl, "apply -f -", stdin: Self.widget("{size: 1}"), "widget.lab.test/w created")
            try await self.expect(
                kubectl, "wait --for=condition=Established crd/widgets.lab.test --timeout=10s", "condition met")
            try await self.expect(kubectl, "get crd widgets.lab.test", "CREATED AT")
            try await self.expect(kubectl, "get wi -A", "NAMESPACE", "SIZE")
            try await self.expect(kubectl, "get wi w -o yaml", "color: red")
            try await self.expect(kubectl, "describe widget w", "Events:", "<none>")
            try await self.expect(
                kubectl, "apply -f -", stdin: Self.widget("{size: abc}"), "The Widget \"w\" is invalid", "spec.size",
                "must be of type integer", code: 1)
            try await self.expect(
                kubectl, "apply -f -", stdin: Self.widget("{size: 2, foo: 1}"), "strict decoding error",
                "unknown field \"spec.foo\"", code: 1)
            try await self.expect(
                kubectl, "apply --validate=warn -f -", stdin: Self.widget("{size: 2, foo: 1}"),
                "unknown field \"spec.foo\"", "configured")
            try await self.expect(kubectl, "explain widget.spec", "color", "size", "-required-")
            try await self.expect(kubectl, "api-resources --api-group=lab.test", "widgets", "wi", "true")
            async let waiting = kubectl("wait --for=jsonpath='{.status.phase}'=Done widget/w --timeout=30s")
            _ = try await cluster.patch(
                widgets, namespace: "default", name: "w", subresource: "status", .merge(["status": ["phase": "Done"]]))
            let waited = try await waiting
            #expect(waited.code == 0 && waited.text.contains("condition met"), "\(waited.text)")
            try await self.expect(kubectl, "delete wi w", "\"w\" deleted")
            try await self.expect(kubectl, "delete crd widgets.lab.test", "deleted")
        }
    }
}
