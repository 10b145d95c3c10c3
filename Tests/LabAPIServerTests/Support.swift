import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import LabNode
import Testing

/// A directory that is removed with the value's last user.
final class Scratch: Sendable {
    let path: String
    init() throws {
        self.path = NSTemporaryDirectory() + "lab-api-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: self.path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: self.path) }
}

/// Runs the programs that tests talk to: waits for them on threads of its own, never on those of other tests.
let programs = CommandRunner(processes: ProcessTable(reapsOrphans: false), networkNamespace: nil)

/// Runs `body` beside a serving API server, with the port of its first endpoint; a server that fails fails the test.
func serving(
    _ configuration: APIServerConfiguration, _ body: @Sendable (APIServer, Int) async throws -> Void
) async throws {
    let server = try APIServer(configuration: configuration)
    let (ready, continuation) = AsyncStream.makeStream(of: Int.self)
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
            defer { continuation.finish() }
            try await server.run { continuation.yield($0[0].port) }
        }
        var ports = ready.makeAsyncIterator()
        guard let port = await ports.next() else {
            try await group.waitForAll()
            return
        }
        try await body(server, port)
        group.cancelAll()
    }
}

/// A fresh cluster in memory, used in process.
func makeCluster() async throws -> LabClusterClient {
    let scratch = try Scratch()
    let server = try APIServer(
        configuration: APIServerConfiguration(
            endpoints: [.init(host: "127.0.0.1", port: 6443)], pkiDirectory: scratch.path))
    try await server.bootstrap()
    let client = server.client(named: "test")
    try await client.create(
        .serviceAccounts, KubeObject(.serviceAccounts, namespace: "default", name: "default"))
    return client
}

/// The error a call is refused with.
func refusal(_ body: () async throws -> Void) async throws -> StatusError {
    do {
        try await body()
    } catch let error as StatusError {
        return error
    }
    Issue.record("the call was not refused")
    return StatusError(code: 0, reason: "", message: "")
}

func configMap(_ name: String, _ data: [String: String] = ["a": "1"]) -> KubeObject {
    KubeObject(.configMaps, namespace: "default", name: name, ["data": JSONValue(data)])
}

func deployment(_ name: String, image: String = "img:1") -> KubeObject {
    KubeObject(
        .deployments, namespace: "default", name: name,
        [
            "spec": [
                "selector": ["matchLabels": ["app": .string(name)]],
                "template": [
                    "metadata": ["labels": ["app": .string(name)]],
                    "spec": ["containers": [["name": "c", "image": .string(image), "ports": [["containerPort": 80]]]]],
                ],
            ]
        ])
}

let widgets = ResourceType(group: "lab.test", version: "v1", plural: "widgets", kind: "Widget", isNamespaced: true)

let widgetDefinition: JSONValue = [
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": ["name": "widgets.lab.test"],
    "spec": [
        "group": "lab.test", "scope": "Namespaced",
        "names": ["plural": "widgets", "kind": "Widget", "shortNames": ["wi"]],
        "versions": [
            [
                "name": "v1", "served": true, "storage": true, "subresources": ["status": [:]],
                "additionalPrinterColumns": [["name": "Size", "type": "integer", "jsonPath": ".spec.size"]],
                "schema": [
                    "openAPIV3Schema": [
                        "type": "object",
                        "properties": [
                            "spec": [
                                "type": "object", "required": ["size"],
                                "properties": [
                                    "size": ["type": "integer", "minimum": 1, "maximum": 10],
                                    "color": ["type": "string", "default": "red", "enum": ["red", "blue"]],
                                    "parts": [
                                        "type": "array", "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": [
                                            "type": "object", "required": ["name"],
                                            "properties": ["name": ["type": "string"], "count": ["type": "integer"]],
                                        ],
                                    ],
                                ],
                            ],
                            "status": ["type": "object", "x-kubernetes-preserve-unknown-fields": true],
                        ],
                    ]
                ],
            ]
        ],
    ],
]

func widget(_ name: String, _ spec: JSONValue) -> KubeObject {
    KubeObject(widgets, namespace: "default", name: name, ["spec": spec])
}
