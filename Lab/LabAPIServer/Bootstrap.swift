internal import KubeAPI

/// The objects every cluster has from its first moment. Runs on every start and leaves alone what is there.
struct Bootstrap {
    let api: ClusterAPI
    let pki: ClusterPKI.Material

    private static let rbac = "rbac.authorization.k8s.io"

    /// - Parameter endpoint: Address and port behind the Service default/kubernetes; nil makes no EndpointSlice.
    func run(endpoint: (host: String, port: Int)?) async throws {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            try await self.ensure(.namespaces, KubeObject(.namespaces, name: name))
        }
        try await self.ensure(
            .services,
            KubeObject(
                .services, namespace: "default", name: "kubernetes",
                labels: ["component": "apiserver", "provider": "kubernetes"],
                [
                    "spec": [
                        "clusterIP": .string(self.api.allocator.firstAddress), "type": "ClusterIP",
                        "ports": [
                            [
                                "name": "https", "port": 443, "protocol": "TCP",
                                "targetPort": .int(Int64(endpoint?.port ?? 6443)),
                            ]
                        ],
                    ]
                ]))
        if let endpoint, IPv4.parse(endpoint.host) != nil { try await self.lead(to: endpoint) }
        try await self.ensure(
            .configMaps,
            KubeObject(
                .configMaps, namespace: "kube-system", name: "extension-apiserver-authentication",
                ["data": ["client-ca-file": .string(self.pki.caCertificate)]]))
        let priorities = ResourceType(
            group: "scheduling.k8s.io", version: "v1", plural: "priorityclasses", kind: "PriorityClass",
            isNamespaced: false)
        for (name, value) in [
            ("system-cluster-critical", Int64(2_000_000_000)), ("system-node-critical", 2_000_001_000),
        ] {
            try await self.ensure(priorities, KubeObject(priorities, name: name, ["value": .int(value)]))
        }
        for (name, labels, rules, aggregates) in Self.roles {
            var body: [String: JSONValue] = ["rules": .array(rules)]
            if let aggregates {
                body["aggregationRule"] = [
                    "clusterRoleSelectors": [["matchLabels": JSONValue([aggregates: "true"])]]
                ]
            }
            var all = ["kubernetes.io/bootstrapping": "rbac-defaults"]
            for label in labels { all[label] = "true" }
            try await self.ensure(.clusterRoles, KubeObject(.clusterRoles, name: name, labels: all, body))
        }
        for (role, group) in Self.bindings {
            try await self.ensure(
                .clusterRoleBindings,
                KubeObject(
                    .clusterRoleBindings, name: role, labels: ["kubernetes.io/bootstrapping": "rbac-defaults"],
                    [
                        "roleRef": ["apiGroup": .string(Self.rbac), "kind": "ClusterRole", "name": .string(role)],
                        "subjects": [["apiGroup": .string(Self.rbac), "kind": "Group", "name": .string(group)]],
                    ]))
        }
    }

    private func ensure(_ type: ResourceType, _ object: KubeObject) async throws {
        let kind = try self.api.kind(type)
        guard self.api.store.get(kind.storage, ObjectKey(namespace: object.namespace, name: object.name)) == nil else {
            return
        }
        var options = ClusterAPI.WriteOptions()
        options.fieldManager = "kube-apiserver"
        _ = try await self.api.create(
            kind, namespace: type.isNamespaced ? object.namespace : nil, object.json, options)
    }

    /// Endpoints of default/kubernetes; the address may differ from the last run's.
    private func lead(to endpoint: (host: String, port: Int)) async throws {
        let slice = KubeObject(
            .endpointSlices, namespace: "default", name: "kubernetes",
            labels: ["kubernetes.io/service-name": "kubernetes"],
            [
                "addressType": "IPv4",
                "endpoints": [["addresses": [.string(endpoint.host)], "conditions": ["ready": true]]],
                "ports": [["name": "https", "port": .int(Int64(endpoint.port)), "protocol": "TCP"]],
            ])
        let endpoints = KubeObject(
            .endpoints, namespace: "default", name: "kubernetes",
            labels: ["endpointslice.kubernetes.io/skip-mirror": "true"],
            [
                "subsets": [
                    [
                        "addresses": [["ip": .string(endpoint.host)]],
                        "ports": [["name": "https", "port": .int(Int64(endpoint.port)), "protocol": "TCP"]],
                    ]
                ]
            ])
        for (type, object) in [(ResourceType.endpointSlices, slice), (.endpoints, endpoints)] {
            try await self.ensure(type, object)
            let kind = try self.api.kind(type)
            _ = try await self.api.replace(kind, ObjectKey(namespace: "default", name: "kubernetes"), object.json)
        }
    }

    // MARK: Default roles

    private static func rule(_ groups: [String], _ resources: [String], _ verbs: [String]) -> JSONValue {
        ["apiGroups": JSONValue(groups), "resources": JSONValue(resources), "verbs": JSONValue(verbs)]
    }

    private static let read = ["get", "list", "watch"]
    private static let write = ["create", "delete", "deletecollection", "patch", "update"]

    private static let viewed: [JSONValue] = [
        rule(
            [""],
            [
                "configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/status",
                "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "pods/log", "pods/status",
                "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status",
                "resourcequotas", "resourcequotas/status", "serviceaccounts", "services", "services/status", "bindings",
            ], read),
        rule(["discovery.k8s.io"], ["endpointslices"], read),
        rule(
            ["apps"],
            [
                "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale",
                "deployments/status", "replicasets", "replicasets/scale", "replicasets/status", "statefulsets",
                "statefulsets/scale", "statefulsets/status",
            ], read),
        rule(["autoscaling"], ["horizontalpodautoscalers", "horizontalpodautoscalers/status"], read),
        rule(["batch"], ["cronjobs", "cronjobs/status", "jobs", "jobs/status"], read),
        rule(["policy"], ["poddisruptionbudgets", "poddisruptionbudgets/status"], read),
        rule(["networking.k8s.io"], ["ingresses", "ingresses/status", "networkpolicies"], read),
    ]

    private static let edited: [JSONValue] = [
        rule([""], ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"], read),
        rule([""], ["serviceaccounts"], ["impersonate"]),
        rule([""], ["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], write),
        rule([""], ["pods/eviction"], ["create"]),
        rule(
            [""],
            [
                "configmaps", "events", "persistentvolumeclaims", "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets", "serviceaccounts", "services", "services/proxy", "endpoints",
            ], write),
        rule([""], ["serviceaccounts/token"], ["create"]),
        rule(
            ["apps"],
            [
                "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets",
                "replicasets/scale", "statefulsets", "statefulsets/scale",
            ], write),
        rule(["autoscaling"], ["horizontalpodautoscalers"], write),
        rule(["batch"], ["cronjobs", "jobs"], write),
        rule(["policy"], ["poddisruptionbudgets"], write),
        rule(["networking.k8s.io"], ["ingresses", "networkpolicies"], write),
        rule(["coordination.k8s.io"], ["leases"], read + write),
    ]

    private static let administered: [JSONValue] = [
        rule(["rbac.authorization.k8s.io"], ["rolebindings", "roles"], read + write),
        rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
    ]

    private static let aggregate = "rbac.authorization.k8s.io/aggregate-to-"

    /// Name, labels set to "true", rules, and the label of the roles it gathers.
    private static let roles: [(String, [String], [JSONValue], String?)] = [
        (
            "cluster-admin", [],
            [rule(["*"], ["*"], ["*"]), ["nonResourceURLs": ["*"], "verbs": ["*"]]], nil
        ),
        ("admin", [], [], aggregate + "admin"),
        ("edit", [aggregate + "admin"], [], aggregate + "edit"),
        ("view", [aggregate + "edit", aggregate + "admin"], [], aggregate + "view"),
        ("system:aggregate-to-admin", [aggregate + "admin"], administered, nil),
        ("system:aggregate-to-edit", [aggregate + "edit", aggregate + "admin"], edited, nil),
        (
            "system:aggregate-to-view", [aggregate + "view", aggregate + "edit", aggregate + "admin"], viewed, nil
        ),
        (
            "system:discovery", [],
            [
                [
                    "nonResourceURLs": [
                        "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
                        "/version", "/version/",
                    ], "verbs": ["get"],
                ]
            ], nil
        ),
        (
            "system:basic-user", [],
            [
                rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
                rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
            ], nil
        ),
        (
            "system:service-account-issuer-discovery", [],
            [["nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]]], nil
        ),
        (
            "system:auth-delegator", [],
            [
                rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
                rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
            ], nil
        ),
        (
            "system:node", [],
            [
                rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
                rule(["authorization.k8s.io"], ["localsubjectaccessreviews", "subjectaccessreviews"], ["create"]),
                rule([""], ["services", "configmaps", "secrets", "persistentvolumeclaims", "persistentvolumes"], read),
                rule([""], ["serviceaccounts"], read), rule([""], ["serviceaccounts/token"], ["create"]),
                rule([""], ["nodes"], read + ["create", "patch", "update"]),
                rule([""], ["nodes/status"], ["patch", "update"]),
                rule([""], ["pods"], read + ["create", "delete"]), rule([""], ["pods/status"], ["patch", "update"]),
                rule([""], ["pods/eviction"], ["create"]), rule([""], ["events"], ["create", "patch", "update"]),
                rule(["events.k8s.io"], ["events"], ["create", "patch", "update"]),
                rule(["coordination.k8s.io"], ["leases"], read + ["create", "delete", "patch", "update"]),
                rule(["discovery.k8s.io"], ["endpointslices"], read), rule([""], ["namespaces"], read),
                rule(["storage.k8s.io"], ["csidrivers", "csinodes", "volumeattachments"], read),
            ], nil
        ),
    ]

    /// ClusterRole and the group that has it.
    private static let bindings = [
        ("cluster-admin", "system:masters"), ("system:discovery", "system:authenticated"),
        ("system:basic-user", "system:authenticated"),
        ("system:service-account-issuer-discovery", "system:serviceaccounts"), ("system:node", "system:nodes"),
    ]
}
