import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import MeshTestSupport
import Testing

/// Admission webhooks, answered by a server in Python: its TLS, HTTP and JSON are not ours.
@Suite(
    "Admission webhooks", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")), .serialized,
    .timeLimit(.minutes(3)))
struct WebhookTests {
    /// What it does is the path's last word. `/seen` answers GETs with the reviews so far.
    private static let server = """
        import base64, http.server, json, os, ssl, sys, threading, time
        seen = []
        def patch(*operations): return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(list(operations)).encode()).decode()}
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *a): pass
            def say(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
            def do_GET(self): self.say(200, seen)
            def do_POST(self):
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path, _, query = self.path.partition("?")
                request = review["request"]
                seen.append({"path": path, "query": query, "host": self.headers["Host"], "request": request})
                word = path.split("/")[-1]
                answer = {"uid": request["uid"], "allowed": True}
                labels = ((request["object"] or {}).get("metadata") or {}).get("labels") or {}
                if word == "sidecar":
                    answer.update(patch({"op": "add", "path": "/spec/containers/-", "value": {"name": "extra", "image": "e:1"}},
                        {"op": "add", "path": "/metadata/annotations", "value": {"by": "webhook"}}))
                    answer["warnings"] = ["a container was added"]
                elif word == "label":
                    if labels.get("count", "0") == "0": answer.update(patch({"op": "add", "path": "/metadata/labels", "value": dict(labels, first="yes")}))
                elif word == "count":
                    answer.update(patch({"op": "add", "path": "/metadata/labels", "value": dict(labels, count=str(int(labels.get("count", "0")) + 1))}))
                elif word == "deny": answer.update(allowed=False, status={"code": 422, "reason": "Invalid", "message": "not like this"})
                elif word == "silent": answer["allowed"] = False
                elif word == "uid": answer["uid"] = "other"
                elif word == "misfit": answer.update(patch({"op": "remove", "path": "/spec/nowhere"}))
                elif word == "rename": answer.update(patch({"op": "replace", "path": "/metadata/name", "value": "other"}))
                elif word == "slow": time.sleep(20)
                elif word == "broken": return self.say(500, "no luck")
                self.say(200, {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": answer})
        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            def handle_error(self, *a): pass
        server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        with open(sys.argv[3] + ".new", "w") as file: file.write(str(server.server_address[1]))
        os.rename(sys.argv[3] + ".new", sys.argv[3])
        server.serve_forever()
        """

    /// The server, its certificate for `hooks.default.svc` and 127.0.0.1, and a cluster that can call it.
    private final class Fixture: Sendable {
        let cluster: LabClusterClient
        let port: Int
        let bundle: String
        let scratch: Scratch
        private let process: ChildProgram

        init() async throws {
            self.scratch = try Scratch()
            let (certificate, key) = (self.scratch.path + "/cert.pem", self.scratch.path + "/key.pem")
            try await programs.check([
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "2", "-subj", "/CN=hooks", "-addext", "subjectAltName=DNS:hooks.default.svc,IP:127.0.0.1",
                "-keyout", key, "-out", certificate,
            ])
            self.bundle = try Data(contentsOf: URL(fileURLWithPath: certificate)).base64EncodedString()
            let portFile = self.scratch.path + "/port"
            self.process = try ChildProgram(["/usr/bin/python3", "-c", WebhookTests.server, certificate, key, portFile])
            // It names its port when it listens.
            while !FileManager.default.fileExists(atPath: portFile) {
                try #require(self.process.isRunning, "the webhook server ended")
                try await Task.sleep(for: .milliseconds(5))
            }
            self.port = try #require(Int(try String(contentsOfFile: portFile, encoding: .utf8)))
            self.cluster = try await makeCluster()
        }

        deinit { self.process.stop() }

        /// A Service with one endpoint, the server.
        func publishService() async throws {
            try await self.cluster.create(
                .services,
                KubeObject(
                    .services, namespace: "default", name: "hooks",
                    ["spec": ["ports": [["name": "https", "port": 443]]]]))
            try await self.cluster.create(
                .endpointSlices,
                KubeObject(
                    .endpointSlices, namespace: "default", name: "hooks-1",
                    labels: ["kubernetes.io/service-name": "hooks"],
                    [
                        "addressType": "IPv4", "ports": [["name": "https", "port": .int(Int64(self.port))]],
                        "endpoints": [["addresses": ["127.0.0.1"], "conditions": ["ready": true]]],
                    ]))
        }

