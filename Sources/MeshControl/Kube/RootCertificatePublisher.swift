import KubeAPI
package import KubeClient
package import Logging

/// Keeps the ConfigMap `istio-ca-root-cert` right in every namespace: made, and repaired when someone changes it.
/// Only the leader runs this.
package struct RootCertificatePublisher: Sendable {
    package static let name = "istio-ca-root-cert"
    package static let key = "root-cert.pem"
    static let skipped: Set<String> = ["kube-public", "kube-node-lease", "local-path-storage"]

    private let cluster: any KubeCluster
    private let roots: @Sendable () -> String
    private let logger: Logger

    package init(_ cluster: any KubeCluster, roots: @escaping @Sendable () -> String, logger: Logger) {
        self.cluster = cluster
        self.roots = roots
        self.logger = logger
    }

    /// Until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await event in Informer(self.cluster, .namespaces).events() {
                    switch event {
                    case .snapshot(let all): for namespace in all { await self.repair(namespace) }
                    case .updated(let namespace): await self.repair(namespace)
                    case .deleted: break
                    }
                }
            }
            group.addTask {
                let options = ListOptions(fieldSelector: "metadata.name=\(Self.name)")
                for await event in Informer(self.cluster, .configMaps, options).events() {
                    switch event {
                    case .snapshot(let all): for map in all { await self.check(map) }
                    case .updated(let map): await self.check(map)
                    case .deleted(let map): await self.repair(namespace: map.namespace)
                    }
                }
            }
        }
    }

    private func check(_ map: KubeObject) async {
        if map.json.at("data", Self.key)?.string != self.roots() { await self.repair(namespace: map.namespace) }
    }

    private func repair(_ namespace: KubeObject) async {
        if !namespace.isBeingDeleted { await self.repair(namespace: namespace.name) }
    }

    package func repair(namespace: String) async {
        if Self.skipped.contains(namespace) { return }
        do {
            if var map = try await self.cluster.find(.configMaps, namespace: namespace, name: Self.name) {
                if map.json.at("data", Self.key)?.string == self.roots() { return }
                map.json.set(["data", Self.key], to: .string(self.roots()))
                map.json.set(["metadata", "labels", "istio.io/config"], to: "true")
                try await self.cluster.replace(.configMaps, map)
            } else {
                let map = KubeObject(
                    .configMaps, namespace: namespace, name: Self.name, labels: ["istio.io/config": "true"],
                    ["data": .object([Self.key: .string(self.roots())])])
                try await self.cluster.create(.configMaps, map)
            }
        } catch let error as StatusError where error.isNotFound || error.isAlreadyExists || error.code == 403 {
            // The namespace is going away, or another hand was faster: the watch will tell.
        } catch {
            self.logger.warning(
                "cannot write the root certificate", metadata: ["namespace": "\(namespace)", "why": "\(error)"])
        }
    }
}
