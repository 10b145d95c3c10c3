package import KubeAPI

/// What a pod belongs to: the name under which people know it.
package struct PodOwner: Hashable, Sendable {
    package var name, kind, apiVersion: String

    /// - Parameter pod: on its way into the cluster: it may have no name yet.
    package init(_ pod: KubeObject) {
        let hash = pod.labels["pod-template-hash"] ?? ""
        if let owner = pod.controllerReference, let name = owner["name"]?.string {
            self.kind = owner["kind"]?.string ?? ""
            self.apiVersion = owner["apiVersion"]?.string ?? "v1"
            self.name = name
            if self.kind == "ReplicaSet", !hash.isEmpty, name.hasSuffix("-\(hash)") {
                // A ReplicaSet is known by its Deployment.
                self.kind = "Deployment"
                self.name = String(name.dropLast(hash.count + 1))
            }
            return
        }
        self.kind = "Pod"
        self.apiVersion = "v1"
        let generated = pod.metadata["generateName"]?.string ?? ""
        self.name = pod.name.isEmpty ? String(generated.reversed().drop { $0 == "-" }.reversed()) : pod.name
    }

    package init(name: String, kind: String, apiVersion: String) {
        self.name = name
        self.kind = kind
        self.apiVersion = apiVersion
    }

    /// `kubernetes://apis/apps/v1/namespaces/foo/deployments/sleep`
    func reference(namespace: String) -> String {
        "kubernetes://apis/\(self.apiVersion)/namespaces/\(namespace)/\(self.kind.lowercased())s/\(self.name)"
    }
}