        func hook(_ word: String, _ more: [String: JSONValue] = [:]) -> JSONValue {
            var hook: [String: JSONValue] = [
                "name": .string("\(word).hooks.test"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 30,
                "clientConfig": [
                    "url": .string("https://127.0.0.1:\(self.port)/\(word)"), "caBundle": .string(self.bundle),
                ],
                "rules": [
                    ["operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]]
                ],
            ]
            hook.merge(more) { $1 }
            return .object(hook)
        }

        func register(_ name: String = "hooks", mutating: Bool, _ hooks: [JSONValue]) async throws {
            let type = mutating ? WebhookTests.mutating : WebhookTests.validating
            try await self.cluster.create(type, KubeObject(type, name: name, ["webhooks": .array(hooks)]))
        }

        /// The reviews that arrived, read by a client that is not ours either.
        func seen() async throws -> [JSONValue] {
            let result = try await programs.check([
                "curl", "-sS", "--cacert", self.scratch.path + "/cert.pem", "https://127.0.0.1:\(self.port)/seen",
            ])
            return try JSONValue(parsing: Array(result.text.utf8)).array ?? []
        }
    }

    static let mutating = ResourceType(
        group: "admissionregistration.k8s.io", version: "v1", plural: "mutatingwebhookconfigurations",
        kind: "MutatingWebhookConfiguration", isNamespaced: false)
    static let validating = ResourceType(
        group: "admissionregistration.k8s.io", version: "v1", plural: "validatingwebhookconfigurations",
        kind: "ValidatingWebhookConfiguration", isNamespaced: false)

    private func pod(_ name: String, labels: [String: String] = [:]) -> KubeObject {
        KubeObject(
            .pods, namespace: "default", name: name, labels: labels,
            ["spec": ["containers": [["name": "c", "image": "i:1"]]]])
    }

    @Test("that patch are reached through their Service, and what they add is defaulted and admitted like the rest")
    func mutation() async throws {
        let fixture = try await Fixture()
        try await fixture.publishService()
        let service: JSONValue = [
            "service": ["namespace": "default", "name": "hooks", "path": "/sidecar"],
            "caBundle": .string(fixture.bundle),
        ]
        try await fixture.register(mutating: true, [fixture.hook("sidecar", ["clientConfig": service])])
        let made = try await fixture.cluster.create(.pods, self.pod("p"))
        let extra = try #require(made.spec["containers"]?.array?.last)
        #expect(extra["name"] == "extra" && made.annotations["by"] == "webhook")
        #expect(extra["terminationMessagePath"] == "/dev/termination-log", "the container was not defaulted")
        let mounts = (made.spec["containers"]?.array ?? []).map { $0["volumeMounts"]?[0]?["name"] }
        #expect(mounts[0] != nil && mounts[0] == mounts[1], "the container lacks the service account's token")
        #expect(made.spec["volumes"]?.array?.count == 1)

        let review = try #require(try await fixture.seen().first)
        #expect(review["host"] == "hooks.default.svc" && review["query"] == "timeout=30s")
        let request = try #require(review["request"])
        #expect(request["operation"] == "CREATE" && request["namespace"] == "default" && request["name"] == "p")
        #expect(request["kind"] == ["group": "", "version": "v1", "kind": "Pod"])
        #expect(request["resource"] == ["group": "", "version": "v1", "resource": "pods"])
        #expect(request["oldObject"] == .null && request["dryRun"] == false)
        #expect(request.at("options", "kind") == "CreateOptions")
        #expect(request.at("object", "spec", "restartPolicy") == "Always", "the webhook saw an object without defaults")
        #expect(request.at("object", "metadata", "uid") == nil)
    }

    @Test("do not see a name that the server generates")
    func generatedName() async throws {
        let fixture = try await Fixture()
        try await fixture.register(mutating: true, [fixture.hook("sidecar")])
        var object = self.pod("")
        object.json.set(["metadata", "name"], to: nil)
        object.json.set(["metadata", "generateName"], to: "web-")
        let made = try await fixture.cluster.create(.pods, object)
        #expect(made.name.hasPrefix("web-") && made.spec["containers"]?.array?.count == 2)
        let request = try #require(try await fixture.seen().first?["request"])
        #expect(request["name"] == "" && request.at("object", "metadata", "name") == nil)
    }

    @Test("that refuse are quoted, with their own status or 403")
    func refusals() async throws {
        let fixture = try await Fixture()
        try await fixture.register(
            "a", mutating: false, [fixture.hook("deny", ["objectSelector": ["matchLabels": ["a": "1"]]])])
        try await fixture.register(
            "b", mutating: false, [fixture.hook("silent", ["objectSelector": ["matchLabels": ["a": "2"]]])])
        let first = try await refusal { try await fixture.cluster.create(.pods, self.pod("p", labels: ["a": "1"])) }
        #expect(first.code == 422 && first.reason == "Invalid")
        #expect(first.message == "admission webhook \"deny.hooks.test\" denied the request: not like this")
        let second = try await refusal { try await fixture.cluster.create(.pods, self.pod("p", labels: ["a": "2"])) }
        #expect(second.code == 403)
        #expect(second.message == "admission webhook \"silent.hooks.test\" denied the request without explanation")
        try await fixture.cluster.create(.pods, self.pod("p"))
        #expect(try await fixture.seen().count == 2)
    }

    @Test(
        "that fail fail the write, or are passed over with failurePolicy Ignore",
        arguments: ["uid", "broken", "nowhere", "untrusted", "slow"])
    func failures(_ how: String) async throws {
        let fixture = try await Fixture()
        var more: [String: JSONValue] = [:]
        switch how {
        case "nowhere": more["clientConfig"] = ["service": ["namespace": "default", "name": "gone"]]
        case "untrusted": more["clientConfig"] = ["url": .string("https://127.0.0.1:\(fixture.port)/uid")]
        case "slow": more["timeoutSeconds"] = 1
        default: break
        }
        try await fixture.register(mutating: true, [fixture.hook(how, more)])
        let error = try await refusal { try await fixture.cluster.create(.pods, self.pod("p")) }
        #expect(error.code == 500 && error.reason == "InternalError")
        #expect(
            error.message.hasPrefix("Internal error occurred: failed calling webhook \"\(how).hooks.test\": "),
            "\(error.message)")
        let why = [
            "uid": "expected response.uid", "broken": "HTTP status 500", "nowhere": "service \"gone\" not found",
            "untrusted": "CERTIFICATE_VERIFY_FAILED", "slow": "context deadline exceeded",
        ]
        #expect(error.message.contains(why[how] ?? "?"), "\(error.message)")
        _ = try await fixture.cluster.patch(
            Self.mutating, namespace: nil, name: "hooks", subresource: nil,
            .json([["op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"]]))
        try await fixture.cluster.create(.pods, self.pod("p"))
    }

