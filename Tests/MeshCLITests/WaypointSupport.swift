import Foundation
import KubeAPI
import KubeClient
import LabAPIServer
import MeshCLI
import Synchronization
import Testing

/// What a command printed, line by line.
final class Collected: Sendable {
    private let state = Mutex((lines: [String](), notices: [String]()))
    var lines: [String] { self.state.withLock { $0.lines } }
    var notices: [String] { self.state.withLock { $0.notices } }
    var output: Output {
        Output(
            line: { text in self.state.withLock { $0.lines.append(text) } },
            notice: { text in self.state.withLock { $0.notices.append(text) } })
    }
}

/// The lab's API server in process, with our kinds, and objects that stand for what a control plane does.
struct Shop {
    let cluster: LabClusterClient

    /// - Parameter kinds: without them a cluster has no Gateway API.
    init(kinds: Bool = true, mode: String? = "ambient") async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("cli-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let server = try APIServer(
            configuration: APIServerConfiguration(
                endpoints: [.init(host: "127.0.0.1", port: 6443)], pkiDirectory: directory.path))
        try await server.bootstrap()
        self.cluster = server.client(named: "test")
        if kinds {
            for object in try Components.render(InstallValues()).flatMap(\.objects)
            where object.kind == "CustomResourceDefinition" {
                try await self.cluster.create(.customResourceDefinitions, object)
            }
        }
        try await self.addNamespace("shop", labels: mode.map { ["istio.io/dataplane-mode": $0] } ?? [:])
    }

    func addNamespace(_ name: String, labels: [String: String] = [:]) async throws {
        try await self.cluster.create(.namespaces, KubeObject(.namespaces, name: name, labels: labels))
        // What a controller makes, and what pods must have.
        for account in ["default", "cart"] {
            try await self.cluster.create(
                .serviceAccounts, KubeObject(.serviceAccounts, namespace: name, name: account))
        }
    }

    func addService(_ name: String, labels: [String: String] = [:]) async throws {
        try await self.cluster.create(
            .services,
            KubeObject(
                .services, namespace: "shop", name: name, labels: labels,
                ["spec": ["selector": ["app": .string(name)], "ports": [["port": 80]]]]))
    }

    func addGateway(
        _ name: String, in namespace: String = "shop", class className: String = Waypoint.className,
        labels: [String: String] = [:], conditions: [JSONValue] = []
    ) async throws {
        try await self.cluster.create(
            .gateways,
            KubeObject(
                .gateways, namespace: namespace, name: name, labels: labels,
                [
                    "spec": [
                        "gatewayClassName": .string(className),
                        "listeners": [["name": "mesh", "port": 15008, "protocol": "HBONE"]],
                    ]
                ]))
        if !conditions.isEmpty { try await self.setConditions(name, in: namespace, conditions) }
    }

    func setConditions(_ name: String, in namespace: String = "shop", _ conditions: [JSONValue]) async throws {
        _ = try await self.cluster.patch(
            .gateways, namespace: namespace, name: name, subresource: "status",
            .merge(["status": ["conditions": .array(conditions)]]))
    }

    func label(_ type: ResourceType, _ name: String, _ label: String) async throws -> String? {
        try await self.cluster.get(type, namespace: type.isNamespaced ? "shop" : nil, name: name).labels[label]
    }

    /// - Returns: the error that `body` ends with.
    func refusal(_ body: () async throws -> Void) async throws -> String {
        do { try await body() } catch { return "\(error)" }
        Issue.record("the command was not refused")
        return ""
    }
}

func condition(
    _ type: String = "Programmed", status: String = "True", reason: String = "Programmed", message: String = "",
    generation: Int64 = 1
) -> JSONValue {
    [
        "type": .string(type), "status": .string(status), "reason": .string(reason), "message": .string(message),
        "observedGeneration": .int(generation), "lastTransitionTime": "2026-01-01T00:00:00Z",
    ]
}
