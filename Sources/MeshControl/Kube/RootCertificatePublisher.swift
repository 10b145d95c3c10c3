import KubeAPI
package import KubeClient
package import Logging

/// Keeps a ConfigMap of the CA right in every namespace: made, repaired when someone changes it, and replaced when the CA
/// has something new to say. Only the leader runs this.
package struct RootCertificatePublisher: Sendable {
    /// Which ConfigMap, and the key in it.
    package struct Map: Hashable, Sendable {
        package var name, key: String
        package static let roots = Map(name: "istio-ca-root-cert", key: "root-cert.pem")
        /// Only with a plugged-in CA that has revocation lists.
        package static let revocations = Map(name: "istio-ca-crl", key: "ca-crl.pem")
    }
    static let skipped: Set<String> = ["kube-public", "kube-node-lease", "local-path-storage"]

    private let cluster: any KubeCluster
    private let map: Map
    private let content: @Sendable () -> String?
    private let changes: AsyncStream<Void>
    private let logger: Logger

    /// - Parameters:
    ///   - content: nil: there is nothing to publish; what was published stays.
    ///   - changes: an element after each change of the content.
    package init(
        _ cluster: any KubeCluster, _ map: Map = .roots, content: @escaping @Sendable () -> String?,
        changes: AsyncStream<Void>, logger: Logger
    ) {
        self.cluster = cluster
        self.map = map
        self.content = content
        self.changes = changes
        self.logger = logger
    }

    /// Until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for await _ in self.changes { await self.repairAll() } }
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
                let options = ListOptions(fieldSelector: "metadata.name=\(self.map.name)")
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

    private func repairAll() async {
        do {
            for namespace in try await self.cluster.list(.namespaces).items { await self.repair(namespace) }
        } catch {
            self.logger.warning(
                "cannot list namespaces; they get the new content of the ConfigMap when they change, or from the next leader",
                metadata: ["name": "\(self.map.name)", "why": "\(error)"])
        }
    }

    private func check(_ map: KubeObject) async {
        if map.json.at("data", self.map.key)?.string != self.content() { await self.repair(namespace: map.namespace) }
    }

    private func repair(_ namespace: KubeObject) async {
        if !namespace.isBeingDeleted { await self.repair(namespace: namespace.name) }
    }

    package func repair(namespace: String) async {
        guard !Self.skipped.contains(namespace), let content = self.content() else { return }
        do {
            if var map = try await self.cluster.find(.configMaps, namespace: namespace, name: self.map.name) {
                if map.json.at("data", self.map.key)?.string == content { return }
                map.json.set(["data", self.map.key], to: .string(content))
                map.json.set(["metadata", "labels", "istio.io/config"], to: "true")
                try await self.cluster.replace(.configMaps, map)
            } else {
                let map = KubeObject(
                    .configMaps, namespace: namespace, name: self.map.name, labels: ["istio.io/config": "true"],
                    ["data": .object([self.map.key: .string(content)])])
                try await self.cluster.create(.configMaps, map)
            }
        } catch let error as StatusError where error.isNotFound || error.isAlreadyExists || error.code == 403 {
            // The namespace is going away, or another hand was faster: the watch will tell.
        } catch {
            self.logger.warning(
                "cannot write a ConfigMap of the CA",
                metadata: ["name": "\(self.map.name)", "namespace": "\(namespace)", "why": "\(error)"])
        }
    }
}
