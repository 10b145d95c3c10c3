internal import KubeAPI

/// The kinds every cluster serves, in discovery order.
enum BuiltinKinds {
    static let all: [ResourceKind] =
        core + apps + batch + networking + rbac + extensionPoints + reviews + rest

    private static let getPatchUpdate = ["get", "patch", "update"]

    private static func kind(
        _ group: String = "", _ version: String = "v1", _ plural: String, _ kind: String, _ shortNames: [String] = [],
        namespaced: Bool = true, status: Bool = false, generation: Bool = false, scale: Bool = false,
        isInAll: Bool = false, categories: [String] = [], verbs: [String] = ResourceKind.allVerbs,
        subresources: [ResourceKind.Subresource] = [], storage: String? = nil, storageVersion: String? = nil,
        requiresVersion: Bool = false
    ) -> ResourceKind {
        let type = ResourceType(group: group, version: version, plural: plural, kind: kind, isNamespaced: namespaced)
        var all = subresources
        if scale {
            all.append(
                ResourceKind.Subresource(
                    name: "scale", kind: "Scale", group: "autoscaling", version: "v1", verbs: getPatchUpdate))
        }
        if status { all.append(ResourceKind.Subresource(name: "status", kind: kind, verbs: getPatchUpdate)) }
        return ResourceKind(
            type: type, singular: kind.lowercased(), shortNames: shortNames,
            categories: (isInAll ? ["all"] : []) + categories, verbs: verbs, subresources: all,
            storage: storage ?? type.description, storageVersion: storageVersion ?? type.apiVersion,
            hasStatus: status, hasGeneration: generation, requiresVersionOnUpdate: requiresVersion)
    }

    private static func sub(
        _ name: String, _ kind: String, _ verbs: [String], group: String? = nil, version: String? = nil
    ) -> ResourceKind.Subresource {
        ResourceKind.Subresource(name: name, kind: kind, group: group, version: version, verbs: verbs)
    }

    private static let connect = ["create", "get"]

    private static let core: [ResourceKind] = [
        kind("", "v1", "bindings", "Binding", verbs: ["create"]),
        kind("", "v1", "configmaps", "ConfigMap", ["cm"]),
        kind("", "v1", "endpoints", "Endpoints", ["ep"]),
        kind("", "v1", "events", "Event", ["ev"], storage: "events", storageVersion: "v1"),
        kind("", "v1", "limitranges", "LimitRange", ["limits"]),
        kind(
            "", "v1", "namespaces", "Namespace", ["ns"], namespaced: false, status: true,
            verbs: ["create", "delete", "get", "list", "patch", "update", "watch"],
            subresources: [sub("finalize", "Namespace", ["update"])]),
        kind("", "v1", "nodes", "Node", ["no"], namespaced: false, status: true),
        kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", ["pvc"], status: true),
        kind("", "v1", "persistentvolumes", "PersistentVolume", ["pv"], namespaced: false, status: true),
        kind(
            "", "v1", "pods", "Pod", ["po"], status: true, generation: true, isInAll: true,
            subresources: [
                sub("attach", "PodAttachOptions", connect), sub("binding", "Binding", ["create"]),
                sub("ephemeralcontainers", "Pod", getPatchUpdate),
                sub("eviction", "Eviction", ["create"], group: "policy", version: "v1"),
                sub("exec", "PodExecOptions", connect), sub("log", "Pod", ["get"]),
                sub("portforward", "PodPortForwardOptions", connect),
            ]),
        kind("", "v1", "podtemplates", "PodTemplate", generation: true),
        kind(
            "", "v1", "replicationcontrollers", "ReplicationController", ["rc"], status: true, generation: true,
            scale: true, isInAll: true),
        kind("", "v1", "resourcequotas", "ResourceQuota", ["quota"], status: true),
        kind("", "v1", "secrets", "Secret"),
        kind(
            "", "v1", "serviceaccounts", "ServiceAccount", ["sa"],
            subresources: [sub("token", "TokenRequest", ["create"], group: "authentication.k8s.io", version: "v1")]),
        kind("", "v1", "services", "Service", ["svc"], status: true, isInAll: true),
    ]

    private static let apps: [ResourceKind] = [
        kind("apps", "v1", "controllerrevisions", "ControllerRevision"),
        kind("apps", "v1", "daemonsets", "DaemonSet", ["ds"], status: true, generation: true, isInAll: true),
        kind(
            "apps", "v1", "deployments", "Deployment", ["deploy"], status: true, generation: true, scale: true,
            isInAll: true),
        kind(
            "apps", "v1", "replicasets", "ReplicaSet", ["rs"], status: true, generation: true, scale: true,
            isInAll: true),
        kind(
            "apps", "v1", "statefulsets", "StatefulSet", ["sts"], status: true, generation: true, scale: true,
            isInAll: true),
    ]

    private static let batch: [ResourceKind] = [
        kind("batch", "v1", "cronjobs", "CronJob", ["cj"], status: true, generation: true, isInAll: true),
        kind("batch", "v1", "jobs", "Job", status: true, generation: true, isInAll: true),
    ]

    private static let networking: [ResourceKind] = [
        kind("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced: false, generation: true),
        kind("networking.k8s.io", "v1", "ingresses", "Ingress", ["ing"], status: true, generation: true),
        kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", ["netpol"], generation: true),
        kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", generation: true),
    ]

    private static let rbac: [ResourceKind] = [
        kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced: false),
        kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced: false),
        kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
        kind("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    ]

    private static let extensionPoints: [ResourceKind] = [
        kind(
            "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", ["crd", "crds"],
            namespaced: false, status: true, generation: true, categories: ["api-extensions"]),
        kind(
            "apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced: false, status: true,
            categories: ["api-extensions"]),
        kind(
            "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
            namespaced: false, generation: true, categories: ["api-extensions"], requiresVersion: true),
        kind(
            "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy",
            namespaced: false, status: true, generation: true, categories: ["api-extensions"]),
        kind(
            "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding", namespaced: false, generation: true, categories: ["api-extensions"]),
        kind(
            "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration", namespaced: false, generation: true, categories: ["api-extensions"],
            requiresVersion: true),
    ]

    private static let reviews: [ResourceKind] = [
        kind(
            "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced: false,
            verbs: ["create"]),
        kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced: false, verbs: ["create"]),
        kind("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs: ["create"]),
        kind(
            "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced: false,
            verbs: ["create"]),
        kind(
            "authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced: false,
            verbs: ["create"]),
        kind(
            "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced: false,
            verbs: ["create"]),
    ]

    private static let rest: [ResourceKind] = [
        kind(
            "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", ["hpa"], status: true,
            isInAll: true, storageVersion: "autoscaling/v2"),
        kind(
            "autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", ["hpa"], status: true,
            isInAll: true, storageVersion: "autoscaling/v2"),
        kind(
            "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", ["csr"],
            namespaced: false, status: true,
            subresources: [sub("approval", "CertificateSigningRequest", getPatchUpdate)]),
        kind("coordination.k8s.io", "v1", "leases", "Lease", requiresVersion: true),
        kind("events.k8s.io", "v1", "events", "Event", ["ev"], storage: "events", storageVersion: "v1"),
        kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", ["pdb"], status: true, generation: true),
        kind(
            "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", ["pc"], namespaced: false, generation: true),
        kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", ["sc"], namespaced: false),
        kind("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced: false),
        kind("storage.k8s.io", "v1", "csinodes", "CSINode", namespaced: false),
        kind("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced: false, status: true),
    ]
}
