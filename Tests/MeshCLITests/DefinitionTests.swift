import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import MeshCLI
import Testing

/// The kinds that the installer brings, on an API server that takes them at their word.
@Suite("Installed kinds")
struct DefinitionTests {
    static func cluster(installing: Bool = true) async throws -> LabClusterClient {
        let directory = NSTemporaryDirectory() + "definitions-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let server = try APIServer(
            configuration: APIServerConfiguration(
                endpoints: [.init(host: "127.0.0.1", port: 6443)], pkiDirectory: directory))
        try await server.bootstrap()
        let client = server.client(named: "kubectl")
        guard installing else { return client }
        for object in try Components.render(InstallValues()).flatMap(\.objects)
        where object.kind == "CustomResourceDefinition" {
            let made = try await client.create(.customResourceDefinitions, object)
            #expect(made.condition("Established") == "True", "\(object.name)")
        }
        return client
    }

    static func type(_ plural: String, _ kind: String, version: String = "v1") -> ResourceType {
        ResourceType(
            group: "gateway.networking.k8s.io", version: version, plural: plural, kind: kind, isNamespaced: true)
    }
    static let httpRoutes = Self.type("httproutes", "HTTPRoute")

    static func route(_ type: ResourceType, _ spec: JSONValue) -> KubeObject {
        KubeObject(type, namespace: "default", name: "r", ["spec": spec])
    }

    static func refusal(_ cluster: LabClusterClient, _ type: ResourceType, _ spec: JSONValue) async -> String? {
        do {
            try await cluster.create(type, Self.route(type, spec))
            return nil
        } catch {
            return "\(error)"
        }
    }

    @Test("a route that says little means what the standard says it means")
    func defaults() async throws {
        let cluster = try await Self.cluster()
        let made = try await cluster.create(
            Self.httpRoutes,
            Self.route(
                Self.httpRoutes,
                [
                    "parentRefs": [["kind": "Service", "group": "", "name": "s", "port": 80]],
                    "rules": [
                        [
                            "matches": [["headers": [["name": "version", "value": "2"]]]],
                            "filters": [
                                ["type": "RequestRedirect", "requestRedirect": ["hostname": "a.example"]],
                                [
                                    "type": "RequestMirror",
                                    "requestMirror": ["backendRef": ["name": "m"], "fraction": ["numerator": 1]],
                                ],
                            ],
                            "backendRefs": [["name": "b", "port": 80]],
                        ],
                        ["backendRefs": [["name": "b", "port": 80]]],
                    ],
                ]))
        #expect(made.spec["parentRefs"]?[0] == ["kind": "Service", "group": "", "name": "s", "port": 80])
        let rule = try #require(made.spec["rules"]?[0])
        #expect(rule["matches"]?[0]?["path"] == ["type": "PathPrefix", "value": "/"])
        #expect(rule["matches"]?[0]?["headers"]?[0]?["type"] == "Exact")
        #expect(rule["filters"]?[0]?.at("requestRedirect", "statusCode") == 302)
        #expect(rule["filters"]?[1]?.at("requestMirror", "fraction", "denominator") == 100)
        #expect(
            rule["backendRefs"]?[0] == ["group": "", "kind": "Service", "name": "b", "port": 80, "weight": 1])
        #expect(made.spec["rules"]?[1]?["matches"] == [["path": ["type": "PathPrefix", "value": "/"]]])
        // The former version is the same object.
        let old = try await cluster.get(
            Self.type("httproutes", "HTTPRoute", version: "v1beta1"), namespace: "default", name: "r")
        #expect(old.spec == made.spec)
    }

    @Test("every filter and option of the standard is kept")
    func kept() async throws {
        let cluster = try await Self.cluster()
        let change: JSONValue = [
            "set": [["name": "a", "value": "1"]], "add": [["name": "b", "value": "2"]], "remove": ["c"],
        ]
        let spec: JSONValue = [
            "parentRefs": [["group": "", "kind": "Service", "namespace": "n", "name": "s"]],
            "hostnames": ["*.example.com"],
            "rules": [
                [
                    "name": "first",
                    "matches": [
                        [
                            "path": ["type": "RegularExpression", "value": "/a.*"], "method": "GET",
                            "queryParams": [["name": "q", "type": "Exact", "value": "1"]],
                        ]
                    ],
                    "filters": [
                        ["type": "RequestHeaderModifier", "requestHeaderModifier": change],
                        ["type": "ResponseHeaderModifier", "responseHeaderModifier": change],
                        [
                            "type": "URLRewrite",
                            "urlRewrite": [
                                "hostname": "h.example",
                                "path": ["type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"],
                            ],
                        ],
                        [
                            "type": "CORS",
                            "cors": [
                                "allowOrigins": ["https://a.example"], "allowMethods": ["GET", "*"],
                                "allowHeaders": ["x-a"], "exposeHeaders": ["x-b"], "allowCredentials": true,
                                "maxAge": 60,
                            ],
                        ],
                    ],
                    "backendRefs": [
                        [
                            "group": "", "kind": "Service", "name": "b", "port": 80, "weight": 0,
                            "filters": [["type": "RequestHeaderModifier", "requestHeaderModifier": change]],
                        ]
                    ],
                    "timeouts": ["request": "10s", "backendRequest": "1500ms"],
                    "retry": ["codes": [503], "attempts": 2, "backoff": "100ms"],
                    "sessionPersistence": [
                        "sessionName": "s", "type": "Cookie", "absoluteTimeout": "1h",
                        "cookieConfig": ["lifetimeType": "Permanent"],
                    ],
                ]
            ],
        ]
        let made = try await cluster.create(Self.httpRoutes, Self.route(Self.httpRoutes, spec))
        #expect(made.spec == spec)
    }

    @Test(
        "what the standard forbids is refused by name",
        arguments: [
            (["rules": [["matches": [["path": ["type": "Glob"]]]]]], "spec.rules[0].matches[0].path.type"),
            (["rules": [["matches": [["method": "get"]]]]], "method"),
            (["rules": [["backendRefs": [["name": "b", "weight": -1]]]]], "weight"),
            (["rules": [["backendRefs": [["name": "b", "port": 0]]]]], "port"),
            (["rules": [["backendRefs": [["port": 80]]]]], "spec.rules[0].backendRefs[0].name"),
            (["rules": [["timeouts": ["request": "10"]]]], "timeouts.request"),
            (["rules": [["filters": [["requestRedirect": [:]]]]]], "filters[0].type"),
            (["rules": [["filters": [["type": "Other"]]]]], "filters[0].type"),
            (
                ["rules": [["filters": [["type": "RequestRedirect", "requestRedirect": ["statusCode": 200]]]]]],
                "statusCode"
            ),
            (["hostnames": ["a b"]], "spec.hostnames[0]"),
            (["rules": [["retry": ["codes": [200]]]]], "codes"),
        ] as [(JSONValue, String)])
    func refused(spec: JSONValue, place: String) async throws {
        let cluster = try await Self.cluster()
        let error = try #require(await Self.refusal(cluster, Self.httpRoutes, spec))
        #expect(error.contains(place))
    }

    @Test("the other routes and grants have their limits too")
    func others() async throws {
        let cluster = try await Self.cluster()
        let backends: JSONValue = [["name": "b", "port": 80]]
        let grpc = Self.type("grpcroutes", "GRPCRoute")
        let made = try await cluster.create(
            grpc,
            Self.route(grpc, ["rules": [["matches": [["method": ["service": "s"]]], "backendRefs": backends]]]))
        #expect(made.spec["rules"]?[0]?["matches"]?[0]?.at("method", "type") == "Exact")
        let tcp = Self.type("tcproutes", "TCPRoute")
        #expect(await Self.refusal(cluster, tcp, [:])?.contains("spec.rules") == true)
        #expect(await Self.refusal(cluster, tcp, ["rules": [["backendRefs": backends]]]) == nil)
        let tls = Self.type("tlsroutes", "TLSRoute")
        #expect(await Self.refusal(cluster, tls, ["rules": [["backendRefs": backends]]])?.contains("hostnames") == true)
        #expect(
            await Self.refusal(cluster, tls, ["hostnames": ["a.example"], "rules": [["backendRefs": backends]]]) == nil)
        let grants = Self.type("referencegrants", "ReferenceGrant", version: "v1beta1")
        let grant: JSONValue = [
            "from": [["group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "a"]],
            "to": [["group": "", "kind": "Service"]],
        ]
        #expect(await Self.refusal(cluster, grants, ["from": []]) != nil)
        #expect(await Self.refusal(cluster, grants, grant) == nil)
    }

    @Test(
        "a bundle of the Gateway API's own project applies, over ours and without: CEL and admission policies are taken"
    )
    func upstream() async throws {
        let text = try String(
            contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .appendingPathComponent("Fixtures/gateway-bundle.yaml"), encoding: .utf8)
        let policies = ResourceType(
            group: "admissionregistration.k8s.io", version: "v1", plural: "validatingadmissionpolicies",
            kind: "ValidatingAdmissionPolicy", isNamespaced: false)
        let bindings = ResourceType(
            group: "admissionregistration.k8s.io", version: "v1", plural: "validatingadmissionpolicybindings",
            kind: "ValidatingAdmissionPolicyBinding", isNamespaced: false)
        for installing in [true, false] {
            let cluster = try await Self.cluster(installing: installing)
            for document in try JSONValue.documents(yaml: text) {
                let object = KubeObject(document)
                let type = try #require(
                    [.customResourceDefinitions, policies, bindings].first { $0.kind == object.kind })
                _ = try await cluster.patch(
                    type, namespace: nil, name: object.name, subresource: nil,
                    .apply(document, fieldManager: "kubectl", force: true))
            }
            let definition = try await cluster.get(
                .customResourceDefinitions, namespace: nil, name: "httproutes.gateway.networking.k8s.io")
            #expect(definition.condition("Established") == "True")
            #expect(Components.isForeign(definition), "from now on it is theirs")
            let made = try await cluster.create(
                Self.httpRoutes, Self.route(Self.httpRoutes, ["rules": [["backendRefs": [["name": "b", "port": 80]]]]]))
            #expect(made.spec["rules"]?[0]?["backendRefs"]?[0]?["weight"] == 1)
        }
    }
}
