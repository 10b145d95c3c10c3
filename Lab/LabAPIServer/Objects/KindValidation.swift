internal import KubeAPI

/// Validation of the built-in kinds: the checks whose absence users would notice.
enum KindValidation {
    static func validate(_ object: JSONValue, _ kind: ResourceKind) -> [FieldError] {
        switch (kind.group, kind.type.plural) {
        case ("", "pods"): self.podSpec(object["spec"] ?? [:], "spec")
        case ("", "services"): self.service(object["spec"] ?? [:])
        case ("", "secrets"): self.secret(object)
        case ("apps", "deployments"), ("apps", "replicasets"), ("apps", "daemonsets"), ("apps", "statefulsets"):
            self.workload(object)
        case ("batch", "jobs"): self.job(object)
        case ("batch", "cronjobs"): self.cronJob(object)
        case ("rbac.authorization.k8s.io", "rolebindings"), ("rbac.authorization.k8s.io", "clusterrolebindings"):
            self.binding(object)
        case ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
            ("admissionregistration.k8s.io", "validatingwebhookconfigurations"):
            WebhookRules.validate(object)
        case ("apiextensions.k8s.io", "customresourcedefinitions"): DefinitionRules.validate(object)
        case ("discovery.k8s.io", "endpointslices"):
            object["addressType"] == nil ? [.required("addressType")] : []
        default: []
        }
    }

    private static func workload(_ object: JSONValue) -> [FieldError] {
        var errors: [FieldError] = []
        if let replicas = object.at("spec", "replicas")?.int, replicas < 0 {
            errors.append(.invalid("spec.replicas", .int(replicas), "must be greater than or equal to 0"))
        }
        guard let selector = object.at("spec", "selector") else {
            return errors + [.required("spec.selector")] + self.template(object, ["spec", "template"], "spec.template")
        }
        let labels = object.at("spec", "template", "metadata", "labels")?.stringMap ?? [:]
        do {
            let parsed = try LabelSelector(selector)
            if parsed.requirements.isEmpty {
                errors.append(.invalid("spec.selector", selector, "empty selector is invalid for deployment"))
            } else if !parsed.matches(labels) {
                errors.append(
                    .invalid(
                        "spec.template.metadata.labels", JSONValue(labels),
                        "`selector` does not match template `labels`"))
            }
        } catch {
            errors.append(.invalid("spec.selector", selector, error.description))
        }
        return errors + self.template(object, ["spec", "template"], "spec.template")
    }

    private static func template(_ object: JSONValue, _ path: [String], _ field: String) -> [FieldError] {
        guard let template = object.at(path) else { return [.required(field)] }
        return MetadataRules.validate(labels: template.at("metadata", "labels"), "\(field).metadata.labels")
            + self.podSpec(template["spec"] ?? [:], "\(field).spec")
    }

    private static func job(_ object: JSONValue) -> [FieldError] {
        self.template(object, ["spec", "template"], "spec.template")
            + self.restartPolicy(object.at("spec", "template", "spec"), "spec.template.spec")
    }

    private static func cronJob(_ object: JSONValue) -> [FieldError] {
        let path = ["spec", "jobTemplate", "spec", "template"]
        let schedule = object.at("spec", "schedule")?.string ?? ""
        return (schedule.isEmpty ? [.required("spec.schedule")] : [])
            + self.template(object, path, path.joined(separator: "."))
            + self.restartPolicy(object.at(path + ["spec"]), path.joined(separator: ".") + ".spec")
    }

    private static func restartPolicy(_ spec: JSONValue?, _ field: String) -> [FieldError] {
        let policy = spec?["restartPolicy"]?.string ?? ""
        if ["OnFailure", "Never"].contains(policy) { return [] }
        return [.notSupported("\(field).restartPolicy", .string(policy), ["OnFailure", "Never"])]
    }

