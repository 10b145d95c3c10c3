package import KubeAPI
internal import KubeClient

/// Every type that the cluster serves: the built-in ones, and those that CustomResourceDefinitions add.
package struct ResourceCatalogue: Sendable {
    private let view: ClusterView
    package let builtIn: [ResourceType]

    package init(_ view: ClusterView) {
        self.view = view
        self.builtIn = Self.builtInTypes
    }

    package var namespaced: [ResourceType] { self.builtIn.filter(\.isNamespaced) }

    /// Built-in and custom types, once the definitions are known.
    package func all() async -> [ResourceType] {
        let definitions = self.view.cache(.customResourceDefinitions)
        await definitions.synced()
        return self.builtIn + definitions.list().compactMap(Self.type)
    }

    /// The type that a definition defines, in its storage version.
    package static func type(of definition: KubeObject) -> ResourceType? {
        let spec = definition.spec
        let version =
            spec["versions"]?.array?.first { $0["storage"]?.bool == true && $0["served"]?.bool == true }
            ?? spec["versions"]?.array?.first { $0["served"]?.bool == true }
        guard let group = spec["group"]?.string, let plural = spec.at("names", "plural")?.string,
            let kind = spec.at("names", "kind")?.string, let name = version?["name"]?.string
        else { return nil }
        return ResourceType(
            group: group, version: name, plural: plural, kind: kind, isNamespaced: spec["scope"]?.string == "Namespaced"
        )
    }

    private static func type(
        _ group: String, _ plural: String, _ kind: String, _ version: String = "v1", namespaced: Bool = true
    ) -> ResourceType {
        ResourceType(group: group, version: version, plural: plural, kind: kind, isNamespaced: namespaced)
    }

    private static let builtInTypes: [ResourceType] = [
        // Workloads before their pods: nothing is made again behind our back.
        .deployments, .statefulSets, .daemonSets, .cronJobs, .jobs, .replicaSets, .controllerRevisions, .pods,
        .services, .endpoints, .endpointSlices, .configMaps, .secrets, .serviceAccounts, .leases, .roles,
        .roleBindings, .clusterRoles, .clusterRoleBindings, .namespaces, .nodes,
        type("", "persistentvolumeclaims", "PersistentVolumeClaim"),
        type("", "persistentvolumes", "PersistentVolume", namespaced: false),
        type("", "replicationcontrollers", "ReplicationController"),
        type("", "limitranges", "LimitRange"), type("", "resourcequotas", "ResourceQuota"),
        type("", "podtemplates", "PodTemplate"),
        type("policy", "poddisruptionbudgets", "PodDisruptionBudget"),
        type("networking.k8s.io", "networkpolicies", "NetworkPolicy"),
        type("networking.k8s.io", "ingresses", "Ingress"),
        type("networking.k8s.io", "ingressclasses", "IngressClass", namespaced: false),
        type("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "v2"),
        type("scheduling.k8s.io", "priorityclasses", "PriorityClass", namespaced: false),
        type("storage.k8s.io", "storageclasses", "StorageClass", namespaced: false),
        type(
            "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
            namespaced: false),
        type(
            "admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
            namespaced: false),
        .customResourceDefinitions, .events,
    ]
}
