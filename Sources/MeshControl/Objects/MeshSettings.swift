package import KubeAPI
package import MeshModel
import Yams

/// What the whole mesh agrees on: from the ConfigMap `istio`, key `mesh`, and from our own environment.
package struct MeshSettings: Hashable, Sendable {
    package var trustDomain = "cluster.local"
    package var rootNamespace = "istio-system"
    package var clusterID = "Kubernetes"
    package var domainSuffix = "cluster.local"
    package var revision = "default"
    package var allowsDryRun = false

    package init() {}

    /// Reads MeshConfig YAML over these settings.
    /// - Throws: a text for the log; the settings in force then stay.
    package func merging(meshConfig yaml: String) throws(InvalidMeshConfig) -> MeshSettings {
        var settings = self
        let root: Any?
        do {
            root = try Yams.load(yaml: yaml)
        } catch {
            throw InvalidMeshConfig(description: "MeshConfig is no readable YAML: \(error)")
        }
        guard let root else { return settings }
        guard let map = root as? [String: Any] else {
            throw InvalidMeshConfig(description: "MeshConfig is no mapping")
        }
        if let domain = map["trustDomain"] as? String, !domain.isEmpty { settings.trustDomain = domain }
        if let namespace = map["rootNamespace"] as? String, !namespace.isEmpty { settings.rootNamespace = namespace }
        return settings
    }

    /// Whether an object belongs to this control plane's revision.
    package func owns(_ object: KubeObject) -> Bool {
        object.labels["istio.io/rev"].map { $0 == self.revision } ?? true
    }
}

package struct InvalidMeshConfig: Error, Hashable, CustomStringConvertible {
    package let description: String
}

/// What the mesh reads of a Namespace.
package struct NamespaceView: Hashable, Sendable {
    package var name: String
    package var labels: [String: String]
    package var distributionAnnotation: String?
    package init(_ object: KubeObject) {
        self.name = object.name
        self.labels = object.labels
        self.distributionAnnotation = object.annotations["networking.istio.io/traffic-distribution"]
    }
}

/// What the mesh reads of a Node: heartbeats change nothing here.
package struct NodeView: Hashable, Sendable {
    package var locality: Locality
    package init(_ object: KubeObject) {
        let labels = object.labels
        self.locality = Locality(
            region: labels["topology.kubernetes.io/region"] ?? "", zone: labels["topology.kubernetes.io/zone"] ?? "",
            subzone: labels["topology.istio.io/subzone"] ?? "")
    }
}