    @Test(
        "whose patches do not fit, or rename the object, fail the write whatever their failurePolicy",
        arguments: ["misfit", "rename"])
    func badPatches(_ word: String) async throws {
        let fixture = try await Fixture()
        try await fixture.register(mutating: true, [fixture.hook(word, ["failurePolicy": "Ignore"])])
        let error = try await refusal { try await fixture.cluster.create(.pods, self.pod("p")) }
        #expect(error.code == 500 && error.message.contains("\(word).hooks.test"), "\(error.message)")
    }

    @Test("run in order of their configurations' names, each on what the one before made")
    func order() async throws {
        let fixture = try await Fixture()
        try await fixture.register("b", mutating: true, [fixture.hook("count")])
        try await fixture.register("a", mutating: true, [fixture.hook("label")])
        let made = try await fixture.cluster.create(.pods, self.pod("p"))
        #expect(made.labels == ["first": "yes", "count": "1"])
        #expect(try await fixture.seen().map { $0["path"] } == ["/label", "/count"])
    }

    @Test("with reinvocationPolicy IfNeeded are asked once more after a later change")
    func reinvocation() async throws {
        let fixture = try await Fixture()
        try await fixture.register("a", mutating: true, [fixture.hook("count", ["reinvocationPolicy": "IfNeeded"])])
        try await fixture.register("b", mutating: true, [fixture.hook("sidecar", ["reinvocationPolicy": "IfNeeded"])])
        let made = try await fixture.cluster.create(.pods, self.pod("p"))
        #expect(try await fixture.seen().map { $0["path"] } == ["/count", "/sidecar", "/count"])
        #expect(made.labels["count"] == "2")
    }

