package import KubeAPI
package import MeshModel

/// What the mesh reads of a RequestAuthentication.
package struct RequestAuthenticationView: Hashable, Sendable {
    package var key: NamespacedName
    package var generation: Int64
    package var targets: [PolicyView.Target]
    /// Of sidecars; nil: all of the namespace, or in the root namespace of the mesh.
    package var selector: [String: String]?
    package var rules: [JSONValue]

    package init(_ object: KubeObject) {
        self.key = NamespacedName(namespace: object.namespace, name: object.name)
        self.generation = object.generation
        self.targets = PolicyView.Target.all(object.spec)
        let labels = object.spec.at("selector", "matchLabels")?.stringMap ?? [:]
        self.selector = labels.isEmpty ? nil : labels
        self.rules = object.spec["jwtRules"]?.array ?? []
    }
}

/// What the mesh reads of a RateLimit, our own kind: so many requests in an interval for what it is attached to.
package struct RateLimitView: Hashable, Sendable {
    package var key: NamespacedName
    package var generation: Int64
    package var targets: [PolicyView.Target]
    package var requests, interval, burst: JSONValue?

    package init(_ object: KubeObject) {
        self.key = NamespacedName(namespace: object.namespace, name: object.name)
        self.generation = object.generation
        self.targets = PolicyView.Target.all(object.spec)
        self.requests = object.spec["requests"]
        self.interval = object.spec["interval"]
        self.burst = object.spec["burst"]
    }
}

/// What the mesh reads of a DestinationRule.
package struct DestinationRuleView: Hashable, Sendable {
    package var key: NamespacedName
    package var generation: Int64
    package var createdAt: String
    package var host: String
    package var policy: JSONValue
    package var hasSubsets: Bool
    /// For certain clients only.
    package var hasSelector: Bool

    package init(_ object: KubeObject) {
        self.key = NamespacedName(namespace: object.namespace, name: object.name)
        self.generation = object.generation
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        self.host = object.spec["host"]?.string ?? ""
        self.policy = object.spec["trafficPolicy"] ?? [:]
        self.hasSubsets = !(object.spec["subsets"]?.array ?? []).isEmpty
        self.hasSelector = !(object.spec.at("workloadSelector", "matchLabels")?.stringMap ?? [:]).isEmpty
    }
}

/// What the mesh reads of a VirtualService: for whom it is. What it says is followed by nothing of ours, which its status
/// has to say.
package struct VirtualServiceView: Hashable, Sendable {
    package var key: NamespacedName
    package var generation: Int64
    package var hosts: [String]
    /// For clients in the mesh, not only behind gateways.
    package var isForMesh: Bool

    package init(_ object: KubeObject) {
        self.key = NamespacedName(namespace: object.namespace, name: object.name)
        self.generation = object.generation
        self.hosts = (object.spec["hosts"]?.array ?? []).compactMap(\.string)
        let gateways = (object.spec["gateways"]?.array ?? []).compactMap(\.string)
        self.isForMesh = gateways.isEmpty || gateways.contains("mesh")
    }
}

/// What the mesh reads of an XBackendTrafficPolicy of the Gateway API.
package struct BackendTrafficPolicyView: Hashable, Sendable {
    package var key: NamespacedName
    package var generation: Int64
    package var createdAt: String
    package var targets: [PolicyView.Target]
    /// As written, for the status; as many as ``targets``.
    package var references: [JSONValue]
    package var retries: JSONValue?
    package var hasSession: Bool

    package init(_ object: KubeObject) {
        self.key = NamespacedName(namespace: object.namespace, name: object.name)
        self.generation = object.generation
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        self.targets = PolicyView.Target.all(object.spec)
        self.references = object.spec["targetRefs"]?.array ?? []
        self.retries = object.spec["retryConstraint"]
        self.hasSession = object.spec["sessionPersistence"]?.object != nil
    }
}

/// What the mesh reads of a Telemetry.
package struct TelemetryView: Hashable, Sendable {
    package var key: NamespacedName
    package var createdAt: String
    package var targets: [PolicyView.Target]
    package var hasSelector: Bool
    package var tracing, accessLogging: [JSONValue]?

    package init(_ object: KubeObject) {
        self.key = NamespacedName(namespace: object.namespace, name: object.name)
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        self.targets = PolicyView.Target.all(object.spec)
        self.hasSelector = !(object.spec.at("selector", "matchLabels")?.stringMap ?? [:]).isEmpty
        self.tracing = object.spec["tracing"]?.array
        self.accessLogging = object.spec["accessLogging"]?.array
    }

    /// For a whole namespace, or in the root namespace for the whole mesh.
    var isGeneral: Bool { self.targets.isEmpty && !self.hasSelector }
}
