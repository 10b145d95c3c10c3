package import KubeAPI
package import KubeClient

/// The objects that a ``MigrationPlan`` is made of: those of the whole cluster, because policies and routes of one
/// namespace concern clients in others.
package struct MigrationInput: Sendable {
    /// Namespace of the mesh, whose policies are everybody's.
    package var rootNamespace: String
    package var namespaces: [KubeObject] = []
    package var pods: [KubeObject] = []
    package var services: [KubeObject] = []
    package var gateways: [KubeObject] = []
    /// Of the kinds that decide about traffic.
    package var policies: [KubeObject] = []

    package init(rootNamespace: String) { self.rootNamespace = rootNamespace }

    private static func istio(_ group: String, _ plural: String, _ kind: String, _ version: String) -> ResourceType {
        ResourceType(group: "\(group).istio.io", version: version, plural: plural, kind: kind, isNamespaced: true)
    }

    /// Of each kind the versions that clusters serve, the newest first.
    private static let policyTypes: [[ResourceType]] = [
        [.authorizationPolicies, ResourceType.authorizationPolicies.inVersion("v1beta1")],
        [.peerAuthentications, ResourceType.peerAuthentications.inVersion("v1beta1")],
        [.requestAuthentications, ResourceType.requestAuthentications.inVersion("v1beta1")],
        [.virtualServices, ResourceType.virtualServices.inVersion("v1beta1")],
        [.destinationRules, ResourceType.destinationRules.inVersion("v1beta1")],
        [istio("networking", "sidecars", "Sidecar", "v1"), istio("networking", "sidecars", "Sidecar", "v1beta1")],
        [istio("networking", "envoyfilters", "EnvoyFilter", "v1alpha3")],
        [istio("networking", "proxyconfigs", "ProxyConfig", "v1beta1")],
        [istio("extensions", "wasmplugins", "WasmPlugin", "v1alpha1")],
        [.telemetries, ResourceType.telemetries.inVersion("v1alpha1")],
    ]

    package static func read(_ cluster: any KubeCluster, rootNamespace: String) async throws -> MigrationInput {
        var input = MigrationInput(rootNamespace: rootNamespace)
        input.namespaces = try await cluster.list(.namespaces).items
        input.pods = try await cluster.list(.pods).items
        input.services = try await cluster.list(.services).items
        input.gateways = try await Self.all(cluster, [.gateways])
        for versions in Self.policyTypes { input.policies += try await Self.all(cluster, versions) }
        return input
    }

    /// By the first version that is served; none when the cluster does not have the kind. Items of a list do not say
    /// what they are, so that is added.
    private static func all(_ cluster: any KubeCluster, _ versions: [ResourceType]) async throws -> [KubeObject] {
        for type in versions {
            do {
                return try await cluster.list(type).items.map { item in
                    var object = item
                    object.json["kind"] = .string(type.kind)
                    return object
                }
            } catch let error as StatusError where error.isNotFound {
                continue
            }
        }
        return []
    }
}
