package import KubeAPI
package import KubeClient

/// The objects whose label says that they use a waypoint.
package struct WaypointUser: Sendable {
    package let type: ResourceType
    package let object: KubeObject

    /// As kubectl writes it: `namespace shop`, `service cart -n shop`.
    package var words: String {
        let kind = self.type.kind.lowercased()
        return self.type.isNamespaced
            ? "\(kind) \(self.object.name) -n \(self.object.namespace)" : "\(kind) \(self.object.name)"
    }

    /// Kinds that carry the label, those that hold others first.
    private static let types: [ResourceType] = [.namespaces, .services, .serviceEntries, .workloadEntries, .pods]

    /// Kinds that the cluster does not have are left out.
    package static func list(
        _ cluster: any KubeCluster, waypoint name: String, namespace: String
    ) async throws -> [WaypointUser] {
        var users: [WaypointUser] = []
        for type in Self.types {
            let labelled: [KubeObject]
            do {
                labelled = try await cluster.list(
                    type, namespace: nil, ListOptions(labelSelector: "\(Waypoint.useLabel)=\(name)")
                ).items
            } catch let error as StatusError where error.isNotFound {
                continue
            }
            users += labelled.filter { object in
                let own = type.isNamespaced ? object.namespace : object.name
                return (object.labels[Waypoint.useNamespaceLabel] ?? own) == namespace
            }
            .sorted { $0.key < $1.key }.map { WaypointUser(type: type, object: $0) }
        }
        return users
    }

    /// Takes the labels away.
    package func unenrol(_ cluster: any KubeCluster) async throws {
        _ = try await cluster.patch(
            self.type, namespace: self.type.isNamespaced ? self.object.namespace : nil, name: self.object.name,
            subresource: nil,
            .merge(["metadata": ["labels": [Waypoint.useLabel: .null, Waypoint.useNamespaceLabel: .null]]]))
    }
}
