internal import KubeAPI

extension ClusterAPI {
    /// Objects need a namespace that exists and is not going away.
    func admitNamespace(_ object: JSONValue, _ kind: ResourceKind) throws(StatusError) {
        let namespace = object.at("metadata", "namespace")?.string ?? ""
        guard let stored = self.store.get("namespaces", ObjectKey(name: namespace)) else {
            throw .notFound(resource: "namespaces", group: "", namespace)
        }
        guard stored.object.isBeingDeleted, kind.storage != "events" else { return }
        throw .forbidden(
            kind, object.at("metadata", "name")?.string ?? "",
            "unable to create new content in namespace \(namespace) because it is being terminated",
            causes: [
                FieldError(
                    field: "metadata.namespace", reason: "NamespaceTerminating",
                    detail: "namespace \(namespace) is being terminated")
            ])
    }

    /// Built-in admission of new objects.
    func admitCreation(_ object: inout JSONValue, _ kind: ResourceKind, _ warnings: inout [String]) throws(StatusError)
    {
        switch kind.storage {
        case "namespaces":
            object.set(["spec", "finalizers"], to: ["kubernetes"])
            object["status"] = ["phase": "Active"]
        case "pods": try self.admitPod(&object, kind)
        case "persistentvolumeclaims": object["status"] = ["phase": "Pending"]
        case "validatingadmissionpolicies.admissionregistration.k8s.io":
            warnings.append("the lab does not evaluate admission policies: this policy is stored and has no effect")
        default:
            if kind.isCustom, let name = kind.custom?.definition,
                self.store.get("customresourcedefinitions.apiextensions.k8s.io", ObjectKey(name: name))?.object
                    .isBeingDeleted == true
            {
                throw StatusError(
                    code: 405, reason: "MethodNotAllowed",
                    message: "create not allowed while custom resource definition is terminating")
            }
        }
    }

    /// Built-in admission again, for what webhooks changed.
    func readmit(_ object: inout JSONValue, _ kind: ResourceKind) throws(StatusError) {
        if kind.storage == "pods" { try self.admitPod(&object, kind) }
    }

    private func admitPod(_ pod: inout JSONValue, _ kind: ResourceKind) throws(StatusError) {
        try self.admitServiceAccount(&pod, kind)
        try self.admitPriority(&pod, kind)
        var tolerations = pod.at("spec", "tolerations")?.array ?? []
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let isTolerated = tolerations.contains { toleration in
                let itsKey = toleration["key"]?.string ?? ""
                let effect = toleration["effect"]?.string ?? ""
                return (itsKey == key || itsKey.isEmpty) && (effect == "NoExecute" || effect.isEmpty)
            }
            if isTolerated { continue }
            tolerations.append([
                "key": .string(key), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            ])
        }
        pod.set(["spec", "tolerations"], to: .array(tolerations))
        pod["status"] = [
            "phase": "Pending", "qosClass": .string(PodDefaults.qualityOfService(pod["spec"] ?? [:])),
        ]
    }

    private func admitPriority(_ pod: inout JSONValue, _ kind: ResourceKind) throws(StatusError) {
        let builtin: [String: Int64] = [
            "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000,
        ]
        var priority: JSONValue = 0
        var preemption: JSONValue = "PreemptLowerPriority"
        if let name = pod.at("spec", "priorityClassName")?.string, !name.isEmpty {
            if let value = builtin[name] {
                priority = .int(value)
            } else if let stored = self.store.get("priorityclasses.scheduling.k8s.io", ObjectKey(name: name)) {
                priority = stored.json["value"] ?? 0
                preemption = stored.json["preemptionPolicy"] ?? preemption
            } else {
                throw .forbidden(
                    kind, pod.at("metadata", "name")?.string ?? "", "no PriorityClass with name \(name) was found")
            }
        }
        pod.set(["spec", "priority"], to: priority)
        if pod.at("spec", "preemptionPolicy") == nil { pod.set(["spec", "preemptionPolicy"], to: preemption) }
    }

    static let tokenMountPath = "/var/run/secrets/kubernetes.io/serviceaccount"
    private static let tokenVolumePrefix = "kube-api-access-"
    /// Just above an hour, so that rotation at 80 % is recognisable.
    private static let tokenSeconds: Int64 = 3607

    /// Gives a pod its service account, and its containers the account's token.
    private func admitServiceAccount(_ pod: inout JSONValue, _ kind: ResourceKind) throws(StatusError) {
        let namespace = pod.at("metadata", "namespace")?.string ?? ""
        let podName = pod.at("metadata", "name")?.string ?? ""
        // Static pods mirrored by a node agent have none.
        if pod.at("metadata", "annotations", "kubernetes.io/config.mirror") != nil { return }
        let given = pod.at("spec", "serviceAccountName")?.string ?? ""
        let name = given.isEmpty ? "default" : given
        pod.set(["spec", "serviceAccountName"], to: .string(name))
        pod.set(["spec", "serviceAccount"], to: .string(name))
        guard let account = self.store.get("serviceaccounts", ObjectKey(namespace: namespace, name: name)) else {
            throw .forbidden(
                kind, podName,
                "error looking up service account \(namespace)/\(name): serviceaccount \"\(name)\" not found")
        }
        if pod.at("spec", "imagePullSecrets") == nil, let secrets = account.json["imagePullSecrets"] {
            pod.set(["spec", "imagePullSecrets"], to: secrets)
        }
        let mounts =
            pod.at("spec", "automountServiceAccountToken")?.bool
            ?? account.json["automountServiceAccountToken"]?.bool ?? true
        guard mounts else { return }
        var isUsed = false
        var volumes = pod.at("spec", "volumes")?.array ?? []
        // Asked again after webhooks changed the pod: their containers get the volume that is there.
        let present = volumes.compactMap { $0["name"]?.string }.first { $0.hasPrefix(Self.tokenVolumePrefix) }
        let volume = present ?? Self.tokenVolumePrefix + MetadataRules.randomSuffix()
        for list in ["initContainers", "containers"] {
            guard let containers = pod.at("spec", list)?.array else { continue }
            pod.set(
                ["spec", list],
                to: .array(
                    containers.map { container in
                        var container = container
                        var volumeMounts = container["volumeMounts"]?.array ?? []
                        if volumeMounts.contains(where: { $0["mountPath"]?.string == Self.tokenMountPath }) {
                            return container
                        }
                        isUsed = true
                        volumeMounts.append([
                            "name": .string(volume), "mountPath": .string(Self.tokenMountPath), "readOnly": true,
                        ])
                        container["volumeMounts"] = .array(volumeMounts)
                        return container
                    }))
        }
        guard isUsed, present == nil else { return }
        volumes.append([
            "name": .string(volume),
            "projected": [
                "defaultMode": 420,
                "sources": [
                    ["serviceAccountToken": ["expirationSeconds": .int(Self.tokenSeconds), "path": "token"]],
                    ["configMap": ["name": "kube-root-ca.crt", "items": [["key": "ca.crt", "path": "ca.crt"]]]],
                    [
                        "downwardAPI": [
                            "items": [
                                [
                                    "path": "namespace",
                                    "fieldRef": ["apiVersion": "v1", "fieldPath": "metadata.namespace"],
                                ]
                            ]
                        ]
                    ],
                ],
            ],
        ])
        pod.set(["spec", "volumes"], to: .array(volumes))
    }
}
