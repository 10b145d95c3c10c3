/// A kind of object as the API serves it: where its URLs are and what its objects are called.
public struct ResourceType: Hashable, Sendable, CustomStringConvertible {
    /// Empty for the core group.
    public let group: String
    public let version: String
    /// Lower case, as in URLs: `pods`.
    public let plural: String
    public let kind: String
    public let isNamespaced: Bool

    public init(group: String, version: String, plural: String, kind: String, isNamespaced: Bool) {
        self.group = group
        self.version = version
        self.plural = plural
        self.kind = kind
        self.isNamespaced = isNamespaced
    }

    /// The same kind in another version of its group.
    public func inVersion(_ version: String) -> ResourceType {
        ResourceType(
            group: self.group, version: version, plural: self.plural, kind: self.kind, isNamespaced: self.isNamespaced)
    }

    public var apiVersion: String { self.group.isEmpty ? self.version : "\(self.group)/\(self.version)" }

    /// `deployments.apps`, or `pods` for the core group: the form of error messages and of CRD names.
    public var description: String { self.group.isEmpty ? self.plural : "\(self.plural).\(self.group)" }

    /// The URL path. A nil namespace of a namespaced type means all namespaces; a nil name means the collection.
    public func path(namespace: String? = nil, name: String? = nil, subresource: String? = nil) -> String {
        var path = self.group.isEmpty ? "/api/\(self.version)" : "/apis/\(self.group)/\(self.version)"
        if self.isNamespaced, let namespace { path += "/namespaces/\(namespace)" }
        path += "/\(self.plural)"
        if let name { path += "/\(name)" }
        if let subresource { path += "/\(subresource)" }
        return path
    }
}

extension ResourceType {
    private static func core(_ plural: String, _ kind: String, namespaced: Bool = true) -> ResourceType {
        ResourceType(group: "", version: "v1", plural: plural, kind: kind, isNamespaced: namespaced)
    }
    private static func of(
        _ group: String, _ plural: String, _ kind: String, version: String = "v1", namespaced: Bool = true
    ) -> ResourceType {
        ResourceType(group: group, version: version, plural: plural, kind: kind, isNamespaced: namespaced)
    }

    public static let namespaces = core("namespaces", "Namespace", namespaced: false)
    public static let nodes = core("nodes", "Node", namespaced: false)
    public static let pods = core("pods", "Pod")
    public static let services = core("services", "Service")
    public static let endpoints = core("endpoints", "Endpoints")
    public static let configMaps = core("configmaps", "ConfigMap")
    public static let secrets = core("secrets", "Secret")
    public static let serviceAccounts = core("serviceaccounts", "ServiceAccount")
    public static let events = core("events", "Event")
    public static let deployments = of("apps", "deployments", "Deployment")
    public static let replicaSets = of("apps", "replicasets", "ReplicaSet")
    public static let daemonSets = of("apps", "daemonsets", "DaemonSet")
    public static let statefulSets = of("apps", "statefulsets", "StatefulSet")
    public static let controllerRevisions = of("apps", "controllerrevisions", "ControllerRevision")
    public static let jobs = of("batch", "jobs", "Job")
    public static let cronJobs = of("batch", "cronjobs", "CronJob")
    public static let endpointSlices = of("discovery.k8s.io", "endpointslices", "EndpointSlice")
    public static let leases = of("coordination.k8s.io", "leases", "Lease")
    public static let tokenReviews = of("authentication.k8s.io", "tokenreviews", "TokenReview", namespaced: false)
    public static let subjectAccessReviews = of(
        "authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", namespaced: false)
    public static let roles = of("rbac.authorization.k8s.io", "roles", "Role")
    public static let roleBindings = of("rbac.authorization.k8s.io", "rolebindings", "RoleBinding")
    public static let clusterRoles = of(
        "rbac.authorization.k8s.io", "clusterroles", "ClusterRole", namespaced: false)
    public static let clusterRoleBindings = of(
        "rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", namespaced: false)
    public static let customResourceDefinitions = of(
        "apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", namespaced: false)
    public static let mutatingWebhookConfigurations = of(
        "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
        namespaced: false)
    public static let validatingWebhookConfigurations = of(
        "admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
        namespaced: false)
    public static let horizontalPodAutoscalers = of(
        "autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", version: "v2")
    public static let podDisruptionBudgets = of("policy", "poddisruptionbudgets", "PodDisruptionBudget")
    public static let authorizationPolicies = of("security.istio.io", "authorizationpolicies", "AuthorizationPolicy")
    public static let peerAuthentications = of("security.istio.io", "peerauthentications", "PeerAuthentication")
    public static let requestAuthentications = of(
        "security.istio.io", "requestauthentications", "RequestAuthentication")
    public static let destinationRules = of("networking.istio.io", "destinationrules", "DestinationRule")
    public static let virtualServices = of("networking.istio.io", "virtualservices", "VirtualService")
    public static let telemetries = of("telemetry.istio.io", "telemetries", "Telemetry")
    public static let rateLimits = of("policy.martlet.dev", "ratelimits", "RateLimit", version: "v1alpha1")
    public static let httpRoutes = of("gateway.networking.k8s.io", "httproutes", "HTTPRoute")
    public static let grpcRoutes = of("gateway.networking.k8s.io", "grpcroutes", "GRPCRoute")
    public static let tlsRoutes = of("gateway.networking.k8s.io", "tlsroutes", "TLSRoute")
    public static let tcpRoutes = of("gateway.networking.k8s.io", "tcproutes", "TCPRoute")
    public static let backendTrafficPolicies = of(
        "gateway.networking.x-k8s.io", "xbackendtrafficpolicies", "XBackendTrafficPolicy", version: "v1alpha1")
    public static let serviceEntries = of("networking.istio.io", "serviceentries", "ServiceEntry")
    public static let workloadEntries = of("networking.istio.io", "workloadentries", "WorkloadEntry")
    public static let gateways = of("gateway.networking.k8s.io", "gateways", "Gateway")
    public static let gatewayClasses = of(
        "gateway.networking.k8s.io", "gatewayclasses", "GatewayClass", namespaced: false)
}