    @Test("select by the namespace's labels; namespaces by their own; other cluster-scoped objects are always selected")
    func namespaces() async throws {
        let fixture = try await Fixture()
        let rules: JSONValue = [
            [
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["*"],
                "resources": ["configmaps", "namespaces", "nodes"],
            ]
        ]
        try await fixture.register(
            mutating: false,
            [fixture.hook("deny", ["rules": rules, "namespaceSelector": ["matchLabels": ["guarded": "yes"]]])])
        func namespace(_ name: String, _ labels: [String: String]) -> KubeObject {
            KubeObject(.namespaces, name: name, labels: labels)
        }
        try await fixture.cluster.create(.configMaps, configMap("a"))
        try await fixture.cluster.create(.namespaces, namespace("open", [:]))
        #expect(
            try await refusal { try await fixture.cluster.create(.namespaces, namespace("shut", ["guarded": "yes"])) }
                .code == 422)
        #expect(
            try await refusal { try await fixture.cluster.create(.nodes, KubeObject(.nodes, name: "n")) }.code == 422)
        _ = try await fixture.cluster.patch(
            .namespaces, namespace: nil, name: "default", subresource: nil,
            .merge(["metadata": ["labels": ["guarded": "yes"]]]))
        #expect(try await refusal { try await fixture.cluster.create(.configMaps, configMap("b")) }.code == 422)
    }

    @Test("see updates with the old object, status writes only when asked for, and may forbid deletions")
    func operations() async throws {
        let fixture = try await Fixture()
        func rules(_ operation: JSONValue, _ resource: JSONValue) -> JSONValue {
            [["operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]]]
        }
        try await fixture.cluster.create(.pods, self.pod("p"))
        try await fixture.register(
            mutating: false,
            [
                fixture.hook("update", ["rules": rules("UPDATE", "pods")]),
                fixture.hook("status", ["rules": rules("UPDATE", "pods/status")]),
                fixture.hook("deny", ["rules": rules("DELETE", "pods")]),
            ])
        _ = try await fixture.cluster.patch(
            .pods, namespace: "default", name: "p", subresource: nil, .merge(["metadata": ["labels": ["x": "1"]]]))
        _ = try await fixture.cluster.patch(
            .pods, namespace: "default", name: "p", subresource: "status", .merge(["status": ["phase": "Running"]]))
        let error = try await refusal { try await fixture.cluster.delete(.pods, namespace: "default", name: "p") }
        #expect(error.code == 422)
        let seen = try await fixture.seen()
        #expect(seen.map { $0["path"] } == ["/update", "/status", "/deny"])
        #expect(seen[0].at("request", "oldObject", "metadata", "labels") == nil)
        #expect(seen[0].at("request", "object", "metadata", "labels", "x") == "1")
        #expect(seen[1].at("request", "subResource") == "status")
        #expect(
            seen[2].at("request", "object") == .null && seen[2].at("request", "oldObject", "metadata", "name") == "p")
    }

    @Test("whose rules name another version of the kind see the object in that version, unless they want it exactly")
    func equivalents() async throws {
        let fixture = try await Fixture()
        let rules: JSONValue = [
            [
                "operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
                "resources": ["horizontalpodautoscalers"],
            ]
        ]
        try await fixture.register("a", mutating: true, [fixture.hook("label", ["rules": rules])])
        try await fixture.register(
            "b", mutating: true, [fixture.hook("count", ["rules": rules, "matchPolicy": "Exact"])])
        let made = try await fixture.cluster.create(
            .horizontalPodAutoscalers,
            KubeObject(
                .horizontalPodAutoscalers, namespace: "default", name: "h",
                [
                    "spec": [
                        "maxReplicas": 2,
                        "scaleTargetRef": ["kind": "Deployment", "name": "d", "apiVersion": "apps/v1"],
                    ]
                ]))
        #expect(made.apiVersion == "autoscaling/v2" && made.labels == ["first": "yes"])
        let request = try #require(try await fixture.seen().first?["request"])
        #expect(request.at("object", "apiVersion") == "autoscaling/v1" && request.at("kind", "version") == "v1")
        #expect(request.at("requestKind", "version") == "v2")
        #expect(try await fixture.seen().count == 1)
    }

    @Test("give their warnings to the client, and know a dry run", .timeLimit(.minutes(3)))
    func overHTTP() async throws {
        let fixture = try await Fixture()
        let hook = fixture.hook("sidecar")
        let scratch = try Scratch()
        let configuration = APIServerConfiguration(
            endpoints: [.init(host: "127.0.0.1", port: 0)], pkiDirectory: scratch.path)
        try await serving(configuration) { server, port in
            try await server.cluster.create(
                .serviceAccounts, KubeObject(.serviceAccounts, namespace: "default", name: "default"))
            try await server.cluster.create(
                Self.mutating, KubeObject(Self.mutating, name: "hooks", ["webhooks": [hook]]))
            let body = self.pod("p").json.description
            let answer = try await programs.check([
                "curl", "-sS", "-i", "--cacert", scratch.path + "/ca.crt", "-H",
                "Authorization: Bearer \(server.pki.adminToken)", "-H", "Content-Type: application/json",
                "-d", body, "https://127.0.0.1:\(port)/api/v1/namespaces/default/pods?dryRun=All",
            ]).text
            #expect(
                answer.contains("warning: 299 - \"a container was added\"")
                    || answer.contains("Warning: 299 - \"a container was added\""), "\(answer)")
            #expect(answer.contains("\"extra\""))
        }
        let request = try #require(try await fixture.seen().first?["request"])
        #expect(request["dryRun"] == true)
    }

    @Test("are checked when their configuration is written, and never asked about such configurations")
    func configurations() async throws {
        let fixture = try await Fixture()
        let cases: [(String, [String: JSONValue])] = [
            ("webhooks[0].matchConditions", ["matchConditions": [["name": "a", "expression": "true"]]]),
            ("webhooks[0].clientConfig", ["clientConfig": [:]]),
            ("webhooks[0].clientConfig.url", ["clientConfig": ["url": "http://127.0.0.1/"]]),
            ("webhooks[0].clientConfig.caBundle", ["clientConfig": ["url": "https://h/", "caBundle": "bm8="]]),
            ("webhooks[0].sideEffects", ["sideEffects": "Some"]),
            ("webhooks[0].admissionReviewVersions", ["admissionReviewVersions": ["v1beta1"]]),
            ("webhooks[0].timeoutSeconds", ["timeoutSeconds": 31]),
            ("webhooks[0].name", ["name": "short"]),
            (
                "webhooks[0].objectSelector",
                ["objectSelector": ["matchExpressions": [["key": "a", "operator": "Near"]]]]
            ),
            (
                "webhooks[0].rules[0].operations",
                ["rules": [["operations": ["READ"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]]]]
            ),
        ]
        for (field, more) in cases {
            let error = try await refusal {
                try await fixture.register(mutating: true, [fixture.hook("x", more)])
            }
            let fields = error.details["causes"]?.array?.compactMap { $0["field"]?.string }
            #expect(error.code == 422 && fields == [field], "\(error.message)")
        }
        let everything: JSONValue = [
            ["operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]]
        ]
        try await fixture.register(mutating: false, [fixture.hook("deny", ["rules": everything])])
        #expect(try await refusal { try await fixture.cluster.create(.configMaps, configMap("a")) }.code == 422)
        try await fixture.cluster.delete(Self.validating, namespace: nil, name: "hooks")
        try await fixture.cluster.create(.configMaps, configMap("a"))
    }
}
