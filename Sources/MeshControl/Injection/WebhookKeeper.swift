internal import Foundation
package import KubeAPI
package import KubeClient
package import Logging

/// Writes our root certificates into the webhook configurations that lead to this control plane: without them the API
/// server trusts nobody there. Repairs them when somebody applies a configuration anew. Only the leader runs this.
package struct WebhookKeeper: Sendable {
    private let cluster: any KubeCluster
    /// Of the Service that the configurations name.
    private let namespace, revision: String
    private let roots: @Sendable () -> String
    private let changes: AsyncStream<Void>
    private let logger: Logger

    package static let types: [ResourceType] = [.mutatingWebhookConfigurations, .validatingWebhookConfigurations]

    /// - Parameters:
    ///   - roots: PEM.
    ///   - changes: an element after each change of the roots.
    package init(
        _ cluster: any KubeCluster, namespace: String, revision: String, roots: @escaping @Sendable () -> String,
        changes: AsyncStream<Void>, logger: Logger
    ) {
        self.cluster = cluster
        self.namespace = namespace
        self.revision = revision
        self.roots = roots
        self.changes = changes
        self.logger = logger
    }

    /// Until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await _ in self.changes { for type in Self.types { await self.repairAll(type) } }
            }
            for type in Self.types {
                group.addTask {
                    for await event in Informer(self.cluster, type).events() {
                        switch event {
                        case .snapshot(let all): for configuration in all { await self.repair(type, configuration) }
                        case .updated(let configuration): await self.repair(type, configuration)
                        case .deleted: break
                        }
                    }
                }
            }
        }
    }

    private func repairAll(_ type: ResourceType) async {
        do {
            for configuration in try await self.cluster.list(type).items { await self.repair(type, configuration) }
        } catch {
            self.logger.warning("cannot list webhook configurations", metadata: ["type": "\(type)", "why": "\(error)"])
        }
    }

    private func repair(_ type: ResourceType, _ configuration: KubeObject) async {
        guard configuration.labels[Names.revision] == self.revision else { return }
        let bundle = Data(self.roots().utf8).base64EncodedString()
        var operations: [JSONValue] = []
        for (index, webhook) in (configuration.json["webhooks"]?.array ?? []).enumerated() {
            let service = webhook.at("clientConfig", "service")
            guard service?["namespace"]?.string == self.namespace,
                service?["name"]?.string.map({ $0 == "istiod" || $0.hasPrefix("istiod-") }) == true,
                webhook.at("clientConfig", "caBundle")?.string != bundle
            else { continue }
            // The place may belong to another webhook by now.
            operations.append([
                "op": "test", "path": .string("/webhooks/\(index)/name"), "value": webhook["name"] ?? .null,
            ])
            operations.append([
                "op": "add", "path": .string("/webhooks/\(index)/clientConfig/caBundle"), "value": .string(bundle),
            ])
        }
        if operations.isEmpty { return }
        do {
            _ = try await self.cluster.patch(
                type, namespace: nil, name: configuration.name, subresource: nil, .json(.array(operations)))
            self.logger.info(
                "wrote the root certificates into a webhook configuration", metadata: ["name": "\(configuration.name)"])
        } catch {
            // A change in between shows up in the watch again.
            self.logger.warning(
                "cannot write the root certificates into a webhook configuration",
                metadata: ["name": "\(configuration.name)", "why": "\(error)"])
        }
    }
}