    private static func podSpec(_ spec: JSONValue, _ field: String) -> [FieldError] {
        var errors: [FieldError] = []
        let containers = spec["containers"]?.array ?? []
        if containers.isEmpty { errors.append(.required("\(field).containers")) }
        let volumes = Set((spec["volumes"]?.array ?? []).compactMap { $0["name"]?.string })
        var names: Set<String> = []
        for list in ["initContainers", "containers"] {
            for (index, container) in (spec[list]?.array ?? []).enumerated() {
                let place = "\(field).\(list)[\(index)]"
                let name = container["name"]?.string ?? ""
                if name.isEmpty {
                    errors.append(.required("\(place).name"))
                } else if !MetadataRules.isLabel(name) {
                    errors.append(.invalid("\(place).name", .string(name), MetadataRules.labelMessage))
                } else if !names.insert(name).inserted {
                    errors.append(.duplicate("\(place).name", .string(name)))
                }
                if container["image"]?.string ?? "" == "" { errors.append(.required("\(place).image")) }
                for (at, mount) in (container["volumeMounts"]?.array ?? []).enumerated() {
                    let volume = mount["name"]?.string ?? ""
                    if !volumes.contains(volume) {
                        errors.append(
                            FieldError(
                                field: "\(place).volumeMounts[\(at)].name", reason: "FieldValueNotFound",
                                detail: "Not found: \"\(volume)\""))
                    }
                    if mount["mountPath"]?.string ?? "" == "" {
                        errors.append(.required("\(place).volumeMounts[\(at)].mountPath"))
                    }
                }
                for (at, port) in (container["ports"]?.array ?? []).enumerated() {
                    errors += self.port(port["containerPort"], "\(place).ports[\(at)].containerPort")
                }
            }
        }
        if let policy = spec["restartPolicy"], !["Always", "OnFailure", "Never"].contains(policy.string) {
            errors.append(.notSupported("\(field).restartPolicy", policy, ["Always", "OnFailure", "Never"]))
        }
        return errors
    }

    private static func port(_ value: JSONValue?, _ field: String) -> [FieldError] {
        guard let value else { return [.required(field)] }
        guard let number = value.int else { return [.typeInvalid(field, value, "must be an integer")] }
        return (1...65535).contains(number)
            ? [] : [.invalid(field, value, "must be between 1 and 65535, inclusive")]
    }

    private static func service(_ spec: JSONValue) -> [FieldError] {
        var errors: [FieldError] = []
        let type = spec["type"]?.string ?? "ClusterIP"
        let ports = spec["ports"]?.array ?? []
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
        if !types.contains(type) { errors.append(.notSupported("spec.type", .string(type), types)) }
        if type == "ExternalName" {
            if spec["externalName"]?.string ?? "" == "" { errors.append(.required("spec.externalName")) }
        } else if ports.isEmpty, spec["clusterIP"]?.string != "None" {
            errors.append(.required("spec.ports"))
        }
        var names: Set<String> = []
        for (index, port) in ports.enumerated() {
            let place = "spec.ports[\(index)]"
            errors += self.port(port["port"], "\(place).port")
            let name = port["name"]?.string ?? ""
            if ports.count > 1, name.isEmpty { errors.append(.required("\(place).name")) }
            if !name.isEmpty, !names.insert(name).inserted { errors.append(.duplicate("\(place).name", .string(name))) }
            if let protocolName = port["protocol"], !["TCP", "UDP", "SCTP"].contains(protocolName.string) {
                errors.append(.notSupported("\(place).protocol", protocolName, ["SCTP", "TCP", "UDP"]))
            }
            if case .int? = port["targetPort"] { errors += self.port(port["targetPort"], "\(place).targetPort") }
        }
        return errors
    }

    private static let secretBytesMax = 1 << 20

    private static func secret(_ object: JSONValue) -> [FieldError] {
        var bytes = 0
        for (key, value) in object["data"]?.object ?? [:] {
            guard let text = value.string else {
                return [.typeInvalid("data[\(key)]", value, "must be base64 text")]
            }
            bytes += text.utf8.count / 4 * 3
        }
        return bytes > self.secretBytesMax ? [.tooLong("data", bytesMax: self.secretBytesMax)] : []
    }

    private static func binding(_ object: JSONValue) -> [FieldError] {
        var errors: [FieldError] = []
        if object.at("roleRef", "name")?.string ?? "" == "" { errors.append(.required("roleRef.name")) }
        let kind = object.at("roleRef", "kind")?.string ?? ""
        if !["Role", "ClusterRole"].contains(kind) {
            errors.append(.notSupported("roleRef.kind", .string(kind), ["Role", "ClusterRole"]))
        }
        for (index, subject) in (object["subjects"]?.array ?? []).enumerated() {
            let place = "subjects[\(index)]"
            if subject["name"]?.string ?? "" == "" { errors.append(.required("\(place).name")) }
            let kind = subject["kind"]?.string ?? ""
            if !["ServiceAccount", "User", "Group"].contains(kind) {
                errors.append(.notSupported("\(place).kind", .string(kind), ["Group", "ServiceAccount", "User"]))
            }
            // In a RoleBinding an account without a namespace is one of the binding's own.
            let isCluster = object.at("metadata", "namespace")?.string ?? "" == ""
            if kind == "ServiceAccount", isCluster, subject["namespace"]?.string ?? "" == "" {
                errors.append(.required("\(place).namespace"))
            }
        }
        return errors
    }
}
