internal import KubeAPI

/// Defaults of the built-in kinds, applied on create and on update before validation.
enum KindDefaults {
    static func apply(_ object: inout JSONValue, _ kind: ResourceKind) {
        switch (kind.group, kind.type.plural) {
        case ("", "pods"): PodDefaults.apply(toPod: &object)
        case ("", "services"): self.service(&object)
        case ("", "secrets"): object.fill("type", "Opaque")
        case ("", "namespaces"): self.namespace(&object)
        case ("", "nodes"): break
        case ("", "persistentvolumeclaims"): object.fill("spec", "volumeMode", "Filesystem")
        case ("", "endpoints"): self.endpoints(&object)
        case ("apps", "deployments"): self.deployment(&object)
        case ("apps", "replicasets"): self.replicaSet(&object)
        case ("", "replicationcontrollers"):
            object.fill("spec", "replicas", 1)
            PodDefaults.apply(toTemplateOf: &object, at: ["spec", "template"])
        case ("apps", "daemonsets"): self.daemonSet(&object)
        case ("apps", "statefulsets"): self.statefulSet(&object)
        case ("batch", "jobs"):
            self.job(&object)
        case ("batch", "cronjobs"): self.cronJob(&object)
        case ("rbac.authorization.k8s.io", "rolebindings"), ("rbac.authorization.k8s.io", "clusterrolebindings"):
            self.binding(&object)
        case ("networking.k8s.io", "networkpolicies"): self.networkPolicy(&object)
        case ("discovery.k8s.io", "endpointslices"): self.endpointSlice(&object)
        case ("apiextensions.k8s.io", "customresourcedefinitions"): DefinitionRules.setDefaults(&object)
        case ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): self.webhooks(&object, mutating: true)
        case ("admissionregistration.k8s.io", "validatingwebhookconfigurations"):
            self.webhooks(&object, mutating: false)
        case ("autoscaling", "horizontalpodautoscalers"): object.fill("spec", "minReplicas", 1)
        case ("scheduling.k8s.io", "priorityclasses"): object.fill("preemptionPolicy", "PreemptLowerPriority")
        case ("storage.k8s.io", "storageclasses"):
            object.fill("reclaimPolicy", "Delete")
            object.fill("volumeBindingMode", "Immediate")
        default: break
        }
    }

    private static func namespace(_ object: inout JSONValue) {
        let name = object.at("metadata", "name")?.string ?? ""
        object.set(["metadata", "labels", "kubernetes.io/metadata.name"], to: .string(name))
    }

    private static func service(_ object: inout JSONValue) {
        object.fill("spec", "type", "ClusterIP")
        object.fill("spec", "sessionAffinity", "None")
        let type = object.at("spec", "type")?.string
        if type != "ExternalName" {
            object.fill("spec", "internalTrafficPolicy", "Cluster")
            object.fill("spec", "ipFamilies", ["IPv4"])
            object.fill("spec", "ipFamilyPolicy", "SingleStack")
        }
        if type == "NodePort" || type == "LoadBalancer" { object.fill("spec", "externalTrafficPolicy", "Cluster") }
        if type == "LoadBalancer" { object.fill("spec", "allocateLoadBalancerNodePorts", true) }
        if object.at("spec", "sessionAffinity")?.string == "ClientIP",
            object.at("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds") == nil
        {
            object.set(["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"], to: 10_800)
        }
        if let ports = object.at("spec", "ports")?.array {
            object.set(
                ["spec", "ports"],
                to: .array(
                    ports.map { port in
                        var port = port
                        port.fill("protocol", "TCP")
                        if let number = port["port"] {
                            let target = port["targetPort"]
                            if target == nil || target == .null || target == 0 || target == "" {
                                port["targetPort"] = number
                            }
                        }
                        return port
                    }))
        }
        object.fill("status", [:])
        object.fill("status", "loadBalancer", [:])
    }

    private static func endpoints(_ object: inout JSONValue) {
        guard let subsets = object["subsets"]?.array else { return }
        object["subsets"] = .array(
            subsets.map { subset in
                var subset = subset
                if let ports = subset["ports"]?.array { subset["ports"] = .array(ports.map(self.withProtocol)) }
                return subset
            })
    }

    private static func withProtocol(_ port: JSONValue) -> JSONValue {
        var port = port
        port.fill("protocol", "TCP")
        return port
    }

    private static func endpointSlice(_ object: inout JSONValue) {
        guard let ports = object["ports"]?.array else { return }
        object["ports"] = .array(
            ports.map { port in
                var port = self.withProtocol(port)
                port.fill("name", "")
                return port
            })
    }

    private static func deployment(_ object: inout JSONValue) {
        object.fill("spec", "replicas", 1)
        object.fill("spec", "revisionHistoryLimit", 10)
        object.fill("spec", "progressDeadlineSeconds", 600)
        object.fill("spec", "strategy", [:])
        if object.at("spec", "strategy", "type") == nil {
            object.set(["spec", "strategy", "type"], to: "RollingUpdate")
        }
        if object.at("spec", "strategy", "type")?.string == "RollingUpdate" {
            for bound in ["maxSurge", "maxUnavailable"]
            where object.at("spec", "strategy", "rollingUpdate", bound) == nil {
                object.set(["spec", "strategy", "rollingUpdate", bound], to: "25%")
            }
        }
        PodDefaults.apply(toTemplateOf: &object, at: ["spec", "template"])
    }

    private static func replicaSet(_ object: inout JSONValue) {
        object.fill("spec", "replicas", 1)
        PodDefaults.apply(toTemplateOf: &object, at: ["spec", "template"])
    }

    private static func daemonSet(_ object: inout JSONValue) {
        object.fill("spec", "revisionHistoryLimit", 10)
        if object.at("spec", "updateStrategy", "type") == nil {
            object.set(["spec", "updateStrategy", "type"], to: "RollingUpdate")
        }
        if object.at("spec", "updateStrategy", "type")?.string == "RollingUpdate" {
            for (bound, value) in [("maxSurge", JSONValue.int(0)), ("maxUnavailable", 1)]
            where object.at("spec", "updateStrategy", "rollingUpdate", bound) == nil {
                object.set(["spec", "updateStrategy", "rollingUpdate", bound], to: value)
            }
        }
        PodDefaults.apply(toTemplateOf: &object, at: ["spec", "template"])
    }

    private static func statefulSet(_ object: inout JSONValue) {
        object.fill("spec", "replicas", 1)
        object.fill("spec", "revisionHistoryLimit", 10)
        object.fill("spec", "podManagementPolicy", "OrderedReady")
        object.fill("spec", "persistentVolumeClaimRetentionPolicy", ["whenDeleted": "Retain", "whenScaled": "Retain"])
        if object.at("spec", "updateStrategy", "type") == nil {
            object.set(["spec", "updateStrategy", "type"], to: "RollingUpdate")
        }
        if object.at("spec", "updateStrategy", "type")?.string == "RollingUpdate",
            object.at("spec", "updateStrategy", "rollingUpdate", "partition") == nil
        {
            object.set(["spec", "updateStrategy", "rollingUpdate", "partition"], to: 0)
        }
        PodDefaults.apply(toTemplateOf: &object, at: ["spec", "template"])
    }

    /// Also gives the pods their labels and the job its selector, which need the uid: set on create.
    private static func job(_ object: inout JSONValue) {
        self.jobSpec(&object, at: ["spec"])
        guard object.at("spec", "manualSelector")?.bool != true, let uid = object.at("metadata", "uid")?.string,
            object.at("spec", "selector") == nil
        else { return }
        let name = object.at("metadata", "name") ?? ""
        let labels = ["spec", "template", "metadata", "labels"]
        object.set(labels + ["batch.kubernetes.io/controller-uid"], to: .string(uid))
        object.set(labels + ["controller-uid"], to: .string(uid))
        object.set(labels + ["batch.kubernetes.io/job-name"], to: name)
        object.set(labels + ["job-name"], to: name)
        object.set(["spec", "selector", "matchLabels"], to: ["batch.kubernetes.io/controller-uid": .string(uid)])
    }

    private static func jobSpec(_ object: inout JSONValue, at path: [String]) {
        var spec = object.at(path) ?? [:]
        if spec["completions"] == nil, spec["parallelism"] == nil {
            spec["completions"] = 1
            spec["parallelism"] = 1
        }
        spec.fill("parallelism", 1)
        spec.fill("backoffLimit", 6)
        spec.fill("completionMode", "NonIndexed")
        spec.fill("suspend", false)
        spec.fill("manualSelector", false)
        spec.fill("podReplacementPolicy", "TerminatingOrFailed")
        PodDefaults.apply(toTemplateOf: &spec, at: ["template"])
        object.set(path, to: spec)
    }

    private static func cronJob(_ object: inout JSONValue) {
        object.fill("spec", "concurrencyPolicy", "Allow")
        object.fill("spec", "suspend", false)
        object.fill("spec", "successfulJobsHistoryLimit", 3)
        object.fill("spec", "failedJobsHistoryLimit", 1)
        PodDefaults.apply(toTemplateOf: &object, at: ["spec", "jobTemplate", "spec", "template"])
    }

    private static func binding(_ object: inout JSONValue) {
        let group = "rbac.authorization.k8s.io"
        if object["roleRef"] != nil, object.at("roleRef", "apiGroup")?.string ?? "" == "" {
            object.set(["roleRef", "apiGroup"], to: .string(group))
        }
        guard let subjects = object["subjects"]?.array else { return }
        object["subjects"] = .array(
            subjects.map { subject in
                var subject = subject
                if subject["kind"]?.string != "ServiceAccount" { subject.fill("apiGroup", .string(group)) }
                return subject
            })
    }

    private static func networkPolicy(_ object: inout JSONValue) {
        guard object.at("spec", "policyTypes") == nil else { return }
        object.set(
            ["spec", "policyTypes"], to: object.at("spec", "egress") == nil ? ["Ingress"] : ["Ingress", "Egress"])
    }

    private static func webhooks(_ object: inout JSONValue, mutating: Bool) {
        guard let webhooks = object["webhooks"]?.array else { return }
        object["webhooks"] = .array(
            webhooks.map { webhook in
                var webhook = webhook
                webhook.fill("failurePolicy", "Fail")
                webhook.fill("matchPolicy", "Equivalent")
                webhook.fill("namespaceSelector", [:])
                webhook.fill("objectSelector", [:])
                webhook.fill("timeoutSeconds", 10)
                if mutating { webhook.fill("reinvocationPolicy", "Never") }
                if webhook.at("clientConfig", "service") != nil, webhook.at("clientConfig", "service", "port") == nil {
                    webhook.set(["clientConfig", "service", "port"], to: 443)
                }
                if let rules = webhook["rules"]?.array {
                    webhook["rules"] = .array(
                        rules.map { rule in
                            var rule = rule
                            rule.fill("scope", "*")
                            return rule
                        })
                }
                return webhook
            })
    }
}

extension JSONValue {
    /// Sets a member of a member that is missing or null.
    mutating func fill(_ outer: String, _ key: String, _ value: JSONValue) {
        let present = self.at(outer, key)
        if present == nil || present == .null { self.set([outer, key], to: value) }
    }
}
